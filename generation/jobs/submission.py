"""Submission: build generations from validated requests, estimate them, or queue them with their input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction
from django.utils import timezone
from redis import RedisError
from uuid_utils.compat import uuid7

from accounts import request_ids
from accounts.models import ApiToken, User
from generation.broker import queues
from generation.broker.connection import redis_client
from generation.images import disk, storage
from generation.images.input_files import encode_input
from generation.images.sizes import MAX_INPUT_SIDE
from generation.images.uploads import THUMBNAIL_SIDE, InputFile, Upload, thumbnail
from generation.jobs import (
    downloads,
    forecast,
    idempotency,
    input_fetches,
    limits,
)
from generation.library import files, search
from generation.models import (
    DiffusionModel,
    Generation,
    InputFetch,
    Lora,
    LoraUse,
    PriorityLevel,
    State,
)
from generation.parameters import (
    ErrorCode,
    ImageToImageParameters,
    InvalidField,
    Priority,
    Refusal,
    RequestRefused,
    parse_loras,
)
from generation.recipes import (
    LoraReference,
    Recipe,
    largest_size,
    plan,
)

ModelAndLoras = tuple[DiffusionModel, list[LoraReference]]
_MAX_REQUEST_ID = 64
_PRIORITY_LEVELS = {
    Priority.LOW: PriorityLevel.LOW,
    Priority.NORMAL: PriorityLevel.NORMAL,
    Priority.HIGH: PriorityLevel.HIGH,
}


class Unavailable(Refusal):
    """The database, Redis or the storage cannot be reached."""

    def __init__(self) -> None:
        code = ErrorCode.UNAVAILABLE
        super().__init__(code, f"The service cannot take requests now; try again in {code.retry_after} seconds.")


class Suspended(RequestRefused):
    """The account was suspended after its request was authenticated; its tokens are no longer valid."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.INVALID_TOKEN, "This account is suspended.")


@dataclass(frozen=True)
class Request:
    """A request for pictures, validated. Without a token it comes from the studio; without a picture, `image_url` is fetched.

    `size` is the size in pixels of a picture that is not sent yet, if it is known. `warnings` come from reading the request.
    `source_id` is the id of the stored result that is used as the picture, if it is one.
    """

    user: User
    token: ApiToken | None
    parameters: ImageToImageParameters
    picture: Upload | None
    size: tuple[int, int] | None = None
    generation_id: UUID | None = None
    cancel_after: timedelta | None = None
    warnings: Sequence[str] = ()
    source_id: int | None = None


def build(request: Request, resolve: Callable[[User, str, str], ModelAndLoras] | None = None) -> Generation:
    """Return the unsaved generation of a request. `resolve` may be a cached `resolve_model`, for many requests.

    Raises `RequestRefused` or `InvalidField` for what cannot be done.
    """
    user, parameters, picture = request.user, request.parameters, request.picture
    if parameters.priority is Priority.HIGH and not user.is_staff:
        raise InvalidField("priority", "high is for staff; choose low or normal")
    model, loras = (resolve or resolve_model)(user, parameters.model_id, parameters.loras)
    size = picture.size if picture else request.size or largest_size(model.reference(), model.limits())
    recipe, warnings = plan(parameters, model.reference(), loras, size, model.limits())
    if settings.SAFETY_CHECK == "required" and not recipe.safety_check:
        recipe = recipe.model_copy(update={"safety_check": True})
        warnings.append("safety_check has no effect: this service checks all pictures.")
    return Generation(
        id=request.generation_id or uuid7(),
        user=user,
        token=request.token,
        in_studio=request.token is None,
        source_id=request.source_id,
        model=model,
        pool=model.pool,
        priority=_PRIORITY_LEVELS[parameters.priority],
        cost=recipe.cost(model.cost_weight),
        # Only pictures of one size share a batch.
        batch_key=recipe.batch_key if picture else "",
        deadline=timezone.now() + request.cancel_after if request.cancel_after else None,
        prompt=parameters.prompt,
        parameters=parameters.model_dump(mode="json", exclude={"dry_run"}),
        recipe=recipe.model_dump(mode="json"),
        input_bytes=_MOST_INPUT_BYTES if parameters.image_url else 0,
        output_bytes=_most_output_bytes(recipe),
        warnings=[*request.warnings, *warnings],
        request_id=request_ids.current()[:_MAX_REQUEST_ID],
        client_request_id=request_ids.of_client(),
        **(_input_fields(picture) if picture else {}),
    )


