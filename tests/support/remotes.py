"""Servers to fetch a picture from, most of them misbehaving."""

import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain, repeat
from typing import Any

import pytest

from generation.images.remote import RemoteRefused, fetch
from tests.support import pictures

PICTURE = pictures.photo(32, 32)

WAIT_SECONDS = 60.0
"""The bound of everything here: far above the deadlines in the tests, below the system's own time limits."""

Answer = bytes | Callable[[socket.socket], None]


def answer(body: bytes = PICTURE, status: str = "200 OK", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def redirect(location: str, *headers: str) -> bytes:
    return answer(b"elsewhere", "302 Found", f"Location: {location}", *headers)


class Server:
    """Answers each connection with the next of the answers, and further ones with the last. Records the requests."""

    def __init__(self, listener: socket.socket, answers: Sequence[Answer], tls: ssl.SSLContext | None) -> None:
        self._listener = listener
        self._answers = chain(answers, repeat(answers[-1]))
        self._tls = tls
        self.port: int = listener.getsockname()[1]
        self.connections = 0
        self.requests: list[str] = []
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    @property
    def url(self) -> str:
        return f"http{'s' if self._tls else ''}://127.0.0.1:{self.port}/picture.png"

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                thread = threading.Thread(target=self._serve, args=(connection, next(self._answers)))
                self.threads.append(thread)
                thread.start()

    def _serve(self, connection: socket.socket, answer: Answer) -> None:
        # Clients that refuse a response close the connection.
        with connection, suppress(OSError):
            connection.settimeout(WAIT_SECONDS)
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                request = b""
                while not request.endswith(b"\r\n\r\n"):
                    if not (piece := connection.recv(65536)):
                        return
                    request += piece
                self.requests.append(request.decode())
                if callable(answer):
                    answer(connection)
                else:
                    connection.sendall(answer)


@contextmanager
def serving(
    *answers: Answer, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1", port: int = 0
) -> Iterator[Server]:
    """Run a server on a free port, with TLS if there is a context. At the end, wait until all connections are closed."""
    with socket.create_server((host, port)) as listener:
        server = Server(listener, answers, tls)
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in server.threads:
                thread.join(WAIT_SECONDS)
                assert not thread.is_alive()


def get(url: str, *, max_bytes: int = 1_000_000, seconds: float = WAIT_SECONDS, **options: Any) -> bytes:
    """Fetch a URL; all addresses are allowed unless `allow` is given."""
    return fetch(url, max_bytes=max_bytes, seconds=seconds, **{"allow": lambda _: True, **options})


def refusal(url: str, **options: Any) -> str:
    """Return the message with which fetching is refused."""
    with pytest.raises(RemoteRefused) as error:
        get(url, **options)
    message = error.value.message
    assert str(error.value) == message
    assert message.endswith(".")
    assert not re.search(r"Error|httpcore|h11|socket|getaddrinfo|errno", message)
    return message


def refusal_at_deadline(url: str, seconds: float = 0.4) -> str:
    """Return the message with which fetching is refused, neither long before this deadline nor long after it."""
    begin = time.monotonic()
    message = refusal(url, seconds=seconds)
    assert 0.75 * seconds < time.monotonic() - begin < WAIT_SECONDS
    return message


def wait_for_close(connection: socket.socket) -> None:
    """Wait until the other side closes the connection."""
    connection.settimeout(WAIT_SECONDS)
    while connection.recv(65536):
        pass


def drip(head: bytes, piece: bytes = b"a") -> Callable[[socket.socket], None]:
    """Return an answer of 50 pieces a second. It breaks off after `WAIT_SECONDS`, so that no test waits for ever."""

    def answer(connection: socket.socket) -> None:
        end = time.monotonic() + WAIT_SECONDS
        connection.sendall(head)
        while time.monotonic() < end:
            connection.sendall(piece)
            time.sleep(0.02)

    return answer


@contextmanager
def accepting_no_connections(host: str, port: int = 0) -> Iterator[int]:
    """Open a port whose backlog is full, so that the system accepts no connections."""
    with socket.create_server((host, port), backlog=0) as listener, socket.create_connection(listener.getsockname()):
        yield listener.getsockname()[1]
