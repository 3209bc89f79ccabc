"""The queue: claim, renew, finish, fail, cancel, release, requeue. The only module that changes the state of a stored row.

The row is the truth. A claim is a lease with an attempt number, and every later change of the row is fenced by both.
"""

import logging
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum, auto
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import Case, Count, F, PositiveBigIntegerField, Q, QuerySet, When
from django.db.models.functions import Greatest
from django.utils import timezone

from accounts.models import User
from generation.broker import counters, progress, queues
from generation.images import disk
from generation.jobs import fair_share, limits, user_queues
from generation.library import files
from generation.library.stored_inputs import RESERVED_BYTES
from generation.models import (
    FINAL_STATES,
    Environment,
    GeneratedImage,
    Generation,
    InputFetch,
    State,
    UserShare,
)
from generation.models.review import ReviewDecision
from generation.parameters import MESSAGES, ErrorCode

logger = logging.getLogger(__name__)


class LeaseStatus(Enum):
    """The result of a renewal: the lease is held, held with a cancel request, or lost."""

    HELD = auto()
    CANCEL_REQUESTED = auto()
    LOST = auto()


def claim(pool: str, worker: str, warm: Mapping[str, str] = {}, lacking: Collection[str] = ()) -> list[Generation]:
    """Lease the next row of the pool to this worker, with rows that can share its batch. Return them, empty if none is due.

    `warm` are the models that the worker has loaded, with the fingerprints of their files; others are not batched. Rows of
    models that it is `lacking` are left to other workers. Each
    row is leased to one worker, and no user gets more running rows than their limit allows. A paused pool has no due rows,
    and with a full disk none has: results could not be stored.
    """
    if disk.is_full():
        return []
    full: set[int] = set()
    while True:
        with transaction.atomic():
            pick = _pick(pool, warm, lacking, full)
            if not pick.shares:
                return []
            allowed = _within_limits(pick.batch)
            for generation in allowed:
                _lease_to(generation, worker, pick.shares[generation.user_id])
            if allowed:
                if pick.has_passed_older and allowed[0] == pick.batch[0]:
                    _count_affinity_skips(allowed[0], list(warm))
                transaction.on_commit(partial(_announce_start, allowed))
                return allowed
        # Another worker has claimed the last rows that these users have, or that their limits allow. Most claims serve the
        # first user that they find, so who else is at a limit is asked for only now.
        full |= {generation.user_id for generation in pick.batch} | _users_at_limit()


def _announce_start(batch: Sequence[Generation]) -> None:
    pool = batch[0].pool
    counters.observe(counters.BATCHES, sum(generation.image_count for generation in batch), pool)
    for generation in batch:
        counters.add(counters.CLAIMED, pool)
        if generation.attempt == 1 and (seconds := generation.queued_seconds) is not None:
            counters.observe(counters.QUEUE_WAIT, max(0.0, seconds), pool)
        progress.publish(generation.pk, "started", {"attempt": generation.attempt})


@dataclass(frozen=True)
class _Pick:
    """The next row and those that can share its batch, locked, after the locked shares of their users.

    Without shares if no user has a row to claim; without rows if another worker has claimed the user's last one meanwhile.
    """

    shares: dict[int, UserShare] = field(default_factory=dict)
    batch: list[Generation] = field(default_factory=list)
    has_passed_older: bool = False
    """Whether the first row goes before older ones of its user, since its model is loaded."""


def _pick(pool: str, warm: Mapping[str, str], lacking: Collection[str], full: set[int]) -> _Pick:
    known = Generation.objects.exclude(model__in=lacking)
    turn = user_queues.next_turn(known.claimable(pool, timezone.now()), pool, full)
    if turn is None:
        return _Pick()
    shares = {turn.share.pk: turn.share}
    rows = turn.rows.select_related("user", "model").select_for_update(of=("self",)).order_by("pk")
    oldest = rows.first()
    if oldest is None:
        return _Pick(shares)
    leader = oldest
    if warm and not oldest.goes_first(warm):
        leader = rows.warm(list(warm)).first() or oldest
    batch = [leader]
    room = settings.MAX_BATCH - leader.image_count
    if room > 0 and leader.batch_key and leader.model.may_batch(warm.get(leader.model_id, "")):
        same = (
            known.filter(batch_key=leader.batch_key)
            .exclude(pk=leader.pk)
            .in_claim_order(pool, list(warm), timezone.now())
        )
        full = full | _users_at_limit()
        shares |= user_queues.lock_others(same, pool, {*full, *shares}, settings.MAX_BATCH)
        followers = same.filter(user__in=shares).select_related("user", "model")
        for follower in followers.select_for_update(skip_locked=True, of=("self",))[: settings.MAX_BATCH]:
            if follower.image_count <= room:
                batch.append(follower)
                room -= follower.image_count
    return _Pick(shares, batch, leader != oldest and leader.model_id in warm)


