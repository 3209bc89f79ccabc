"""Subscriptions to generations, notified by the Redis stream of events and by a slower poll of the database."""

import asyncio
import logging
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import chain
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, connections
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from accounts.access import Access, still_valid
from accounts.requests import parse_uuid
from generation.asgi.counting import counted
from generation.broker import progress
from generation.jobs import forecast, queue
from generation.models import FINAL_STATES, Generation, State
from generation.parameters import ErrorCode, RequestRefused
from generation.responses import Waiting

logger = logging.getLogger(__name__)

POLL_SECONDS = 5.0
MAX_OF_USER = 200
"""Event streams of a user at a time in a process, and as many held requests: twice the default of `USER_MAX_QUEUED`."""
MAX_OF_GENERATION = 10
"""Event streams of a generation, and as many held requests: its pages in several tabs and devices."""

_TOO_MANY_HELD = (
    f"{MAX_OF_USER} of your requests wait for their pictures, the maximum; close some, or send Prefer: respond-async."
)
_TOO_MANY_WITH_KEY = (
    f"{MAX_OF_GENERATION} requests with this Idempotency-Key wait for their pictures, the maximum; close some."
)
_TOO_MANY_STREAMS = (
    f"You have {MAX_OF_USER} event streams open, or {MAX_OF_GENERATION} of this generation, the maximum; close some."
)
_MAX_CONNECTIONS = 8
_DECODING: dict[str, Any] = {"decode_responses": True, "encoding_errors": "replace"}


@dataclass(eq=False)
class Subscription:
    """One client that follows a generation. `changed` is set when another field may differ.

    `has_events` says that there may be new events in Redis; it is reset before they are read. `is_released` says that the
    process is stopping and the client should reconnect, or that its access has ended.
    """

    access: Access | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)
    waiting: Waiting | None = None
    has_events: bool = False
    is_final: bool = False
    is_released: bool = False


@dataclass(frozen=True)
class Event:
    """An entry of the Redis stream of a generation."""

    id: str
    name: str
    data: dict[str, Any]


