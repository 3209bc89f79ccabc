"""Submission: build generations from validated requests, estimate them, or queue them with their input."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError, transaction
from django.utils import timezone
from redis import RedisError
from uuid_utils.compat import uuid7

from accounts import request_ids, traces
from accounts.models import ApiToken, User
from generation.broker import counters, progress, queues
from generation.broker.connection import redis_client
from generation.images import disk, storage
from generation.images.credentials import MOST_MARK_BYTES
from generation.images.inputs import Inputs
from generation.images.uploads import raw_bytes
from generation.inpainting import Box
from generation.jobs import (
    downloads,
    forecast,
    idempotency,
    input_fetches,
    limits,
    reuse,
    user_queues,
)
from generation.library import files, search
from generation.library.stored_inputs import RESERVED_BYTES, EncodedInputs
from generation.models import (
    DiffusionModel,
    GeneratedImage,
    Generation,
    InputFetch,
    Lora,
    LoraUse,
    PriorityLevel,
    ReferencePicture,
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
MAX_REQUEST_ID = 64
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

    `size` is the size in pixels of a picture that is not sent yet, and `open_box` what of it a mask that is not sent either
    lets change, if they are known. `warnings` come from reading the request. `source_id` is the id of the stored result that
    is used as the picture, if it is one. With `is_anew` the pictures are made although the same ones are kept.
    """

    user: User
    token: ApiToken | None
    parameters: ImageToImageParameters
    inputs: Inputs
    size: tuple[int, int] | None = None
    open_box: Box | None = None
    generation_id: UUID | None = None
    cancel_after: timedelta | None = None
    warnings: Sequence[str] = ()
    source_id: int | None = None
    is_anew: bool = False


def build(request: Request, resolve: Callable[[User, str, str], ModelAndLoras] | None = None) -> Generation:
    """Return the unsaved generation of a request. `resolve` may be a cached `resolve_model`, for many requests.

    If the same pictures are kept, it has ended already, and is answered with them: see `reuse`. Raises `RequestRefused` or
    `InvalidField` for what cannot be done.
    """
    user, parameters, inputs = request.user, request.parameters, request.inputs
    if parameters.priority is Priority.HIGH and not user.is_staff:
        raise InvalidField("priority", "high is for staff; choose low or normal")
    model, loras = (resolve or resolve_model)(user, parameters.model_id, parameters.loras)
    size = inputs.picture.size if inputs.picture else request.size or largest_size(model.reference(), model.limits())
    open_box = inputs.mask.open_box(size) if inputs.mask else request.open_box
    recipe, warnings = plan(
        parameters, model.reference(), loras, size, model.limits(), open_box, len(inputs.references)
    )
    if settings.SAFETY_CHECK == "required" and not recipe.safety_check:
        recipe = recipe.model_copy(update={"safety_check": True})
        warnings.append("safety_check has no effect: this service checks all pictures.")
    draft = Generation(
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
        batch_key=recipe.batch_key if inputs.picture else "",
        deadline=timezone.now() + request.cancel_after if request.cancel_after else None,
        prompt=parameters.prompt,
        parameters=_stored_parameters(parameters, inputs),
        recipe=recipe.model_dump(mode="json"),
        input_bytes=RESERVED_BYTES if parameters.image_url and not inputs.picture else 0,
        output_bytes=_most_output_bytes(recipe, inputs),
        warnings=[*request.warnings, *inputs.warnings, *warnings],
        request_id=request_ids.current()[:MAX_REQUEST_ID],
        client_request_id=request_ids.of_client(),
        traceparent=traces.current(),
        result_key=reuse.result_key(recipe, parameters, inputs),
        **_input_fields(inputs),
    )
    if settings.REUSE_RESULTS and draft.result_key and parameters.seed is not None and not request.is_anew:
        reuse.answer(draft)
    return draft


def _stored_parameters(parameters: ImageToImageParameters, inputs: Inputs) -> dict[str, Any]:
    """Return the fields of the request. A mask is stored as it is meant, so that it means the same when it is used again."""
    fields = parameters.model_dump(mode="json", exclude={"dry_run"})
    return fields | {"mask_invert": False} if inputs.mask else fields


def _most_output_bytes(recipe: Recipe, inputs: Inputs) -> int:
    """Return about the most bytes of the results and their thumbnails, as if nothing were compressed, and of their marks."""
    return len(recipe.seeds) * (raw_bytes(*recipe.result_size) + 2 * MOST_MARK_BYTES + inputs.most_kept_bytes)


def resolve_model(user: User, model_id: str, loras: str) -> ModelAndLoras:
    """Return the model and the LoRAs of these names. Raises `RequestRefused` for those that the user may not use."""
    model = DiffusionModel.objects.allowed_to(user).usable(model_id)
    return model, Lora.objects.references(parse_loras(loras), model)


def submit_once(
    drafts: Callable[[], Sequence[Generation]],
    inputs: Inputs,
    idempotent: idempotency.IdempotentRequest | None = None,
) -> Generation:
    """Submit what `drafts` returns, unless this idempotent request was submitted before. Return its first generation.

    Raises as `drafts` and `submit_together` do.
    """
    if idempotent and (earlier := idempotent.earlier()):
        return earlier
    return submit_together(drafts(), inputs, idempotent)


def submit(generation: Generation, inputs: Inputs) -> Generation:
    """Submit one generation. Raises as `submit_together` does."""
    return submit_together([generation], inputs)


