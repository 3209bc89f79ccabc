"""How a held client is notified: by an event, by polling the database, after a restart of Redis."""

import asyncio
import json
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from pytest_django import Settings
from uuid_utils.compat import uuid7

from accounts.models import ApiToken, User
from generation.asgi import long_poll, slots, sse, subscriptions
from generation.asgi.types import GENERATION_ID, Message, Receive, Scope, Send
from generation.broker import progress
from generation.models import Generation, State
from tests.support.jobs import claimed
from tests.support.servers import EmbeddedRedis
from tests.support.service import WAIT_SECONDS
from tests.support.subscriptions import run

pytestmark = [pytest.mark.usefixtures("redis", "tiny_edit"), pytest.mark.django_db(transaction=True)]


def test_an_event_wakes_only_the_client_of_its_generation() -> None:
    async def scenario(registry: subscriptions.Subscriptions) -> None:
        mine, other = uuid7(), uuid7()
        with registry.final_event(mine) as mine_final, registry.final_event(other) as other_final:
            await asyncio.to_thread(progress.publish, mine, State.SUCCEEDED)
            await mine_final.wait()
            assert not other_final.is_set()

    run(scenario)


def test_the_database_is_polled_for_lost_events(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "POLL_SECONDS", 0.1)
    poll_database, polls = subscriptions._poll_database, 0

    def count_polls(*arguments: Any) -> Any:
        nonlocal polls
        result = poll_database(*arguments)
        polls += 1
        return result

    monkeypatch.setattr(subscriptions, "_poll_database", count_polls)
    generation = claimed(ApiToken.objects.issue(alice, "laptop")[0])

    async def scenario(registry: subscriptions.Subscriptions) -> None:
        with registry.final_event(generation.pk) as final:
            first_poll = polls
            while polls < first_poll + 2:
                await asyncio.sleep(0.01)
            assert not final.is_set()
            await asyncio.to_thread(fail_without_event)
            await final.wait()

    def fail_without_event() -> None:
        try:
            Generation.objects.filter(pk=generation.pk).update(state=State.FAILED)
        finally:
            connections.close_all()

    run(scenario)


def test_events_arrive_again_after_redis_was_restarted(redis_server: EmbeddedRedis) -> None:
    async def scenario(registry: subscriptions.Subscriptions) -> None:
        ids: list[UUID] = [uuid7() for _ in range(2)]
        with registry.final_event(ids[0]) as first, registry.final_event(ids[1]) as second:
            await asyncio.to_thread(progress.publish, ids[0], State.SUCCEEDED)
            await first.wait()
            await asyncio.to_thread(redis_server.stop)
            await asyncio.to_thread(redis_server.start)
            await asyncio.to_thread(progress.publish, ids[1], State.SUCCEEDED)
            await second.wait()

    run(scenario)


def test_a_slow_client_gets_all_events_before_the_end() -> None:
    async def scenario(registry: subscriptions.Subscriptions) -> None:
        generation_id = uuid7()
        states = iter([State.RUNNING, State.SUCCEEDED])
        output = ""

        async def request_record(is_open: bool) -> list[Message]:
            record = {
                "state": next(states),
                "waiting": None,
                "created": "2026-01-01T00:00:00Z",
                "parameters": {"output_format": "png"},
            }
            body = {"origin": "http://testserver/", "record": record, "access": {"user_id": 1}}
            return [{"status": 200, "headers": []}, {"body": json.dumps(body).encode()}]

        async def send(message: Message) -> None:
            nonlocal output
            text = message.get("body", b"").decode()
            output += text
            if "event: started" in text:
                # The rest happens, and the subscription knows of the end, while this is being sent.
                await asyncio.to_thread(progress.publish, generation_id, "progress", {"step": 1})
                await asyncio.to_thread(progress.publish, generation_id, State.SUCCEEDED)
                while not all(subscription.is_final for subscription in registry._subscriptions[generation_id]):
                    await asyncio.sleep(0.01)

        async def receive() -> Message:
            await asyncio.Event().wait()
            raise AssertionError("the client does not disconnect")

        scope = {"method": "GET", "headers": [], "query_string": b""}
        await sse.serve(generation_id, sse.Client(scope, receive, send), request_record, registry)
        kinds = [line.removeprefix("event: ") for line in output.splitlines() if line.startswith("event: ")]
        assert kinds == ["started", "progress", "succeeded"]

    run(scenario)


