"""Recovery from processes that died: expired leases, passed deadlines, lost wake-ups, files without a row.

Each round also empties the trash, applies retention rules and samples the backlog.
"""

import logging
from collections.abc import Iterator
from datetime import timedelta

from django.conf import settings
from django.db.models import F
from django.utils import timezone

from accounts import traces
from generation.broker import counters, lock, queues
from generation.jobs import (
    backlog,
    control,
    idempotency,
    queue,
    user_queues,
)
from generation.library import deletion, erasure, files
from generation.maintenance import retention
from generation.models import (
    Generation,
    PausedPool,
    State,
)
from generation.moderation import quarantine
from generation.parameters import MESSAGES, ErrorCode

logger = logging.getLogger(__name__)

_ABANDONED = timedelta(minutes=10)
"""Longer than any submission takes."""


def reap(abandoned: timedelta = _ABANDONED, *, only_if_due: bool = False) -> int:
    """Run one round, unless another process runs one. Return the number of expired leases.

    With `only_if_due`, none is run right after that of another process, so that more workers do not run more rounds.
    Staged files of submissions that never finished are deleted at the age `abandoned`. Raises Django's database errors and
    `RedisError`; the next round continues.
    """
    with lock.reaper_lock(only_if_due) as may_reap:
        if not may_reap:
            return 0
        queue.cancel_expired()
        reaped = _reap_leases()
        deletion.empty_trash()
        files.sweep(abandoned)
        erasure.step()
        idempotency.purge()
        quarantine.apply_all()
        control.expire()
        if backlog.sample():
            # Once a minute: it reads all that waits.
            user_queues.repair()
        retention.step_all()
        _wake_for_queued()
        return reaped


def _reap_leases() -> int:
    """Requeue rows with expired leases. End those with a cancel request, and those that lost `MAX_ATTEMPTS` workers."""
    expired = Generation.objects.filter(state=State.RUNNING, lease_expires__lt=timezone.now())
    reaped = 0
    fields = ("id", "attempt", "crash_count", "pool", "state", "cancel_requested", "request_id", "traceparent")
    for generation in expired.only(*fields):
        lease = Generation.objects.lease(generation).filter(lease_expires__lt=timezone.now())
        if generation.cancel_requested:
            code = ErrorCode.CANCELED
            is_reaped = queue.end(generation.pk, lease, State.CANCELED, code, MESSAGES[code])
        elif generation.crash_count + 1 >= settings.MAX_ATTEMPTS:
            message = f"The worker was lost {settings.MAX_ATTEMPTS} times while making this; try other parameters."
            code = ErrorCode.WORKER_LOST
            is_reaped = queue.end(generation.pk, lease, State.FAILED, code, message, crash_count=F("crash_count") + 1)
        else:
            # If it is canceled at this moment, the next round ends it.
            is_reaped = queue.requeue(lease)
        if is_reaped:
            with traces.continued(generation):
                logger.warning("generation %s lost its worker in attempt %d", generation.pk, generation.attempt)
            counters.add(counters.LOST_WORKERS)
            reaped += 1
    return reaped


def _wake_for_queued() -> None:
    paused = set(PausedPool.objects.values_list("pk", flat=True))
    for pool in _waiting_pools():
        if pool not in paused and queues.rq_queue(pool).is_empty():
            queues.wake_workers(pool)


def _waiting_pools() -> Iterator[str]:
    """Yield the pools with queued generations. An index finds each of them, so that what waits is not read."""
    pools = Generation.objects.filter(state=State.QUEUED).order_by("pool").values_list("pool", flat=True)
    pool = pools.first()
    while pool is not None:
        yield pool
        pool = pools.filter(pool__gt=pool).first()
