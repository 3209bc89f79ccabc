"""Who waits for which generation, woken from the Redis stream of events and, at leisure, from the database."""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from generation.broker import progress
from generation.jobs import forecast, queue
from generation.models import FINAL_STATES, Generation, State
from generation.responses import Waiting

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
_READING_CONNECTIONS = 8


@dataclass(eq=False)
class Subscription:
    """One client that follows a generation: `stirred` is set when any of the rest may have changed, or there is news."""

    stirred: asyncio.Event = field(default_factory=asyncio.Event)
    queued: Waiting | None = None
    is_final: bool = False
    is_released: bool = False


@dataclass(frozen=True)
class Event:
    """One entry of the stream of a generation, by its id there."""

    id: str
    event: str
    data: str
    """A JSON object."""


class Subscriptions:
    """Those who wait for the end of a generation, and those who watch all that happens to it."""

    def __init__(self) -> None:
        self._waiting: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._watching: defaultdict[UUID, set[Subscription]] = defaultdict(set)
        self._tasks: list[asyncio.Task[None]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="poll")
        pool = BlockingConnectionPool.from_url(
            settings.REDIS_URL, max_connections=_READING_CONNECTIONS, socket_timeout=5, decode_responses=True
        )
        self._redis: Redis = Redis.from_pool(pool)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._poll())]

    async def stop(self) -> None:
        running = set(self._tasks)
        while running:
            # Asked again and again: redis-py can swallow a cancellation that meets the arrival of an answer.
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=0.5)
        self._thread.shutdown(wait=False)
        with suppress(RedisError, OSError):
            await self._redis.aclose()

    @contextmanager
    def register(self, generation_id: UUID) -> Iterator[asyncio.Event]:
        """Wait for the end of one generation, from before it is submitted until the client is answered or gone."""
        event = asyncio.Event()
        self._waiting[generation_id].add(event)
        try:
            yield event
        finally:
            self._waiting[generation_id].remove(event)
            if not self._waiting[generation_id]:
                del self._waiting[generation_id]

    @contextmanager
    def watch(self, generation_id: UUID) -> Iterator[Subscription]:
        """Watch one generation, from before its present state is asked for until the client has its end or is gone."""
        watch = Subscription()
        self._watching[generation_id].add(watch)
        try:
            yield watch
        finally:
            self._watching[generation_id].remove(watch)
            if not self._watching[generation_id]:
                del self._watching[generation_id]

    async def news(self, generation_id: UUID, after: str = "") -> list[Event]:
        """What happened to this generation after the entry of this id; nothing while Redis is away."""
        try:
            entries: Any = await self._redis.xrange(
                progress.stream_key(generation_id), min=f"({after}" if after else "-"
            )
        except (RedisError, OSError):
            return []
        return [Event(entry_id, fields["event"], fields["data"]) for entry_id, fields in entries]

    async def want_previews(self, generation_id: UUID) -> None:
        """Let the worker make previews, for a while."""
        key, seconds = progress.preview_flag(generation_id)
        with suppress(RedisError, OSError):
            await self._redis.set(key, 1, ex=seconds)

    def release_all(self) -> None:
        """Let everybody go with what is known now."""
        for event in [event for events in self._waiting.values() for event in events]:
            event.set()
        for watch in [watch for watches in self._watching.values() for watch in watches]:
            watch.is_released = True
            watch.stirred.set()

    async def _listen(self) -> None:
        last = "$"
        while True:
            # The client's timeout must be above the block, or a quiet stream looks like a dead server.
            redis: Redis = Redis.from_url(settings.REDIS_URL, socket_timeout=30, decode_responses=True)
            try:
                while True:
                    streams: Any = await redis.xread({progress.EVENTS: last}, count=1000, block=10_000)
                    for _, entries in streams or []:
                        for entry_id, fields in entries:
                            last = entry_id
                            self._hear(UUID(fields["id"]), is_final=fields["event"] in FINAL_STATES)
            except (RedisError, OSError):
                logger.warning("the event stream cannot be read; trying again")
                await asyncio.sleep(0.5)
            finally:
                with suppress(RedisError, OSError):
                    await redis.aclose()

    async def _poll(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(POLL_SECONDS)
            if not self._waiting and not self._watching:
                continue
            try:
                finals, queued = await loop.run_in_executor(
                    self._thread, _poll_database, {*self._waiting, *self._watching}, list(self._watching)
                )
            except Exception:  # noqa: BLE001  a database that is away must not end the polling
                logger.warning("the database cannot be asked for finished generations; trying again")
                continue
            for generation_id in finals:
                self._hear(generation_id, is_final=True)
            for generation_id, waiting in queued.items():
                self._hear(generation_id, waiting=waiting)

    def _hear(self, generation_id: UUID, *, is_final: bool = False, waiting: Waiting | None = None) -> None:
        if is_final:
            for event in self._waiting.get(generation_id, ()):
                event.set()
        for watch in self._watching.get(generation_id, ()):
            watch.is_final |= is_final
            watch.queued = waiting
            watch.stirred.set()


def _poll_database(ids: set[UUID], watched: Sequence[UUID]) -> tuple[list[UUID], dict[UUID, Waiting]]:
    """Which of the ids are final; what those of the watched that are queued wait for."""
    try:
        queued = list(Generation.objects.filter(pk__in=watched, state=State.QUEUED)) if watched else []
        forecasts = forecast.of_queued(queued)
        return queue.finished_ids(list(ids)), {
            generation_id: expected.waiting for generation_id, expected in forecasts.items()
        }
    finally:
        connections.close_all()
