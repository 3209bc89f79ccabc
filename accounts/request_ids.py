"""The id of a request: in its response, in the row of its generation, and in log lines."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import uuid4

_VALID = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_current: ContextVar[str] = ContextVar("request_id", default="")
_of_client: ContextVar[str] = ContextVar("client_request_id", default="")


def current() -> str:
    """Return the id of the request that is being served, or the ids of those that a worker runs; empty if none."""
    return _current.get()


def of_client() -> str:
    """Return the id that the client gave the request that is being served; empty if it gave none."""
    return _of_client.get()


def new() -> str:
    """Return a new id. Ours are always new: a client cannot make its request look like another one."""
    return uuid4().hex


def valid(text: str) -> str:
    """Return the client's id if it is 1 to 64 letters, digits and `._:-`, which are safe in any log; else an empty text."""
    return text if _VALID.fullmatch(text) else ""


def set_current(request_id: str, client_id: str) -> None:
    """Set the ids of the current task until it ends."""
    _current.set(request_id)
    _of_client.set(client_id)


@contextmanager
def bind(*ids: str) -> Iterator[None]:
    """Add these ids to the log lines within this context, separated by commas. Empty ids are omitted."""
    token = _current.set(",".join(filter(None, ids)))
    try:
        yield
    finally:
        _current.reset(token)


class AddRequestId(logging.Filter):
    """Sets `request_id` of each log record: ours, and that of the client if there is one; `-` if there is none."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.request_id = " client:".join(filter(None, (current(), of_client()))) or "-"
        return True
