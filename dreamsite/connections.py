"""The connections of a web process: how many a client may have open, and what it may send and take time for on each.

Uvicorn bounds neither the size of headers nor the time that they take, nor the number of connections. How long a body may take
is up to `generation.asgi.bodies`.
"""

import json
import resource
from asyncio import TimerHandle, Transport
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.conf import settings
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from accounts import request_ids
from accounts.addresses import counted_address
from dreamsite.stalled_readers import DropStalledReaders
from generation.asgi.counting import counted
from generation.asgi.refusals import error_content, with_error_code
from generation.asgi.request_counter import OTHER
from generation.asgi.types import Application, Receive, Scope, Send, send_json
from generation.broker import counters
from generation.parameters import ErrorCode

MAX_HEAD_BYTES = 32 * 1024
"""The request line and the headers. Cookies and signed addresses need a few kB; the time of every parser grows with them."""

HEAD_SECONDS = 10.0
"""From the connection, or the first byte of a later request, to the end of its headers: programs send them at once."""

IDLE_SECONDS = 65
"""Between two requests. A little above nginx's 60 s, so that nginx never sends a request while this side closes."""

MAX_CONNECTIONS = 8192
"""Of all clients. Each takes some 20 kB while it waits."""

RESERVED_DESCRIPTORS = 128
"""File descriptors for everything but connections: database, Redis, storage, event loop, code."""

_DESCRIPTORS_EACH = 2
"""The socket, and the file of the request's body or of what is downloaded."""

_MANY_DESCRIPTORS = 65_536
"""What to ask for where the hard limit is infinite, which the kernel does not give on every system."""

_MAX_PIPELINED = 16
"""Requests that wait for the response to an earlier one of their connection. Browsers and libraries send none."""

_LINGER_SECONDS = 2.0
"""How long a refused client may go on sending. Closed at once, it would see a reset connection instead of the answer."""

_HEADERS_TOO_LARGE = (
    f"Request line and headers may have {MAX_HEAD_BYTES // 1024} kB in all; send fewer cookies and shorter values."
)
_HEADERS_TOO_SLOW = f"The headers did not arrive within {HEAD_SECONDS:.0f} seconds; send them at once."
_TOO_MANY_CONNECTIONS = "Your address has too many connections open; close some, or use them for several requests."


