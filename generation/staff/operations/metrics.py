"""Metrics of the last hour, day or week, computed with bounded work however large the table is.

Ids are UUIDs of version 7, so a period is a range of ids, and each query reads a range of one index. Requests are counted
exactly. Durations come from a sample, the first `PER_SLOT` succeeded requests of each slot; costs and error codes come from
the newest `NEWEST` requests and failures.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from django.core.cache import cache
from django.db.models import Count, F, QuerySet, Value
from django.utils import timezone

from accounts.models import User
from generation.jobs.backlog import Peak, peaks
from generation.models import FINAL_STATES, Generation, State, first_id

PER_SLOT = 150
NEWEST = 5000
MIN_SLOTS = 4
PHASES = ("queue", "loading", "encoding", "denoising", "decoding", "safety", "storing")
_CACHE_SECONDS = 10.0


@dataclass(frozen=True)
class Window:
    """A period up to now that is divided into slots."""

    name: str
    title: str
    slot: timedelta
    slots: int

    def starts(self, now: datetime) -> list[datetime]:
        """Return the starts of the slots and the end of the last one: multiples of the slot's length since 1970."""
        length = self.slot.total_seconds()
        end = math.floor(now.timestamp() / length) + 1
        return [datetime.fromtimestamp((end - back) * length, UTC) for back in range(self.slots, -1, -1)]


WINDOWS = {
    window.name: window
    for window in (
        Window("hour", "the last hour", timedelta(minutes=2), 30),
        Window("day", "the last 24 hours", timedelta(hours=1), 24),
        Window("week", "the last 7 days", timedelta(hours=6), 28),
    )
}


@dataclass(frozen=True)
class Spread:
    """The median and the 95th percentile of durations, in seconds."""

    p50: float
    p95: float


@dataclass(frozen=True)
class Slot:
    """The requests accepted within a slot by final state, and the durations of a sample: in total and by phase."""

    start: datetime
    succeeded: int
    failed: int
    canceled: int
    total: Spread | None
    phases: dict[str, Spread]


@dataclass(frozen=True)
class Metrics:
    """The metrics of a window.

    `failures` are error codes with counts, read from `failures_read` failures; `costs` are usernames with cost and number of
    requests, read from `requests_read` requests. `backlogs` has each pool's peak backlog by slot.
    """

    window: Window
    slots: list[Slot]
    failures: list[tuple[str, int]]
    failures_read: int
    costs: list[tuple[str, float, int]]
    requests_read: int
    backlogs: dict[str, list[Peak | None]]

    @property
    def is_sampled(self) -> bool:
        """Whether the durations of some slot come from a part of its requests."""
        return any(slot.succeeded > PER_SLOT for slot in self.slots)

    def from_first_data(self) -> "Metrics":
        """Return the metrics without the slots before the first one with data, but with at least the last `MIN_SLOTS`."""
        has_data = [
            bool(
                slot.succeeded or slot.failed or slot.canceled or any(peaks[number] for peaks in self.backlogs.values())
            )
            for number, slot in enumerate(self.slots)
        ]
        first = has_data.index(True) if True in has_data else 0
        start = max(0, min(first, len(self.slots) - MIN_SLOTS))
        backlogs = {pool: peaks[start:] for pool, peaks in self.backlogs.items()}
        return replace(self, slots=self.slots[start:], backlogs=backlogs)


def metrics(window: Window) -> Metrics:
    """Return the metrics of this window, at most `_CACHE_SECONDS` old, since several people may watch the page."""
    key = f"operations.metrics.{window.name}"
    result: Metrics | None = cache.get(key)
    if result is None:
        result = measure(window, timezone.now())
        cache.set(key, result, _CACHE_SECONDS)
    return result


def measure(window: Window, now: datetime) -> Metrics:
    """Compute the metrics of a window that ends with the slot of `now`."""
    starts = window.starts(now)
    counts = _counts(starts)
    slots = []
    for number, (start, end) in enumerate(pairwise(starts)):
        total, phases = _spreads(start, end) if counts[number, State.SUCCEEDED] else (None, {})
        succeeded, failed, canceled = (counts[number, state] for state in FINAL_STATES)
        slots.append(Slot(start, succeeded, failed, canceled, total, phases))
    rows = Generation.objects.filter(pk__gte=first_id(starts[0])).order_by("-pk")
    codes = Counter(rows.filter(state=State.FAILED).values_list("error_code", flat=True)[:NEWEST])
    costs, requests_read = _costs(rows)
    return Metrics(
        window, slots, codes.most_common(), codes.total(), costs, requests_read, peaks(list(pairwise(starts)))
    )


def _counts(starts: Sequence[datetime]) -> Counter[tuple[int, str]]:
    """Count the requests by number of the slot and final state: one query, each part of which counts along one index."""
    parts = [
        _between(start, end)
        .filter(state=state)
        .order_by()
        .values("state")
        .annotate(count=Count("pk"), slot=Value(number))
        for number, (start, end) in enumerate(pairwise(starts))
        for state in FINAL_STATES
    ]
    rows = parts[0].union(*parts[1:], all=True)
    return Counter({(row["slot"], row["state"]): row["count"] for row in rows})


def _between(start: datetime, end: datetime) -> QuerySet[Generation]:
    rows: QuerySet[Generation] = Generation.objects.filter(pk__gte=first_id(start), pk__lt=first_id(end))
    return rows


def _spreads(start: datetime, end: datetime) -> tuple[Spread | None, dict[str, Spread]]:
    """Return the durations from acceptance to end, and of each phase, in a sample of the succeeded requests."""
    rows = _between(start, end).filter(state=State.SUCCEEDED).order_by("pk")
    durations: dict[str, list[float]] = {}
    totals = []
    for created, started, finished, phases in rows.values_list("created", "started", "finished", "phases")[:PER_SLOT]:
        if started and finished:
            totals.append(max(0.0, (finished - created).total_seconds()))
            durations.setdefault("queue", []).append(max(0.0, (started - created).total_seconds()))
        for phase, seconds in phases.items():
            durations.setdefault(phase, []).append(seconds)
    spreads = {phase: _spread(durations[phase]) for phase in PHASES if phase in durations}
    return (_spread(totals) if totals else None), spreads


def _spread(seconds: Iterable[float]) -> Spread:
    """Return the percentiles by the nearest-rank method."""
    ordered = sorted(seconds)
    return Spread(*(ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in (0.5, 0.95)))


def _costs(rows: QuerySet[Generation]) -> tuple[list[tuple[str, float, int]], int]:
    """Return the ten users with the highest cost, with cost and requests, and the number of requests that were read."""
    costs: Counter[int] = Counter()
    requests: Counter[int] = Counter()
    for user_id, cost in rows.values_list("user_id", F("cost"))[:NEWEST]:
        costs[user_id] += cost
        requests[user_id] += 1
    highest = costs.most_common(10)
    names = dict(User.objects.filter(pk__in=[user_id for user_id, _ in highest]).values_list("pk", "username"))
    return [(names[user_id], cost, requests[user_id]) for user_id, cost in highest], requests.total()
