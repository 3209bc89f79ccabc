"""The id of a request: in its answer, in its row, and in every log line about it."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import uuid4

from generation.asgi.types import (
    Application,
    Message,
    Receive,
    Scope,
    Send,
)

_HEADER = b"x-request-id"
_SANE = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_current: ContextVar[str] = ContextVar("request_id", default="")


def current() -> str:
    """The id of the request that is served here, or of those that are worked on; empty outside of any."""
    return _current.get()


def sanitize(text: str) -> str:
    """The client's id, or a new one where it is no 1 to 64 letters, digits and `._:-`, which are safe in any log."""
    return text if _SANE.fullmatch(text) else uuid4().hex


@contextmanager
def bind(*ids: str) -> Iterator[None]:
    """Let the log lines of this block carry these ids, with commas between; empty ones are left out."""
    token = _current.set(",".join(filter(None, ids)))
    try:
        yield
    finally:
        _current.reset(token)


class AddRequestId(logging.Filter):
    """Gives each record a `request_id` for the format, `-` where there is none."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = current() or "-"
        return True


def request_id_middleware(application: Application) -> Application:
    """An ASGI application around this one: each request has one sane `X-Request-Id`, and its response tells it."""

    async def identified(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await application(scope, receive, send)
            return
        named = [value.decode("latin-1") for name, value in scope["headers"] if name == _HEADER]
        # Several may be of several origins: none of them is to be believed.
        request_id = sanitize(named[0] if len(named) == 1 else "")
        header = (_HEADER, request_id.encode())
        others = [(name, value) for name, value in scope["headers"] if name != _HEADER]

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), header]}
            await send(message)

        # Not reset: the server runs each request in a task of its own, and logs there what the application raises.
        _current.set(request_id)
        await application({**scope, "headers": [*others, header]}, receive, send_with_id)

    return identified
