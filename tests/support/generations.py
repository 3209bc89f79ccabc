"""Generations in every state, with small real files, like the ones that submission and worker store."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from django.core.files.storage import default_storage
from django.utils import timezone
from PIL import Image
from uuid_utils.compat import uuid7

from accounts.models import ApiToken, User
from generation.images import storage
from generation.images.input_files import encode_lossless
from generation.images.uploads import THUMBNAIL_SIDE, thumbnail
from generation.library import search
from generation.models import DiffusionModel, FileDeletion, GeneratedImage, Generation, StagedFiles, State
from generation.models.review import Review
from generation.parameters import ErrorCode, ImageToImageParameters
from generation.recipes import plan
from tests.support.pictures import encoded, scene

PHASES = {"loading": 0.0, "encoding": 0.06, "denoising": 1.9, "decoding": 0.29, "safety": 0.04, "storing": 0.05}


def bundled_model() -> DiffusionModel:
    """Return the model that migrations create; it is created again if an earlier test has flushed the database."""
    model, _ = DiffusionModel.objects.get_or_create(
        id="dreamsite/tiny-edit", defaults={"family": "instruct-pix2pix", "enabled": True, "is_default": True}
    )
    return model


def make_generation(
    user: User,
    state: State = State.SUCCEEDED,
    *,
    picture: Image.Image | None = None,
    results: Sequence[Image.Image] | None = None,
    flagged: Sequence[int] = (),
    sampled: Sequence[int] = (),
    token: ApiToken | None = None,
    created: datetime | None = None,
    **fields: Any,
) -> Generation:
    """Create a generation of this user in this state. `fields` are request fields.

    `flagged` and `sampled` are indexes of results.
    """
    picture = picture or scene(96, 64)
    parameters = ImageToImageParameters(**{"prompt": "make it night", "num_inference_steps": 20, "seed": 1207} | fields)
    generation = _new_row(user, state, picture, parameters, created or timezone.now())
    generation.token = token
    name = f"test/{generation.pk}"
    generation.input = storage.store(f"{name}.webp", encode_lossless(picture))
    generation.input_thumbnail = storage.store(f"{name}-small.webp", thumbnail(picture, THUMBNAIL_SIDE))
    generation.input_bytes = generation.input.size + generation.input_thumbnail.size
    if state == State.SUCCEEDED:
        generation.is_flagged = parameters.safety_check and bool(flagged)
    generation.save(force_insert=True)
    search.index(generation)
    if state == State.SUCCEEDED:
        _add_images(
            generation, results or [picture.rotate(180)] * parameters.num_images_per_prompt, flagged, name, sampled
        )
        generation.output_bytes = sum(image.file.size + image.thumbnail.size for image in generation.images.all())
        generation.save(update_fields=["output_bytes"])
    return generation


def _new_row(
    user: User, state: State, picture: Image.Image, parameters: ImageToImageParameters, created: datetime
) -> Generation:
    """Return an unsaved generation without files, with the fields that a worker sets before this state."""
    model = bundled_model()
    recipe, warnings = plan(parameters, model.reference(), [], picture.size, model.limits())
    generation = Generation(
        id=uuid7(nanoseconds=int(created.timestamp() * 1e9)),
        user=user,
        model=model,
        pool="default",
        state=state,
        prompt=parameters.prompt,
        parameters=parameters.model_dump(mode="json"),
        recipe=recipe.model_dump(mode="json"),
        warnings=warnings,
        input_sha256=f"{parameters.seed:064x}",
        input_format="JPEG",
        input_width=picture.width,
        input_height=picture.height,
        created=created,
    )
    if state != State.QUEUED:
        generation.attempt, generation.worker = 1, "here-1"
        generation.started = created + timedelta(seconds=0.02)
    if generation.is_final:
        generation.finished = created + timedelta(seconds=2.42)
    if state == State.FAILED:
        generation.error_code = ErrorCode.OUT_OF_MEMORY
        generation.error_message = "Out of memory error. Try reducing input image resolution."
    if state == State.SUCCEEDED:
        generation.phases = PHASES
    return generation


def _add_images(
    generation: Generation,
    results: Sequence[Image.Image],
    flagged: Sequence[int],
    name: str,
    sampled: Sequence[int] = (),
) -> None:
    checked = generation.parameters["safety_check"]
    for index, (result, seed) in enumerate(zip(results, generation.get_recipe().seeds, strict=True)):
        GeneratedImage.objects.create(
            generation=generation,
            index=index,
            seed=seed,
            file=storage.store(f"{name}/1-{index}.png", encoded(result)),
            thumbnail=storage.store(f"{name}/1-{index}-small.webp", thumbnail(result, THUMBNAIL_SIDE)),
            width=result.width,
            height=result.height,
            nsfw=checked and index in flagged,
            nsfw_score=(0.93 if index in flagged else 0.01) if checked else None,
            checker="opennsfw" if checked else "",
            threshold=0.8 if checked else None,
            review=Review.WAITING if checked and index in (*flagged, *sampled) else Review.NONE,
            is_sample=index in sampled,
        )


def files_of(generation: Generation) -> list[str]:
    images = [name for image in generation.images.all() for name in (image.file.name, image.thumbnail.name)]
    return [str(name) for name in (generation.input.name, generation.input_thumbnail.name, *images)]


def existing(names: list[str]) -> list[str]:
    """Return the files of these that are in the storage."""
    return [name for name in names if default_storage.exists(name)]


def unnamed_files() -> list[str]:
    """Return the files that are recorded as staged or to be deleted."""
    records = [*StagedFiles.objects.all(), *FileDeletion.objects.all()]
    return [name for record in records for name in record.names]
