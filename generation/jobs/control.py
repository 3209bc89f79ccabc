"""What staff want of pools and workers: pauses and orders. Both are rows; Redis only rings for them.

A pause is a row that claims look for. An order is for one worker, which takes it between two batches. Whoever gives either
notes it in the audit log, in the same transaction.
"""

from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import partial

from django.conf import settings
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone
from redis import RedisError

from generation.broker import queues, workers
from generation.models import (
    DiffusionModel,
    Generation,
    Lora,
    PausedPool,
    State,
    WorkerCommand,
)

LEASE = timedelta(seconds=30)
"""How long a silent worker keeps what it is doing; it renews it every few seconds."""

_UNTAKEN = timedelta(minutes=1)
_KEPT = timedelta(days=7)
_OPEN = Q(state__in=(WorkerCommand.State.WAITING, WorkerCommand.State.RUNNING))

MODEL_ACTIONS = frozenset({WorkerCommand.Action.WARM, WorkerCommand.Action.EVICT, WorkerCommand.Action.DOWNLOAD})


class CommandRefused(Exception):
    """An order that makes no sense; the text says why, fit for whoever gave it."""


def pause(pool: str, by: str) -> bool:
    """Let this pool's workers start nothing new; what runs goes on. False: it was paused. Raises `OrderRefused`."""
    if pool not in settings.POOLS:
        raise CommandRefused(f"There is no pool {pool!r}; the pools are {', '.join(settings.POOLS)}.")
    return PausedPool.objects.get_or_create(pool=pool, defaults={"by": by})[1]


def resume(pool: str) -> bool:
    """Let this pool's workers go on. False: it was not paused."""
    ended, _ = PausedPool.objects.filter(pk=pool).delete()
    if ended:
        transaction.on_commit(partial(_wake_each_worker, pool))
    return bool(ended)


def _wake_each_worker(pool: str) -> None:
    """All of them may have something to do."""
    waiting = Generation.objects.filter(pool=pool, state=State.QUEUED).count()
    try:
        count = sum(worker.pool == pool for worker in workers.ready())
    except RedisError:
        count = 1
    for _ in range(min(waiting, count)):
        queues.try_wake_workers(pool)


def send(worker: str, action: WorkerCommand.Action, target: str, by: str) -> WorkerCommand:
    """Order a worker to do this. One that is waiting or being carried out already is answered as it is.

    `target` is the name of a model or LoRA, or empty. Raises `OrderRefused`, and `RedisError` since workers are known there.
    """
    card = next((card for card in workers.registered() if card.name == worker), None)
    if card is None or card.is_stale:
        raise CommandRefused(f"The worker {worker} is not there any more; choose another.")
    _check(card, action, target)
    same = WorkerCommand.objects.filter(_OPEN, worker=worker, action=action, target=target)
    if (given := same.first()) is not None:
        return given
    if action in (WorkerCommand.Action.DRAIN, WorkerCommand.Action.RESUME):
        # The later one of the two is what is wanted.
        _end(
            WorkerCommand.objects.filter(
                worker=worker,
                state=WorkerCommand.State.WAITING,
                action__in=(WorkerCommand.Action.DRAIN, WorkerCommand.Action.RESUME),
            ),
            WorkerCommand.State.FAILED,
            "The opposite was wanted before it was taken.",
        )
    order = WorkerCommand.objects.create(worker=worker, pool=card.pool, action=action, target=target, by=by)
    transaction.on_commit(partial(queues.try_wake_workers, worker))
    return order


def broadcast(pools: Iterable[str], action: WorkerCommand.Action, target: str, by: str) -> list[WorkerCommand]:
    """Order all workers of these pools to do this; downloads one of each host, whose workers share their directory.

    Raises `OrderRefused` where there is none, and `RedisError`.
    """
    names = set(pools)
    there = [card for card in workers.registered() if card.pool in names and not card.is_stale]
    if action in (WorkerCommand.Action.DOWNLOAD, WorkerCommand.Action.DOWNLOAD_LORA):
        there = list({card.host: card for card in there}.values())
    if not there:
        raise CommandRefused(f"No worker of the pool {' or '.join(sorted(names))} is there to do it; start one first.")
    return [send(card.name, action, target, by) for card in there]


def _check(card: workers.WorkerInfo, action: WorkerCommand.Action, target: str) -> None:
    if action in MODEL_ACTIONS:
        model = DiffusionModel.objects.filter(pk=target).first()
        if model is None:
            raise CommandRefused(f"There is no model {target!r}.")
        if model.pool != card.pool and action is not WorkerCommand.Action.EVICT:
            raise CommandRefused(f"{target} belongs to the pool {model.pool}, and {card.name} works for {card.pool}.")
    elif action is WorkerCommand.Action.DOWNLOAD_LORA and not Lora.objects.filter(pk=target).exists():
        raise CommandRefused(f"There is no LoRA {target!r}.")


def claim(worker: str) -> list[WorkerCommand]:
    """The orders that wait for this worker, the first given first; they are its own from now on."""
    taken = []
    for order in WorkerCommand.objects.filter(worker=worker, state=WorkerCommand.State.WAITING).order_by("id"):
        own = WorkerCommand.objects.filter(pk=order.pk, state=WorkerCommand.State.WAITING)
        if own.update(state=WorkerCommand.State.RUNNING, expires=timezone.now() + LEASE):
            taken.append(order)
    return taken


def renew(ids: Sequence[int]) -> None:
    """Say that these orders are still being carried out."""
    WorkerCommand.objects.filter(pk__in=ids, state=WorkerCommand.State.RUNNING).update(expires=timezone.now() + LEASE)


def report(order: WorkerCommand, message: str) -> None:
    """Note how far a running order is."""
    WorkerCommand.objects.filter(pk=order.pk, state=WorkerCommand.State.RUNNING).update(message=message[:500])


def succeed(order: WorkerCommand, message: str = "") -> None:
    _end(WorkerCommand.objects.filter(pk=order.pk), WorkerCommand.State.DONE, message)


def fail(order: WorkerCommand, message: str) -> None:
    _end(WorkerCommand.objects.filter(pk=order.pk), WorkerCommand.State.FAILED, message)


def abandon(worker: str) -> None:
    """End what an ending worker has not done."""
    _end(
        WorkerCommand.objects.filter(worker=worker), WorkerCommand.State.FAILED, "The worker ended before it was done."
    )


def expire() -> None:
    """End what lost its worker, ring for what is waited for, and forget what is long over. Raises `RedisError`."""
    now = timezone.now()
    _end(
        WorkerCommand.objects.filter(state=WorkerCommand.State.RUNNING, expires__lt=now),
        WorkerCommand.State.FAILED,
        "The worker was lost.",
    )
    waiting = list(WorkerCommand.objects.filter(state=WorkerCommand.State.WAITING))
    if waiting:
        there = {card.name for card in workers.registered() if not card.is_stale}
        for order in waiting:
            if order.worker in there:
                if queues.rq_queue(order.worker).is_empty():
                    queues.wake_workers(order.worker)
            elif order.created < now - _UNTAKEN:
                fail(order, "The worker ended before it took this.")
                queues.rq_queue(order.worker).delete()
    WorkerCommand.objects.exclude(_OPEN).filter(created__lt=now - _KEPT).delete()


def _end(orders: QuerySet[WorkerCommand], state: WorkerCommand.State, message: str) -> None:
    orders.filter(_OPEN).update(state=state, message=message[:500], finished=timezone.now(), expires=None)
