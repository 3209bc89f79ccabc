"""How long the lines are: what waits in each pool now, and what did at each minute of the last days.

The periodic job writes a sample a minute. Where there is none, it did not run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db.models import Count, Max, Min, Value
from django.utils import timezone

from generation.models import (
    Generation,
    QueueSample,
    State,
)

RETENTION = timedelta(days=8)


@dataclass(frozen=True)
class PoolBacklog:
    """What waits in a pool, and since when the first of it."""

    pool: str
    depth: int
    oldest: datetime | None


@dataclass(frozen=True)
class Peak:
    """The most that waited in a pool within a slot, and the longest that the first of it had."""

    depth: int
    oldest_seconds: float


def backlogs(pools: Sequence[str]) -> list[PoolBacklog]:
    """Of these pools and all others in which something waits."""
    waiting = Generation.objects.filter(state=State.QUEUED).order_by()
    found = {
        pool: (depth, oldest)
        for pool, depth, oldest in waiting.values_list("pool").annotate(Count("pk"), Min("created"))
    }
    return [PoolBacklog(pool, *found.get(pool, (0, None))) for pool in dict.fromkeys([*pools, *sorted(found)])]


def sample() -> bool:
    """Write down what waits now, once a minute, and forget what is old. False: this minute has its sample."""
    now = timezone.now()
    minute = now.replace(second=0, microsecond=0)
    if QueueSample.objects.filter(minute=minute).exists():
        return False
    QueueSample.objects.bulk_create(
        (
            QueueSample(
                pool=line.pool,
                minute=minute,
                depth=line.depth,
                oldest_seconds=max(0.0, (now - line.oldest).total_seconds()) if line.oldest else 0.0,
            )
            for line in backlogs(settings.POOLS)
        ),
        ignore_conflicts=True,
    )
    QueueSample.objects.filter(minute__lt=minute - RETENTION).delete()
    return True


def peaks(slots: Sequence[tuple[datetime, datetime]]) -> dict[str, list[Peak | None]]:
    """By pool, the peak of each slot; None where there is no sample. One query."""
    parts = [
        QueueSample.objects.filter(minute__gte=start, minute__lt=end)
        .order_by()
        .values("pool")
        .annotate(most=Max("depth"), longest=Max("oldest_seconds"), slot=Value(number))
        for number, (start, end) in enumerate(slots)
    ]
    found: dict[str, list[Peak | None]] = {}
    for row in parts[0].union(*parts[1:], all=True):
        found.setdefault(row["pool"], [None] * len(slots))[row["slot"]] = Peak(row["most"], row["longest"])
    return dict(sorted(found.items()))
