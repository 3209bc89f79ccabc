"""The lock that lets one reaper work at a time."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from redis import RedisError

from generation.broker.connection import redis_client

logger = logging.getLogger(__name__)

_REAPER_KEY = "dreamsite:reaper"
_REAPER_SECONDS = 5
"""How long a process that dies while it reaps blocks the other reapers."""

_REAPED_KEY = "dreamsite:reaped"
_REAPED_SECONDS = 1.5
"""How long after a round of any process another one is not due: longer than the pauses of `manage.py reaper`."""


@contextmanager
def reaper_lock(only_if_due: bool) -> Iterator[bool]:
    """Yield whether this process may reap now: no other one does, and with `only_if_due`, none has within `_REAPED_SECONDS`.

    Without Redis it may, since two reapers at once do no harm.
    """
    redis = redis_client()
    lock = redis.lock(_REAPER_KEY, timeout=_REAPER_SECONDS)
    try:
        may_reap = not (only_if_due and redis.exists(_REAPED_KEY)) and lock.acquire(blocking=False)
    except RedisError:
        yield True
        return
    try:
        yield may_reap
        if may_reap:
            with suppress(RedisError):
                redis.set(_REAPED_KEY, 1, px=int(1000 * _REAPED_SECONDS))
    finally:
        if may_reap:
            try:
                lock.release()
            except RedisError:
                logger.warning("the reaper's lock was lost")
