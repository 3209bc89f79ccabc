"""Streams and held requests end when the access of their client ends, and there are only so many of them."""

import asyncio
import json
from collections.abc import Callable
from contextlib import ExitStack
from typing import Any
from uuid import UUID

import pytest
from django.db import connections
from pytest_django import Settings
from uuid_utils.compat import uuid7

from accounts.access import Access
from accounts.models import ApiToken
from generation.asgi import sse, subscriptions
from generation.asgi.types import Message
from generation.broker import progress
from generation.parameters import RequestRefused
from tests.support.subscriptions import run

pytestmark = [pytest.mark.usefixtures("redis"), pytest.mark.django_db(transaction=True)]


class Stream:
    """An event stream of a running generation for a client with this access."""

    def __init__(
        self, registry: subscriptions.Subscriptions, access: Access, generation_id: UUID | None = None
    ) -> None:
        self.generation_id: UUID = generation_id or uuid7()
        self.output = ""
        self.status = 0
        scope = {"method": "GET", "path": "/", "headers": [], "query_string": b"", "root_path": ""}
        client = sse.Client(scope, self._receive, self._send)
        self._record = {
            "origin": "http://testserver/",
            "record": {
                "state": "running",
                "waiting": None,
                "created": "2026-01-01T00:00:00Z",
                "parameters": {"output_format": "png"},
            },
            "access": {"user_id": access.user_id, "token_id": access.token_id, "session_key": None},
        }
        self.task = asyncio.create_task(sse.serve(self.generation_id, client, self._request_record, registry))

    async def _request_record(self, is_open: bool) -> list[Message]:
        return [{"status": 200, "headers": []}, {"body": json.dumps(self._record).encode()}]

    async def _receive(self) -> Message:
        await asyncio.Event().wait()
        raise AssertionError("the client does not disconnect")

    async def _send(self, message: Message) -> None:
        self.status = message.get("status", self.status)
        self.output += message.get("body", b"").decode()

    async def wait_for(self, text: str) -> None:
        while text not in self.output:
            await asyncio.sleep(0.01)


async def in_thread(function: Callable[..., Any], *arguments: Any) -> None:
    def call() -> None:
        try:
            function(*arguments)
        finally:
            connections.close_all()

    await asyncio.to_thread(call)


def test_no_picture_follows_the_revocation(alices: ApiToken, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscriptions, "POLL_SECONDS", 3600.0)

    async def scenario(registry: subscriptions.Subscriptions) -> None:
        stream = Stream(registry, Access(alices.user_id, token_id=alices.pk))
        await stream.wait_for("event: started")
        # Repeated, since the stream of events may not be read yet.
        while "event: image" not in stream.output:
            await in_thread(progress.publish, stream.generation_id, "image", {"index": 0, "attempt": 1})
            await asyncio.sleep(0.1)
        await in_thread(alices.revoke)
        await in_thread(progress.publish, stream.generation_id, "image", {"index": 1, "attempt": 1})
        await stream.task
        assert '"index": 1' not in stream.output

    run(scenario)


def test_the_end_of_the_access_ends_streams_and_held_requests(
    alices: ApiToken, bobs: ApiToken, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscriptions, "POLL_SECONDS", 0.1)

    async def scenario(registry: subscriptions.Subscriptions) -> None:
        access, bobs_access = (Access(token.user_id, token_id=token.pk) for token in (alices, bobs))
        stream, bobs_stream = Stream(registry, access), Stream(registry, bobs_access)
        mine, other = uuid7(), uuid7()
        with registry.final_event(mine) as held, registry.final_event(other) as bobs_held:
            registry.hold(mine, held, access)
            registry.hold(other, bobs_held, bobs_access)
            await stream.wait_for("event: started")
            await bobs_stream.wait_for("event: started")
            await in_thread(alices.revoke)
            await held.wait()
            await stream.task
            assert not bobs_held.is_set()
            assert not bobs_stream.task.done()
        bobs_stream.task.cancel()

    run(scenario)


def test_streams_are_bounded_by_generation_and_user(
    alices: ApiToken, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    settings.LIMITS = True
    monkeypatch.setattr(subscriptions, "MAX_OF_USER", 15)
    access = Access(alices.user_id, token_id=alices.pk)

    async def scenario(registry: subscriptions.Subscriptions) -> None:
        async def statuses(streams: list[Stream]) -> list[int]:
            while not all(stream.status for stream in streams):
                await asyncio.sleep(0.01)
            return sorted(stream.status for stream in streams)

        generation_id = uuid7()
        of_generation = [Stream(registry, access, generation_id) for _ in range(11)]
        assert await statuses(of_generation) == [200] * 10 + [429]
        of_user = [Stream(registry, access) for _ in range(6)]
        assert await statuses(of_user) == [200] * 5 + [429]
        for stream in of_generation + of_user:
            stream.task.cancel()

    run(scenario)


def test_held_requests_are_bounded_by_generation(settings: Settings, alices: ApiToken) -> None:
    settings.LIMITS = True
    access = Access(alices.user_id, token_id=alices.pk)

    async def scenario(registry: subscriptions.Subscriptions) -> None:
        generation_id = uuid7()
        with ExitStack() as held:
            events = [held.enter_context(registry.final_event(generation_id)) for _ in range(10)]
            for event in events:
                registry.hold(generation_id, event, access)
            event = held.enter_context(registry.final_event(generation_id))
            with pytest.raises(RequestRefused, match="10 requests with this Idempotency-Key"):
                registry.hold(generation_id, event, access)

    run(scenario)
