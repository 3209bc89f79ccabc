"""What a subscription to a generation hears of."""

import asyncio
from uuid import uuid4

from generation.asgi.subscriptions import Subscriptions
from generation.responses import Waiting


def test_another_place_in_the_queue_makes_no_client_read_events_from_redis() -> None:
    asyncio.run(_follow())


async def _follow() -> None:
    subscriptions, generation_id = Subscriptions(), uuid4()
    with subscriptions.subscribe(generation_id) as subscription:
        waiting = Waiting(position=2, reason="1 request runs before it.", estimated_start=None, estimated_finish=None)
        subscriptions._notify(generation_id, waiting=waiting)
        assert subscription.changed.is_set()
        assert subscription.waiting == waiting
        assert not subscription.has_events
        subscriptions._notify(generation_id)
        assert subscription.has_events
