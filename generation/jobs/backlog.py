"""The backlog of each pool: its queued generations now, and in samples of each minute of the last days.

The reaper writes the samples. A minute without one is a minute in which no reaper ran.
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
    """The number of queued generations of a pool, and the creation time of the oldest."""

    pool: str
    depth: int
    oldest: datetime | None


@dataclass(frozen=True)
class Peak:
    """The maxima of a pool's samples within a slot: queued generations, and the wait of the oldest."""

    depth: int
    oldest_seconds: float


def backlogs(pools: Sequence[str]) -> list[PoolBacklog]:
    """Return the backlogs of these pools, then of other pools with queued generations."""
    queued = Generation.objects.filter(state=State.QUEUED).order_by()
    rows = queued.values_list("pool").annotate(Count("pk"), Min("created"))
    by_pool = {pool: PoolBacklog(pool, depth, oldest) for pool, depth, oldest in rows}
    return [by_pool.get(pool, PoolBacklog(pool, 0, None)) for pool in dict.fromkeys([*pools, *sorted(by_pool)])]


def sample() -> bool:
    """Store the sample of this minute, and delete old ones. Return False if this minute has its sample already."""
    now = timezone.now()
    minute = now.replace(second=0, microsecond=0)
    if QueueSample.objects.filter(minute=minute).exists():
        return False
    QueueSample.objects.bulk_create(
        (
            QueueSample(
                pool=backlog.pool,
                minute=minute,
                depth=backlog.depth,
                oldest_seconds=max(0.0, (now - backlog.oldest).total_seconds()) if backlog.oldest else 0.0,
            )
            for backlog in backlogs(settings.POOLS)
        ),
        ignore_conflicts=True,
    )
    QueueSample.objects.filter(minute__lt=minute - RETENTION).delete()
    return True


def peaks(slots: Sequence[tuple[datetime, datetime]]) -> dict[str, list[Peak | None]]:
    """Return the peaks of these slots (start, end) by pool, None for a slot without a sample. One query."""
    parts = [
        QueueSample.objects.filter(minute__gte=start, minute__lt=end)
        .order_by()
        .values("pool")
        .annotate(max_depth=Max("depth"), max_seconds=Max("oldest_seconds"), slot=Value(number))
        for number, (start, end) in enumerate(slots)
    ]
    by_pool: dict[str, list[Peak | None]] = {}
    for row in parts[0].union(*parts[1:], all=True):
        peak = Peak(row["max_depth"], row["max_seconds"])
        by_pool.setdefault(row["pool"], [None] * len(slots))[row["slot"]] = peak
    return dict(sorted(by_pool.items()))
