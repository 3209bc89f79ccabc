"""The queue: submit, claim, renew, finish, fail, hand back, reap. The only module that knows RQ and leases.

The row is the truth. RQ carries a doorbell ("there is work in this pool"), a Redis stream carries wake-ups; losing either
loses nothing, since the reaper rings again and waiting clients look into the database too. A claim is a lease with an
attempt number, and every later change of the row is fenced by both.
"""

import logging
import socket
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import cache
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction
from django.db.models import F
from django.utils import timezone
from redis import Redis, RedisError
from rq import Queue
from rq.serializers import JSONSerializer
from uuid_utils.compat import uuid7

from accounts.models import ApiToken
from generation import media
from generation.intake import Intake, encode_kept, thumbnail
from generation.models import FINAL_STATES, DiffusionModel, GeneratedImage, Generation, Lora, State
from generation.parameters import ErrorCode, ImageToImageParameters, parse_loras
from generation.recipes import plan

logger = logging.getLogger(__name__)

EVENTS = "dreamsite:events"
WORKERS = "dreamsite:worker:"
ANNOUNCEMENT_SECONDS = 15
THUMBNAIL_SIDE = 392
"""Twice the width of a tile of the history page, for screens of two pixels a point."""

_KEPT_EVENTS = 10_000


class Unavailable(Exception):
    """The queue cannot take work now; nothing was changed. Try again in `retry_after` seconds."""

    retry_after = 5


@cache
def redis() -> Redis:
    """This process's client for short commands; blocking readers make their own."""
    return Redis.from_url(settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=5)


def bells(pool: str, connection: Redis | None = None) -> Queue:
    """The RQ queue of a pool. JSON, so that write access to Redis is not code execution."""
    return Queue(pool, connection=connection or redis(), serializer=JSONSerializer)


def ring(pool: str) -> None:
    """Tell the pool's workers that there is work. A bell that is lost is rung again by `reap`."""
    bells(pool).enqueue("generation.worker.answer_bell", job_timeout=-1, result_ttl=0, failure_ttl=3600)


def submit(
    token: ApiToken, parameters: ImageToImageParameters, picture: Intake, generation_id: UUID | None = None
) -> Generation:
    """Accept a request: its input is stored, its row is `queued`, its pool hears the bell.

    Raises `RequestRefused` or `InvalidField` for what cannot be done, `Unavailable` with nothing half-created.
    """
    model = DiffusionModel.objects.usable(parameters.model_id)
    loras = Lora.objects.references(parse_loras(parameters.loras), model)
    recipe, warnings = plan(parameters, model.reference(), loras, picture.size, model.limits())
    generation = Generation(
        id=generation_id or uuid7(),
        user=token.user,
        token=token,
        model=model,
        pool=model.pool,
        prompt=parameters.prompt,
        parameters=parameters.model_dump(mode="json"),
        recipe=recipe.model_dump(mode="json"),
        warnings=warnings,
        input_sha256=picture.sha256,
        input_format=picture.format,
        input_width=picture.size[0],
        input_height=picture.size[1],
    )
    folder = f"inputs/{generation.created:%Y/%m/%d}/{generation.pk}"
    try:
        # Asked first: an answer of 503 should cost no upload of a file.
        redis().ping()
        generation.input.name = media.store(f"{folder}.webp", encode_kept(picture.picture))
        generation.input_thumbnail.name = media.store(
            f"{folder}-small.webp", thumbnail(picture.picture, THUMBNAIL_SIDE)
        )
        generation.save(force_insert=True)
    except (RedisError, DatabaseError, media.StorageFailed) as error:
        media.discard([generation.input.name, generation.input_thumbnail.name])
        raise Unavailable from error
    _ring_quietly(generation.pool)
    return generation


def claim(pool: str, worker: str) -> Generation | None:
    """The oldest queued row of the pool as a lease of this worker, or None. Each row goes to one worker."""
    now = timezone.now()
    with transaction.atomic():
        # PostgreSQL locks the row it picks and others skip it; SQLite's immediate transaction lets one in at a time.
        generation = (
            Generation.objects.select_for_update(skip_locked=True)
            .filter(pool=pool, state=State.QUEUED)
            .order_by("id")
            .first()
        )
        if generation is None:
            return None
        generation.state = State.RUNNING
        generation.attempt += 1
        generation.started = generation.started or now
        generation.lease_expires = now + timedelta(seconds=settings.LEASE_SECONDS)
        generation.worker = worker
        generation.save(update_fields=["state", "attempt", "started", "lease_expires", "worker"])
    return generation


