"""Connections that cost their client nothing: unused ones, requests that never end, headers of megabytes."""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from itertools import islice

import pytest

from tests.support.service import wait_until
from tests.support.web_process import DESCRIPTORS, WebProcess

SENT = {
    "nothing": b"",
    "half of the headers": b"GET /history/ HTTP/1.1\r\nHost: x\r\n",
    "no body": b"POST /accounts/sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n",
}


@contextmanager
def connections(web: WebProcess, number: int, sent: bytes, addresses: int = 1) -> Iterator[list[socket.socket]]:
    """Open so many connections, from so many addresses, and send this on each."""
    with ExitStack() as stack:
        opened = []
        for index in range(number):
            connection = stack.enter_context(web.connect(f"127.0.1.{1 + index % addresses}"))
            opened.append(connection)
            with suppress(ConnectionError):
                connection.sendall(sent)
        yield opened


@pytest.mark.parametrize("sent", SENT.values(), ids=SENT)
def test_one_address_does_not_take_all_connections(web: WebProcess, sent: bytes) -> None:
    before = len(web.descriptors())
    with web.serving_others(), connections(web, DESCRIPTORS + 200, sent):
        with web.client() as late:
            # Connections are accepted in their order, so all others have been by now.
            late.get("/health")
        assert len(web.descriptors()) - before < DESCRIPTORS / 2


def test_many_addresses_do_not_take_all_connections_with_headers_that_never_end(web: WebProcess) -> None:
    with web.serving_others(), connections(web, DESCRIPTORS + 200, SENT["half of the headers"], addresses=20):
        assert len(web.descriptors()) < DESCRIPTORS - 50


def test_headers_that_never_end_are_408_after_ten_seconds(web: WebProcess) -> None:
    before = len(web.descriptors())
    with connections(web, 50, SENT["half of the headers"]) as opened:
        assert opened[-1].recv(100).startswith(b"HTTP/1.1 408 Request Timeout\r\n")
        wait_until(lambda: len(web.descriptors()) <= before + 10, "the end of the connections")


@pytest.mark.parametrize("path", ["/health", "/history/", "/image-to-image"])
def test_headers_of_megabytes_are_431_and_take_no_memory(web: WebProcess, path: str) -> None:
    web.reset_peak_memory()
    before = web.memory()
    head = f"POST {path} HTTP/1.1\r\nHost: x\r\nPrefer: ".encode()
    with web.serving_others():
        for _ in range(10):
            with web.connect() as connection:
                with suppress(ConnectionError):
                    connection.sendall(head + b"a," * 4_000_000)
                with suppress(ConnectionError):
                    assert connection.recv(100).startswith(b"HTTP/1.1 431 ")
    assert web.peak_memory() - before < 50_000_000


def test_requests_that_are_sent_without_waiting_for_responses_take_no_memory(web: WebProcess) -> None:
    """Each takes 5 kB while it waits for its turn."""
    web.reset_peak_memory()
    before = web.memory()
    held = b"POST /accounts/sign-in HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1\r\n\r\nx"
    with web.serving_others(), connections(web, 8, held + b"GET / HTTP/1.1\r\n\r\n" * 20_000) as opened:
        for connection in opened:
            with suppress(ConnectionError):
                while connection.recv(100_000):
                    pass
    assert web.peak_memory() - before < 50_000_000


def test_a_few_are_answered_in_their_order(web: WebProcess) -> None:
    paths = [b"/health", b"/nowhere"] * 8
    with web.connect() as connection:
        connection.sendall(b"".join(b"HEAD %s HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" % path for path in paths))
        lines = connection.makefile("rb")
        statuses = [
            line[9:12] for line in islice((line for line in lines if line.startswith(b"HTTP/1.1 ")), len(paths))
        ]
    assert statuses == [b"200", b"404"] * 8


_MANY = 31_000
HARD_TO_PARSE = {
    "Prefer": 'a"b' * (_MANY // 3),
    "Content-Type": ";" * _MANY,
    "Cookie": 'sessionid="' + "\\1" * (_MANY // 2) + '"',
    "Authorization": "Bearer " + "a" * _MANY,
    "Accept": ";" * _MANY,
    "Accept-Language": "a-" * (_MANY // 2),
    "If-None-Match": '"a",' * (_MANY // 4),
    "Range": "bytes=" + "0-1," * (_MANY // 4),
    "Content-Encoding": "gzip," * (_MANY // 5),
    "X-Forwarded-For": "1.1.1.1," * (_MANY // 8),
    "Host": "a." * (_MANY // 2),
}


def test_headers_below_the_limit_take_no_long_time(web: WebProcess) -> None:
    with web.client("alice") as client:
        for name, value in HARD_TO_PARSE.items():
            for method, path in (("GET", "/nowhere"), ("POST", "/image-to-image"), ("GET", "/generations")):
                before = web.processor_seconds()
                assert client.request(method, path, headers={name: value}).status_code < 500
                assert web.processor_seconds() - before < 1, (name, path)


@pytest.mark.parametrize("protocol", ["websocket", "h2c"])
def test_a_request_for_another_protocol_is_answered_by_this_one(web: WebProcess, protocol: str) -> None:
    headers = {"Connection": "Upgrade", "Upgrade": protocol}
    with web.client("alice") as client:
        assert [client.get("/generations", headers=headers).status_code for _ in range(2)] == [200, 200]
