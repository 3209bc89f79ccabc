"""The trace of a request, which other services continue: the header `traceparent` of W3C's Trace Context.

It is kept in the row of a generation, so that the log lines and spans of its worker belong to the same trace.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Protocol

from accounts import request_ids

LENGTH = 55
"""Characters of a value as `valid` returns it."""

# https://www.w3.org/TR/trace-context/#traceparent-header: later versions may add fields, and none has the number ff.
_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1
_current: ContextVar[tuple[str, ...]] = ContextVar("traceparents", default=())


class Traced(Protocol):
    """A row that keeps the ids of the request that made it."""

    request_id: str
    traceparent: str


def valid(values: Sequence[str]) -> str:
    """Return the value of the header in version 00, with no flag but that for sampling.

    Empty if it is not there exactly once or not valid, as if there were none.
    """
    found = _FORM.fullmatch(values[0]) if len(values) == 1 else None
    if found is None:
        return ""
    version, trace_id, parent_id, flags, rest = found.groups()
    if version == "00" and rest is not None:
        return ""
    return f"00-{trace_id}-{parent_id}-{int(flags, 16) & _SAMPLED:02x}"


def current() -> str:
    """Return the `traceparent` of the request that is being served; empty if it belongs to no trace."""
    return _current.get()[0] if _current.get() else ""


def trace_ids() -> str:
    """Return the id of the trace of the request that is being served, or those of what a worker runs, with commas."""
    return ",".join(dict.fromkeys(traceparent.split("-")[1] for traceparent in _current.get()))


def set_current(traceparent: str) -> None:
    """Set the trace of the current task until it ends."""
    _current.set((traceparent,) if traceparent else ())


@contextmanager
def continued(*rows: Traced) -> Iterator[None]:
    """Let log lines within this context carry the ids of the requests and traces of these rows."""
    token = _current.set(tuple(row.traceparent for row in rows if row.traceparent))
    try:
        with request_ids.bind(*(row.request_id for row in rows)):
            yield
    finally:
        _current.reset(token)
