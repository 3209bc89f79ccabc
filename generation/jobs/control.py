"""Remote control: staff pause pools and send commands to workers. Both are rows; Redis only carries the wake-ups.

Claims skip the pools that have a `PausedPool`. A `WorkerCommand` is for one worker, which claims it between two batches. The
caller records either in the audit log, in the same transaction.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from redis import RedisError

from accounts.refusals import StaffRefusal
from generation.broker import queues, workers
from generation.broker.workers import WorkerInfo
from generation.models import DiffusionModel, Generation, Lora, PausedPool, State, WorkerCommand

LEASE = timedelta(seconds=30)
"""How long a command stays leased after its worker's last renewal. A worker renews with every heartbeat."""

_CLAIM_TIMEOUT = timedelta(minutes=1)
"""How long a command may wait for a worker that has stopped sending heartbeats."""

_RETENTION = timedelta(days=7)
_OPEN = Q(state__in=(WorkerCommand.State.WAITING, WorkerCommand.State.RUNNING))

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
    same = WorkerCommand.objects.filter(_OPEN, worker=worker, action=action, target=target).first()
    if same is not None:
        return same
    if action in (WorkerCommand.Action.DRAIN, WorkerCommand.Action.RESUME):
        _replace_opposite(worker)
    command = WorkerCommand.objects.create(worker=worker, pool=info.pool, action=action, target=target, by=by)
    transaction.on_commit(partial(queues.try_wake_workers, worker))
    return command


def broadcast(pools: Iterable[str], action: WorkerCommand.Action, target: str, by: str) -> list[WorkerCommand]:
    """Send a command to all workers of these pools, a download only to one per host, whose workers share a directory.

    Raises `CommandRefused` if there is no worker, and `RedisError`.
    """
    names = set(pools)
    receivers = [info for info in workers.registered() if info.pool in names and not info.is_stale]
    if action in (WorkerCommand.Action.DOWNLOAD, WorkerCommand.Action.DOWNLOAD_LORA):
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


def report(command: WorkerCommand, message: str) -> None:
    """Store the progress of a running command."""
    WorkerCommand.objects.filter(pk=command.pk, state=WorkerCommand.State.RUNNING).update(message=message[:500])


def succeed(command: WorkerCommand, message: str = "") -> None:
    _finish(WorkerCommand.objects.filter(pk=command.pk), WorkerCommand.State.DONE, message)


def fail(command: WorkerCommand, message: str) -> None:
    _finish(WorkerCommand.objects.filter(pk=command.pk), WorkerCommand.State.FAILED, message)


def abandon(worker: str) -> None:
    """Fail the open commands of a worker that stops."""
    commands = WorkerCommand.objects.filter(worker=worker)
    _finish(commands, WorkerCommand.State.FAILED, "The worker stopped before it was done.")


def expire() -> None:
    """Fail commands whose worker was lost, wake workers for waiting ones, and delete old ones. Raises `RedisError`."""
    now = timezone.now()
    lost = WorkerCommand.objects.filter(state=WorkerCommand.State.RUNNING, expires__lt=now)
    _finish(lost, WorkerCommand.State.FAILED, "The worker was lost.")
    waiting = list(WorkerCommand.objects.filter(state=WorkerCommand.State.WAITING))
    if waiting:
        alive = {info.name for info in workers.registered() if not info.is_stale}
        for command in waiting:
            if command.worker in alive:
                if queues.rq_queue(command.worker).is_empty():
                    queues.wake_workers(command.worker)
            elif command.created < now - _CLAIM_TIMEOUT:
                fail(command, "The worker stopped before it claimed this.")
                queues.rq_queue(command.worker).delete()
    WorkerCommand.objects.exclude(_OPEN).filter(created__lt=now - _RETENTION).delete()


def _finish(commands: QuerySet[WorkerCommand], state: WorkerCommand.State, message: str) -> None:
    commands.filter(_OPEN).update(state=state, message=message[:500], finished=timezone.now(), expires=None)
