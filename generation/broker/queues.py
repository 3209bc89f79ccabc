"""Wake-ups: an RQ queue per pool, whose jobs say only that there is work in the database."""

import logging

from redis import Redis, RedisError
from rq import Queue
from rq.serializers import JSONSerializer

from generation.broker.connection import redis_client

logger = logging.getLogger(__name__)

_JOB = "generation.worker.process.run_pending"


def rq_queue(name: str, connection: Redis | None = None) -> Queue:
    """Return the RQ queue of a pool or of one worker. JSON, so that write access to Redis is not code execution."""
    return Queue(name, connection=connection or redis_client(), serializer=JSONSerializer)


def wake_workers(name: str) -> None:
    """Tell the workers of a pool, or one worker, that there is work. Raises `RedisError`."""
    rq_queue(name).enqueue(_JOB, job_timeout=-1, result_ttl=0, failure_ttl=3600)


def try_wake_workers(name: str) -> None:
    """Call `wake_workers`; while Redis is away only log it, since the reaper wakes workers for every queued row."""
    try:
        wake_workers(name)
    except RedisError:
        logger.warning("no wake-up for %s: Redis cannot be reached; the reaper will send it", name)
