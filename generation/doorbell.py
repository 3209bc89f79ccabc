"""What goes through Redis: bells, events, progress, wishes to stop, and who is at work. Losing it loses nothing.

The rows of the database are the truth. The reaper rings again for forgotten bells, waiting clients look into the database
too, a wish to stop stands in the row as well, and workers announce themselves over and over.
"""

import json
import logging
import socket
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from redis import Redis, RedisError
from redis.client import Pipeline
from rq import Queue
from rq.serializers import JSONSerializer

from generation.models import FINAL_STATES

logger = logging.getLogger(__name__)

EVENTS = "dreamsite:events"
"""A stream of ids and events: what has news. The news themselves are in a stream for each generation."""
WORKERS = "dreamsite:worker:"
ANNOUNCEMENT_SECONDS = 6

_PROGRESS = "dreamsite:progress:"
_STOP = "dreamsite:stop:"
_STREAM = "dreamsite:stream:"
_WATCHED = "dreamsite:watched:"
_REAPER = "dreamsite:reaper"
_KEPT_EVENTS = 10_000
_KEPT_OF_EACH = 1000
_KEPT_STREAM_SECONDS = 3600
_KEPT_AFTER_THE_END_SECONDS = 600
_WATCHED_SECONDS = 60
_KEPT_PROGRESS_SECONDS = 600
_KEPT_STOP_SECONDS = 3600
_REAPER_SECONDS = 5
"""A process that dies while it reaps keeps the others from it for so long."""


@cache
def redis() -> Redis:
    """This process's client for short commands; blocking readers make their own."""
    return Redis.from_url(settings.REDIS_URL, socket_timeout=2, socket_connect_timeout=2)


def bells(pool: str, connection: Redis | None = None) -> Queue:
    """The RQ queue of a pool. JSON, so that write access to Redis is not code execution."""
    return Queue(pool, connection=connection or redis(), serializer=JSONSerializer)


def ring(pool: str) -> None:
    """Tell the pool's workers that there is work. A bell that is lost is rung again by the reaper."""
    bells(pool).enqueue("generation.worker.process.answer_bell", job_timeout=-1, result_ttl=0, failure_ttl=3600)


def ring_quietly(pool: str) -> None:
    try:
        ring(pool)
    except RedisError:
        logger.warning("no bell for pool %s: Redis cannot be reached; the reaper will ring", pool)


def publish(generation_id: UUID, event: str, data: Mapping[str, Any] | None = None) -> None:
    """Tell whoever follows this generation, and wake who waits for it. Best effort: they also look into the database."""
    try:
        with redis().pipeline(transaction=False) as pipe:
            _add(pipe, generation_id, event, data or {})
            pipe.execute()
    except RedisError:
        logger.warning("no event for generation %s: Redis cannot be reached", generation_id)


def _add(pipe: Pipeline, generation_id: UUID, event: str, data: Mapping[str, Any]) -> None:
    stream = stream_of(generation_id)
    pipe.xadd(stream, {"event": event, "data": json.dumps(data)}, maxlen=_KEPT_OF_EACH, approximate=True)
    pipe.expire(stream, _KEPT_AFTER_THE_END_SECONDS if event in FINAL_STATES else _KEPT_STREAM_SECONDS)
    # Second, so that who is woken finds the news.
    pipe.xadd(EVENTS, {"id": str(generation_id), "event": event}, maxlen=_KEPT_EVENTS, approximate=True)


def stream_of(generation_id: UUID) -> str:
    """The key of the stream of what happened to this generation: `event`, and its `data` as a JSON object."""
    return f"{_STREAM}{generation_id}"


def watched(generation_id: UUID) -> tuple[str, int]:
    """The key that says that somebody wants previews of this generation, and for how many seconds it may say so."""
    return f"{_WATCHED}{generation_id}", _WATCHED_SECONDS


@dataclass(frozen=True)
class Progress:
    """Where a run is: steps done, of how many, and the phase."""

    step: int
    of: int
    phase: str

    @property
    def percent(self) -> int:
        return 100 * self.step // self.of if self.of else 0

    @property
    def done(self) -> float:
        """The share, 0 to 1."""
        return self.step / self.of if self.of else 0.0


@dataclass(frozen=True)
class Wishes:
    """What others want of generations that run: which are to stop, and of which somebody looks at previews."""

    to_stop: frozenset[UUID] = frozenset()
    watched: frozenset[UUID] = frozenset()


