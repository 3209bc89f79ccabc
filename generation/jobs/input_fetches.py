"""The queue of fetches of `image_url`: few at a time for a user and in all, and the time of each is usage like that of runs.

A generation with a fetch is queued and counts for its user's limits, but workers do not claim it.
"""

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import Count, Q, QuerySet, Value
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts.models import User
from generation.jobs import fair_share, limits
from generation.models import InputFetch

USER_FETCHES = 2
"""Fetches of a user that run at once."""

MAX_FETCHES = 16
"""Fetches of all users that run at once."""

LEASE = timedelta(seconds=60)
"""Longer than a fetch takes; after it another process begins again."""

COST_PER_SECOND = 1.0
"""What a second of fetching adds to a user's usage: `generation.jobs.fair_share`."""


def claim() -> InputFetch | None:
    """Lease the next fetch: of the user with the least usage, the oldest. Return None if none may run now."""
    now = timezone.now()
    # Usually there is none, and a transaction would block SQLite's other writers.
    if not _free(now).exists():
        return None
    running = InputFetch.objects.filter(lease_expires__gt=now)
    with transaction.atomic():
        if running.count() >= MAX_FETCHES:
            return None
        busy = running.order_by().values("generation__user").annotate(count=Count("pk")).filter(count__gte=USER_FETCHES)
        waiting = _free(now).exclude(generation__user__in=busy.values("generation__user"))
        by_usage = waiting.order_by(Coalesce("generation__user__share__decayed_usage", Value(0.0)), "pk")
        fetch: InputFetch | None = by_usage.select_for_update(skip_locked=True, of=("self",)).first()
        if fetch is None:
            return None
        user = fetch.generation.user
        limits.lock_user(user)
        if running.filter(generation__user=user).count() >= USER_FETCHES:
            # Another process has leased fetches of this user meanwhile.
            return None
        fetch.attempt += 1
        fetch.lease_expires = now + LEASE
        fetch.save(update_fields=["attempt", "lease_expires"])
    return fetch


def finish(fetch: InputFetch) -> bool:
    """End a fetch. Return False if another process has claimed it since."""
    return bool(fetch.lease().delete()[0])


def charge(user: User, seconds: float) -> None:
    """Add the time of an attempt to its user's usage, whatever came of it."""
    with transaction.atomic():
        share = limits.lock_user(user)
        share.set_usage(fair_share.charge(share.decayed_usage, COST_PER_SECOND * seconds, timezone.now()))


def _free(now: datetime) -> QuerySet[InputFetch]:
    rows: QuerySet[InputFetch] = InputFetch.objects.filter(Q(lease_expires=None) | Q(lease_expires__lte=now))
    return rows
