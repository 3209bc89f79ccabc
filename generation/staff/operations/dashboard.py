"""The current state of the service for the operations page: alerts, pools, workers, and the latest worker commands."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from django.conf import settings
from django.db.models import Case, When
from django.utils import timezone
from redis import RedisError

from generation import display
from generation.broker import progress, workers
from generation.broker.progress import Progress
from generation.broker.workers import WorkerInfo
from generation.jobs import backlog
from generation.jobs.backlog import PoolBacklog
from generation.models import DiffusionModel, Generation, PausedPool, State, WorkerCommand, first_id
from generation.staff.operations import alerts
from generation.staff.operations.alerts import Alert

_MAX_COMMANDS_SHOWN = 12
_MAX_FAILURES_READ = 300
_DAY = timedelta(hours=24)
_OPEN_STATES = (WorkerCommand.State.WAITING, WorkerCommand.State.RUNNING)


@dataclass(frozen=True)
class PoolView:
    """A pool: its backlog, the number of running generations and of active workers, and its pause if it is paused."""

    backlog: PoolBacklog
    oldest: str
    running: int
    workers: int
    pause: PausedPool | None


@dataclass(frozen=True)
class Run:
    """A running generation: its progress in words, and in percent if that is known."""

    generation: Generation
    progress: str
    percent: int | None


@dataclass(frozen=True)
class WorkerView:
    """A worker: its registry entry, its state in a word, its running generations, and its latest failure of the last day."""

    info: WorkerInfo
    state: str
    runs: list[Run]
    uptime: str
    since_heartbeat: str
    memory: str
    memory_percent: int
    failure: str
    can_drain: bool
    can_resume: bool


@dataclass(frozen=True)
class Dashboard:
    """The content of the operations page. `workers` is None if Redis cannot be reached."""

    alerts: list[Alert]
    pools: list[PoolView]
    workers: list[WorkerView] | None
    commands: list[WorkerCommand]

    @property
    def ready_workers(self) -> list[WorkerInfo]:
        """The registry entries of the workers that can receive commands."""
        return [worker.info for worker in self.workers or [] if not worker.info.is_stale]


def dashboard() -> Dashboard:
    """Return the current state, with a number of queries that does not depend on the number of rows."""
    registered = _registered()
    paused = {pause.pool: pause for pause in PausedPool.objects.all()}
    pool_backlogs = backlog.backlogs(settings.POOLS)
    rows = Generation.objects.filter(state=State.RUNNING).order_by("pk")
    fields = ("pool", "worker", "user_id", "model_id", "cancel_requested", "input_thumbnail", "source__nsfw")
    running = list(rows.select_related("source").only(*fields))
    # A download may be open for hours, while others come and go.
    is_first = Case(When(state__in=_OPEN_STATES, then=0), default=1)
    commands = list(WorkerCommand.objects.order_by(is_first, "-id")[:_MAX_COMMANDS_SHOWN])
    return Dashboard(
        alerts=alerts.alerts(registered, pool_backlogs, paused.values()),
        pools=[_pool(waiting, running, registered or [], paused.get(waiting.pool)) for waiting in pool_backlogs],
        workers=None if registered is None else _workers(registered, running, commands),
        commands=commands,
    )


def current_alerts() -> list[Alert]:
    """Return the alerts alone, the critical ones first."""
    return alerts.alerts(_registered(), backlog.backlogs(settings.POOLS), PausedPool.objects.all())


def _registered() -> list[WorkerInfo] | None:
    try:
        return workers.registered()
    except RedisError:
        return None


def enabled_models() -> list[DiffusionModel]:
    """Return the models that a worker can be commanded to load."""
    return list(DiffusionModel.objects.filter(enabled=True))


def _pool(
    waiting: PoolBacklog, running: Sequence[Generation], infos: Sequence[WorkerInfo], pause: PausedPool | None
) -> PoolView:
    return PoolView(
        backlog=waiting,
        oldest=display.seconds(max(0.0, (timezone.now() - waiting.oldest).total_seconds())) if waiting.oldest else "",
        running=sum(row.pool == waiting.pool for row in running),
        workers=sum(info.pool == waiting.pool and info.is_ready for info in infos),
        pause=pause,
    )


def _workers(
    infos: Sequence[WorkerInfo], running: Sequence[Generation], commands: Sequence[WorkerCommand]
) -> list[WorkerView]:
    progress_of = progress.latest([row.pk for row in running])
    failures = _last_failures()
    open_commands = {(command.worker, command.action) for command in commands if command.state in _OPEN_STATES}
    views = []
    for info in infos:
        runs = [_run(row, progress_of.get(row.pk)) for row in running if row.worker == info.name]
        is_draining = (info.name, WorkerCommand.Action.DRAIN) in open_commands
        views.append(
            WorkerView(
                info=info,
                state=_state(info, runs, is_draining),
                runs=runs,
                uptime=_duration(time.time() - info.started),
                since_heartbeat=display.seconds(info.seconds_since_heartbeat),
                memory=f"{info.memory_used / 1e9:.1f} of {info.memory_total / 1e9:.0f} GB",
                memory_percent=round(100 * info.memory_used / info.memory_total) if info.memory_total else 0,
                failure=failures.get(info.name, ""),
                can_drain=info.is_ready and not is_draining,
                can_resume=info.is_drained and not info.is_stale,
            )
        )
    return views


def _run(generation: Generation, latest: Progress | None) -> Run:
    if latest is None:
        return Run(generation, "starting", None)
    is_denoising = latest.phase == "denoising"
    text = f"step {latest.step} of {latest.of}" if is_denoising else latest.phase
    return Run(generation, text or "starting", latest.percent)


def _state(info: WorkerInfo, runs: Sequence[Run], is_draining: bool) -> str:
    if info.is_stale:
        return "stale"
    if info.is_drained:
        return "drained"
    if is_draining:
        return "draining"
    return "working" if runs else "idle"


def _last_failures() -> dict[str, str]:
    """Return the latest failure of each worker as a text, from the latest `_MAX_FAILURES_READ` failures of the last day."""
    rows = Generation.objects.filter(state=State.FAILED, pk__gte=first_id(timezone.now() - _DAY)).order_by("-pk")
    result: dict[str, str] = {}
    values = rows.values_list("worker", "error_code", "error_message", "finished")
    for worker, code, message, finished in values[:_MAX_FAILURES_READ]:
        if worker not in result and finished:
            result[worker] = f"{timezone.localtime(finished):%H:%M}: {message} ({code})"
    return result


def _duration(seconds: float) -> str:
    """Write a long duration: in days and hours, in hours and minutes, or in minutes."""
    minutes = int(max(0.0, seconds) // 60)
    days, hours = minutes // 1440, minutes // 60 % 24
    if days:
        return f"{days} d {hours} h"
    return f"{hours} h {minutes % 60} min" if hours else f"{minutes} min"
