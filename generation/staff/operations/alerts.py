"""Alerts: texts about what in the running service needs an operator's attention."""

import socket
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import connection
from django.db.models import Count, Value
from django.urls import reverse
from django.utils import timezone
from django.utils.timesince import timesince

from accounts import mail
from accounts.models import OutgoingMail
from generation import display
from generation.broker import workers
from generation.broker.connection import eviction_policy
from generation.broker.workers import WorkerInfo
from generation.images import certificates, disk
from generation.jobs.backlog import PoolBacklog
from generation.models import Backup, Canary, Generation, PausedPool, State, WorkerCommand, first_id
from generation.parameters import ErrorCode
from generation.staff.operations import canary_words

RECENT = timedelta(minutes=15)
USUAL = timedelta(hours=24)
"""The time before the recent one; its failure rate counts as normal."""

_MIN_FAILURES = 3
_MIN_RATE_INCREASE = 0.05
_SLOW_SECONDS = 1.0
_MAX_FAILURES_READ = 200
_MAX_COMMANDS_SHOWN = 5
_LATE_BACKUPS = 2
"""After so many times the interval between two backups the last one is too old."""
_MAX_BACKUPS_READ = 10
_MAX_CANARIES_SHOWN = 10


@dataclass(frozen=True)
class Alert:
    """A problem and what to do about it, `address` of a page about it. It is critical if it keeps requests from being made."""

    text: str
    is_critical: bool
    address: str = ""


def alerts(
    registered: Sequence[WorkerInfo] | None, backlogs: Sequence[PoolBacklog], paused: Iterable[PausedPool]
) -> list[Alert]:
    """Return the current alerts, the critical ones first. `registered` is None if Redis cannot be reached."""
    now = timezone.now()
    result = [
        *_redis(registered),
        *_database(),
        *_pools(registered, backlogs, list(paused), now),
        *_workers(registered or []),
    ]
    result += [
        *_watermark_keys(registered or []),
        *_failures(now),
        *_commands(now),
        *_disks(),
        *_backups(now),
        *_mail(now),
        *_canaries(),
    ]
    return sorted(result, key=lambda alert: not alert.is_critical)


def _redis(workers: Sequence[WorkerInfo] | None) -> Iterator[Alert]:
    if workers is None:
        yield Alert(
            "Redis cannot be reached: requests are refused with 503, workers are not woken, and the list of workers is "
            "unknown. Check the Redis server; no data is lost meanwhile.",
            True,
        )
    elif policy := eviction_policy():
        yield Alert(
            f"Redis removes keys when its memory is full (maxmemory-policy {policy}): it may lose wake-ups, so that requests "
            "wait longer, and the heartbeats of workers. Set its maxmemory-policy to noeviction.",
            False,
        )


def _database() -> Iterator[Alert]:
    start = time.monotonic()
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
    if (duration := time.monotonic() - start) > _SLOW_SECONDS:
        yield Alert(f"The database took {display.seconds(duration)} to answer a trivial query.", True)


def _pools(
    workers: Sequence[WorkerInfo] | None,
    backlogs: Sequence[PoolBacklog],
    paused: Sequence[PausedPool],
    now: datetime,
) -> Iterator[Alert]:
    pauses = {pause.pool: pause for pause in paused}
    for backlog in backlogs:
        waits = f"{backlog.depth} request{'s wait' if backlog.depth != 1 else ' waits'}"
        age = (now - backlog.oldest).total_seconds() if backlog.oldest else 0.0
        has_ready_worker = any(info.pool == backlog.pool and info.is_ready for info in workers or [])
        if pause := pauses.get(backlog.pool):
            since = f"{timezone.localtime(pause.since):%Y-%m-%d %H:%M}"
            yield Alert(
                f"The pool {backlog.pool} was paused by {pause.by} at {since}; {waits} in it.", backlog.depth > 0
            )
        elif workers is not None and not has_ready_worker:
            yield Alert(
                f"The pool {backlog.pool} has no active worker; {waits} in it. Resume a drained worker, or start one "
                f"with manage.py worker --pool {backlog.pool}.",
                backlog.depth > 0,
            )
        elif age > settings.QUEUE_TARGET_SECONDS:
            yield Alert(
                f"The pool {backlog.pool} is behind: its oldest request has waited {display.seconds(age)}, and "
                f"{display.seconds(settings.QUEUE_TARGET_SECONDS)} is the target; {waits}.",
                True,
            )


def _workers(workers: Sequence[WorkerInfo]) -> Iterator[Alert]:
    for info in workers:
        if info.is_stale:
            yield Alert(
                f"The worker {info.name} of the pool {info.pool} has sent no heartbeat for "
                f"{display.seconds(info.seconds_since_heartbeat)}: its process (pid {info.pid} on {info.host}) has ended "
                "or hangs. Other workers take over its generations.",
                False,
            )
        elif info.problem:
            yield Alert(f"The worker {info.name}: {info.problem}", True)


def _watermark_keys(registered: Sequence[WorkerInfo]) -> Iterator[Alert]:
    own = certificates.own_key_name()
    if others := workers.by_watermark_key(registered, own):
        named = "; ".join(f"{key} on {', '.join(hosts)}" for key, hosts in sorted(others.items()))
        yield Alert(
            f"The hosts have different watermark keys: {own} on {socket.gethostname()}; {named}. Pictures of one are not known "
            f"to the others. {workers.SAME_KEY}",
            False,
        )