def _users_at_limit() -> set[int]:
    """Return the ids of users who have reached their limit of running rows."""
    if not settings.LIMITS:
        return set()
    running = Generation.objects.filter(state=State.RUNNING).order_by().values("user").annotate(count=Count("pk"))
    default = settings.USER_MAX_RUNNING or math.inf
    full = {
        user
        for user, count, max_running in running.values_list("user", "count", "user__max_running")
        if count >= (default if max_running is None else max_running)
    }
    return full | set(User.objects.filter(max_running=0).values_list("pk", flat=True))


def _within_limits(batch: Sequence[Generation]) -> list[Generation]:
    """Return the rows that their users' limits of running generations allow. Call it under the locks of their shares."""
    free: dict[int, float] = {}
    for user in {generation.user for generation in batch}:
        limit = limits.user_limits(user).running
        if limit is None:
            free[user.pk] = math.inf
        else:
            free[user.pk] = limit - Generation.objects.filter(user=user, state=State.RUNNING).count()
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
        share.set_usage(fair_share.charge(share.decayed_usage, generation.cost, now))


def _count_affinity_skips(leader: Generation, warm: Sequence[str]) -> None:
    """Count a skip for the user's older rows of cold models: this row was claimed before them for its warm model."""
    older = Generation.objects.filter(
        state=State.QUEUED, pool=leader.pool, user=leader.user, priority=leader.priority, pk__lt=leader.pk
    ).exclude(model_id__in=warm)
    # Rows that another claim has locked are about to start.
    ids = list(older.select_for_update(skip_locked=True).values_list("pk", flat=True))
    Generation.objects.filter(pk__in=ids).update(affinity_skips=F("affinity_skips") + 1)


def renew(generation: Generation) -> LeaseStatus:
    """Renew the lease. If it is lost, results of this attempt will be dropped."""
    expires = timezone.now() + timedelta(seconds=settings.LEASE_SECONDS)
    rows = Generation.objects.lease(generation)
    if not rows.update(lease_expires=expires):
        return LeaseStatus.LOST
    return LeaseStatus.CANCEL_REQUESTED if rows.exclude(cancel_requested=None).exists() else LeaseStatus.HELD


def flag_confirmed(generation: Generation, images: Sequence[GeneratedImage]) -> None:
    """Flag unsaved images that reviewers have confirmed before: made in the same way, by this user or another."""
    digests = {image.recipe_digest: image for image in images}
    for digest in ReviewDecision.confirmed_digests(digests):
        digests[digest].nsfw = True


def finish(
    generation: Generation,
    images: Sequence[GeneratedImage],
    warnings: Sequence[str],
    phases: dict[str, float],
    output_bytes: int,
    environment: dict[str, Any] | None = None,
    calls: Sequence[Sequence[int]] = (),
    comparison: dict[str, Any] | None = None,
) -> bool:
    """End it as succeeded, with its pictures, in one fenced transaction. `output_bytes` are those of all their files.

    `environment` and `calls` are its receipt: see `Environment` and `Generation.calls`. A proof has a `comparison` instead of
    pictures.

    Return False if another attempt has claimed the row, or if it has ended otherwise. A row whose lease expired is finished
    if no other attempt has claimed it since. Calling it again, after a broken connection, returns True if the first call was
    committed.
    """
    for image in images:
        image.await_review(settings.REVIEW_SAMPLE if image.is_checked else settings.REVIEW_UNCHECKED_SAMPLE)
    with transaction.atomic():
        has_row = Generation.objects.filter(
            pk=generation.pk, attempt=generation.attempt, state__in=(State.RUNNING, State.QUEUED)
        ).update(
            state=State.SUCCEEDED,
            finished=timezone.now(),
            lease_expires=None,
            warnings=[*generation.warnings, *warnings],
            run_warnings=len(warnings),
            phases=phases,
            output_bytes=output_bytes,
            environment=Environment.objects.of(environment) if environment else None,
            calls=calls or None,
            comparison=comparison,
            is_flagged=any(image.nsfw for image in images),
        )
        if has_row:
            GeneratedImage.objects.bulk_create(images)
            files.unstage(generation)
    if has_row:
        _count_success(images, phases)
        progress.publish(generation.pk, State.SUCCEEDED)
        return True
    return Generation.objects.filter(pk=generation.pk, attempt=generation.attempt, state=State.SUCCEEDED).exists()


def _count_success(images: Sequence[GeneratedImage], phases: Mapping[str, float]) -> None:
    counters.add(counters.FINISHED, State.SUCCEEDED, "none")
    for phase, seconds in phases.items():
        counters.observe(counters.PHASES, seconds, phase)
    for image in images:
        found = "unchecked" if not image.is_checked else "flagged" if image.is_flagged_by_checker else "unflagged"
        counters.add(counters.PICTURES, found)


