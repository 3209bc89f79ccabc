"""Answers that are made while they are sent."""

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse

_WORTH_SENDING = 256 * 1024


def streamed(request: HttpRequest, pieces: Iterator[bytes], content_type: str) -> StreamingHttpResponse:
    """An answer of these pieces, made one at a time as the client takes them; they must not ask the database."""
    if isinstance(request, ASGIRequest):
        # Django would make all of a plain iterator first, and keep it.
        return StreamingHttpResponse(_one_by_one(pieces), content_type=content_type)
    return StreamingHttpResponse(pieces, content_type=content_type)


async def _one_by_one(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    # A client may take its time: no connection of the pool is held meanwhile.
    await sync_to_async(connections.close_all)()
    take = sync_to_async(_some)
    while piece := await take(pieces):
        yield piece


def _some(pieces: Iterator[bytes]) -> bytes:
    """The next pieces, joined to one that is worth the way between threads; empty at the end."""
    taken = bytearray()
    while len(taken) < _WORTH_SENDING and (piece := next(pieces, None)) is not None:
        taken += piece
    return bytes(taken)
