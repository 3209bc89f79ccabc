"""From a judged request to a queued row with its input: drafted, rehearsed, submitted, or supplied later by a worker."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, cast
from uuid import UUID

from django.db import DatabaseError, transaction
from django.utils import timezone
from redis import RedisError
from uuid_utils.compat import uuid7

from accounts.models import ApiToken, User
from generation.broker import queues
from generation.broker.connection import redis_client
from generation.images import storage
from generation.images.uploads import (
    Upload,
    encode_input,
    thumbnail,
)
from generation.jobs import (
    fair_share,
    forecast,
    idempotency,
    limits,
    queue,
)
from generation.library import files, search
from generation.models import (
    ContactSheet,
    DiffusionModel,
    Generation,
    Lora,
    LoraUse,
    PriorityLevel,
)
from generation.parameters import (
    ErrorCode,
    ImageToImageParameters,
    InvalidField,
    Priority,
    RequestRefused,
    parse_loras,
)
from generation.recipes import (
    LoraReference,
    Recipe,
    largest_size,
    plan,
)

Weights = tuple[DiffusionModel, list[LoraReference]]
_BANDS = {Priority.LOW: PriorityLevel.LOW, Priority.NORMAL: PriorityLevel.NORMAL, Priority.HIGH: PriorityLevel.HIGH}


class Unavailable(Exception):
    """The queue cannot take work now; nothing was changed. Try again in `retry_after` seconds."""

    retry_after = 5


class Suspended(RequestRefused):
    """The account was suspended since its request was let in; nothing was accepted. Its tokens are no good any more."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.INVALID_TOKEN, "This account is suspended.")


def build(
    user: User,
    token: ApiToken | None,
    parameters: ImageToImageParameters,
    picture: Upload | None,
    *,
    size: tuple[int, int] | None = None,
    generation_id: UUID | None = None,
    cancel_after: timedelta | None = None,
    request_id: str = "",
    warnings: Sequence[str] = (),
    source_id: int | None = None,
    find: Callable[[User, str, str], Weights] | None = None,
) -> Generation:
    """What would be queued for a request, in no table yet; without a token it is one of the studio.

    Without a picture a worker fetches it; `size` is what is known of it then, in pixels. `warnings` are what was found
    about the request before; `source_id` is the stored result that the picture was; `find` may be `weights` with a memory,
    for many drafts. Raises `RequestRefused` or `InvalidField` for what cannot be done.
    """
    if parameters.priority is Priority.HIGH and not user.is_staff:
        raise InvalidField("priority", "high is for staff; choose low or normal")
    model, loras = (find or weights)(user, parameters.model_id, parameters.loras)
    size = picture.size if picture else size or largest_size(model.reference(), model.limits())
    recipe, planned = plan(parameters, model.reference(), loras, size, model.limits())
    return Generation(
        id=generation_id or uuid7(),
        user=user,
        token=token,
        in_studio=token is None,
        source_id=source_id,
        model=model,
        pool=model.pool,
        priority=_BANDS[parameters.priority],
        cost=fair_share.cost(recipe, model.cost_weight),
        # Only pictures of one size share a batch.
        batch_key=recipe.batch_key if picture else "",
        deadline=timezone.now() + cancel_after if cancel_after else None,
        prompt=parameters.prompt,
        parameters=parameters.model_dump(mode="json", exclude={"dry_run"}),
        recipe=recipe.model_dump(mode="json"),
        warnings=[*warnings, *planned],
        request_id=request_id,
        **(_about(picture) if picture else {}),
    )


def weights(user: User, model_id: str, loras: str) -> Weights:
    """The model and LoRAs that this user may name like this. Raises `RequestRefused`, `InvalidField`."""
    model = DiffusionModel.objects.allowed_to(user).usable(model_id)
    return model, Lora.objects.references(parse_loras(loras), model)


def submit(
    generation: Generation, picture: Upload | None, attempt: idempotency.IdempotentRequest | None = None
) -> Generation:
    """Accept a drafted request: its input is stored, its row is `queued`, its pool hears the bell.

    Where the same attempt came before, it is what that one made. Raises `OverLimit` or `QueueFull` for what is too much,
    `KeyReused`, `Suspended`, and `Unavailable`; always with nothing half-created.
    """
    try:
        # Asked first: a request that is turned away should cost no upload of a file.
        redis_client().ping()
        limits.check_queue_capacity()
        _store(generation, picture, attempt)
    except _Duplicate as joined:
        return joined.generation
    except (RedisError, DatabaseError, storage.StorageFailed) as error:
        raise Unavailable from error
    queues.try_wake_workers(generation.pool)
    return generation


