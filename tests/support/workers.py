"""Workers in the registry, without a process behind them."""

import time
from collections.abc import Iterable

from generation.broker import workers
from generation.broker.workers import WorkerInfo


def register_worker(name: str, pool: str, models: Iterable[str]) -> None:
    """Register a ready worker with these models loaded."""
    workers.heartbeat(
        WorkerInfo(
            name=name,
            pool=pool,
            host="here",
            pid=1,
            device="cpu",
            memory_used=1,
            memory_total=2,
            started=time.time(),
            models=list(models),
        )
    )