class Subscriptions:
    """The clients that wait for the end of a generation, and those that follow all its events."""

    def __init__(self) -> None:
        self._final_events: defaultdict[UUID, set[asyncio.Event]] = defaultdict(set)
        self._held: dict[asyncio.Event, Access] = {}
        self._held_of: Counter[str] = Counter()
        self._subscriptions: defaultdict[UUID, set[Subscription]] = defaultdict(set)
        self._streams_of: Counter[int] = Counter()
        self._tasks: list[asyncio.Task[None]] = []
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="poll")
        pool = BlockingConnectionPool.from_url(
            settings.REDIS_URL, max_connections=_MAX_CONNECTIONS, socket_timeout=5, **_DECODING
        )
        self._redis: Redis = Redis.from_pool(pool)

    def start(self) -> None:
        self._tasks = [asyncio.create_task(self._listen()), asyncio.create_task(self._poll())]

    async def stop(self) -> None:
        running = set(self._tasks)
        while running:
            # Repeated, since redis-py can swallow a cancellation that arrives together with a reply.
            for task in running:
                task.cancel()
            _, running = await asyncio.wait(running, timeout=0.5)
        self._thread.shutdown(wait=False)
        with suppress(RedisError, OSError):
            await self._redis.aclose()

    @contextmanager
    def final_event(self, generation_id: UUID) -> Iterator[asyncio.Event]:
        """Yield an event that is set when the generation is final. Enter this before submitting the generation."""
        event = asyncio.Event()
        self._final_events[generation_id].add(event)
        try:
            yield event
        finally:
            self._held.pop(event, None)
            self._final_events[generation_id].remove(event)
            if not self._final_events[generation_id]:
                del self._final_events[generation_id]

    @contextmanager
    def held_of(self, caller: str) -> Iterator[None]:
        """Count a request of this caller as held within the context. Raises `RequestRefused` if there are too many."""
        if settings.LIMITS and self._held_of[caller] >= MAX_OF_USER:
            raise RequestRefused(ErrorCode.TOO_MANY_CONNECTIONS, _TOO_MANY_HELD)
        with counted(self._held_of, caller):
            yield

    def hold(self, generation_id: UUID, event: asyncio.Event, access: Access) -> None:
        """Set this final event also when the access of its client ends. Raises `RequestRefused` if too many are held."""
        self._held[event] = access
        if settings.LIMITS and len(self._final_events[generation_id]) > MAX_OF_GENERATION:
            raise RequestRefused(ErrorCode.TOO_MANY_CONNECTIONS, _TOO_MANY_WITH_KEY)

    def admit(self, generation_id: UUID, subscription: Subscription, access: Access) -> None:
        """Release the subscription when the access of its client ends. Raises `RequestRefused` if there are too many."""
        subscription.access = access
        self._streams_of[access.user_id] += 1
        is_too_many = (
            self._streams_of[access.user_id] > MAX_OF_USER
            or len(self._subscriptions[generation_id]) > MAX_OF_GENERATION
        )
        if settings.LIMITS and is_too_many:
            raise RequestRefused(ErrorCode.TOO_MANY_CONNECTIONS, _TOO_MANY_STREAMS)

    async def is_valid(self, access: Access) -> bool:
        """Return whether the client would be let in now; False if the database cannot be asked."""
        try:
            return bool(await asyncio.to_thread(_still_valid, {access}))
        except DatabaseError:
            return False

    @contextmanager
    def subscribe(self, generation_id: UUID) -> Iterator[Subscription]:
        """Yield a subscription to a generation. Enter this before reading its record, so that no change is missed."""
        subscription = Subscription()
        self._subscriptions[generation_id].add(subscription)
        try:
            yield subscription
        finally:
            if access := subscription.access:
                self._streams_of[access.user_id] -= 1
                if not self._streams_of[access.user_id]:
                    del self._streams_of[access.user_id]
            self._subscriptions[generation_id].remove(subscription)
            if not self._subscriptions[generation_id]:
                del self._subscriptions[generation_id]

    async def events(self, generation_id: UUID, after_id: str = "") -> list[Event]:
        """Return the events of this generation after the one with this id; none if Redis cannot be reached."""
        try:
            entries: Any = await self._redis.xrange(
                progress.stream_key(generation_id), min=f"({after_id}" if after_id else "-"
            )
        except (RedisError, OSError):
            return []
        return [event for entry_id, fields in entries if (event := _parse_event(entry_id, fields))]

    async def request_previews(self, generation_id: UUID) -> None:
        """Ask the worker for previews; the request expires after some seconds."""
        key, seconds = progress.preview_flag(generation_id)
        with suppress(RedisError, OSError):
            await self._redis.set(key, 1, ex=seconds)

    def release_all(self) -> None:
        """Release all clients, as if their generations were final."""
        for event in chain.from_iterable(self._final_events.values()):
            event.set()
        for subscription in chain.from_iterable(self._subscriptions.values()):
            subscription.is_released = True
            subscription.changed.set()

    async def _listen(self) -> None:
        last_id = "$"
        while True:
            # The timeout must be above `block`, or a stream without events looks like a dead server.
            redis: Redis = Redis.from_url(settings.REDIS_URL, socket_timeout=30, **_DECODING)
            try:
                while True:
                    streams: Any = await redis.xread({progress.EVENTS: last_id}, count=1000, block=10_000)
                    for _, entries in streams or []:
                        for entry_id, fields in entries:
                            last_id = entry_id
                            # What workers did not write ends no stream but its own.
                            if generation_id := parse_uuid(fields.get("id", "")):
                                self._notify(generation_id, is_final=fields.get("event") in FINAL_STATES)
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
            if not self._final_events and not self._subscriptions:
                continue
            accesses = set(self._held.values())
            accesses.update(
                subscription.access
                for subscription in chain.from_iterable(self._subscriptions.values())
                if subscription.access is not None
            )
            try:
                valid = await loop.run_in_executor(self._thread, _still_valid, accesses)
                final_ids, waiting_of = await loop.run_in_executor(
                    self._thread,
                    _poll_database,
                    {*self._final_events, *self._subscriptions},
                    list(self._subscriptions),
                )
            except Exception:  # noqa: BLE001  a database that cannot be reached must not end the polling
                logger.warning("the database cannot be polled for finished generations; trying again")
                continue
            self._release(accesses - valid)
            for generation_id in final_ids:
                self._notify(generation_id, is_final=True)
            for generation_id, waiting in waiting_of.items():
                self._notify(generation_id, waiting=waiting)

    def _release(self, ended: set[Access]) -> None:
        for event, access in self._held.items():
            if access in ended:
                event.set()
        for subscription in chain.from_iterable(self._subscriptions.values()):
            if subscription.access in ended:
                subscription.is_released = True
                subscription.changed.set()

    def _notify(self, generation_id: UUID, *, is_final: bool = False, waiting: Waiting | None = None) -> None:
        if is_final:
            for event in self._final_events.get(generation_id, ()):
                event.set()
        for subscription in self._subscriptions.get(generation_id, ()):
            subscription.is_final |= is_final
            subscription.has_events |= waiting is None
            subscription.waiting = waiting
            subscription.changed.set()


def _parse_event(entry_id: str, fields: Mapping[str, str]) -> Event | None:
    name = fields.get("event", "")
    data = progress.event_data(name, fields.get("data", ""))
    return None if data is None else Event(entry_id, name, data)


def _still_valid(accesses: set[Access]) -> set[Access]:
    try:
        return still_valid(accesses)
    finally:
        connections.close_all()


def _poll_database(ids: set[UUID], subscribed_ids: Sequence[UUID]) -> tuple[list[UUID], dict[UUID, Waiting]]:
    """Return the final generations among `ids`, and for the queued ones among `subscribed_ids` what they wait for."""
    try:
        queued = list(Generation.objects.filter(pk__in=subscribed_ids, state=State.QUEUED)) if subscribed_ids else []
        forecasts = forecast.of_queued(queued)
        return queue.finished_ids(list(ids)), {
            generation_id: expected.waiting for generation_id, expected in forecasts.items()
        }
    finally:
        connections.close_all()