def _failures(now: datetime) -> Iterator[Alert]:
    """Yield alerts for a failure rate above normal, and for models that cannot be loaded or run."""
    recent, usual = first_id(now - RECENT), first_id(now - RECENT - USUAL)
    parts = [
        rows.filter(state=state).order_by().values("state").annotate(count=Count("pk"), is_recent=Value(is_recent))
        for state in (State.SUCCEEDED, State.FAILED)
        for is_recent, rows in (
            (1, Generation.objects.filter(pk__gte=recent)),
            (0, Generation.objects.filter(pk__gte=usual, pk__lt=recent)),
        )
    ]
    counts = {(row["state"], row["is_recent"]): row["count"] for row in parts[0].union(*parts[1:], all=True)}
    failed = counts.get((State.FAILED, 1), 0)
    finished = failed + counts.get((State.SUCCEEDED, 1), 0)
    failed_before = counts.get((State.FAILED, 0), 0)
    finished_before = failed_before + counts.get((State.SUCCEEDED, 0), 0)
    normal = failed_before / finished_before if finished_before else 0.0
    if not failed:
        return
    rows = Generation.objects.filter(pk__gte=recent, state=State.FAILED).order_by("-pk")
    causes = list(rows.values_list("error_code", "model_id")[:_MAX_FAILURES_READ])
    minutes = f"{RECENT.total_seconds() / 60:.0f} minutes"
    if failed >= _MIN_FAILURES and failed / finished > max(2 * normal, normal + _MIN_RATE_INCREASE):
        code = Counter(code for code, _ in causes).most_common(1)[0][0]
        yield Alert(
            f"{failed} of {finished} requests of the last {minutes} failed ({failed / finished:.0%}; "
            f"{normal:.1%} in the day before), most with {code}.",
            True,
        )
    failures_by_model = Counter(model for code, model in causes if code == ErrorCode.MODEL_FAILED)
    for model, count in failures_by_model.most_common():
        yield Alert(
            f"The model {model} could not be loaded or run {count} time{'s' if count != 1 else ''} in the last {minutes}. "
            "See the workers' logs; disable the model, or download it again.",
            True,
        )


def _commands(now: datetime) -> Iterator[Alert]:
    """Yield an alert for each recent command that failed to load or download something."""
    actions = (WorkerCommand.Action.WARM, WorkerCommand.Action.DOWNLOAD, WorkerCommand.Action.DOWNLOAD_LORA)
    for command in WorkerCommand.objects.filter(
        state=WorkerCommand.State.FAILED, action__in=actions, finished__gte=now - RECENT
    )[:_MAX_COMMANDS_SHOWN]:
        yield Alert(f"The command “{command}” failed on {command.worker}: {command.message}", False)


def _mail(now: datetime) -> Iterator[Alert]:
    """Yield an alert if mails wait although the reaper should have sent them."""
    if not mail.is_on():
        return
    if count := OutgoingMail.objects.filter(finished=None, created__lt=now - RECENT).count():
        yield Alert(
            f"{count} mail{'s wait' if count != 1 else ' waits'} for more than {RECENT.total_seconds() / 60:.0f} minutes. "
            "Check EMAIL_URL, the mail server and the log of the reaper; after a day they are dropped.",
            False,
        )


def _disks() -> Iterator[Alert]:
    """Yield an alert for each disk that is nearly full."""
    data = [found.folder for found in disk.data_disks()]
    for found in disk.disks([*data, settings.MODELS_DIR]):
        if not found.is_nearly_full:
            continue
        if found.folder not in data:
            yield Alert(
                f"The disk of {found.folder} is nearly full: {found.space}. Downloads of models may fail.", False
            )
        elif found.free < found.refusal_bytes:
            yield Alert(
                f"The disk of {found.folder} is full: {found.space}. Requests are refused with disk_full, and workers start "
                f"nothing below {found.refusal_bytes / 2e9:.1f} GB. Remove files, or let retention rules remove more.",
                True,
            )
        else:
            yield Alert(
                f"The disk of {found.folder} is nearly full: {found.space}. Below {found.refusal_bytes / 1e9:.1f} GB "
                "(MIN_FREE_DISK) requests are refused: remove files, or let retention rules remove more.",
                False,
            )


def _backups(now: datetime) -> Iterator[Alert]:
    """Yield an alert if the scheduled backup fails, is late, or lacks something."""
    if not settings.BACKUP_TO:
        return
    rows = list(Backup.objects.filter(place=settings.BACKUP_TO)[:_MAX_BACKUPS_READ])
    last = next((row for row in rows if row.finished), None)
    age = f"The last backup is {timesince(last.created, now)} old" if last else "There is no backup"
    if failed := next((row for row in rows if not row.finished and row.problem), None):
        yield Alert(f"{age}, and the next one fails: {failed.problem} It is tried again by itself.", False)
    elif last and now - last.created > _LATE_BACKUPS * timedelta(hours=settings.BACKUP_HOURS):
        yield Alert(
            f"{age}; BACKUP_HOURS is {settings.BACKUP_HOURS:g}. Look whether `manage.py reaper` runs, and into its log.",
            False,
        )
    elif last and last.problem:
        yield Alert(f"The last backup is incomplete: {last.problem}", False)


def _canaries() -> Iterator[Alert]:
    """Yield an alert for each model whose pictures changed or whose canary failed, until somebody accepts it."""
    waiting = Canary.objects.unaccepted().select_related("environment", "before__environment")
    for canary in waiting[:_MAX_CANARIES_SHOWN]:
        yield Alert(canary_words.words(canary), False, reverse("operations-canaries"))
