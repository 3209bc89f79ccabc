"""The queue: claim, renew, finish, fail, cancel, release, requeue. The only module that changes a row's state.

The row is the truth. A claim is a lease with an attempt number, and every later change of the row is fenced by both.
"""

import logging
import math
from collections.abc import Sequence
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone

from accounts.models import User
from generation.broker import progress, queues
from generation.jobs import fair_share, limits
from generation.library import files
from generation.models import (
    FINAL_STATES,
    GeneratedImage,
    Generation,
    PausedPool,
    State,
    UserShare,
)
from generation.parameters import MESSAGES, ErrorCode

logger = logging.getLogger(__name__)


class LeaseStatus(Enum):
    """What a renewal found: the lease is held, held but its user wants it stopped, or lost."""

    HELD = auto()
    CANCEL_REQUESTED = auto()
    LOST = auto()


def claim(pool: str, worker: str, warm: Sequence[str] = ()) -> list[Generation]:
    """The next row of the pool as a lease of this worker, with those that may share its batch; empty: there is none.

    `warm` are the models that the worker has loaded. Each row goes to one worker, and no user has more rows running than
    they may. A pool that is paused has none.
    """
    if PausedPool.objects.filter(pk=pool).exists():
        return []
    full = _full_users()
    with transaction.atomic():
        while batch := _pick(pool, warm, full):
            shares = _lock_shares(batch)
            allowed = _within_limits(batch)
            for generation in allowed:
                _lease_to(generation, worker, shares[generation.user_id])
            if allowed:
                _count_affinity_skips(allowed[0], warm)
                for generation in allowed:
                    transaction.on_commit(partial(_publish_start, generation))
                return allowed
            # Another worker took the last place of these users meanwhile.
            full |= {generation.user_id for generation in batch}
    return []


def _publish_start(generation: Generation) -> None:
    progress.publish(generation.pk, "started", {"attempt": generation.attempt})


def _pick(pool: str, warm: Sequence[str], full: set[int]) -> list[Generation]:
    """The next row and those that may share its batch, locked: PostgreSQL lets other claimers skip them."""
    rows = Generation.objects.in_claim_order(pool, warm, timezone.now()).exclude(user__in=full)
    waiting = rows.select_related("user", "model").select_for_update(skip_locked=True, of=("self",))
    leader = waiting.first()
    if leader is None:
        return []
    batch = [leader]
    room = settings.MAX_BATCH - leader.image_count
    if room > 0 and leader.batch_key and leader.model.may_batch:
        for follower in waiting.filter(batch_key=leader.batch_key).exclude(pk=leader.pk)[: settings.MAX_BATCH]:
            if follower.image_count <= room:
                batch.append(follower)
                room -= follower.image_count
    return batch


def _full_users() -> set[int]:
    """Those who have as many rows running as they may, or may have none."""
    if not settings.LIMITS:
        return set()
    running = Generation.objects.filter(state=State.RUNNING).order_by().values("user").annotate(count=Count("pk"))
    full = {
        user
        for user, count, own in running.values_list("user", "count", "user__max_running")
        if (limit := own if own is not None else settings.USER_MAX_RUNNING or None) is not None and count >= limit
    }
    return full | set(User.objects.filter(max_running=0).values_list("pk", flat=True))


def _lock_shares(batch: Sequence[Generation]) -> dict[int, UserShare]:
    """Lock the shares of the batch's users until the transaction ends. Return them by user.

    Every claim locks rows first and then shares in the order of users, so that no two claims wait for each other.
    """
    users = sorted({generation.user for generation in batch}, key=lambda user: user.pk)
    return {user.pk: limits.lock_user(user) for user in users}


def _within_limits(batch: Sequence[Generation]) -> list[Generation]:
    """Return the rows that their users' limits of running generations allow. Call it under the locks of their shares."""
    free: dict[int, float] = {}
    for user in {generation.user for generation in batch}:
        limit = limits.user_limits(user).running
        running = Generation.objects.filter(user=user, state=State.RUNNING).count()
        free[user.pk] = math.inf if limit is None else limit - running
    allowed = []
    for generation in batch:
        if free[generation.user_id] > 0:
            free[generation.user_id] -= 1
            allowed.append(generation)
    return allowed


def _lease_to(generation: Generation, worker: str, share: UserShare) -> None:
    now = timezone.now()
    generation.state = State.RUNNING
    generation.attempt += 1
    generation.started = generation.started or now
    generation.lease_expires = now + timedelta(seconds=settings.LEASE_SECONDS)
    generation.worker = worker
    generation.save(update_fields=["state", "attempt", "started", "lease_expires", "worker"])
    if generation.attempt == 1:
        # A later attempt, after a release or a crash, is free.
        share.decayed_usage = fair_share.charge(share.decayed_usage, generation.cost, now)
        share.save(update_fields=["decayed_usage"])


def _count_affinity_skips(leader: Generation, warm: Sequence[str]) -> None:
    """Note for the same user's older requests that a younger one was preferred, since its model is warm."""
    if leader.model_id not in warm:
        return
    older = Generation.objects.filter(
        state=State.QUEUED, pool=leader.pool, user=leader.user, priority=leader.priority, pk__lt=leader.pk
    ).exclude(model_id__in=warm)
    # Rows that another claimer holds are about to start.
    ids = list(older.select_for_update(skip_locked=True).values_list("pk", flat=True))
    Generation.objects.filter(pk__in=ids).update(affinity_skips=F("affinity_skips") + 1)


