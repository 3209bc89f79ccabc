"""The sending of responses, outside of Django's threads and only as fast as the client reads.

A client that reads slowly costs a coroutine, and the piece of the response that is being sent.
"""

import asyncio
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

from django.conf import settings
from django.http import StreamingHttpResponse

from generation.asgi.counting import counted
from generation.asgi.refusals import send_refusal
from generation.asgi.types import STREAMED, Message, Receive, Scope, Send, wait_for_disconnect
from generation.parameters import ErrorCode, RequestRefused

PIECE_BYTES = 64 * 1024
MAX_OF_USER = 4
"""Downloads of one user at a time: archives, exports, results. A browser that reads them needs some seconds for each."""
MAX_OF_FILE = 32
"""Responses with the same file at a time. A page shows a picture once, but many may open a share link at the same time."""

_TOO_MANY = "Too many downloads at a time; wait until one of those that are running has ended, then try again."
_THREADS = 4
_MAX_BYTES_IN_MEMORY = 256 * 1024
"""A larger body is put into a temporary file while it is sent. Most pages are smaller."""


@dataclass(frozen=True)
class Limit:
    """At most `most` responses with the same key are sent at a time in a process."""

    key: str
    most: int


def limited(response: StreamingHttpResponse, limit: Limit) -> StreamingHttpResponse:
    """Return the response, which becomes 429 if as many as allowed are being sent already."""
    response.transfer_limit = limit  # type: ignore[attr-defined]
    return response


def of_user(user_id: int) -> Limit:
    """Return the limit of a user's downloads."""
    return Limit(f"user {user_id}", MAX_OF_USER)


class Transfers:
    """The responses that are being sent."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, "transfer")
        self._open: Counter[str] = Counter()

    async def send(self, scope: Scope, messages: Sequence[Message], receive: Receive, send: Send) -> None:
        """Send the response that Django's handler sent as these messages; none if the client has disconnected before."""
        if not messages:
            return
        start, *parts = messages
        streamed: StreamingHttpResponse | None = parts[0].get(STREAMED) if parts else None
        if streamed is not None:
            try:
                await self._send_stream(scope, start, streamed, receive, send)
            finally:
                await self._run(streamed.close)
        elif sum(len(part["body"]) for part in parts) > _MAX_BYTES_IN_MEMORY:
            with tempfile.TemporaryFile() as file:
                await self._run(_write, file, [part["body"] for part in parts])
                # The pieces must not be kept by these names either.
                del messages, parts
                await self._send_pieces(start, iter(lambda: file.read(PIECE_BYTES), b""), receive, send)
        else:
            for message in messages:
                await send(message)

    async def _send_stream(
        self, scope: Scope, start: Message, streamed: StreamingHttpResponse, receive: Receive, send: Send
    ) -> None:
        with self._counted(getattr(streamed, "transfer_limit", None)) as is_allowed:
            if not is_allowed:
                await send_refusal(scope, RequestRefused(ErrorCode.TOO_MANY_CONNECTIONS, _TOO_MANY), send)
            elif scope["method"] == "HEAD":
                await send(start)
                await send({"type": "http.response.body", "body": b""})
            else:
                await self._send_pieces(start, iter(streamed), receive, send)

    async def _send_pieces(self, start: Message, pieces: Iterator[bytes], receive: Receive, send: Send) -> None:
        await send(start)
        disconnect = asyncio.create_task(wait_for_disconnect(receive))
        try:
            while not disconnect.done() and (piece := await self._run(_read, pieces)):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            if not disconnect.done():
                await send({"type": "http.response.body", "body": b""})
        finally:
            disconnect.cancel()

    @contextmanager
    def _counted(self, limit: Limit | None) -> Iterator[bool]:
        """Count a response in this context, and yield whether it may be sent."""
        if limit is None or not settings.LIMITS:
            yield True
        elif self._open[limit.key] >= limit.most:
            yield False
        else:
            with counted(self._open, limit.key):
                yield True

    async def _run(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._threads, function, *arguments)


def _write(file: IO[bytes], parts: Sequence[bytes]) -> None:
    file.writelines(parts)
    file.seek(0)


def _read(pieces: Iterator[bytes]) -> bytes:
    """Join pieces up to `PIECE_BYTES`, to change threads less often; empty at the end."""
    joined = bytearray()
    while len(joined) < PIECE_BYTES and (piece := next(pieces, None)) is not None:
        joined += piece
    return bytes(joined)
