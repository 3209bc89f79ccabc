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
from generation.models import DiffusionModel, Generation, Lora, Order, PausedPool, State

LEASE = timedelta(seconds=30)
"""How long a silent worker keeps what it is doing; it renews it every few seconds."""

_UNTAKEN = timedelta(minutes=1)
_KEPT = timedelta(days=7)
_OPEN = Q(state__in=(Order.State.WAITING, Order.State.RUNNING))

MODEL_VERBS = frozenset({Order.Verb.WARM, Order.Verb.EVICT, Order.Verb.DOWNLOAD})


class OrderRefused(Exception):
    """An order that makes no sense; the text says why, fit for whoever gave it."""


def pause(pool: str, by: str) -> bool:
    """Let this pool's workers start nothing new; what runs goes on. False: it was paused. Raises `OrderRefused`."""
    if pool not in settings.POOLS:
        raise OrderRefused(f"There is no pool {pool!r}; the pools are {', '.join(settings.POOLS)}.")
    return PausedPool.objects.get_or_create(pool=pool, defaults={"by": by})[1]


def resume(pool: str) -> bool:
    """Let this pool's workers go on. False: it was not paused."""
    ended, _ = PausedPool.objects.filter(pk=pool).delete()
    if ended:
        transaction.on_commit(partial(_ring_for_each_worker, pool))
    return bool(ended)


def _ring_for_each_worker(pool: str) -> None:
    """All of them may have something to do."""
    waiting = Generation.objects.filter(pool=pool, state=State.QUEUED).count()
    try:
        count = sum(worker.pool == pool for worker in workers.ready())
    except RedisError:
        count = 1
    for _ in range(min(waiting, count)):
        queues.try_wake_workers(pool)


def give(worker: str, verb: Order.Verb, target: str, by: str) -> Order:
    """Order a worker to do this. One that is waiting or being carried out already is answered as it is.

    `target` is the name of a model or LoRA, or empty. Raises `OrderRefused`, and `RedisError` since workers are known there.
    """
    card = next((card for card in workers.registered() if card.name == worker), None)
    if card is None or card.is_stale:
        raise OrderRefused(f"The worker {worker} is not there any more; choose another.")
    _check(card, verb, target)
    same = Order.objects.filter(_OPEN, worker=worker, verb=verb, target=target)
    if (given := same.first()) is not None:
        return given
    if verb in (Order.Verb.DRAIN, Order.Verb.RESUME):
        # The later one of the two is what is wanted.
        _end(
            Order.objects.filter(
                worker=worker, state=Order.State.WAITING, verb__in=(Order.Verb.DRAIN, Order.Verb.RESUME)
            ),
            Order.State.FAILED,
            "The opposite was wanted before it was taken.",
        )
    order = Order.objects.create(worker=worker, pool=card.pool, verb=verb, target=target, by=by)
    transaction.on_commit(partial(queues.try_wake_workers, worker))
    return order


def give_each(pools: Iterable[str], verb: Order.Verb, target: str, by: str) -> list[Order]:
    """Order all workers of these pools to do this; downloads one of each host, whose workers share their directory.

    Raises `OrderRefused` where there is none, and `RedisError`.
    """
    names = set(pools)
    there = [card for card in workers.registered() if card.pool in names and not card.is_stale]
    if verb in (Order.Verb.DOWNLOAD, Order.Verb.DOWNLOAD_LORA):
        there = list({card.host: card for card in there}.values())
    if not there:
        raise OrderRefused(f"No worker of the pool {' or '.join(sorted(names))} is there to do it; start one first.")
    return [give(card.name, verb, target, by) for card in there]


def _check(card: workers.WorkerInfo, verb: Order.Verb, target: str) -> None:
    if verb in MODEL_VERBS:
        model = DiffusionModel.objects.filter(pk=target).first()
        if model is None:
            raise OrderRefused(f"There is no model {target!r}.")
        if model.pool != card.pool and verb is not Order.Verb.EVICT:
            raise OrderRefused(f"{target} belongs to the pool {model.pool}, and {card.name} works for {card.pool}.")
    elif verb is Order.Verb.DOWNLOAD_LORA and not Lora.objects.filter(pk=target).exists():
        raise OrderRefused(f"There is no LoRA {target!r}.")


def take(worker: str) -> list[Order]:
    """The orders that wait for this worker, the first given first; they are its own from now on."""
    taken = []
    for order in Order.objects.filter(worker=worker, state=Order.State.WAITING).order_by("id"):
        own = Order.objects.filter(pk=order.pk, state=Order.State.WAITING)
        if own.update(state=Order.State.RUNNING, expires=timezone.now() + LEASE):
            taken.append(order)
    return taken


def renew(ids: Sequence[int]) -> None:
    """Say that these orders are still being carried out."""
    Order.objects.filter(pk__in=ids, state=Order.State.RUNNING).update(expires=timezone.now() + LEASE)


def tell(order: Order, message: str) -> None:
    """Note how far a running order is."""
    Order.objects.filter(pk=order.pk, state=Order.State.RUNNING).update(message=message[:500])


def done(order: Order, message: str = "") -> None:
    _end(Order.objects.filter(pk=order.pk), Order.State.DONE, message)


def failed(order: Order, message: str) -> None:
    _end(Order.objects.filter(pk=order.pk), Order.State.FAILED, message)


def abandon(worker: str) -> None:
    """End what an ending worker has not done."""
    _end(Order.objects.filter(worker=worker), Order.State.FAILED, "The worker ended before it was done.")


def expire() -> None:
    """End what lost its worker, ring for what is waited for, and forget what is long over. Raises `RedisError`."""
    now = timezone.now()
    _end(Order.objects.filter(state=Order.State.RUNNING, expires__lt=now), Order.State.FAILED, "The worker was lost.")
    waiting = list(Order.objects.filter(state=Order.State.WAITING))
    if waiting:
        there = {card.name for card in workers.registered() if not card.is_stale}
        for order in waiting:
            if order.worker in there:
                if queues.rq_queue(order.worker).is_empty():
                    queues.wake_workers(order.worker)
            elif order.created < now - _UNTAKEN:
                failed(order, "The worker ended before it took this.")
                queues.rq_queue(order.worker).delete()
    Order.objects.exclude(_OPEN).filter(created__lt=now - _KEPT).delete()


def _end(orders: QuerySet[Order], state: Order.State, message: str) -> None:
    orders.filter(_OPEN).update(state=state, message=message[:500], finished=timezone.now(), expires=None)