def _most_output_bytes(recipe: Recipe) -> int:
    """Return about the most bytes of the results and their thumbnails: as if nothing were compressed."""
    return len(recipe.seeds) * _raw_bytes(recipe.width, recipe.height)


def _raw_bytes(width: int, height: int) -> int:
    """Return the bytes of a picture of this size and its thumbnail without compression."""
    return 3 * (width * height + min(width, THUMBNAIL_SIDE) * min(height, THUMBNAIL_SIDE))


_MOST_INPUT_BYTES = _raw_bytes(MAX_INPUT_SIDE, MAX_INPUT_SIDE)


def resolve_model(user: User, model_id: str, loras: str) -> ModelAndLoras:
    """Return the model and the LoRAs of these names. Raises `RequestRefused` for those that the user may not use."""
    model = DiffusionModel.objects.allowed_to(user).usable(model_id)
    return model, Lora.objects.references(parse_loras(loras), model)


def submit_once(
    drafts: Callable[[], Sequence[Generation]],
    picture: Upload | None,
    idempotent: idempotency.IdempotentRequest | None = None,
) -> Generation:
    """Submit what `drafts` returns, unless this idempotent request was submitted before. Return its first generation.

    Raises as `drafts` and `submit_together` do.
    """
    if idempotent and (earlier := idempotent.earlier()):
        return earlier
    return submit_together(drafts(), picture, idempotent)


def submit(generation: Generation, picture: Upload | None) -> Generation:
    """Submit one generation. Raises as `submit_together` does."""
    return submit_together([generation], picture)


def submit_together(
    generations: Sequence[Generation],
    picture: Upload | None,
    idempotent: idempotency.IdempotentRequest | None = None,
) -> Generation:
    """Store the input, queue all of these generations of one user and picture, or none, and wake workers. Return the first.

    Their contact sheet, if they have one, is saved with them. Where another process submitted the same idempotent request
    meanwhile, return the first generation of that one. Raises `OverLimit`, `QueueFull`, `DiskFull`, `NotDownloaded`,
    `KeyReused`, `Suspended` and `Unavailable`.
    """
    try:
        # Before the files are stored: a refused request should cost no upload. Limits are checked again under the lock.
        redis_client().ping()
        disk.check()
        limits.check_queue_capacity(len(generations))
        _check_downloaded(generations)
        if len(generations) > 1:
            _check_limits(generations)
        _store(generations, picture, idempotent)
    except _Duplicate as duplicate:
        return duplicate.generation
    except (RedisError, DatabaseError, storage.StorageFailed) as error:
        raise Unavailable from error
    for generation in generations:
        queues.try_wake_workers(generation.pool)
    return generations[0]


def estimate(generation: Generation) -> forecast.Forecast:
    """Forecast this unsaved generation as if it were submitted now. Raises as `submit` does."""
    return estimate_together([generation])[0]


def estimate_together(generations: Sequence[Generation]) -> list[forecast.Forecast]:
    """Forecast these unsaved generations of one user as if they were submitted together now. Nothing is written.

    Raises as `submit_together` does.
    """
    try:
        redis_client().ping()
        disk.check()
        limits.check_queue_capacity(len(generations))
        _check_downloaded(generations)
        _check_active(generations[0].user)
        _check_limits(generations)
        forecasts = forecast.of_drafts(generations)
    except (RedisError, DatabaseError) as error:
        raise Unavailable from error
    return [forecasts[generation.pk] for generation in generations]


class _Duplicate(Exception):
    """Another process submitted the same idempotent request first."""

    def __init__(self, generation: Generation) -> None:
        super().__init__()
        self.generation = generation


def _store(
    generations: Sequence[Generation], picture: Upload | None, idempotent: idempotency.IdempotentRequest | None
) -> None:
    try:
        if picture is not None:
            encoded = _EncodedInput.of(picture)
            for generation in generations:
                _store_files(generation, encoded)
        with transaction.atomic():
            _insert(generations, idempotent)
            files.unstage(*generations)
    except DatabaseError:
        # It is unknown whether the rows were committed: the reaper finds out.
        raise
    except Exception:
        files.discard(*generations)
        raise


