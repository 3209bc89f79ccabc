"""Batches that are run in this process, as a worker runs them."""

from collections.abc import Callable, Sequence

from generation.engine.engine import Engine
from generation.engine.errors import DeviceLost
from generation.models import Generation
from generation.worker import execution
from generation.worker.finishing import Finisher


def run_batch(batch: Sequence[Generation], engine: Engine, should_release: Callable[[], bool] = lambda: False) -> None:
    """Run a claimed batch until each of its generations has ended."""
    losses: list[DeviceLost] = []
    with Finisher(losses.append) as finisher:
        execution.run(batch, engine, should_release, finisher)
    assert losses == []
