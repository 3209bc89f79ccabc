"""Remote control: staff pause pools and send commands to workers. Both are rows; Redis only carries the wake-ups.

Claims skip the pools that have a `PausedPool`. A `WorkerCommand` is for one worker, which claims it between two batches; a
download whose worker ends is continued by another one of the host. The caller records either in the audit log, in the same
transaction.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial
from typing import Any

from django.conf import settings
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from redis import RedisError

from accounts.refusals import StaffRefusal
from generation.broker import queues, workers
from generation.broker.workers import WorkerInfo
from generation.models import (
    DOWNLOADS,
    DiffusionModel,
    Generation,
    Lora,
    PausedPool,
    State,
    WorkerCommand,
    WorkerCommandQuerySet,
)

LEASE = timedelta(seconds=30)
"""How long a command stays leased after its worker's last renewal. A worker renews with every heartbeat."""

_CLAIM_TIMEOUT = timedelta(minutes=1)
"""How long a command may wait for a worker that has stopped sending heartbeats."""

_CONTINUE_TIMEOUT = timedelta(days=1)
"""How long a download whose worker has ended may wait for another worker of the host."""

_MAX_CRASHES = 3

_RETENTION = timedelta(days=7)

MODEL_ACTIONS = frozenset({WorkerCommand.Action.WARM, WorkerCommand.Action.EVICT, WorkerCommand.Action.DOWNLOAD})


class CommandRefused(StaffRefusal):
    """A command that cannot be carried out."""


def pause(pool: str, by: str) -> bool:
    """Keep this pool's workers from starting anything; running generations go on. `by` is a username.

    Return False if it was paused already. Raises `CommandRefused` for an unknown pool.
    """
    if pool not in settings.POOLS:
        raise CommandRefused(f"There is no pool {pool!r}; the pools are {', '.join(settings.POOLS)}.")
    return PausedPool.objects.get_or_create(pool=pool, defaults={"by": by})[1]


def resume(pool: str) -> bool:
    """End the pause of a pool. Return False if it was not paused."""
    deleted, _ = PausedPool.objects.filter(pk=pool).delete()
    if deleted:
        transaction.on_commit(partial(_wake_each_worker, pool))
    return bool(deleted)


def _wake_each_worker(pool: str) -> None:
    queued = Generation.objects.filter(pool=pool, state=State.QUEUED).count()
    try:
        count = sum(worker.pool == pool for worker in workers.ready())
    except RedisError:
        count = 1
    for _ in range(min(queued, count)):
        queues.try_wake_workers(pool)


def send(worker: str, action: WorkerCommand.Action, target: str, by: str) -> WorkerCommand:
    """Send a command to a worker, or return the same command if it is waiting or running already.

    `target` is the name of a model or LoRA, or empty; `by` is a username. Raises `CommandRefused`, and `RedisError`, since the
    registry of workers is in Redis.
    """
    info = next((info for info in workers.registered() if info.name == worker), None)
    if info is None or info.is_stale:
        raise CommandRefused(f"The worker {worker} has stopped; choose another.")
    _check(info, action, target)
    # The workers of a host share the directory that a download fills.
    place = {"host": info.host} if action in DOWNLOADS else {"worker": worker}
    same = WorkerCommand.objects.opened().filter(**place, action=action, target=target).first()
    if same is not None:
        return same
    if action in (WorkerCommand.Action.DRAIN, WorkerCommand.Action.RESUME):
        _replace_opposite(worker)
    command = WorkerCommand.objects.create(
        worker=worker,
        host=info.host,
        pool=info.pool,
        action=action,
        target=target,
        by=by,
        expires=timezone.now() + _CLAIM_TIMEOUT,
    )
    transaction.on_commit(partial(queues.try_wake_workers, worker))
    return command


def broadcast(pools: Iterable[str], action: WorkerCommand.Action, target: str, by: str) -> list[WorkerCommand]:
    """Send a command to all workers of these pools, a download only to one per host, whose workers share a directory.

    Raises `CommandRefused` if there is no worker, and `RedisError`.
    """
    names = set(pools)
    receivers = [info for info in workers.registered() if info.pool in names and not info.is_stale]
    if action in DOWNLOADS:
        receivers = list({info.host: info for info in receivers}.values())
    if not receivers:
        raise CommandRefused(f"The pool {' or '.join(sorted(names))} has no running worker; start one first.")
    return [send(info.name, action, target, by) for info in receivers]


def _check(worker: WorkerInfo, action: WorkerCommand.Action, target: str) -> None:
    if action in MODEL_ACTIONS:
        model = DiffusionModel.objects.filter(pk=target).first()
        if model is None:
            raise CommandRefused(f"There is no model {target!r}.")
        if model.pool != worker.pool and action is not WorkerCommand.Action.EVICT:
            raise CommandRefused(
                f"{target} belongs to the pool {model.pool}, and {worker.name} works for {worker.pool}."
            )
    elif action is WorkerCommand.Action.DOWNLOAD_LORA and not Lora.objects.filter(pk=target).exists():
        raise CommandRefused(f"There is no LoRA {target!r}.")


def _replace_opposite(worker: str) -> None:
    """Fail the drain or resume command that still waits, since a later one replaces it."""
    actions = (WorkerCommand.Action.DRAIN, WorkerCommand.Action.RESUME)
    waiting = WorkerCommand.objects.filter(worker=worker, state=WorkerCommand.State.WAITING, action__in=actions)
    _finish(waiting, WorkerCommand.State.FAILED, "Replaced by a later command before it ran.")


