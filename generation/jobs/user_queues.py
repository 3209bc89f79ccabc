"""The queues of users, which tell whose turn it is in a time that does not depend on how much waits.

Sorting all that waits by `generation.jobs.fair_share` takes longer the more waits. So each user with new requests in a pool has
a `UserQueue` for each of their priorities, which an index holds in the order of turns. A claim walks along it to the first user
whom it may serve, and locks this user's share; other claims pass by it meanwhile, and serve the next user.

A request that was returned needs no queue: few are at a time, and they have an index of their own.
"""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from django.db import connection, transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, Subquery

from accounts.models import User
from generation.jobs import limits
from generation.models import Generation, GenerationQuerySet, PausedPool, State, UserQueue, UserShare

_MOST_REPAIRED = 1000
"""In a minute."""


@dataclass(frozen=True)
class Turn:
    """A user's turn: the share, locked, and the rows that are the first to claim, all of one priority, in no order."""

    share: UserShare
    rows: GenerationQuerySet


def add(share: UserShare, generations: Iterable[Generation]) -> None:
    """Add the queues of new generations of this user. Call it under the lock of the share."""
    kinds = {(generation.pool, generation.priority) for generation in generations}
    UserQueue.objects.bulk_create(
        (
            UserQueue(share=share, pool=pool, priority=priority, decayed_usage=share.decayed_usage)
            for pool, priority in sorted(kinds)
        ),
        ignore_conflicts=True,
    )


def next_turn(rows: GenerationQuerySet, pool: str, full: Collection[int]) -> Turn | None:
    """Lock the share of the next user with claimable `rows` of the pool, except the users `full`. None if there is none.

    A paused pool has none. Users whom other claims have locked come after all others: only for the last ones it waits. Call it
    in a transaction that has locked nothing.
    """
    new, returned = rows.filter(attempt=0), rows.filter(attempt__gt=0).exclude(user__in=full)
    # Few are returned at a time, so whether there are any is asked with the queue.
    queues = _in_order(new, pool, full).annotate(has_returned=Exists(returned))
    for skip_locked in (True, False) if connection.features.has_select_for_update_skip_locked else (False,):
        queue = queues.select_for_update(skip_locked=skip_locked, of=("share",)).first()
        # With the lock of a queue's user it must not wait for another one.
        may_wait = queue is None and not skip_locked
        if (queue is None or queue.has_returned) and (turn := _returned(returned, pool, may_wait)):
            return turn
        if queue is not None:
            return Turn(queue.share, new.filter(user=queue.share_id, priority=queue.priority))
    return None


def lock_others(rows: GenerationQuerySet, pool: str, full: Collection[int], count: int) -> dict[int, UserShare]:
    """Lock and return the shares of the next users with new rows among `rows`, up to `count`, without waiting for any."""
    queues = _in_order(rows.filter(attempt=0), pool, full).select_for_update(skip_locked=True, of=("share",))
    return {queue.share_id: queue.share for queue in queues[:count]}


def repair() -> None:
    """Add the queues of waiting rows that have none, which a process of an earlier version inserted. Remove empty ones."""
    new = Generation.objects.filter(state=State.QUEUED, attempt=0).order_by()
    own = UserQueue.objects.filter(share=OuterRef("user"), pool=OuterRef("pool"), priority=OuterRef("priority"))
    missing = new.filter(~Exists(own)).values_list("user", "pool", "priority").distinct()[:_MOST_REPAIRED]
    for user_id, pool, priority in missing:
        with transaction.atomic():
            share = limits.lock_user(User(pk=user_id))
            add(share, [Generation(pool=pool, priority=priority)])
    rows = new.filter(user=OuterRef("share"), pool=OuterRef("pool"), priority=OuterRef("priority"))
    with transaction.atomic():
        empty = UserQueue.objects.filter(~Exists(rows)).select_related("share")
        locked = empty.select_for_update(skip_locked=True, of=("share",))[:_MOST_REPAIRED]
        # What was submitted before the lock was taken is seen by this second query.
        UserQueue.objects.filter(~Exists(rows), pk__in=[queue.pk for queue in locked]).delete()


def _returned(returned: GenerationQuerySet, pool: str, may_wait: bool) -> Turn | None:
    first = (
        returned.filter(_is_open(pool), user__share__isnull=False)
        .order_by("-priority", "user__share__decayed_usage", "pk")
        .select_related("user__share")
        .only("priority", "user__share")
        .select_for_update(skip_locked=not may_wait, of=("user__share",))
        .first()
    )
    if first is None:
        return None
    return Turn(first.user.share, returned.filter(user=first.user, priority=first.priority))


def _in_order(new: GenerationQuerySet, pool: str, full: Collection[int]) -> QuerySet[UserQueue]:
    """Return the queues of a pool that have rows among `new`, in the order of turns; none while it is paused."""
    own = new.filter(user=OuterRef("share"), priority=OuterRef("priority")).order_by("pk")
    # A subquery for each row, not EXISTS, for which PostgreSQL might read all that waits.
    queues = UserQueue.objects.filter(_is_open(pool), pool=pool).alias(first=Subquery(own.values("pk")[:1]))
    queues = queues.filter(first__isnull=False).exclude(share__in=full)
    return queues.order_by("-priority", "decayed_usage", "pk").select_related("share")


def _is_open(pool: str) -> Q:
    return ~Q(Exists(PausedPool.objects.filter(pk=pool)))