def fail(generation: Generation, code: ErrorCode, message: str, share_done: float) -> bool:
    """End it as failed. `message` is for the user. It costs `share_done`, 0 to 1, of its cost.

    Return False if the lease is lost.
    """
    return _end_early(generation, State.FAILED, code, message, share_done)


def finish_canceled(generation: Generation, code: ErrorCode, share_done: float) -> bool:
    """End a running row as canceled, by its user or a deadline. It costs `share_done`, 0 to 1, of its cost."""
    return _end_early(generation, State.CANCELED, code, MESSAGES[code], share_done)


def _end_early(generation: Generation, state: State, code: ErrorCode, message: str, share_done: float) -> bool:
    """End a run without pictures, and refund what was not done to its user's share."""
    cost = generation.cost * share_done
    has_ended = end(generation.pk, Generation.objects.lease(generation), state, code, message, cost=cost)
    if has_ended and generation.started:
        with transaction.atomic():
            share = limits.lock_user(generation.user)
            share.set_usage(fair_share.refund(share.decayed_usage, generation.cost - cost, generation.started))
    return has_ended


def cancel(generation: Generation) -> bool:
    """Cancel it at once if it is queued, within a step if it runs. Return False if it has ended otherwise."""
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
        # It was released or claimed between the two updates.


def cancel_expired() -> int:
    """Cancel queued rows whose deadline has passed or whose cancellation was requested. Return their number."""
    now = timezone.now()
    due = Generation.objects.filter(state=State.QUEUED).filter(Q(deadline__lte=now) | Q(cancel_requested__lte=now))
    count = 0
    for generation_id, canceled, started in due.values_list("pk", "cancel_requested", "started"):
        code = ErrorCode.DEADLINE if started else ErrorCode.DEADLINE_BEFORE_START
        code = ErrorCode.CANCELED if canceled else code
        rows = due.filter(pk=generation_id)
        count += end(generation_id, rows, State.CANCELED, code, MESSAGES[code], cost=0.0)
    return count


def release(generation: Generation) -> None:
    """Return a row that its worker will not finish to the front of the queue. It does not count as a crash."""
    rows = Generation.objects.lease(generation)
    if rows.filter(cancel_requested=None).update(state=State.QUEUED, lease_expires=None, worker=""):
        queues.try_wake_workers(generation.pool)
    else:
        finish_canceled(generation, ErrorCode.CANCELED, 0.0)


def abandon(generation: Generation) -> None:
    """Let the lease of a row end now, since its worker ends. The reaper counts the crash, and requeues or ends the row."""
    Generation.objects.lease(generation).update(lease_expires=timezone.now())


def requeue(lease: QuerySet[Generation]) -> bool:
    """Put a row whose worker was lost at the front of the queue, and count the crash. Return False if no row is left."""
    return bool(lease.update(state=State.QUEUED, lease_expires=None, worker="", crash_count=F("crash_count") + 1))


def end(
    generation_id: UUID, rows: QuerySet[Generation], state: State, code: ErrorCode, message: str, **fields: Any
) -> bool:
    """End a generation without pictures, if it is still in `rows`, and publish that. Return whether it was."""
    has_ended = rows.update(
        state=state,
        finished=timezone.now(),
        lease_expires=None,
        error_code=code,
        error_message=message,
        input_bytes=Case(
            When(input="", then=Greatest(F("input_bytes") - RESERVED_BYTES, 0)),
            default=F("input_bytes"),
            output_field=PositiveBigIntegerField(),
        ),
        output_bytes=0,
        **fields,
    )
    if has_ended:
        # One that runs still counts for its user's limit; its process ends it.
        InputFetch.objects.filter(generation=generation_id, lease_expires=None).delete()
        counters.add(counters.FINISHED, state, code)
        progress.publish(generation_id, state)
    return bool(has_ended)


def wake_for_users(batch: Sequence[Generation]) -> None:
    """Wake workers for the queued rows of this ended batch's users who had reached their limit of running rows."""
    for user in {generation.user for generation in batch}:
        rows = Generation.objects.filter(user=user)
        limit = limits.user_limits(user).running
        ended = sum(generation.user_id == user.pk for generation in batch)
        if limit is not None and rows.filter(state=State.RUNNING).count() + ended >= limit:
            for pool in rows.filter(state=State.QUEUED).order_by().values_list("pool", flat=True).distinct():
                queues.try_wake_workers(pool)


def finished_ids(ids: Sequence[UUID]) -> list[UUID]:
    """Return the ids of those that have ended. A generation that is still being submitted has no row yet."""
    return list(Generation.objects.filter(pk__in=ids, state__in=FINAL_STATES).values_list("pk", flat=True))
