"""Wake-ups: an RQ queue per pool, whose jobs say only that there is work in the database."""

import logging
from typing import Any

from redis import Redis, RedisError
from rq import Queue
from rq.exceptions import NoSuchJobError
from rq.job import Job
from rq.serializers import JSONSerializer

from generation.broker.connection import redis_client

logger = logging.getLogger(__name__)


class WakeUp(Job):
    """An RQ job of which nothing is read, so that whoever can write to Redis cannot have anything called.

    RQ's own jobs name a function, callbacks and webhooks, and workers import and call them.
    """

    @classmethod
    def fetch(cls, id: str, connection: Redis | None = None, serializer: Any = None) -> Job:
        """Return the job with this id without looking it up. Raises `NoSuchJobError` if it is not the id of a job."""
        try:
            return cls(id, connection=connection, serializer=serializer)
        except ValueError as error:
            raise NoSuchJobError from error

    def restore(self, raw_data: Any) -> None:
        """Leave what Redis holds of the job unread."""


def rq_queue(name: str, connection: Redis | None = None) -> Queue:
    """Return the RQ queue of a pool or of one worker."""
    return Queue(name, connection=connection or redis_client(), job_class=WakeUp, serializer=JSONSerializer)


def wake_workers(name: str) -> None:
    """Tell the workers of a pool, or one worker, that there is work. Raises `RedisError`."""
    # RQ wants the name of a function; workers do not read it.
    rq_queue(name).enqueue("wake_up", job_timeout=-1)


def take(job: Job, queue: Queue) -> None:
    """Delete a wake-up that a worker has received. Raises `RedisError`."""
    with queue.connection.pipeline() as pipe:
        pipe.delete(job.key)
        # RQ moves the job there if a worker has only one queue.
        pipe.lrem(queue.intermediate_queue_key, 1, job.id)
        pipe.execute()


def try_wake_workers(name: str) -> None:
    """Call `wake_workers`; while Redis is away only log it, since the reaper wakes workers for every queued row."""
    try:
        wake_workers(name)
    except RedisError:
        logger.warning("no wake-up for %s: Redis cannot be reached; the reaper will send it", name)