def raise_descriptor_limit() -> int:
    """Raise the limit of open files to the highest allowed, and return it."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = _MANY_DESCRIPTORS if hard == resource.RLIM_INFINITY else hard
    if wanted > soft:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Connections:
    """Counts the open connections in all and by address; those of trusted proxies only in all.

    `descriptors` is the limit of open files. One address may have at most half of all connections. If there are too many in
    all, the one that has been without a request for longest makes room for a new one.
    """

    def __init__(self, descriptors: int, is_trusted_proxy: Callable[[str], bool]) -> None:
        self._max = min(MAX_CONNECTIONS, max(1, (descriptors - RESERVED_DESCRIPTORS) // _DESCRIPTORS_EACH))
        self._max_per_address = min(settings.CONNECTIONS_PER_ADDRESS or self._max, max(1, self._max // 2))
        self._is_trusted_proxy = is_trusted_proxy
        self._addresses: dict[Connection, str | None] = {}
        self._by_address: Counter[str] = Counter()
        # In the order in which they became idle.
        self._idle: dict[Connection, None] = {}

    def add(self, connection: "Connection") -> None:
        """Count a connection. If that is one too many in all, close one: an idle one if there is any, else this one."""
        host = connection.client[0] if connection.client else ""
        address = None if self._is_trusted_proxy(host) else counted_address(host)
        if len(self._addresses) >= self._max:
            next(iter(self._idle), connection).abort()
        self._addresses[connection] = address
        if address is not None:
            self._by_address[address] += 1

    def remove(self, connection: "Connection") -> None:
        """Count a connection no longer; again has no effect."""
        self._idle.pop(connection, None)
        address = self._addresses.pop(connection, None)
        if address is not None:
            self._by_address[address] -= 1
            if not self._by_address[address]:
                del self._by_address[address]

    def set_idle(self, connection: "Connection", is_idle: bool) -> None:
        """Say whether the connection is without a request."""
        self._idle.pop(connection, None)
        if is_idle:
            self._idle[connection] = None

    def are_too_many_of_its_address(self, connection: "Connection") -> bool:
        address = self._addresses.get(connection)
        return address is not None and self._by_address[address] > self._max_per_address


class Connection(DropStalledReaders, HttpToolsProtocol):
    """One connection, with bounds. Its first argument is what counts all of them; the others are uvicorn's."""

    def __init__(self, connections: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._connections = connections
        self.url = b""
        self._is_refused = False
        self._has_begun = False
        self._has_progressed = False
        self._unfinished_bytes = 0
        self._timer: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._connections.add(self)
        if self.transport.is_closing():
            return
        if self._connections.are_too_many_of_its_address(self):
            self._answer(ErrorCode.TOO_MANY_CONNECTIONS, _TOO_MANY_CONNECTIONS)
            # Not later: a refused client must not hold what it was refused.
            self.transport.close()
        else:
            self._connections.set_idle(self, True)
            self._start_timer()

    def abort(self) -> None:
        """Close the connection at once, without an answer."""
        self._connections.remove(self)
        self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._connections.remove(self)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._is_refused:
            return
        self._has_progressed = False
        super().data_received(data)
        # What has neither an end nor a use yet: headers, the size of a chunk, trailers.
        self._unfinished_bytes = 0 if self._has_progressed else self._unfinished_bytes + len(data)
        if self._unfinished_bytes > MAX_HEAD_BYTES:
            self._refuse(ErrorCode.HEADERS_TOO_LARGE, _HEADERS_TOO_LARGE)
        elif self._timer is None and (self._has_begun or not self._is_serving):
            self._start_timer()

    def on_message_begin(self) -> None:
        self._has_begun = self._has_progressed = True
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        # Trailers come after the body, when the headers have been read already; nobody needs them.
        if self._has_begun:
            # Python before 3.11.10 takes seconds for a cookie of escaped characters; the service's own have none.
            super().on_header(name, value.replace(b"\\", b"") if name.lower() == b"cookie" else value)

    def on_headers_complete(self) -> None:
        self._has_begun, self._has_progressed = False, True
        self._stop_timer()
        if self._is_refused:
            return
        if len(self.url) + sum(len(name) + len(value) for name, value in self.headers) > MAX_HEAD_BYTES:
            self._refuse(ErrorCode.HEADERS_TOO_LARGE, _HEADERS_TOO_LARGE)
        elif len(self.pipeline) == _MAX_PIPELINED:
            # The piece of data that is being read may have ten thousand more. There is no place for an answer to this one.
            self._is_refused = True
            self.transport.close()
        else:
            self._connections.set_idle(self, False)
            super().on_headers_complete()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if not self.transport.is_closing() and not self._is_serving:
            self._connections.set_idle(self, True)

    def on_chunk_header(self) -> None:
        self._has_progressed = True

    def on_body(self, body: bytes) -> None:
        self._has_progressed = True
        if not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        self._has_progressed = True
        if not self._is_refused:
            super().on_message_complete()

    @property
    def _is_serving(self) -> bool:
        """Whether a response is owed."""
        return self.cycle is not None and not self.cycle.response_complete

    def _start_timer(self) -> None:
        self._timer = self.loop.call_later(HEAD_SECONDS, self._end_slow_head)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end_slow_head(self) -> None:
        if self._has_begun:
            self._refuse(ErrorCode.REQUEST_TIMEOUT, _HEADERS_TOO_SLOW)
        else:
            self.transport.close()

    def _refuse(self, code: ErrorCode, message: str) -> None:
        """Answer with an error, and close the connection. Without an answer if an earlier request waits for its own."""
        self._is_refused = True
        self._stop_timer()
        if self._is_serving:
            self.transport.close()
            return
        self._answer(code, message)
        with suppress(OSError):
            self.transport.write_eof()
        self._timer = self.loop.call_later(_LINGER_SECONDS, self.transport.close)

    def _answer(self, code: ErrorCode, message: str) -> None:
        counters.add(counters.REFUSALS, code)
        counters.add(counters.REQUESTS, OTHER, str(code.status))
        content = json.dumps(error_content(self.url.decode("latin-1"), code, message)).encode()
        headers = {
            "content-type": "application/json",
            "content-length": str(len(content)),
            "cache-control": "no-store",
            "x-request-id": request_ids.new(),
            "connection": "close",
            **code.retry_headers(),
        }
        lines = b"".join(f"{name}: {value}\r\n".encode() for name, value in headers.items())
        self.transport.write(STATUS_LINE[code.status] + lines + b"\r\n" + content)


def requests_per_address(application: Application) -> Application:
    """Wrap an ASGI application: an address has at most as many requests at a time as it may have connections.

    Counts the clients behind trusted proxies, whose connections are not theirs. Its place is below what reads their addresses.
    """
    running: Counter[str] = Counter()

    async def bounded(scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        address = counted_address(client[0]) if client else None
        if scope["type"] != "http" or address is None or not settings.CONNECTIONS_PER_ADDRESS:
            await application(scope, receive, send)
            return
        if running[address] >= settings.CONNECTIONS_PER_ADDRESS:
            code = ErrorCode.TOO_MANY_CONNECTIONS
            content = error_content(scope["path"], code, _TOO_MANY_CONNECTIONS)
            headers = {**code.retry_headers(), "Connection": "close"}
            await send_json(with_error_code(send, code), code.status, content, headers)
            return
        with counted(running, address):
            await application(scope, receive, send)

    return bounded
