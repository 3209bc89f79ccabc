"""The lock that lets one reaper work at a time."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from redis import RedisError

from generation.broker.connection import redis_client

logger = logging.getLogger(__name__)

_REAPER_KEY = "dreamsite:reaper"
_REAPER_SECONDS = 5
"""How long a process that dies while it reaps blocks the other reapers."""


@contextmanager
def reaper_lock() -> Iterator[bool]:
    """Yield whether this process may reap now. Without Redis it may, since two reapers at once do no harm."""
    lock = redis_client().lock(_REAPER_KEY, timeout=_REAPER_SECONDS)
    try:
        acquired = lock.acquire(blocking=False)
    except RedisError:
        yield True
        return
    try:
        yield acquired
    finally:
        if acquired:
            try:
                lock.release()
            except RedisError:
                logger.warning("the reaper's lock was lost")