def test_a_slow_download_does_not_block_other_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "SLOTS", 1)

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"some"})

    async def scenario() -> None:
        middleware = long_poll.LongPollMiddleware(application)
        has_begun, may_end = asyncio.Event(), asyncio.Event()

        async def receive() -> Message:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send_slowly(message: Message) -> None:
            if message["type"] == "http.response.body":
                has_begun.set()
                await may_end.wait()

        async def send(message: Message) -> None:
            pass

        def scope(path: str) -> Scope:
            return {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": b""}

        download = asyncio.create_task(middleware(scope("/download"), receive, send_slowly))
        await has_begun.wait()
        await asyncio.wait_for(middleware(scope("/history/"), receive, send), WAIT_SECONDS)
        may_end.set()
        await download

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("prefer", "names_the_generation", "status"), [(b"", False, 200), (b"respond-async", False, 503), (b"", True, 503)]
)
def test_a_held_client_gets_its_answer_after_a_short_outage(
    prefer: bytes, names_the_generation: bool, status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But at once if the status is that of the generation, whose model is not downloaded."""
    monkeypatch.setattr(long_poll, "_RETRY_SECONDS", 0.01)
    generation_id, statuses = str(uuid7()).encode(), iter([503, 503, 503, 200])

    async def application(scope: Scope, receive: Receive, send: Send) -> None:
        current_status = 202 if scope["method"] == "POST" else next(statuses)
        has_id = names_the_generation or current_status != 503
        headers = [(b"x-generation-id", generation_id)] if has_id else []
        await send({"type": "http.response.start", "status": current_status, "headers": headers})
        access = {"user_id": 1, "token_id": 1}
        await send({"type": "http.response.body", "body": json.dumps(access).encode()})

    start = asyncio.run(submit(long_poll.LongPollMiddleware(application), prefer))
    assert start["status"] == status


def test_a_user_has_a_bounded_number_of_held_clients(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.LIMITS = True
    monkeypatch.setattr(subscriptions, "MAX_OF_USER", 1)

    async def scenario() -> None:
        is_accepted = asyncio.Event()

        async def application(scope: Scope, receive: Receive, send: Send) -> None:
            is_post = scope["method"] == "POST"
            headers = [(b"x-generation-id", str(scope.get(GENERATION_ID, "")).encode())]
            await send({"type": "http.response.start", "status": 202 if is_post else 200, "headers": headers})
            await send({"type": "http.response.body", "body": json.dumps({"user_id": 1}).encode()})
            is_accepted.set()

        middleware = long_poll.LongPollMiddleware(application)
        held = asyncio.create_task(submit(middleware))
        await is_accepted.wait()
        refusal = await submit(middleware)
        assert (refusal["status"], dict(refusal["headers"])[b"retry-after"]) == (429, b"5")
        assert (await submit(middleware, b"respond-async"))["status"] == 200
        held.cancel()
        await asyncio.wait([held])
        assert (await submit(middleware, b"wait=1"))["status"] == 200

    asyncio.run(scenario())


async def submit(middleware: long_poll.LongPollMiddleware, prefer: bytes = b"") -> Message:
    """Send an empty submission, and return the start of the response. The client does not disconnect."""
    starts: list[Message] = []
    bodies = iter([{"type": "http.request", "body": b"", "more_body": False}])

    async def receive() -> Message:
        if body := next(bodies, None):
            return body
        await asyncio.Event().wait()
        raise AssertionError("the client does not disconnect")

    async def send(message: Message) -> None:
        if message["type"] == "http.response.start":
            starts.append(message)

    headers = [(b"prefer", prefer)] if prefer else []
    scope = {"type": "http", "method": "POST", "path": "/image-to-image", "headers": headers, "query_string": b""}
    await middleware(scope, receive, send)
    (start,) = starts
    return start
