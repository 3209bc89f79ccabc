"""Answers that are made while they are sent."""

from collections.abc import AsyncIterator, Iterator

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db import connections
from django.http import HttpRequest, StreamingHttpResponse


def streamed(request: HttpRequest, pieces: Iterator[bytes], content_type: str) -> StreamingHttpResponse:
    """An answer of these pieces, made one at a time as the client takes them; they must not ask the database."""
    if isinstance(request, ASGIRequest):
        # Django would make all of a plain iterator first, and keep it.
        return StreamingHttpResponse(_one_by_one(pieces), content_type=content_type)
    return StreamingHttpResponse(pieces, content_type=content_type)


async def _one_by_one(pieces: Iterator[bytes]) -> AsyncIterator[bytes]:
    # A client may take its time: no connection of the pool is held meanwhile.
    await sync_to_async(connections.close_all)()
    take = sync_to_async(lambda: next(pieces, None))
    while (piece := await take()) is not None:
        yield piece
