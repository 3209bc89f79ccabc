"""How a held client is woken: by an event, by a look into the database, after Redis came back."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest
from django.db import connections
from uuid_utils.compat import uuid7

from accounts.models import ApiToken, User
from generation.asgi import (
    long_poll,
    sse,
    subscriptions,
)
from generation.asgi.types import (
    Message,
    Receive,
    Scope,
    Send,
)
from generation.broker import progress
from generation.models import Generation, State
from tests.support.jobs import claimed
from tests.support.servers import EmbeddedRedis

pytestmark = [pytest.mark.usefixtures("redis", "tiny_edit"), pytest.mark.django_db(transaction=True)]

Scenario = Callable[[subscriptions.Subscriptions], Awaitable[None]]


def run(scenario: Scenario) -> None:
    async def with_waiters() -> None:
        registry = subscriptions.Subscriptions()
        registry.start()
        await asyncio.sleep(0.5)
        try:
            await asyncio.wait_for(scenario(registry), 20)
        finally:
            await registry.stop()

    asyncio.run(with_waiters())


def test_an_event_wakes_the_one_who_waits_for_it() -> None:
    async def scenario(registry: subscriptions.Subscriptions) -> None:
        mine, other = uuid7(), uuid7()
        with registry.register(mine) as done, registry.register(other) as not_done:
            await asyncio.to_thread(progress.publish, mine, State.SUCCEEDED)
            await done.wait()
            assert not not_done.is_set()

    run(scenario)


def test_a_lost_event_is_made_up_for_by_the_database(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "POLL_SECONDS", 0.1)
    generation = claimed(ApiToken.objects.issue(alice, "laptop")[0])

    async def scenario(registry: subscriptions.Subscriptions) -> None:
        with registry.register(generation.pk) as done:
            await asyncio.sleep(0.5)
            assert not done.is_set()
            await asyncio.to_thread(fail_unheard)
            await done.wait()

    def fail_unheard() -> None:
        try:
            Generation.objects.filter(pk=generation.pk).update(state=State.FAILED)
        finally:
            connections.close_all()

    run(scenario)


def test_events_are_heard_again_after_redis_was_restarted(redis_server: EmbeddedRedis) -> None:
    async def scenario(registry: subscriptions.Subscriptions) -> None:
        ids: list[UUID] = [uuid7() for _ in range(2)]
        with registry.register(ids[0]) as first, registry.register(ids[1]) as second:
            await asyncio.to_thread(progress.publish, ids[0], State.SUCCEEDED)
            await first.wait()
            await asyncio.to_thread(redis_server.stop)
            await asyncio.to_thread(redis_server.start)
            await asyncio.to_thread(progress.publish, ids[1], State.SUCCEEDED)
            await second.wait()

    run(scenario)


def test_a_slow_reader_of_events_misses_none_that_came_before_the_end() -> None:
    async def scenario(registry: subscriptions.Subscriptions) -> None:
        generation_id = uuid7()
        states = iter([State.RUNNING, State.SUCCEEDED])
        told = ""

        async def ask() -> list[Message]:
            present = {"origin": "http://testserver/", "record": {"state": next(states), "waiting": None}}
            return [{"status": 200, "headers": []}, {"body": json.dumps(present).encode()}]

        async def send(message: Message) -> None:
            nonlocal told
            text = message.get("body", b"").decode()
            told += text
            if "event: started" in text:
                # All the rest happens, and is known to have, while this is on its way.
                await asyncio.to_thread(progress.publish, generation_id, "progress", {"step": 1})
                await asyncio.to_thread(progress.publish, generation_id, State.SUCCEEDED)
                while not all(watch.is_final for watch in registry._watching[generation_id]):
                    await asyncio.sleep(0.01)

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError("nobody left")

        scope = {"method": "GET", "headers": [], "query_string": b""}
        await sse.serve(generation_id, scope, receive, send, ask, registry)
        kinds = [line.removeprefix("event: ") for line in told.splitlines() if line.startswith("event: ")]
        assert kinds == ["started", "progress", "succeeded"]

    run(scenario)


def test_a_slow_download_keeps_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(long_poll, "DJANGO_THREADS", 1)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"some", "more_body": scope["path"] == "/download"})

    async def scenario() -> None:
        layer = long_poll.LongPollMiddleware(application)
        taken, slow = asyncio.Event(), asyncio.Event()

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def taking_time(message: Message) -> None:
            if message["type"] == "http.response.body":
                taken.set()
                await slow.wait()

        async def at_once(message: Message) -> None:
            pass

        def scope(path: str) -> Scope:
            return {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}

        download = asyncio.create_task(layer(scope("/download"), receive, taking_time))
        await taken.wait()
        await asyncio.wait_for(layer(scope("/history/"), receive, at_once), 5)
        slow.set()
        await download

    asyncio.run(scenario())


@pytest.mark.parametrize(("prefer", "told"), [(b"", 200), (b"respond-async", 503)])
def test_who_waits_is_answered_though_the_database_is_away_for_a_moment(
    prefer: bytes, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(long_poll, "_ASKED_AGAIN_SECONDS", 0.01)
    earlier, answers = str(uuid7()).encode(), iter([503, 503, 503, 200])

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        status = 202 if scope["method"] == "POST" else next(answers)
        await send({"type": "http.response.start", "status": status, "headers": [(b"x-generation-id", earlier)]})
        await send({"type": "http.response.body", "body": b""})

    async def scenario() -> list[Message]:
        sent: list[Message] = []
        bodies = iter([{"type": "http.request", "body": b"", "more_body": False}])

        async def receive() -> Message:
            if body := next(bodies, None):
                return body
            await asyncio.Event().wait()
            raise AssertionError("nobody left")

        async def send(message: Message) -> None:
            sent.append(message)

        path, headers = "/image-to-image", [(b"prefer", prefer)] if prefer else []
        scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
        await long_poll.LongPollMiddleware(application)(scope, receive, send)
        return sent

    assert [message["status"] for message in asyncio.run(scenario()) if "status" in message] == [told]
