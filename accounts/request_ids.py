"""The id of a request: in its answer, in its row, and in every log line about it."""

import logging
import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from uuid import uuid4

_SANE = re.compile(r"[A-Za-z0-9._:-]{1,64}")
_current: ContextVar[str] = ContextVar("request_id", default="")


def current() -> str:
    """The id of the request that is served here, or of those that are worked on; empty outside of any."""
    return _current.get()


def sanitize(text: str) -> str:
    """The client's id, or a new one where it is no 1 to 64 letters, digits and `._:-`, which are safe in any log."""
    return text if _SANE.fullmatch(text) else uuid4().hex


def set_current(request_id: str) -> None:
    """Give the current task this id until it ends."""
    _current.set(request_id)


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
