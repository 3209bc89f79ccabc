"""Counters and histograms of what has happened, in all processes of the service.

Each process adds to its memory, which nothing waits for, and `flush` moves that to Redis in one round trip, every
`FLUSH_SECONDS`. A new Redis begins at zero, as Prometheus expects of counters.
"""

import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import FiniteFloat, TypeAdapter, ValidationError
from redis import RedisError

from generation.broker.connection import redis_client

FLUSH_SECONDS = 2.0

_KEY = "dreamsite:counters"
_SUM = "sum"
_SECONDS = (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)


@dataclass(frozen=True)
class Metric:
    """A counter, or with `buckets` (upper bounds) a histogram; `name` is as Prometheus has it, without `_total`."""

    name: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


REQUESTS = Metric(
    "dreamsite_http_requests",
    "Answered HTTP requests by method and status; disconnected: the client had left before its answer.",
    ("method", "status"),
)
REFUSALS = Metric("dreamsite_refusals", "HTTP requests that were answered with an error, by its code.", ("code",))
SUBMITTED = Metric(
    "dreamsite_generations_submitted", "Accepted generations, by pool and by studio or API.", ("pool", "origin")
)
CLAIMED = Metric("dreamsite_generations_claimed", "Generations that workers have claimed.", ("pool",))
FINISHED = Metric(
    "dreamsite_generations_finished",
    "Ended generations by final state and error code; none has the code of those that succeeded.",
    ("state", "code"),
)
LOST_WORKERS = Metric("dreamsite_leases_expired", "Generations whose worker was lost while it ran them.")
QUEUE_WAIT = Metric("dreamsite_queue_wait_seconds", "From acceptance to the first claim.", ("pool",), _SECONDS)
PHASES = Metric("dreamsite_phase_seconds", "Time of each phase of the runs that succeeded.", ("phase",), _SECONDS)
BATCHES = Metric(
    "dreamsite_batch_pictures",
    "Pictures in the batches that workers have claimed.",
    ("pool",),
    (1.0, 2.0, 4.0, 8.0, 16.0, 32.0),
)
PICTURES = Metric(
    "dreamsite_pictures",
    "Finished pictures by what the safety checker found: flagged, unflagged, unchecked.",
    ("safety",),
)
METRICS = (REQUESTS, REFUSALS, SUBMITTED, CLAIMED, FINISHED, LOST_WORKERS, QUEUE_WAIT, PHASES, BATCHES, PICTURES)

_BY_NAME = {metric.name: metric for metric in METRICS}
_FIELD = TypeAdapter(list[str])
_AMOUNT: TypeAdapter[float] = TypeAdapter(FiniteFloat)

_Pending = Counter[tuple[str, ...]]
_lock = threading.Lock()
_pending: _Pending = Counter()
"""What is not in Redis yet, by the metric's name, the values of its labels, and in histograms a bucket's bound or `sum`."""


def add(metric: Metric, *labels: str, amount: float = 1) -> None:
    """Add to a counter. `labels` are the values of its labels, in their order; each may have few different values."""
    with _lock:
        _pending[metric.name, *labels] += amount  # type: ignore[assignment]  # seconds are no integers


def observe(metric: Metric, value: float, *labels: str) -> None:
    """Add a value to a histogram."""
    bound = next((bound for bound in metric.buckets if value <= bound), float("inf"))
    add(metric, *labels, str(bound))
    add(metric, *labels, _SUM, amount=value)


def flush() -> None:
    """Move what was added in this process to Redis. While Redis is away, it stays in memory."""
    with _lock:
        moved = dict(_pending)
        _pending.clear()
    if not moved:
        return
    try:
        with redis_client().pipeline(transaction=False) as pipe:
            for field, amount in moved.items():
                pipe.hincrbyfloat(_KEY, json.dumps(field), amount)
            pipe.execute()
    except RedisError:
        with _lock:
            _pending.update(moved)


@dataclass(frozen=True)
class Series:
    """One series of a metric: the values of its labels, and its amount, or of a histogram its sum.

    `buckets` has the number of values by upper bound, not cumulated.
    """

    labels: tuple[str, ...]
    amount: float
    buckets: Mapping[float, float]


def totals() -> dict[Metric, Sequence[Series]]:
    """Return the series of each metric, as all processes have flushed them. Raises `RedisError`."""
    entries: Any = redis_client().hgetall(_KEY)
    found: dict[Metric, dict[tuple[str, ...], dict[str, float]]] = {
        # What has no labels has a series before it first happens, so that its first increase can be seen.
        metric: {} if metric.labels else {(): {}}
        for metric in METRICS
    }
    for field, text in entries.items():
        # Whoever can write to Redis may have written anything.
        try:
            name, *values = _FIELD.validate_json(field)
            amount = _AMOUNT.validate_json(text)
            metric = _BY_NAME[name]
        except (ValidationError, ValueError, KeyError):
            continue
        parts = len(metric.labels)
        if len(values) == parts + bool(metric.buckets):
            found[metric].setdefault(tuple(values[:parts]), {})["".join(values[parts:])] = amount
    return {metric: [_series(metric, *item) for item in sorted(series.items())] for metric, series in found.items()}


def _series(metric: Metric, labels: tuple[str, ...], amounts: Mapping[str, float]) -> Series:
    bounds = (*metric.buckets, float("inf")) if metric.buckets else ()
    buckets = {bound: amounts.get(str(bound), 0.0) for bound in bounds}
    return Series(labels, amounts.get(_SUM if metric.buckets else "", 0.0), buckets)
