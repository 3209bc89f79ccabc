"""Subscriptions in an event loop of a test."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from uuid_utils.compat import uuid7

from generation.asgi.subscriptions import Subscriptions
from generation.broker import progress
from generation.models import State
from tests.support.service import WAIT_SECONDS

Scenario = Callable[[Subscriptions], Awaitable[None]]


def run(scenario: Scenario) -> None:
    """Run a scenario with subscriptions that listen to events and poll the database."""

    async def with_subscriptions() -> None:
        registry = Subscriptions()
        registry.start()
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                await wait_until_listening(registry)
                await scenario(registry)
        finally:
            await registry.stop()

    asyncio.run(with_subscriptions())


async def wait_until_listening(registry: Subscriptions) -> None:
    """Publish events until one arrives: a stream is read from when the connection is open."""
    generation_id = uuid7()
    with registry.final_event(generation_id) as final:
        while not final.is_set():
            await asyncio.to_thread(progress.publish, generation_id, State.SUCCEEDED)
            with suppress(TimeoutError):
                await asyncio.wait_for(final.wait(), 0.1)