def _insert(generations: Sequence[Generation], idempotent: idempotency.IdempotentRequest | None) -> None:
    limits.lock_user(generations[0].user)
    _check_active(generations[0].user)
    if idempotent and (earlier := idempotent.earlier()):
        raise _Duplicate(earlier)
    _check_limits(generations)
    if generations[0].contact_sheet:
        generations[0].contact_sheet.save(force_insert=True)
    for generation in generations:
        _insert_row(generation)
    if idempotent:
        idempotent.remember(generations[0])


def _check_active(user: User) -> None:
    """Raise `Suspended` if the account is; exact under the user's lock, as suspension takes it, too."""
    if not User.objects.filter(pk=user.pk, is_active=True).exists():
        raise Suspended


def _check_downloaded(generations: Sequence[Generation]) -> None:
    for model in {generation.model for generation in generations}:
        downloads.check(model)


def _check_limits(generations: Sequence[Generation]) -> None:
    cost = sum(generation.cost for generation in generations)
    added_bytes = sum(generation.input_bytes + generation.output_bytes for generation in generations)
    limits.check(generations[0].user, cost, len(generations), added_bytes)


def _insert_row(generation: Generation) -> None:
    generation.save(force_insert=True)
    if not generation.input and generation.parameters["image_url"]:
        InputFetch.objects.create(generation=generation)
    LoraUse.objects.bulk_create(
        LoraUse(generation=generation, lora_id=name, user=generation.user)
        for name in {lora.id for lora in generation.get_recipe().loras}
    )
    search.index(generation)


@dataclass(frozen=True)
class _EncodedInput:
    """The input as it is stored, and the content of its thumbnail."""

    picture: InputFile
    thumbnail: bytes

    @classmethod
    def of(cls, picture: Upload) -> Self:
        return cls(encode_input(picture), thumbnail(picture.picture, THUMBNAIL_SIDE))


def _store_files(generation: Generation, encoded: _EncodedInput, fetch: InputFetch | None = None) -> None:
    """Stage and store the files of an input, for its submission or its fetch. Raises `StorageFailed`."""
    folder = f"inputs/{generation.created:%Y/%m/%d}/{generation.pk}"
    # As with outputs: an attempt that lost its lease must not write over the input that a later one fetched.
    name = f"{folder}-{fetch.attempt}" if fetch else folder
    names = [f"{name}{encoded.picture.suffix}", f"{name}-small.webp"]
    files.stage(names, fetch or generation)
    generation.input.name = storage.store(names[0], encoded.picture.content)
    generation.input_thumbnail.name = storage.store(names[1], encoded.thumbnail)
    generation.input_bytes = len(encoded.picture.content) + len(encoded.thumbnail)


def _input_fields(picture: Upload) -> dict[str, Any]:
    return {
        "input_sha256": picture.sha256,
        "input_format": picture.format,
        "input_width": picture.size[0],
        "input_height": picture.size[1],
    }


def attach_input(fetch: InputFetch, picture: Upload, recipe: Recipe, warnings: Sequence[str]) -> bool:
    """Store the fetched input of a queued row, and let workers claim it. Return False if it has ended, or the lease is lost.

    Raises `StorageFailed`.
    """
    generation = fetch.generation
    _store_files(generation, _EncodedInput.of(picture), fetch)
    fields = {
        **_input_fields(picture),
        "input": generation.input.name,
        "input_thumbnail": generation.input_thumbnail.name,
        "input_bytes": generation.input_bytes,
        "output_bytes": _most_output_bytes(recipe),
        "recipe": recipe.model_dump(mode="json"),
        "batch_key": recipe.batch_key,
        "cost": recipe.cost(generation.model.cost_weight),
        "warnings": [*generation.warnings, *warnings],
    }
    with transaction.atomic():
        rows = Generation.objects.filter(pk=generation.pk, state=State.QUEUED)
        is_attached = input_fetches.finish(fetch) and bool(rows.update(**fields))
        if is_attached:
            files.unstage(fetch)
    if not is_attached:
        files.discard(fetch)
        return False
    queues.try_wake_workers(generation.pool)
    return True
