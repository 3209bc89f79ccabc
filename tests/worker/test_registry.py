"""The registry of workers in Redis: what reading it costs, and what is forgotten."""

import pytest

from generation.broker import workers
from generation.broker.connection import redis_client
from tests.support.workers import register_worker

pytestmark = pytest.mark.usefixtures("redis")


def test_reading_the_registry_reads_no_keys_of_generations() -> None:
    register_worker("here-1")
    before = _scans()
    assert [worker.name for worker in workers.registered()] == ["here-1"]
    assert _scans() == before


def test_a_worker_whose_entry_has_expired_is_forgotten() -> None:
    register_worker("here-1")
    register_worker("here-2")
    redis_client().delete("dreamsite:worker:here-1")
    assert [worker.name for worker in workers.registered()] == ["here-2"]
    assert redis_client().smembers("dreamsite:workers") == {b"here-2"}


def test_a_removed_worker_is_no_longer_registered() -> None:
    register_worker("here-1")
    workers.remove("here-1")
    assert workers.registered() == []
    assert not redis_client().exists("dreamsite:workers")


def _scans() -> int:
    """Return how often anybody went through all keys of this Redis."""
    commands = redis_client().info("commandstats")
    return sum(commands.get(f"cmdstat_{name}", {"calls": 0})["calls"] for name in ("scan", "keys"))
