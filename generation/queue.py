"""The queue: submit, claim, renew, finish, fail, stop, cancel, hand back. The only module that changes a row's state.

The row is the truth. A claim is a lease with an attempt number, and every later change of the row is fenced by both.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from enum import Enum, auto
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import Count, F, QuerySet
from django.utils import timezone
from redis import RedisError
from uuid_utils.compat import uuid7

from accounts.models import ApiToken
from generation import allowance, doorbell, media, turns
from generation.intake import Intake, encode_kept, thumbnail
from generation.models import (
    FINAL_STATES,
    Band,
    DiffusionModel,
    GeneratedImage,
    Generation,
    Lora,
    Share,
    Staging,
    State,
)
from generation.parameters import ErrorCode, ImageToImageParameters, InvalidField, Priority, parse_loras
from generation.recipes import plan

logger = logging.getLogger(__name__)

THUMBNAIL_SIDE = 392
"""Twice the width of a tile of the history page, for screens of two pixels a point."""

_BANDS = {Priority.LOW: Band.LOW, Priority.NORMAL: Band.NORMAL, Priority.HIGH: Band.HIGH}
_MESSAGES = {
    ErrorCode.CANCELED: "It was canceled.",
    ErrorCode.DEADLINE: "It took longer than it may; fewer steps or a smaller picture are faster.",
    ErrorCode.DEADLINE_BEFORE_START: "No worker was free before its deadline; try again later or allow more time.",
}


class Unavailable(Exception):
    """The queue cannot take work now; nothing was changed. Try again in `retry_after` seconds."""

    retry_after = 5


class Hold(Enum):
    """What a renewal found: the lease is held, held but its user wants it stopped, or lost."""

    HELD = auto()
    TO_STOP = auto()
    LOST = auto()


def submit(
    token: ApiToken,
    parameters: ImageToImageParameters,
    picture: Intake,
    generation_id: UUID | None = None,
    cancel_after: timedelta | None = None,
) -> Generation:
    """Accept a request: its input is stored, its row is `queued`, its pool hears the bell.

    Raises `RequestRefused` or `InvalidField` for what cannot be done, `OverLimit` or `QueueFull` for what is too much, and
    `Unavailable`; always with nothing half-created.
    """
    if parameters.priority is Priority.HIGH and not token.user.is_staff:
        raise InvalidField("priority", "high is for staff; choose low or normal")
    model = DiffusionModel.objects.usable(parameters.model_id)
    loras = Lora.objects.references(parse_loras(parameters.loras), model)
    recipe, warnings = plan(parameters, model.reference(), loras, picture.size, model.limits())
    generation = Generation(
        id=generation_id or uuid7(),
        user=token.user,
        token=token,
        model=model,
        pool=model.pool,
        band=_BANDS[parameters.priority],
        cost=turns.cost(recipe, model.cost_weight),
        batch_key=recipe.batch_key,
        deadline=timezone.now() + cancel_after if cancel_after else None,
        prompt=parameters.prompt,
        parameters=parameters.model_dump(mode="json"),
        recipe=recipe.model_dump(mode="json"),
        warnings=warnings,
        input_sha256=picture.sha256,
        input_format=picture.format,
        input_width=picture.size[0],
        input_height=picture.size[1],
    )
    try:
        # Asked first: a request that is turned away should cost no upload of a file.
        doorbell.redis().ping()
        allowance.check_room()
        allowance.check(token.user, generation.cost)
        _store_input(generation, picture)
    except (RedisError, DatabaseError, media.StorageFailed) as error:
        raise Unavailable from error
    doorbell.ring_quietly(generation.pool)
    return generation


def _store_input(generation: Generation, picture: Intake) -> None:
    folder = f"inputs/{generation.created:%Y/%m/%d}/{generation.pk}"
    names = [f"{folder}.webp", f"{folder}-small.webp"]
    stage(generation, names)
    try:
        generation.input.name = media.store(names[0], encode_kept(picture.picture))
        generation.input_thumbnail.name = media.store(names[1], thumbnail(picture.picture, THUMBNAIL_SIDE))
        with transaction.atomic():
            allowance.lock(generation.user)
            allowance.check(generation.user, generation.cost)
            generation.save(force_insert=True)
            _staging(generation).delete()
    except DatabaseError:
        # Whether the row came into being is not known: the reaper finds out.
        raise
    except Exception:
        discard(generation, names)
        raise


def claim(pool: str, worker: str, warm: Sequence[str] = ()) -> list[Generation]:
    """The next row of the pool as a lease of this worker, with those that may share its batch; empty: there is none.

    `warm` are the models that the worker has loaded. Each row goes to one worker, and no user has more rows running than
    they may.
    """
    now = timezone.now()
    with transaction.atomic():
        # PostgreSQL locks the rows it picks and others skip them; SQLite's immediate transaction lets one in at a time.
        waiting = (
            Generation.objects.in_turn(pool, warm, now).exclude(user__in=_busy_users()).select_related("user", "model")
        )
        leader = waiting.select_for_update(skip_locked=True, of=("self",)).first()
        if leader is None:
            return []
        batch = [leader]
        room = settings.MAX_BATCH - leader.images_wanted
        if room > 0 and leader.model.may_batch:
            compatible = waiting.filter(batch_key=leader.batch_key).exclude(pk=leader.pk)
            for follower in compatible.select_for_update(skip_locked=True, of=("self",))[: settings.MAX_BATCH]:
                if follower.images_wanted <= room:
                    batch.append(follower)
                    room -= follower.images_wanted
        batch = _within_limits(batch)
        for generation in batch:
            _lease_to(generation, worker)
        if batch and leader.model_id in warm:
            _count_passed_over(leader, warm)
    return batch


def _busy_users() -> list[int]:
    """Those who have as many rows running as they may."""
    running = Generation.objects.filter(state=State.RUNNING).order_by().values("user").annotate(count=Count("pk"))
    rows = running.values_list("user", "count", "user__max_running")
    if not settings.LIMITS:
        return []
    return [
        user
        for user, count, own in rows
        if (limit := own if own is not None else settings.USER_MAX_RUNNING or None) is not None and count >= limit
    ]


def _within_limits(batch: Sequence[Generation]) -> list[Generation]:
    """Those that their users' limits of rows running at once allow, judged again under the lock of their shares."""
    counted: Counter[int] = Counter()
    kept = []
    for generation in sorted(batch, key=lambda generation: generation.user_id):
        limit = allowance.allowed(generation.user).running
        if limit is not None:
            if generation.user_id not in counted:
                allowance.lock(generation.user)
                counted[generation.user_id] = Generation.objects.filter(
                    user=generation.user_id, state=State.RUNNING
                ).count()
            if counted[generation.user_id] >= limit:
                continue
            counted[generation.user_id] += 1
        kept.append(generation)
    return sorted(kept, key=batch.index)


