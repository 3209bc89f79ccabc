"""Bodies that nobody has to read: too large, of unknown clients, never ended."""

import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest

from generation.asgi.body_budget import MAX_BODIES_OF_ONE
from tests.support.service import wait_until
from tests.support.web_process import WebProcess

LARGEST = 20 * 1024 * 1024
SIGN_IN = "/accounts/sign-in"


def head(path: str, size: int | None, *headers: str) -> bytes:
    """Return the headers of a POST, chunked if it has no size."""
    length = "Transfer-Encoding: chunked" if size is None else f"Content-Length: {size}"
    lines = [f"POST {path} HTTP/1.1", "Host: 127.0.0.1", length, *headers]
    return "\r\n".join([*lines, "", ""]).encode()


def answer(connection: socket.socket) -> bytes:
    """Return what the server sends until it ends the connection, or what there is with the answer to a whole request."""
    received = b""
    with suppress(ConnectionError):
        while chunk := connection.recv(65536):
            received += chunk
            before, separator, body = received.partition(b"\r\n\r\n")
            sizes = [int(line.split(b":")[1]) for line in before.lower().split(b"\r\n") if b"content-length" in line]
            if separator and sizes and len(body) >= sizes[0]:
                break
    return received


@contextmanager
def started(web: WebProcess, number: int, sent: bytes) -> Iterator[list[socket.socket]]:
    """Start so many requests, and send no more than this of each."""
    with ExitStack() as stack:
        connections = [stack.enter_context(web.connect()) for _ in range(number)]
        for connection in connections:
            with suppress(ConnectionError):
                connection.sendall(sent)
        yield connections


@pytest.mark.parametrize(
    ("path", "size", "headers", "expected"),
    [
        (SIGN_IN, 65_537, ["Accept: text/html"], b"413 "),
        (SIGN_IN, 18_000_000, [], b"413 "),
        ("/admin/login/", 18_000_000, ["Accept: text/html"], b"413 "),
        ("/history/matching", 65_537, ["Accept: text/html"], b"413 "),
        ("/studio/estimate", 65_537, ["X-Requested-With: fetch"], b"413 "),
        ("/", LARGEST + 1, [], b"303 "),
        ("/generations", 65_537, ["Authorization: Bearer {alice}"], b"413 "),
        ("/image-to-image", LARGEST + 1, ["Authorization: Bearer {alice}"], b"413 "),
        ("/image-to-image", LARGEST, [], b"401 "),
        ("/image-to-image", None, [], b"401 "),
        ("/image-to-image", LARGEST, ["Authorization: Bearer dream_unknown"], b"401 "),
        ("/v1/images/edits", LARGEST, [], b"401 "),
        ("/", LARGEST, [], b"302 "),
        ("/", LARGEST, ["Cookie: sessionid=unknown"], b"302 "),
    ],
)
def test_a_refused_body_is_answered_before_it_is_sent(
    web: WebProcess, path: str, size: int | None, headers: list[str], expected: bytes
) -> None:
    sent = head(path, size, *(line.format(alice=web.tokens["alice"]) for line in headers))
    with started(web, 1, sent) as (connection,):
        received = answer(connection)
    assert received.startswith(b"HTTP/1.1 " + expected), received
    assert b"\r\nconnection: close\r\n" in received.lower()
    if "Accept: text/html" in headers:
        assert b"This form is too large" in received
        assert b"over the limit of 65,536 bytes; shorten its texts" in received


@pytest.mark.parametrize("path", [SIGN_IN, "/history/matching", "/generations"])
def test_a_body_that_hides_its_size_is_read_up_to_the_limit(web: WebProcess, path: str) -> None:
    chunk = b"10000\r\n" + bytes(65_536) + b"\r\n"
    with started(web, 1, head(path, None) + chunk + b"1\r\n") as (connection,):
        connection.sendall(b"x\r\n")
        expected = b"HTTP/1.1 401 " if path == "/generations" else b"HTTP/1.1 413 "
        assert answer(connection).startswith(expected)


@pytest.mark.parametrize(("path", "status"), [(SIGN_IN, 413), ("/image-to-image", 401), ("/", 302)])
def test_large_bodies_of_unknown_clients_are_not_kept(web: WebProcess, path: str, status: int) -> None:
    web.reset_peak_memory()
    before = web.memory()
    body = bytes(18_000_000)
    with web.serving_others():
        for _ in range(10):
            # Programs that send all before they read the answer get it, too.
            with web.connect() as connection:
                connection.sendall(head(path, len(body)))
                connection.sendall(body)
                assert answer(connection).startswith(f"HTTP/1.1 {status} ".encode())
    assert web.peak_memory() - before < 50_000_000


def test_unfinished_bodies_of_one_user_leave_room_for_others_and_no_files(web: WebProcess) -> None:
    unfinished = head("/image-to-image", LARGEST, f"Authorization: Bearer {web.tokens['alice']}") + bytes(2_000_000)
    with web.serving_others(), started(web, MAX_BODIES_OF_ONE, unfinished) as opened:
        wait_until(lambda: len(files(web)) == MAX_BODIES_OF_ONE, "the start of the bodies")
        with started(web, 1, unfinished) as (one_more,):
            received = answer(one_more)
        assert received.startswith(b"HTTP/1.1 429 ")
        assert b"too_many_uploads" in received
        with web.client("bob") as bob:
            # Of no form, but it is read.
            assert bob.post("/image-to-image", content=bytes(LARGEST)).status_code == 422
        # All files are without a name: a killed process leaves none.
        assert list(web.temporary.iterdir()) == []
        for connection in opened:
            connection.close()
        wait_until(lambda: files(web) == [], "the end of the bodies")


def files(web: WebProcess) -> list[str]:
    """Return the temporary files that it has open."""
    return [path for path in web.descriptors() if path.startswith(str(web.temporary))]


def test_a_body_that_stops_is_408(web: WebProcess) -> None:
    begin = time.monotonic()
    sent = head("/image-to-image", 1_000_000, f"Authorization: Bearer {web.tokens['alice']}") + bytes(500_000)
    with started(web, 3, sent) as connections:
        for connection in connections:
            assert answer(connection).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - begin > 10
