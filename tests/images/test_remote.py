"""What a picture's server sends and how long it takes: real servers on this machine, most of them ill-mannered."""

import io
import socket
import threading
import time
from typing import Any

import pytest

from generation.images.uploads import read_upload
from tests.support.remotes import (
    PICTURE,
    Answer,
    answer,
    drip,
    get,
    redirect,
    refusal,
    serving,
    taking_no_connections,
    until_gone,
)

# What is sent, and what comes back


def test_a_picture_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    # A proxy of the environment has no say.
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    with serving(answer()) as server:
        content = get(server.url + "?a=1&b=%20#part")
    assert read_upload(io.BytesIO(content), max_pixels=2000).size == (32, 32)
    line, *headers = server.requests[0].removesuffix("\r\n\r\n").split("\r\n")
    assert line == "GET /picture.png?a=1&b=%20 HTTP/1.1"
    assert dict(header.split(": ") for header in headers) == {
        "Host": f"127.0.0.1:{server.port}",
        "User-Agent": "Dreamsite (fetches a picture that a user named)",
        "Accept": "image/*",
        "Accept-Encoding": "identity",
        "Connection": "close",
    }


@pytest.mark.parametrize(
    "content",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2;note=x\r\nab\r\n1\r\nc\r\n0\r\nTrailer: x\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Encoding: Identity\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
        # Past its end an answer has nothing to say.
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nxyz",
    ],
)
def test_a_body_is_what_http_says_it_is(content: bytes) -> None:
    with serving(content) as server:
        assert get(server.url, max_bytes=3) == b"abc"
        assert "more than 2 bytes" in refusal(server.url, max_bytes=2)


@pytest.mark.parametrize("status", [204, 206, 300, 304, 401, 404, 500, 503])
def test_only_status_200_is_taken(status: int) -> None:
    with serving(f"HTTP/1.1 {status} So\r\n\r\n".encode()) as server:
        assert f"status {status}" in refusal(server.url)


@pytest.mark.parametrize("coding", ["gzip", "br", "identity, gzip", "x"])
def test_an_encoded_body_is_refused(coding: str) -> None:
    with serving(answer(PICTURE, "200 OK", f"Content-Encoding: {coding}")) as server:
        assert "compressed" in refusal(server.url)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x89PNG\r\n\r\n",
        b"-ERR unknown command 'GET'\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: " + b"9" * 30 + b"\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"a" * 2_000_000,
        b"HTTP/1.1 200 OK\r\n" + b"A: a\r\n" * 100_000,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: a\r\n" * 100_000,
    ],
)
def test_a_broken_answer_is_refused(content: bytes) -> None:
    with serving(content) as server:
        assert "broke the connection off" in refusal(server.url)


# Bounds


def test_the_bound_on_bytes_is_exact_and_told() -> None:
    with serving(answer(b"a" * 5000)) as server:
        assert len(get(server.url, max_bytes=5000)) == 5000
        assert "4,999 bytes" in refusal(server.url, max_bytes=4999)


def test_a_body_said_to_be_too_large_is_not_read() -> None:
    def promise(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000001\r\n\r\n")
        until_gone(connection)

    with serving(promise) as server:
        assert "1,000,000,000 bytes" in refusal(server.url, max_bytes=1_000_000_000)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"a" * 65536 + b"\r\n"),
    ],
)
def test_a_body_without_end_is_read_to_the_bound_only(head: bytes, piece: bytes) -> None:
    sent = 0

    def pour(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            sent += len(piece)

    with serving(pour) as server:
        assert "300,000 bytes" in refusal(server.url, max_bytes=300_000)
    # What the two ends of the connection buffer comes on top.
    assert sent < 20_000_000


@pytest.mark.parametrize(
    "slow",
    [
        until_gone,
        drip(b"HTTP/1.1 200 OK\r\nA: "),
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: "),
    ],
    ids=["silence", "headers", "hints", "body", "chunks", "trailers"],
)
def test_a_slow_server_holds_nobody_past_the_deadline(slow: Answer) -> None:
    with serving(slow) as server:
        begin = time.monotonic()
        assert "in time" in refusal(server.url, seconds=0.4)
        assert 0.3 < time.monotonic() - begin < 5


def test_the_deadline_spans_all_redirects() -> None:
    def slow_redirect(connection: socket.socket) -> None:
        time.sleep(0.3)
        connection.sendall(redirect("/again"))

    with serving(slow_redirect) as server:
        assert "in time" in refusal(server.url, seconds=0.4)
    assert server.connections == 2


def test_a_handshake_without_end_is_cut_off() -> None:
    # To this server a greeting of TLS is a request without end.
    with serving(answer()) as server:
        begin = time.monotonic()
        assert "in time" in refusal(server.url.replace("http:", "https:"), seconds=0.4)
        assert time.monotonic() - begin < 5
    assert (server.connections, server.requests) == (1, [])


def test_a_connection_is_closed_when_time_runs_out_before_its_handshake() -> None:
    # Reading the well-known authorities alone takes longer than this; a socket left open is a warning, which fails.
    with serving(answer()) as server:
        refusal(server.url.replace("http:", "https:"), seconds=0.02)
    assert server.requests == []


def test_a_server_that_takes_no_connections_is_given_up() -> None:
    with taking_no_connections("127.0.0.1") as port:
        begin = time.monotonic()
        assert "cannot be reached" in refusal(f"http://127.0.0.1:{port}/", seconds=0.4)
        assert 0.3 < time.monotonic() - begin < 5


def test_a_name_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    answered = threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        answered.wait(10)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    begin = time.monotonic()
    try:
        assert "in time" in refusal("http://pictures.test/", seconds=0.3)
        assert time.monotonic() - begin < 5
    finally:
        answered.set()


def test_no_time_means_no_connection() -> None:
    with serving(answer()) as server:
        assert "in time" in refusal(server.url, seconds=0)
    assert server.connections == 0
