"""Workers in the registry, without a process behind them."""

from typing import Any

from django.utils import timezone

from generation.broker import workers
from generation.broker.connection import redis_client
from generation.broker.workers import WorkerInfo


def register_worker(name: str = "here-1", **fields: Any) -> WorkerInfo:
    """Write the heartbeat of a ready worker with the bundled model loaded. `fields` override `WorkerInfo`'s."""
    worker = WorkerInfo(
        **{
            "name": name,
            "pool": "default",
            "host": "here",
            "pid": 7,
            "device": "cpu",
            "memory_used": 1_500_000_000,
            "memory_total": 16_000_000_000,
            "started": timezone.now().timestamp() - 7_260,
            "models": ["dreamsite/tiny-edit"],
            **fields,
        }
    )
    workers.heartbeat(worker)
    keep_fresh(name)
    return worker


def keep_fresh(name: str) -> None:
    """Keep the worker's last heartbeat from becoming old while a test runs: give its entry more time than a heartbeat does."""
    redis_client().expire(f"dreamsite:worker:{name}", 2 * 3600)


def age_heartbeat(name: str, seconds: int) -> None:
    """Make the worker's last heartbeat this old."""
    redis_client().expire(f"dreamsite:worker:{name}", 3600 - seconds)
