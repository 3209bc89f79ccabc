"""Tasks that a thread repeats beside other work, such as heartbeats and the renewal of leases."""

import contextvars
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat

from django.db import InterfaceError, OperationalError, connection, connections
from redis import RedisError

from generation.broker import counters

logger = logging.getLogger(__name__)


@contextmanager
def periodically(
    name: str,
    seconds: float,
    task: Callable[[], object],
    *,
    at_once: bool = True,
    join_seconds: float | None = None,
) -> Iterator[None]:
    """Call `task` every `seconds` in a thread while the block runs; an error is logged and the task called again.

    `name` is for the log. With `at_once` the first call comes without a pause. When the block ends, wait up to
    `join_seconds` for a call that still runs, or until it returns if None.
    """
    ended = threading.Event()

    def run() -> None:
        try:
            repeat_until_ended()
        finally:
            connections.close_all()

    def repeat_until_ended() -> None:
        for pause in chain([0.0] if at_once else [], repeat(seconds)):
            if ended.wait(pause):
                return
            is_done = False
            try:
                task()
                is_done = True
            except (RedisError, OperationalError, InterfaceError) as error:
                logger.warning("%s: the database or Redis cannot be reached; trying again: %r", name, error)
            except Exception:
                logger.exception("%s failed; trying again", name)
            # SQLite reads its whole schema when it is opened, which can cost more than the task.
            if not is_done or connection.vendor != "sqlite":
                connections.close_all()

    # With the context of the caller, so that log lines carry its request ids.
    thread = threading.Thread(target=contextvars.copy_context().run, args=(run,), name=name, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(join_seconds)


@contextmanager
def counters_flushed() -> Iterator[None]:
    """Move the counters of this process to Redis while the block runs, and what is left at its end."""
    with periodically("counters", counters.FLUSH_SECONDS, counters.flush):
        yield
    counters.flush()