def _lease_to(generation: Generation, worker: str) -> None:
    now = timezone.now()
    generation.state = State.RUNNING
    generation.attempt += 1
    generation.started = generation.started or now
    generation.lease_expires = now + timedelta(seconds=settings.LEASE_SECONDS)
    generation.worker = worker
    generation.save(update_fields=["state", "attempt", "started", "lease_expires", "worker"])
    if generation.attempt == 1:
        # What was lost with a worker is made again at nobody's cost.
        share = allowance.lock(generation.user)
        Share.objects.filter(pk=share.pk).update(served=turns.serve(share.served, generation.cost, now))


def _count_passed_over(leader: Generation, warm: Sequence[str]) -> None:
    """Note for the same user's older requests that a younger one was preferred, since its model is warm."""
    Generation.objects.filter(
        state=State.QUEUED, pool=leader.pool, user=leader.user, band=leader.band, pk__lt=leader.pk
    ).exclude(model_id__in=warm).update(passed_over=F("passed_over") + 1)


def renew(generation: Generation) -> Hold:
    """Lengthen the lease. When it is lost, so is whatever this attempt still makes."""
    expires = timezone.now() + timedelta(seconds=settings.LEASE_SECONDS)
    rows = Generation.objects.lease(generation)
    if not rows.update(lease_expires=expires):
        return Hold.LOST
    return Hold.TO_STOP if rows.exclude(cancel_requested=None).exists() else Hold.HELD


def stage(generation: Generation, names: Sequence[str]) -> None:
    """Note files before they are stored, so that none can be left behind without anybody knowing."""
    Staging.objects.update_or_create(
        generation=generation.pk, attempt=generation.attempt, defaults={"names": list(names), "created": timezone.now()}
    )