def claim(worker: str) -> list[WorkerCommand]:
    """Lease the commands that wait for this worker to it. Return them, the oldest first."""
    commands = []
    for command in WorkerCommand.objects.filter(worker=worker, state=WorkerCommand.State.WAITING).order_by("id"):
        waiting = WorkerCommand.objects.filter(pk=command.pk, state=WorkerCommand.State.WAITING)
        if waiting.update(state=WorkerCommand.State.RUNNING, expires=timezone.now() + LEASE):
            commands.append(command)
    return commands


def renew(ids: Sequence[int]) -> None:
    """Renew the leases of running commands."""
    WorkerCommand.objects.filter(pk__in=ids, state=WorkerCommand.State.RUNNING).update(expires=timezone.now() + LEASE)


def report(command: WorkerCommand, done: int, total: int, rate: float) -> bool:
    """Store the progress of a running download, in bytes and bytes a second.

    Return False if it does not run any more: it was canceled, or it is another worker's now.
    """
    running = _own(command).filter(state=WorkerCommand.State.RUNNING)
    return bool(running.update(done_bytes=done, total_bytes=total, bytes_per_second=rate))


def succeed(command: WorkerCommand, message: str = "") -> None:
    _finish(_own(command), WorkerCommand.State.DONE, message)


def fail(command: WorkerCommand, message: str) -> None:
    _finish(_own(command), WorkerCommand.State.FAILED, message)


def cancel(command_id: int, by: str) -> WorkerCommand:
    """End a download; its worker stops within about a second. `by` is a username. Raises `CommandRefused`."""
    command = WorkerCommand.objects.filter(pk=command_id, action__in=DOWNLOADS).first()
    if command is None:
        raise CommandRefused("There is no such download.")
    message = f"Canceled by {by}. What was fetched is kept: another download goes on from there."
    if not _finish(_own(command), WorkerCommand.State.CANCELED, message):
        raise CommandRefused(f"The command “{command}” has ended already.")
    return command


def abandon(worker: str) -> None:
    """Leave the open downloads of a worker that stops to another one of its host, and fail its other open commands."""
    commands = WorkerCommand.objects.filter(worker=worker)
    _return(commands.opened().filter(action__in=DOWNLOADS))
    _finish(
        commands.exclude(action__in=DOWNLOADS), WorkerCommand.State.FAILED, "The worker stopped before it was done."
    )


def expire() -> None:
    """Return or fail commands whose worker was lost, wake workers for waiting ones, and delete old ones.

    Raises `RedisError`.
    """
    now = timezone.now()
    lost = WorkerCommand.objects.filter(state=WorkerCommand.State.RUNNING, expires__lt=now)
    if lost.exists():
        _end_lost(lost)
    waiting = list(WorkerCommand.objects.filter(state=WorkerCommand.State.WAITING))
    if waiting:
        alive = [info for info in workers.registered() if not info.is_stale]
        for command in waiting:
            _hand_over(command, alive)
    old = WorkerCommand.objects.filter(created__lt=now - _RETENTION)
    old = old.exclude(pk__in=WorkerCommand.objects.opened().values("pk"))
    # Read first: a deletion waits for other writers, even if there is nothing to delete.
    if old.exists():
        old.delete()


def _end_lost(lost: WorkerCommandQuerySet) -> None:
    again = lost.filter(action__in=DOWNLOADS, crash_count__lt=_MAX_CRASHES - 1)
    _return(again, crash_count=F("crash_count") + 1)
    _finish(lost.exclude(action__in=DOWNLOADS), WorkerCommand.State.FAILED, "The worker was lost.")
    _finish(lost, WorkerCommand.State.FAILED, f"{_MAX_CRASHES} workers were lost during this download; see their logs.")


def _hand_over(command: WorkerCommand, alive: Sequence[WorkerInfo]) -> None:
    """Wake the worker that a command waits for, or another one that can do it; fail it if there was none for too long."""
    names = [info.name for info in alive]
    if command.worker not in names and command.is_download:
        heirs = sorted(
            (info for info in alive if info.host == command.host), key=lambda info: info.pool != command.pool
        )
        if heirs and _own(command).filter(state=WorkerCommand.State.WAITING).update(worker=heirs[0].name):
            command.worker = heirs[0].name
    if command.worker in names:
        if queues.rq_queue(command.worker).is_empty():
            queues.wake_workers(command.worker)
    elif command.expires and command.expires < timezone.now():
        fail(command, "The worker stopped before it claimed this.")
        queues.rq_queue(command.worker).delete()


def _own(command: WorkerCommand) -> WorkerCommandQuerySet:
    """Return the row of a command as long as it is this worker's."""
    return WorkerCommand.objects.filter(pk=command.pk, worker=command.worker)


def _return(commands: WorkerCommandQuerySet, **changes: Any) -> None:
    """Let commands wait for another worker."""
    expires = timezone.now() + _CONTINUE_TIMEOUT
    commands.update(state=WorkerCommand.State.WAITING, expires=expires, bytes_per_second=0.0, **changes)


def _finish(commands: WorkerCommandQuerySet, state: WorkerCommand.State, message: str) -> int:
    """End commands that are open; return their number."""
    return commands.opened().update(
        state=state, message=message[:500], finished=timezone.now(), expires=None, bytes_per_second=0.0
    )
