"""Streaming responses."""

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse

_MIN_CHUNK_BYTES = 256 * 1024


def stream(request: HttpRequest, chunks: Iterator[bytes], content_type: str) -> StreamingHttpResponse:
    """Return a response whose chunks are produced while it is sent. They must not use the database."""
    if isinstance(request, ASGIRequest):
        # Under ASGI, Django would read all of a synchronous iterator into memory first.
        return StreamingHttpResponse(_asynchronous(chunks), content_type=content_type)
    return StreamingHttpResponse(chunks, content_type=content_type)


async def _asynchronous(chunks: Iterator[bytes]) -> AsyncIterator[bytes]:
    # A slow client must not hold a connection of the pool.
    await sync_to_async(connections.close_all)()
    read = sync_to_async(_read)
    while chunk := await read(chunks):
        yield chunk


def _read(chunks: Iterator[bytes]) -> bytes:
    """Join chunks up to `_MIN_CHUNK_BYTES`, to change threads less often; empty at the end."""
    joined = bytearray()
    while len(joined) < _MIN_CHUNK_BYTES and (chunk := next(chunks, None)) is not None:
        joined += chunk
    return bytes(joined)