def renew(generation: Generation) -> LeaseStatus:
    """Lengthen the lease. When it is lost, so is whatever this attempt still makes."""
    expires = timezone.now() + timedelta(seconds=settings.LEASE_SECONDS)
    rows = Generation.objects.lease(generation)
    if not rows.update(lease_expires=expires):
        return LeaseStatus.LOST
    return LeaseStatus.CANCEL_REQUESTED if rows.exclude(cancel_requested=None).exists() else LeaseStatus.HELD


def finish(
    generation: Generation, images: Sequence[GeneratedImage], warnings: Sequence[str], phases: dict[str, float]
) -> bool:
    """`succeeded`, with its pictures, in one fenced transaction. False: another attempt holds the row, or it was stopped.

    A row whose lease ran out, and that nobody has claimed since, is still this attempt's: its pictures are as good. Asking
    again after a broken connection is answered with True when the first time got through.
    """
    for image in images:
        image.await_review(settings.REVIEW_SAMPLE)
    with transaction.atomic():
        held = Generation.objects.filter(
            pk=generation.pk, attempt=generation.attempt, state__in=(State.RUNNING, State.QUEUED)
        ).update(
            state=State.SUCCEEDED,
            finished=timezone.now(),
            lease_expires=None,
            warnings=[*generation.warnings, *warnings],
            phases=phases,
            is_flagged=any(image.nsfw for image in images),
        )
        if held:
            GeneratedImage.objects.bulk_create(images)
            files.unstage(generation)
    if held:
        progress.publish(generation.pk, State.SUCCEEDED)
        return True
    return Generation.objects.filter(pk=generation.pk, attempt=generation.attempt, state=State.SUCCEEDED).exists()


def fail(generation: Generation, code: ErrorCode, message: str) -> bool:
    """`failed`, with a reason fit for the user, and free. False: another attempt holds the row."""
    return _end_early(generation, State.FAILED, code, message, 0.0)


def finish_canceled(generation: Generation, code: ErrorCode, share_done: float) -> bool:
    """`canceled` while running, by its user or a deadline; it cost the share that was done, 0 to 1."""
    return _end_early(generation, State.CANCELED, code, MESSAGES[code], share_done)


def _end_early(generation: Generation, state: State, code: ErrorCode, message: str, share_done: float) -> bool:
    """End a run without pictures; its user's turns count only what was done."""
    cost = generation.cost * share_done
    held = end(generation.pk, Generation.objects.lease(generation), state, code, message, cost=cost)
    if held and generation.started:
        with transaction.atomic():
            share = limits.lock_user(generation.user)
            share.decayed_usage = fair_share.refund(share.decayed_usage, generation.cost - cost, generation.started)
            share.save(update_fields=["decayed_usage"])
    return held


def cancel(generation: Generation) -> bool:
    """What is queued is canceled at once, what runs stops within a step. False: it has ended in another way."""
    rows = Generation.objects.filter(pk=generation.pk)
    code = ErrorCode.CANCELED
    while True:
        if end(generation.pk, rows.filter(state=State.QUEUED), State.CANCELED, code, MESSAGES[code], cost=0.0):
            return True
        if rows.filter(state=State.RUNNING).update(cancel_requested=timezone.now()):
            progress.request_cancel(generation.pk)
            return True
        state = rows.values_list("state", flat=True).first()
        if state is None or state in FINAL_STATES:
            return state == State.CANCELED
        # It was handed back, or claimed, between the two.


def cancel_expired() -> int:
    """Cancel what waits and shall not start any more, since its deadline has passed or its user wants it no more."""
    now = timezone.now()
    unwanted = Generation.objects.filter(state=State.QUEUED).filter(Q(deadline__lte=now) | Q(cancel_requested__lte=now))
    ended = 0
    for generation_id, canceled, started in unwanted.values_list("pk", "cancel_requested", "started"):
        code = ErrorCode.DEADLINE if started else ErrorCode.DEADLINE_BEFORE_START
        code = ErrorCode.CANCELED if canceled else code
        rows = unwanted.filter(pk=generation_id)
        ended += end(generation_id, rows, State.CANCELED, code, MESSAGES[code], cost=0.0)
    return ended


def release(generation: Generation) -> None:
    """Return a row that a stopping worker will not finish; it is the next to start, and has lost no chance."""
    rows = Generation.objects.lease(generation)
    if rows.filter(cancel_requested=None).update(state=State.QUEUED, lease_expires=None, worker=""):
        queues.try_wake_workers(generation.pool)
    else:
        finish_canceled(generation, ErrorCode.CANCELED, 0.0)


def requeue(lease: QuerySet[Generation]) -> bool:
    """Put a row whose worker was lost at the front of the queue, and count the crash. Return False if no row is left."""
    return bool(lease.update(state=State.QUEUED, lease_expires=None, worker="", crash_count=F("crash_count") + 1))


def end(
    generation_id: UUID, rows: QuerySet[Generation], state: State, code: ErrorCode, message: str, **fields: Any
) -> bool:
    """Bring this generation, if it is still among `rows`, to a final state without pictures, and tell who waits."""
    held = rows.update(
        state=state, finished=timezone.now(), lease_expires=None, error_code=code, error_message=message, **fields
    )
    if held:
        progress.publish(generation_id, state)
    return bool(held)


def finished_ids(ids: Sequence[UUID]) -> list[UUID]:
    """Those of these generations that have reached a final state. One that is still being submitted has not."""
    return list(Generation.objects.filter(pk__in=ids, state__in=FINAL_STATES).values_list("pk", flat=True))
