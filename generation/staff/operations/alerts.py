"""What of the running service needs somebody's attention, in words."""

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from django.conf import settings
from django.db import connection
from django.db.models import Count, Value
from django.utils import timezone

from generation import display
from generation.broker.workers import WorkerInfo
from generation.jobs.backlog import PoolBacklog
from generation.models import (
    Generation,
    PausedPool,
    State,
    WorkerCommand,
    first_id,
)
from generation.parameters import ErrorCode

RECENT = timedelta(minutes=15)
USUAL = timedelta(hours=24)
"""The time before the recent one, which says what is normal."""

_LEAST_FAILURES = 3
_LEAST_SHARE_ABOVE = 0.05
_LEAST_FREE_SHARE = 0.05
_LEAST_FREE_BYTES = 2 * 1024**3
_SLOW_SECONDS = 1.0
_LOOKED_AT = 200
_ORDERS = 5


@dataclass(frozen=True)
class Alert:
    """One thing that needs attention: what it is, and what to do. Grave ones are about work that is not done."""

    text: str
    is_grave: bool


def alerts(
    cards: Sequence[WorkerInfo] | None, lines: Sequence[PoolBacklog], paused: Iterable[PausedPool]
) -> list[Alert]:
    """What needs attention now, the grave first. `cards` None: Redis cannot be reached."""
    now = timezone.now()
    found = [*_redis(cards), *_database(), *_pools(cards, lines, list(paused), now), *_workers(cards or [])]
    found += [*_failures(now), *_orders(now), *_disks()]
    return sorted(found, key=lambda concern: not concern.is_grave)


def _redis(cards: Sequence[WorkerInfo] | None) -> Iterator[Alert]:
    if cards is None:
        yield Alert(
            "Redis cannot be reached: requests are turned away with 503, workers hear no bells, and which workers are "
            "there is not known. Look at the Redis server; nothing is lost while it is away.",
            True,
        )


def _database() -> Iterator[Alert]:
    begun = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    if (took := time.monotonic() - begun) > _SLOW_SECONDS:
        yield Alert(f"The database took {display.seconds(took)} to answer the least of questions.", True)


def _pools(
    cards: Sequence[WorkerInfo] | None, lines: Sequence[PoolBacklog], paused: Sequence[PausedPool], now: datetime
) -> Iterator[Alert]:
    pauses = {pause.pool: pause for pause in paused}
    for line in lines:
        waits = f"{line.depth} request{'s wait' if line.depth != 1 else ' waits'}"
        age = (now - line.oldest).total_seconds() if line.oldest else 0.0
        at_work = [card for card in cards or [] if card.pool == line.pool and not (card.is_stale or card.is_drained)]
        if pause := pauses.get(line.pool):
            since = f"{timezone.localtime(pause.since):%Y-%m-%d %H:%M}"
            yield Alert(f"The pool {line.pool} is paused since {since} by {pause.by}; {waits} in it.", line.depth > 0)
        elif cards is not None and not at_work:
            yield Alert(
                f"The pool {line.pool} has no worker that takes work; {waits} in it. Resume a drained one, or start one "
                f"with manage.py worker --pool {line.pool}.",
                line.depth > 0,
            )
        elif age > settings.QUEUE_TARGET_SECONDS:
            yield Alert(
                f"The pool {line.pool} is behind: its oldest request has waited {display.seconds(age)}, and "
                f"{display.seconds(settings.QUEUE_TARGET_SECONDS)} is the target; {waits}.",
                True,
            )


def _workers(cards: Sequence[WorkerInfo]) -> Iterator[Alert]:
    for card in cards:
        if card.is_stale:
            yield Alert(
                f"The worker {card.name} of the pool {card.pool} has been silent for "
                f"{display.seconds(card.seconds_since_heartbeat)}: its process (pid {card.pid} on {card.host}) is gone or "
                "hangs. What it was making is made by another.",
                False,
            )
        elif card.problem:
            yield Alert(f"The worker {card.name}: {card.problem}", True)


def _failures(now: datetime) -> Iterator[Alert]:
    """More failures than usual, and the models that fail to load or break."""
    recent, usual = first_id(now - RECENT), first_id(now - RECENT - USUAL)
    parts = [
        rows.filter(state=state).order_by().values("state").annotate(count=Count("pk"), is_recent=Value(is_recent))
        for state in (State.SUCCEEDED, State.FAILED)
        for is_recent, rows in (
            (1, Generation.objects.filter(pk__gte=recent)),
            (0, Generation.objects.filter(pk__gte=usual, pk__lt=recent)),
        )
    ]
    counted = {(row["state"], row["is_recent"]): row["count"] for row in parts[0].union(*parts[1:], all=True)}
    failed, ended = (
        counted.get((State.FAILED, 1), 0),
        sum(counted.get((state, 1), 0) for state in ("succeeded", "failed")),
    )
    before = sum(counted.get((state, 0), 0) for state in ("succeeded", "failed"))
    normal = counted.get((State.FAILED, 0), 0) / before if before else 0.0
    if not failed:
        return
    rows = Generation.objects.filter(pk__gte=recent, state=State.FAILED).order_by("-pk")
    causes = list(rows.values_list("error_code", "model_id")[:_LOOKED_AT])
    minutes = f"{RECENT.total_seconds() / 60:.0f} minutes"
    if failed >= _LEAST_FAILURES and failed / ended > max(2 * normal, normal + _LEAST_SHARE_ABOVE):
        code = Counter(code for code, _ in causes).most_common(1)[0][0]
        yield Alert(
            f"{failed} of {ended} requests of the last {minutes} failed ({failed / ended:.0%}; "
            f"{normal:.1%} in the day before), most with {code}.",
            True,
        )
    broken = Counter(model for code, model in causes if code == ErrorCode.MODEL_FAILED)
    for model, times in broken.most_common():
        yield Alert(
            f"The model {model} could not be loaded, or broke, {times} time{'s' if times != 1 else ''} in the last "
            f"{minutes}. The logs of the workers say why; disable it, or download it anew.",
            True,
        )


def _orders(now: datetime) -> Iterator[Alert]:
    verbs = (WorkerCommand.Action.WARM, WorkerCommand.Action.DOWNLOAD, WorkerCommand.Action.DOWNLOAD_LORA)
    for order in WorkerCommand.objects.filter(
        state=WorkerCommand.State.FAILED, action__in=verbs, finished__gte=now - RECENT
    )[:_ORDERS]:
        yield Alert(f"{order.worker} was told to {order}, which failed: {order.message}", False)


def _disks() -> Iterator[Alert]:
    """Each disk once, whatever lies on it."""
    seen: set[int] = set()
    for folder in (settings.DATA_DIR, settings.MEDIA_ROOT, settings.MODELS_DIR):
        there = next(path for path in (Path(folder), *Path(folder).parents) if path.exists())
        disk = os.stat(there).st_dev
        if disk in seen:
            continue
        seen.add(disk)
        usage = shutil.disk_usage(there)
        if usage.free < max(_LEAST_FREE_BYTES, usage.total * _LEAST_FREE_SHARE):
            yield Alert(
                f"The disk of {there} is nearly full: {usage.free / 1e9:.1f} of {usage.total / 1e9:.0f} GB are free. "
                "Requests fail with storage_failed when it is full: let retention rules remove more, or make room.",
                usage.free < _LEAST_FREE_BYTES,
            )
