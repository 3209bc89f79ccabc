"""What the service did lately, in figures: bounded work at any size of the table, no HTML.

A time of the past is a range of ids, since ids are UUIDs of version 7; so every query reads a range of one index. Requests
are counted exactly. Durations, costs and error codes are read from a sample where there are many: `PER_SLOT` runs from the
beginning of each slot, and the newest `NEWEST` requests.
"""

import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise

from django.db.models import Count, F, QuerySet, Value
from django.utils import timezone

from accounts.models import User
from generation.jobs.backlog import Peak, peaks
from generation.models import FINAL_STATES, Generation, State, first_id

PER_SLOT = 150
NEWEST = 5000
PHASES = ("queue", "loading", "encoding", "denoising", "decoding", "safety", "storing")
_KEPT_SECONDS = 10.0


@dataclass(frozen=True)
class Window:
    """A stretch of the past, cut into slots."""

    name: str
    title: str
    slot: timedelta
    slots: int

    def starts(self, now: datetime) -> list[datetime]:
        """Where its slots start, and at last where the newest ends: whole slots since 1970, so that none moves."""
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
    """Of durations, in seconds: half of them were shorter than `p50`, all but one in twenty than `p95`."""

    p50: float
    p95: float


@dataclass(frozen=True)
class Slot:
    """Requests that came within it, by how they ended, and how long a sample of them took."""

    start: datetime
    succeeded: int
    failed: int
    canceled: int
    whole: Spread | None
    phases: dict[str, Spread]


@dataclass(frozen=True)
class Metrics:
    """Of a window. `of_failures` and `of_costs` say of how many requests the codes and the costs are.

    `lines` has for each pool the peaks of what waited, a slot each.
    """

    window: Window
    slots: list[Slot]
    failures: list[tuple[str, int]]
    of_failures: int
    costs: list[tuple[str, float, int]]
    of_costs: int
    lines: dict[str, list[Peak | None]]

    @property
    def is_sampled(self) -> bool:
        """Whether there is a slot of which only a part was looked at for durations."""
        return any(slot.succeeded > PER_SLOT for slot in self.slots)


_cache: dict[str, tuple[float, Metrics]] = {}


def metrics(window: Window) -> Metrics:
    """The figures of this window, at most `_KEPT_SECONDS` old: many may look at one page."""
    made, found = _cache.get(window.name, (-math.inf, None))
    if found is None or time.monotonic() - made > _KEPT_SECONDS:
        found = measure(window, timezone.now())
        _cache[window.name] = time.monotonic(), found
    return found


def measure(window: Window, now: datetime) -> Metrics:
    starts = window.starts(now)
    counts = _counts(starts)
    slots = []
    for number, (start, end) in enumerate(pairwise(starts)):
        whole, phases = _spreads(start, end) if counts[number, State.SUCCEEDED] else (None, {})
        succeeded, failed, canceled = (counts[number, state] for state in FINAL_STATES)
        slots.append(Slot(start, succeeded, failed, canceled, whole, phases))
    rows = Generation.objects.filter(pk__gte=first_id(starts[0])).order_by("-pk")
    codes = Counter(rows.filter(state=State.FAILED).values_list("error_code", flat=True)[:NEWEST])
    costs, of_costs = _costs(rows)
    return Metrics(window, slots, codes.most_common(), codes.total(), costs, of_costs, peaks(list(pairwise(starts))))


def _counts(starts: Sequence[datetime]) -> Counter[tuple[int, str]]:
    """How many requests of each slot ended in which way: one query, whose every part counts along one index."""
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
    """How long the whole took from acceptance to end, and each phase, in a sample of what succeeded."""
    rows = _between(start, end).filter(state=State.SUCCEEDED).order_by("pk")
    durations: dict[str, list[float]] = {}
    wholes = []
    for created, started, finished, phases in rows.values_list("created", "started", "finished", "phases")[:PER_SLOT]:
        if started and finished:
            wholes.append(max(0.0, (finished - created).total_seconds()))
            durations.setdefault("queue", []).append(max(0.0, (started - created).total_seconds()))
        for phase, seconds in phases.items():
            durations.setdefault(phase, []).append(seconds)
    spreads = {phase: _spread(durations[phase]) for phase in PHASES if phase in durations}
    return (_spread(wholes) if wholes else None), spreads


def _spread(seconds: Iterable[float]) -> Spread:
    ordered = sorted(seconds)
    return Spread(*(ordered[max(0, math.ceil(share * len(ordered)) - 1)] for share in (0.5, 0.95)))


def _costs(rows: QuerySet[Generation]) -> tuple[list[tuple[str, float, int]], int]:
    """The ten users whose requests cost the most, with cost and number, among the newest requests; and of how many."""
    cost: Counter[int] = Counter()
    number: Counter[int] = Counter()
    for user_id, one in rows.values_list("user_id", F("cost"))[:NEWEST]:
        cost[user_id] += one
        number[user_id] += 1
    first = cost.most_common(10)
    names = dict(User.objects.filter(pk__in=[user_id for user_id, _ in first]).values_list("pk", "username"))
    return [(names[user_id], sum_, number[user_id]) for user_id, sum_ in first], number.total()
