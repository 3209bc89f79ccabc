"""What the board of mission control shows now: pools, workers, and the orders that they were given."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.utils import timezone
from redis import RedisError

from generation import display
from generation.broker import progress, workers
from generation.broker.workers import WorkerInfo
from generation.jobs.backlog import PoolBacklog
from generation.jobs.backlog import backlogs as waiting_lines
from generation.models import (
    DiffusionModel,
    Generation,
    PausedPool,
    State,
    WorkerCommand,
    first_id,
)
from generation.staff.operations import alerts
from generation.staff.operations.alerts import Alert

_ORDERS_SHOWN = 12
_FAILURES_LOOKED_AT = 300
_DAY = timedelta(hours=24)


@dataclass(frozen=True)
class PoolView:
    """A pool: what waits, who works, how many run, and its pause where there is one."""

    line: PoolBacklog
    oldest: str
    running: int
    workers: int
    pause: PausedPool | None


@dataclass(frozen=True)
class Run:
    """A generation that is being made: where it is in words, and in percent where that is known."""

    generation: Generation
    at: str
    percent: int | None


@dataclass(frozen=True)
class WorkerView:
    """A worker: its card, what it is doing in a word, what it makes, and the last of its failures within the day."""

    card: WorkerInfo
    doing: str
    runs: list[Run]
    uptime: str
    silence: str
    memory: str
    memory_percent: int
    failure: str
    may_drain: bool
    may_resume: bool


@dataclass(frozen=True)
class Dashboard:
    """All of it. `workers` is None when Redis cannot be reached, and nobody knows."""

    concerns: list[Alert]
    pools: list[PoolView]
    workers: list[WorkerView] | None
    orders: list[WorkerCommand]

    @property
    def there(self) -> list[WorkerInfo]:
        """The cards of those that can be told something."""
        return [worker.card for worker in self.workers or [] if not worker.card.is_stale]


def dashboard() -> Dashboard:
    """What is so now; the same number of queries however much there is."""
    try:
        shown: list[WorkerInfo] | None = workers.registered()
    except RedisError:
        shown = None
    paused = {pause.pool: pause for pause in PausedPool.objects.all()}
    lines = waiting_lines(settings.POOLS)
    rows = Generation.objects.filter(state=State.RUNNING).order_by("pk")
    running = list(rows.only("pool", "worker", "model_id", "cancel_requested"))
    orders = list(WorkerCommand.objects.all()[:_ORDERS_SHOWN])
    return Dashboard(
        concerns=alerts.alerts(shown, lines, paused.values()),
        pools=[_pool(line, running, shown or [], paused.get(line.pool)) for line in lines],
        workers=None if shown is None else _workers(shown, running, orders),
        orders=orders,
    )


def enabled_models() -> list[DiffusionModel]:
    """The models that a worker can be told to load."""
    return list(DiffusionModel.objects.filter(enabled=True))


def _pool(
    line: PoolBacklog, running: Sequence[Generation], shown: Sequence[WorkerInfo], pause: PausedPool | None
) -> PoolView:
    return PoolView(
        line=line,
        oldest=display.seconds(max(0.0, (timezone.now() - line.oldest).total_seconds())) if line.oldest else "",
        running=sum(row.pool == line.pool for row in running),
        workers=sum(card.pool == line.pool and not (card.is_stale or card.is_drained) for card in shown),
        pause=pause,
    )


def _workers(
    shown: Sequence[WorkerInfo], running: Sequence[Generation], orders: Sequence[WorkerCommand]
) -> list[WorkerView]:
    progress_of = progress.latest([row.pk for row in running])
    failures = _last_failures()
    open_orders = {(order.worker, order.action) for order in orders if order.state in ("waiting", "running")}
    views = []
    for card in shown:
        runs = []
        for row in running:
            if row.worker == card.name:
                at = progress_of.get(row.pk)
                words = f"step {at.step} of {at.of}" if at and at.phase == "denoising" else at.phase if at else ""
                runs.append(Run(row, words or "begun", at.percent if at else None))
        is_draining = (card.name, WorkerCommand.Action.DRAIN) in open_orders
        views.append(
            WorkerView(
                card=card,
                doing=_doing(card, runs, is_draining),
                runs=runs,
                uptime=_long(time.time() - card.started),
                silence=display.seconds(card.seconds_since_heartbeat),
                memory=f"{card.memory_used / 1e9:.1f} of {card.memory_total / 1e9:.0f} GB",
                memory_percent=round(100 * card.memory_used / card.memory_total) if card.memory_total else 0,
                failure=failures.get(card.name, ""),
                may_drain=not (card.is_stale or card.is_drained or is_draining),
                may_resume=card.is_drained and not card.is_stale,
            )
        )
    return views


def _doing(card: WorkerInfo, runs: Sequence[Run], is_draining: bool) -> str:
    if card.is_stale:
        return "silent"
    if card.is_drained:
        return "drained"
    if is_draining:
        return "draining"
    return "working" if runs else "idle"


def _last_failures() -> dict[str, str]:
    """The newest failure of each worker, among the newest of the last day."""
    rows = Generation.objects.filter(state=State.FAILED, pk__gte=first_id(timezone.now() - _DAY)).order_by("-pk")
    found: dict[str, str] = {}
    for worker, code, message, finished in rows.values_list("worker", "error_code", "error_message", "finished")[
        :_FAILURES_LOOKED_AT
    ]:
        if worker not in found and finished:
            found[worker] = f"{timezone.localtime(finished):%H:%M}: {message} ({code})"
    return found


def _long(seconds: float) -> str:
    minutes = int(max(0.0, seconds) // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