def submit_together(
    generations: Sequence[Generation],
    inputs: Inputs,
    idempotent: idempotency.IdempotentRequest | None = None,
) -> Generation:
    """Store the inputs, queue all of these generations of one user and pictures, or none, and wake workers. Return the first.

    Their contact sheet, if they have one, is saved with them. Where another process submitted the same idempotent request
    meanwhile, return the first generation of that one. Raises `OverLimit`, `QueueFull`, `DiskFull`, `NotDownloaded`,
    `KeyReused`, `Suspended` and `Unavailable`.
    """
    try:
        # Before the files are stored: a refused request should cost no upload. Limits are checked again under the lock.
        redis_client().ping()
        disk.check()
        queued = [generation for generation in generations if not generation.is_final]
        limits.check_queue_capacity(len(queued))
        _check_downloaded(queued)
        if len(generations) > 1:
            _check_limits(generations)
        _store(generations, inputs, idempotent)
    except _Duplicate as duplicate:
        return duplicate.generation
    except (RedisError, DatabaseError, storage.StorageFailed) as error:
        raise Unavailable from error
    for generation in generations:
        counters.add(counters.SUBMITTED, generation.pool, "studio" if generation.in_studio else "api")
        if generation.is_final:
            counters.add(counters.FINISHED, generation.state, "none")
            progress.publish(generation.pk, generation.state)
        else:
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
        queued = [generation for generation in generations if not generation.is_final]
        limits.check_queue_capacity(len(queued))
        _check_downloaded(queued)
        _check_active(generations[0].user)
        _check_limits(generations)
        forecasts = forecast.of_drafts(queued)
    except (RedisError, DatabaseError) as error:
        raise Unavailable from error
    now = timezone.now()
    at_once = forecast.Forecast(1, "It is answered at once, with pictures of an earlier request.", now, now)
    return [forecasts.get(generation.pk, at_once) for generation in generations]


class _Duplicate(Exception):
    """Another process submitted the same idempotent request first."""

    def __init__(self, generation: Generation) -> None:
        super().__init__()
        self.generation = generation


def _store(generations: Sequence[Generation], inputs: Inputs, idempotent: idempotency.IdempotentRequest | None) -> None:
    try:
        encoded = EncodedInputs.of(inputs)
        references, images = [], []
        for generation in generations:
            kept = generation.reused_from
            made = reuse.images(generation, kept) if kept else []
            names = [name for image in made for name in image.file_names]
            references += encoded.store(generation, results=names)
            if kept:
                reuse.copy_files(made, kept)
            images += made
        with transaction.atomic():
            _insert(generations, idempotent)
            ReferencePicture.objects.bulk_create(references)
            GeneratedImage.objects.bulk_create(images)
            files.unstage(*generations)
    except DatabaseError:
        # It is unknown whether the rows were committed: the reaper finds out.
        raise
    except Exception:
        files.discard(*generations)
        raise


def _insert(generations: Sequence[Generation], idempotent: idempotency.IdempotentRequest | None) -> None:
    share = limits.lock_user(generations[0].user)
    _check_active(generations[0].user)
    if idempotent and (earlier := idempotent.earlier()):
        raise _Duplicate(earlier)
    _check_limits(generations)
    if generations[0].contact_sheet:
        generations[0].contact_sheet.save(force_insert=True)
    for generation in generations:
        _insert_row(generation)
    user_queues.add(share, [generation for generation in generations if not generation.is_final])
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
    queued = sum(not generation.is_final for generation in generations)
    limits.check(generations[0].user, cost, len(generations), added_bytes, queued=queued)


def _insert_row(generation: Generation) -> None:
    generation.save(force_insert=True)
    if generation.proves_id:
        return
    if not generation.input and generation.parameters["image_url"]:
        InputFetch.objects.create(generation=generation)
    LoraUse.objects.bulk_create(
        LoraUse(generation=generation, lora_id=name, user=generation.user)
        for name in {lora.id for lora in generation.get_recipe().loras}
    )
    search.index(generation)


def _input_fields(inputs: Inputs) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    if picture := inputs.picture:
        width, height = picture.size
        fields = {"input_sha256": picture.sha256, "input_format": picture.format}
        fields["input_credentials"] = picture.claims and picture.claims.model_dump(mode="json")
        fields |= {"input_width": width, "input_height": height}
    if mask := inputs.mask:
        fields |= {"mask_sha256": mask.sha256, "open_share": mask.open_share}
    return fields


def attach_input(fetch: InputFetch, inputs: Inputs, recipe: Recipe, warnings: Sequence[str]) -> bool:
    """Store the fetched input of a queued row, and let workers claim it. Return False if it has ended, or the lease is lost.

    `inputs` are the fetched picture and the mask in its size. Raises `StorageFailed`.
    """
    generation: Generation = fetch.generation
    unfitted = generation.mask_file_names
    EncodedInputs.of(inputs).store(generation, fetch)
    fields = {
        **_input_fields(inputs),
        **{name: getattr(generation, name).name for name in ("input", "input_thumbnail", "mask", "mask_thumbnail")},
        "input_bytes": generation.input_bytes,
        "output_bytes": _most_output_bytes(recipe, inputs),
        "recipe": recipe.model_dump(mode="json"),
        "batch_key": recipe.batch_key,
        "result_key": reuse.result_key(recipe, generation.get_parameters(), inputs),
        "cost": recipe.cost(generation.model.cost_weight),
        "warnings": [*generation.warnings, *inputs.warnings, *warnings],
    }
    with transaction.atomic():
        rows = Generation.objects.filter(pk=generation.pk, state=State.QUEUED)
        is_attached = input_fetches.finish(fetch) and bool(rows.update(**fields))
        if is_attached:
            files.unstage(fetch)
            replaced = files.delete_later(unfitted if inputs.mask else [])
    if not is_attached:
        files.discard(fetch)
        return False
    files.delete_now(replaced)
    queues.try_wake_workers(generation.pool)
    return True