def renew(generation: Generation) -> bool:
    """Lengthen the lease. False: it is lost, and so is whatever this attempt still makes."""
    expires = timezone.now() + timedelta(seconds=settings.LEASE_SECONDS)
    return bool(Generation.objects.lease(generation).update(lease_expires=expires))


def finish(
    generation: Generation, images: Sequence[GeneratedImage], warnings: Sequence[str], phases: dict[str, float]
) -> bool:
    """`succeeded`, with its pictures, in one fenced transaction. False: another attempt holds the row."""
    with transaction.atomic():
        held = Generation.objects.lease(generation).update(
            state=State.SUCCEEDED,
            finished=timezone.now(),
            lease_expires=None,
            warnings=[*generation.warnings, *warnings],
            phases=phases,
        )
        if held:
            GeneratedImage.objects.bulk_create(images)
    if held:
        publish(generation.pk, State.SUCCEEDED)
    return bool(held)


def fail(generation: Generation, code: ErrorCode, message: str) -> bool:
    """`failed`, with a reason fit for the user. False: another attempt holds the row."""
    held = Generation.objects.lease(generation).update(
        state=State.FAILED, finished=timezone.now(), lease_expires=None, error_code=code, error_message=message
    )
    if held:
        publish(generation.pk, State.FAILED)
    return bool(held)


def hand_back(generation: Generation) -> None:
    """Return a row that a stopping worker will not finish; its place in the line is its age, so it is next."""
    if Generation.objects.lease(generation).update(state=State.QUEUED, lease_expires=None, worker=""):
        _ring_quietly(generation.pool)


def reap() -> int:
    """Return expired leases to the queue, fail what lost its worker too often, ring for pools that wait unheard.

    Returns how many leases had expired. Any number of processes may call it at any time.
    """
    expired = Generation.objects.filter(state=State.RUNNING, lease_expires__lt=timezone.now())
    reaped = 0
    for generation in expired.only("id", "attempt", "losses", "pool", "state"):
        lease = Generation.objects.lease(generation).filter(lease_expires__lt=timezone.now())
        if generation.losses + 1 >= settings.MAX_ATTEMPTS:
            held = lease.update(
                state=State.FAILED,
                finished=timezone.now(),
                lease_expires=None,
                losses=F("losses") + 1,
                error_code=ErrorCode.WORKER_LOST,
                error_message=f"The worker was lost {settings.MAX_ATTEMPTS} times while making this; try other parameters.",
            )
            if held:
                publish(generation.pk, State.FAILED)
        else:
            held = lease.update(state=State.QUEUED, lease_expires=None, worker="", losses=F("losses") + 1)
        if held:
            logger.warning("generation %s lost its worker in attempt %d", generation.pk, generation.attempt)
            reaped += 1
    for pool in Generation.objects.filter(state=State.QUEUED).order_by().values_list("pool", flat=True).distinct():
        if bells(pool).is_empty():
            ring(pool)
    return reaped


def publish(generation_id: UUID, state: State) -> None:
    """Wake whoever waits for this generation. Best effort: waiters also look into the database now and then."""
    try:
        redis().xadd(EVENTS, {"id": str(generation_id), "state": str(state)}, maxlen=_KEPT_EVENTS, approximate=True)
    except RedisError:
        logger.warning("no event for generation %s: Redis cannot be reached", generation_id)


def worker_name() -> str:
    return f"{socket.gethostname()}-{time.time_ns():x}"


def announce(worker: str, pool: str, models: Sequence[str]) -> None:
    """Say that this worker is warm and ready; repeated well within ANNOUNCEMENT_SECONDS while it is."""
    fields: dict[Any, Any] = {"pool": pool, "models": ",".join(models)}
    with redis().pipeline() as pipe:
        pipe.hset(WORKERS + worker, mapping=fields)
        pipe.expire(WORKERS + worker, ANNOUNCEMENT_SECONDS)
        pipe.execute()


def retire(worker: str) -> None:
    redis().delete(WORKERS + worker)


def warm_workers() -> int:
    """How many workers are warm and ready. Raises `RedisError`."""
    return sum(1 for _ in redis().scan_iter(match=WORKERS + "*", count=1000))


def finals(ids: Sequence[UUID]) -> list[UUID]:
    """Those of these generations that have reached a final state. One that is still being submitted has not."""
    return list(Generation.objects.filter(pk__in=ids, state__in=FINAL_STATES).values_list("pk", flat=True))


def _ring_quietly(pool: str) -> None:
    try:
        ring(pool)
    except RedisError:
        logger.warning("no bell for pool %s: Redis cannot be reached; the reaper will ring", pool)