def discard(generation: Generation, names: Iterable[str]) -> None:
    """Remove the files that this attempt stored, and the note of them."""
    media.discard(names)
    _staging(generation).delete()


def finish(
    generation: Generation, images: Sequence[GeneratedImage], warnings: Sequence[str], phases: dict[str, float]
) -> bool:
    """`succeeded`, with its pictures, in one fenced transaction. False: another attempt holds the row, or it was stopped.

    A row whose lease ran out, and that nobody has claimed since, is still this attempt's: its pictures are as good. Asking
    again after a broken connection is answered with True when the first time got through.
    """
    with transaction.atomic():
        held = Generation.objects.filter(
            pk=generation.pk, attempt=generation.attempt, state__in=(State.RUNNING, State.QUEUED)
        ).update(
            state=State.SUCCEEDED,
            finished=timezone.now(),
            lease_expires=None,
            warnings=[*generation.warnings, *warnings],
            phases=phases,
        )
        if held:
            GeneratedImage.objects.bulk_create(images)
            _staging(generation).delete()
    if held:
        doorbell.publish(generation.pk, State.SUCCEEDED)
        return True
    return Generation.objects.filter(pk=generation.pk, attempt=generation.attempt, state=State.SUCCEEDED).exists()


def fail(generation: Generation, code: ErrorCode, message: str) -> bool:
    """`failed`, with a reason fit for the user, and free. False: another attempt holds the row."""
    return end(generation.pk, Generation.objects.lease(generation), State.FAILED, code, message, cost=0.0)


def stop(generation: Generation, code: ErrorCode, share_done: float) -> bool:
    """`canceled` while running, by its user or a deadline; it cost the share that was done, 0 to 1."""
    rows = Generation.objects.lease(generation)
    return end(generation.pk, rows, State.CANCELED, code, _MESSAGES[code], cost=generation.cost * share_done)


def cancel(generation: Generation) -> bool:
    """What is queued is canceled at once, what runs stops within a step. False: it has ended in another way."""
    rows = Generation.objects.filter(pk=generation.pk)
    code = ErrorCode.CANCELED
    if end(generation.pk, rows.filter(state=State.QUEUED), State.CANCELED, code, _MESSAGES[code], cost=0.0):
        return True
    if rows.filter(state=State.RUNNING).update(cancel_requested=timezone.now()):
        doorbell.ask_to_stop(generation.pk)
        return True
    return rows.filter(state=State.CANCELED).exists()


def expire_waiting() -> int:
    """Cancel what did not start before its deadline; returns how many."""
    late = Generation.objects.filter(state=State.QUEUED, deadline__lte=timezone.now())
    code = ErrorCode.DEADLINE_BEFORE_START
    return sum(
        end(generation_id, late.filter(pk=generation_id), State.CANCELED, code, _MESSAGES[code], cost=0.0)
        for generation_id in late.values_list("pk", flat=True)
    )


def hand_back(generation: Generation) -> None:
    """Return a row that a stopping worker will not finish; it is the next to start, and has lost no chance."""
    rows = Generation.objects.lease(generation)
    if rows.filter(cancel_requested=None).update(state=State.QUEUED, lease_expires=None, worker=""):
        doorbell.ring_quietly(generation.pool)
    else:
        stop(generation, ErrorCode.CANCELED, 0.0)


def end(
    generation_id: UUID, rows: QuerySet[Generation], state: State, code: ErrorCode, message: str, **fields: Any
) -> bool:
    """Bring this generation, if it is still among `rows`, to a final state without pictures, and tell who waits."""
    held = rows.update(
        state=state, finished=timezone.now(), lease_expires=None, error_code=code, error_message=message, **fields
    )
    if held:
        doorbell.publish(generation_id, state)
    return bool(held)


def finals(ids: Sequence[UUID]) -> list[UUID]:
    """Those of these generations that have reached a final state. One that is still being submitted has not."""
    return list(Generation.objects.filter(pk__in=ids, state__in=FINAL_STATES).values_list("pk", flat=True))


def _staging(generation: Generation) -> QuerySet[Staging]:
    return Staging.objects.filter(generation=generation.pk, attempt=generation.attempt)
