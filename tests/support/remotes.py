"""Servers that a picture may be fetched from, most of them ill-mannered."""

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

Answer = bytes | Callable[[socket.socket], None]


def answer(body: bytes = PICTURE, status: str = "200 OK", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*head, "", ""]).encode() + body


def redirect(location: str, *headers: str) -> bytes:
    return answer(b"elsewhere", "302 Found", f"Location: {location}", *headers)


class Server:
    """Answers connection after connection with the next answer, the last one for ever, and keeps what it was asked."""

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
        # Clients that refuse an answer hang up on it.
        with connection, suppress(OSError):
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
    """A server on a free port, by TLS if there is a context for it; in the end all that it was asked is answered."""
    with socket.create_server((host, port)) as listener:
        server = Server(listener, answers, tls)
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for thread in server.threads:
                thread.join(10)
                assert not thread.is_alive()


def get(url: str, *, max_bytes: int = 1_000_000, seconds: float = 5.0, **options: Any) -> bytes:
    """Fetch, with every address allowed unless `allow` says otherwise."""
    return fetch(url, max_bytes=max_bytes, seconds=seconds, **{"allow": lambda _: True, **options})


def refusal(url: str, **options: Any) -> str:
    """The message that fetching is refused with."""
    with pytest.raises(RemoteRefused) as refused:
        get(url, **options)
    assert str(refused.value) == refused.value.message
    assert refused.value.message.endswith(".")
    assert not re.search(r"Error|httpcore|h11|socket|getaddrinfo|errno", refused.value.message)
    return refused.value.message


def until_gone(connection: socket.socket) -> None:
    """Wait for the other side to close."""
    connection.settimeout(5)
    while connection.recv(65536):
        pass


def drip(head: bytes, piece: bytes = b"a") -> Callable[[socket.socket], None]:
    """An answer that goes on for ever, 50 pieces a second."""

    def answer(connection: socket.socket) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(piece)
            time.sleep(0.02)

    return answer


@contextmanager
def taking_no_connections(host: str, port: int = 0) -> Iterator[int]:
    """A port whose queue is full, so that the system answers nobody."""
    with socket.create_server((host, port), backlog=0) as listener, socket.create_connection(listener.getsockname()):
        yield listener.getsockname()[1]