def report(ids: Sequence[UUID], progress: Progress) -> Wishes:
    """Note and tell where the run of these generations is. One round trip. Raises `RedisError`."""
    text = json.dumps([progress.step, progress.of, progress.phase])
    with redis().pipeline(transaction=False) as pipe:
        for generation_id in ids:
            pipe.set(f"{_PROGRESS}{generation_id}", text, ex=_KEPT_PROGRESS_SECONDS)
            _add(pipe, generation_id, "progress", {**asdict(progress), "percent": progress.percent})
        pipe.mget([f"{_STOP}{generation_id}" for generation_id in ids])
        pipe.mget([watched(generation_id)[0] for generation_id in ids])
        *_, stops, watches = pipe.execute()
    return Wishes(_flagged(ids, stops), _flagged(ids, watches))


def _flagged(ids: Sequence[UUID], flags: Sequence[bytes | None]) -> frozenset[UUID]:
    return frozenset(generation_id for generation_id, flag in zip(ids, flags, strict=True) if flag is not None)


def progress(ids: Sequence[UUID]) -> dict[UUID, Progress]:
    """Where these generations are, of those that have reported; empty when Redis is away."""
    if not ids:
        return {}
    try:
        found: Any = redis().mget([f"{_PROGRESS}{generation_id}" for generation_id in ids])
    except RedisError:
        return {}
    return {generation_id: Progress(*json.loads(text)) for generation_id, text in zip(ids, found, strict=True) if text}


def ask_to_stop(generation_id: UUID) -> None:
    """Tell the worker at its next step. Best effort: the row says so too, and the worker reads it with every renewal."""
    try:
        redis().set(f"{_STOP}{generation_id}", 1, ex=_KEPT_STOP_SECONDS)
    except RedisError:
        logger.warning("generation %s will stop a little later: Redis cannot be reached", generation_id)


def forget(generation_id: UUID) -> None:
    """Drop all that is still here about a generation that was deleted. Best effort: it expires by itself."""
    try:
        redis().delete(*(f"{kind}{generation_id}" for kind in (_PROGRESS, _STOP, _STREAM)))
    except RedisError:
        logger.warning("what is kept of generation %s is left to expire: Redis cannot be reached", generation_id)


@contextmanager
def reaper_alone() -> Iterator[bool]:
    """Whether this process is the one that reaps now. Without Redis it is: reaping twice at once does no harm."""
    lock = redis().lock(_REAPER, timeout=_REAPER_SECONDS)
    try:
        held = lock.acquire(blocking=False)
    except RedisError:
        yield True
        return
    try:
        yield held
    finally:
        if held:
            try:
                lock.release()
            except RedisError:
                logger.warning("the reaper's lock was lost")


def worker_name() -> str:
    return f"{socket.gethostname()}-{time.time_ns():x}"


@dataclass(frozen=True)
class AtWork:
    """A worker that is warm and ready, its pool, and the models it has loaded."""

    name: str
    pool: str
    models: frozenset[str]


def announce(worker: str, pool: str, models: Iterable[str]) -> None:
    """Say that this worker is warm and ready; repeated well within ANNOUNCEMENT_SECONDS while it is."""
    fields: dict[Any, Any] = {"pool": pool, "models": ",".join(models)}
    with redis().pipeline() as pipe:
        pipe.hset(WORKERS + worker, mapping=fields)
        pipe.expire(WORKERS + worker, ANNOUNCEMENT_SECONDS)
        pipe.execute()


def retire(worker: str) -> None:
    """Say that this worker takes nothing. Raises `RedisError`."""
    redis().delete(WORKERS + worker)


def forget_workers() -> None:
    """Drop all announcements, when it is known that nobody who made them lives. Raises `RedisError`."""
    for key in redis().scan_iter(match=WORKERS + "*", count=1000):
        redis().delete(key)


def at_work() -> list[AtWork]:
    """The workers that are warm and ready. Raises `RedisError`."""
    keys: list[Any] = list(redis().scan_iter(match=WORKERS + "*", count=1000))
    with redis().pipeline(transaction=False) as pipe:
        for key in keys:
            pipe.hgetall(key)
        found: list[dict[bytes, bytes]] = pipe.execute()
    return [
        AtWork(key.decode()[len(WORKERS) :], fields[b"pool"].decode(), frozenset(fields[b"models"].decode().split(",")))
        for key, fields in zip(keys, found, strict=True)
        if fields
    ]