def submit_together(
    contact_sheet: ContactSheet,
    generations: Sequence[Generation],
    picture: Upload,
    attempt: idempotency.IdempotentRequest | None = None,
) -> ContactSheet:
    """Accept all cells of a contact sheet, drafted for one picture and with its user, or none. Raises as `submit` does.

    Where the same attempt came before, it is what that one made.
    """
    cost = sum(generation.cost for generation in generations)
    try:
        redis_client().ping()
        limits.check_queue_capacity(len(generations))
        # Asked first: what is turned away should cost no files. Under the lock it is asked again.
        limits.check(contact_sheet.user, cost, len(generations))
        encoded = _EncodedInput.of(picture)
        for generation in generations:
            _store_files(generation, encoded)
        with transaction.atomic():
            _lock(contact_sheet.user)
            if attempt and (earlier := attempt.earlier()):
                raise _Duplicate(earlier)
            limits.check(contact_sheet.user, cost, len(generations))
            contact_sheet.save(force_insert=True)
            for generation in generations:
                _insert_row(generation)
            if attempt:
                attempt.remember(generations[0])
            files.unstage(*generations)
    except (RedisError, DatabaseError, storage.StorageFailed) as error:
        raise Unavailable from error
    except _Duplicate as joined:
        files.discard(*generations)
        return cast(ContactSheet, joined.generation.contact_sheet)
    except (limits.OverLimit, Suspended):
        files.discard(*generations)
        raise
    for generation in generations:
        queues.try_wake_workers(generation.pool)
    return contact_sheet


def estimate(generation: Generation) -> forecast.Forecast:
    """What to expect if this draft were submitted now. Raises as `submit` does."""
    return estimate_together([generation])[0]


def estimate_together(generations: Sequence[Generation]) -> list[forecast.Forecast]:
    """What to expect of each if these drafts of one user were submitted together now, which they are, and taken back.

    Raises as `submit_together` does.
    """
    user, cost = generations[0].user, sum(generation.cost for generation in generations)
    try:
        redis_client().ping()
        limits.check_queue_capacity(len(generations))
        with transaction.atomic():
            _lock(user)
            limits.check(user, cost, len(generations))
            Generation.objects.bulk_create(generations)
            expected = forecast.of_queued(generations)
            transaction.set_rollback(True)
    except (RedisError, DatabaseError) as error:
        raise Unavailable from error
    return [expected[generation.pk] for generation in generations]


class _Duplicate(Exception):
    """Another request of the same attempt was faster."""

    def __init__(self, generation: Generation) -> None:
        super().__init__()
        self.generation = generation


def _store(generation: Generation, picture: Upload | None, attempt: idempotency.IdempotentRequest | None) -> None:
    try:
        if picture is not None:
            _store_input(generation, picture)
        with transaction.atomic():
            _insert(generation, attempt)
            files.unstage(generation)
    except DatabaseError:
        # Whether the row came into being is not known: the reaper finds out.
        raise
    except Exception:
        files.discard(generation)
        raise


def _insert(generation: Generation, attempt: idempotency.IdempotentRequest | None) -> None:
    _lock(generation.user)
    if attempt and (earlier := attempt.earlier()):
        raise _Duplicate(earlier)
    limits.check(generation.user, generation.cost)
    _insert_row(generation)
    if attempt:
        attempt.remember(generation)


def _lock(user: User) -> None:
    """Take the lock of this user, under which they are suspended, too. Raises `Suspended`."""
    limits.lock_user(user)
    if not User.objects.filter(pk=user.pk, is_active=True).exists():
        raise Suspended


def _insert_row(generation: Generation) -> None:
    generation.save(force_insert=True)
    LoraUse.objects.bulk_create(
        LoraUse(generation=generation, lora_id=name, user=generation.user)
        for name in {lora.id for lora in generation.get_recipe().loras}
    )
    search.index(generation)


@dataclass(frozen=True)
class _EncodedInput:
    """The content of an input's files."""

    kept: bytes
    thumbnail: bytes

    @classmethod
    def of(cls, picture: Upload) -> Self:
        return cls(encode_input(picture.picture), thumbnail(picture.picture, queue.THUMBNAIL_SIDE))


def _store_input(generation: Generation, picture: Upload) -> None:
    """Stage and store the input. Raises `StorageFailed`."""
    _store_files(generation, _EncodedInput.of(picture))


def _store_files(generation: Generation, encoded: _EncodedInput) -> None:
    folder = f"inputs/{generation.created:%Y/%m/%d}/{generation.pk}"
    # As with outputs: an undead worker that fetched a picture must not write over a later one's.
    name = f"{folder}-{generation.attempt}" if generation.attempt else folder
    names = [f"{name}.webp", f"{name}-small.webp"]
    files.stage(names, generation)
    generation.input.name = storage.store(names[0], encoded.kept)
    generation.input_thumbnail.name = storage.store(names[1], encoded.thumbnail)


def _about(picture: Upload) -> dict[str, Any]:
    return {
        "input_sha256": picture.sha256,
        "input_format": picture.format,
        "input_width": picture.size[0],
        "input_height": picture.size[1],
    }


def attach_input(generation: Generation, picture: Upload, recipe: Recipe, warnings: Sequence[str]) -> bool:
    """Give a running row the input that it was queued without. False: another attempt holds the row."""
    _store_input(generation, picture)
    known = {
        **_about(picture),
        "input": generation.input.name,
        "input_thumbnail": generation.input_thumbnail.name,
        "recipe": recipe.model_dump(mode="json"),
        "cost": fair_share.cost(recipe, generation.model.cost_weight),
        "warnings": [*generation.warnings, *warnings],
    }
    with transaction.atomic():
        held = Generation.objects.lease(generation).update(**known)
        if held:
            files.unstage(generation)
    if not held:
        files.discard(generation)
        return False
    for name, value in known.items():
        setattr(generation, name, value)
    return True
