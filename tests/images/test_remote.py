"""Responses of picture servers, and deadlines: real servers on this machine, most of them misbehaving."""

import io
import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from generation.images import remote
from generation.images.uploads import read_upload
from tests.support.remotes import (
    PICTURE,
    WAIT_SECONDS,
    Answer,
    accepting_no_connections,
    answer,
    drip,
    get,
    redirect,
    refusal,
    refusal_at_deadline,
    serving,
    wait_for_close,
)

# Requests and responses


def test_a_picture_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    # Proxies of the environment are ignored.
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
        # What follows the end of a response is ignored.
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


def test_the_size_limit_is_exact_and_in_the_message() -> None:
    with serving(answer(b"a" * 5000)) as server:
        assert len(get(server.url, max_bytes=5000)) == 5000
        assert "4,999 bytes" in refusal(server.url, max_bytes=4999)


def test_a_body_whose_content_length_is_too_large_is_not_read() -> None:
    def promise(connection: socket.socket) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000001\r\n\r\n")
        wait_for_close(connection)

    with serving(promise) as server:
        assert "1,000,000,000 bytes" in refusal(server.url, max_bytes=1_000_000_000)


@pytest.mark.parametrize(
    ("head", "piece"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\n", b"a" * 65536),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"10000\r\n" + b"a" * 65536 + b"\r\n"),
    ],
)
def test_an_endless_body_is_read_only_up_to_the_limit(head: bytes, piece: bytes) -> None:
    sent = 0

    def pour(connection: socket.socket) -> None:
        nonlocal sent
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            sent += len(piece)

    with serving(pour) as server:
        assert "300,000 bytes" in refusal(server.url, max_bytes=300_000)
    # Both ends of the connection buffer some more.
    assert sent < 20_000_000


@pytest.mark.parametrize(
    "slow",
    [
        wait_for_close,
        drip(b"HTTP/1.1 200 OK\r\nA: "),
        drip(b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", b"1\r\na\r\n"),
        drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nA: "),
    ],
    ids=["silence", "headers", "hints", "body", "chunks", "trailers"],
)
def test_a_slow_server_is_given_up_at_the_deadline(slow: Answer) -> None:
    with serving(slow) as server:
        assert "in time" in refusal_at_deadline(server.url)


def test_the_deadline_is_for_all_redirects_together(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(remote, "time", SimpleNamespace(monotonic=lambda: now))

    def slow_redirect(connection: socket.socket) -> None:
        nonlocal now
        now += 300
        connection.sendall(redirect("/again"))

    with serving(slow_redirect) as server:
        assert "in time" in refusal(server.url, seconds=400)
    assert server.connections == 2


def test_an_endless_handshake_is_given_up_at_the_deadline() -> None:
    # The server takes the first message of TLS for a request without an end.
    seconds = 0.4
    with serving(answer()) as server:
        # On a busy machine, loading the certificate authorities alone may take that long.
        while not server.connections:
            assert "in time" in refusal_at_deadline(server.url.replace("http:", "https:"), seconds)
            seconds *= 2
    assert server.requests == []


def test_a_connection_is_closed_when_time_runs_out_before_its_handshake() -> None:
    # Loading the certificate authorities takes longer than this. A socket that stays open is a warning, which is an error.
    with serving(answer()) as server:
        refusal(server.url.replace("http:", "https:"), seconds=0.02)
    assert server.requests == []


def test_a_server_that_accepts_no_connections_is_given_up_at_the_deadline() -> None:
    with accepting_no_connections("127.0.0.1") as port:
        assert "cannot be reached" in refusal_at_deadline(f"http://127.0.0.1:{port}/")


def test_a_name_server_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    may_answer = threading.Event()

    def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
        may_answer.wait(WAIT_SECONDS)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        assert "in time" in refusal_at_deadline("http://pictures.test/")
    finally:
        may_answer.set()


def test_no_time_means_no_connection() -> None:
    with serving(answer()) as server:
        assert "in time" in refusal(server.url, seconds=0)
    assert server.connections == 0
