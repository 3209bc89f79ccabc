"""The Redis client of this process."""

from functools import cache
from typing import Any

from django.conf import settings
from redis import Redis, ResponseError


@cache
def redis_client() -> Redis:
    """Return the client for short commands. Blocking readers make their own, without a socket timeout."""
    return Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)


def eviction_policy() -> str:
    """Return the policy by which this Redis removes keys when its memory is full.

    Empty if it removes none, or does not say. Raises `RedisError` if it cannot be reached.
    """
    try:
        # Not CONFIG, which hosted servers forbid.
        memory: Any = redis_client().info("memory")
    except ResponseError:
        return ""
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    return policy if memory.get("maxmemory") and policy != "noeviction" else ""
