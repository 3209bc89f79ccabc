"""Generations in every state, with small real files, like the ones that submission and worker store."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from typing import Any

from django.core.files.storage import default_storage
from django.utils import timezone
from PIL import Image, ImageStat
from uuid_utils.compat import uuid7

from accounts.models import ApiToken, User
from generation.images import storage
from generation.images.input_files import encode_lossless
from generation.images.uploads import THUMBNAIL_SIDE, thumbnail
from generation.library import search
from generation.models import (
    DiffusionModel,
    Environment,
    FileDeletion,
    GeneratedImage,
    Generation,
    ReferencePicture,
    StagedFiles,
    State,
)
from generation.models.review import Review
from generation.parameters import ErrorCode, ImageToImageParameters
from generation.recipes import plan
from tests.support.pictures import encoded, scene

PHASES = {"loading": 0.0, "encoding": 0.06, "denoising": 1.9, "decoding": 0.29, "safety": 0.04, "storing": 0.05}

ENVIRONMENT: dict[str, Any] = {
    "packages": {"dreamsite": "1.0.0", "torch": "2.13.0+cpu", "diffusers": "0.42.0"},
    "pipeline": "StableDiffusionInstructPix2PixPipeline",
    "scheduler": "LCMScheduler",
    "dtype": "float32",
    "device": "A processor, AVX512",
    "threads": 1,
    "memory_plan": "whole",
    "safety_checker": "opennsfw",
    "files": {"unet/diffusion_pytorch_model.safetensors": "fb" * 32, "unet/config.json": "10" * 32},
    "loras": {},
    "watermark": True,
    "watermark_key": "5e1f0c7a",
}


def bundled_model() -> DiffusionModel:
    """Return the model that migrations create; it is created again if an earlier test has flushed the database."""
    model, _ = DiffusionModel.objects.get_or_create(
        id="dreamsite/tiny-edit", defaults={"family": "instruct-pix2pix", "enabled": True, "is_default": True}
    )
    return model


def half_mask(width: int, height: int) -> Image.Image:
    """Return a mask that lets the upper half of a picture of this size change."""
    mask = Image.new("L", (width, height))
    mask.paste(255, (0, 0, width, height // 2))
    return mask


def make_generation(
    user: User,
    state: State = State.SUCCEEDED,
    *,
    picture: Image.Image | None = None,
    results: Sequence[Image.Image] | None = None,
    flagged: Sequence[int] = (),
    sampled: Sequence[int] = (),
    mask: Image.Image | None = None,
    references: Sequence[Image.Image] = (),
    token: ApiToken | None = None,
    created: datetime | None = None,
    **fields: Any,
) -> Generation:
    """Create a generation of this user in this state. `fields` are request fields.

    `flagged` and `sampled` are indexes of results, `mask` is white where the picture may change.
    """
    picture = picture or scene(96, 64)
    parameters = ImageToImageParameters(**{"prompt": "make it night", "num_inference_steps": 20, "seed": 1207} | fields)
    generation = _new_row(user, state, picture, parameters, created or timezone.now(), mask)
    generation.token = token
    name = f"test/{generation.pk}"
    generation.input = storage.store(f"{name}.webp", encode_lossless(picture))
    generation.input_thumbnail = storage.store(f"{name}-small.webp", thumbnail(picture, THUMBNAIL_SIDE))
    if mask:
        generation.mask = storage.store(f"{name}-mask.png", encoded(mask))
        generation.mask_thumbnail = storage.store(f"{name}-mask-small.webp", thumbnail(mask, THUMBNAIL_SIDE))
    generation.input_bytes = generation.input.size + generation.input_thumbnail.size
    if state == State.SUCCEEDED:
        generation.is_flagged = parameters.safety_check and bool(flagged)
    generation.save(force_insert=True)
    search.index(generation)
    _add_references(generation, references, name)
    if state == State.SUCCEEDED:
        _add_images(
            generation, results or [picture.rotate(180)] * parameters.num_images_per_prompt, flagged, name, sampled
        )
        generation.output_bytes = sum(image.file.size + image.thumbnail.size for image in generation.images.all())
        generation.save(update_fields=["output_bytes"])
    return generation


def _new_row(
    user: User,
    state: State,
    picture: Image.Image,
    parameters: ImageToImageParameters,
    created: datetime,
    mask: Image.Image | None,
) -> Generation:
    """Return an unsaved generation without files, with the fields that a worker sets before this state."""
    model = bundled_model()
    open_box = mask.getbbox() if mask else None
    recipe, warnings = plan(parameters, model.reference(), [], picture.size, model.limits(), open_box)
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
        mask_sha256=sha256(encoded(mask)).hexdigest() if mask else "",
        open_share=ImageStat.Stat(mask).mean[0] / 255 if mask else None,
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
        generation.environment = Environment.objects.of(ENVIRONMENT)
        images = parameters.num_images_per_prompt
        generation.calls = [[images, index] for index in range(images)]
    return generation


def _add_references(generation: Generation, references: Sequence[Image.Image], name: str) -> None:
    for index, picture in enumerate(references):
        ReferencePicture.objects.create(
            generation=generation,
            index=index,
            file=storage.store(f"{name}-reference-{index}.webp", encode_lossless(picture)),
            thumbnail=storage.store(f"{name}-reference-{index}-small.webp", thumbnail(picture, THUMBNAIL_SIDE)),
            sha256=f"{index:064x}",
            format="PNG",
            width=picture.width,
            height=picture.height,
        )


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
    """Return the names of the input and its thumbnail, empty if removed, and of the files of the results and other inputs."""
    parts = [generation.mask, generation.mask_thumbnail] if generation.mask else []
    for row in (*generation.references.all(), *generation.images.all()):
        parts += [row.file, row.thumbnail]
    return [str(file.name) for file in (generation.input, generation.input_thumbnail, *parts)]


def existing(names: list[str]) -> list[str]:
    """Return the files of these that are in the storage."""
    return [name for name in names if default_storage.exists(name)]


def unnamed_files() -> list[str]:
    """Return the files that are recorded as staged or to be deleted."""
    records = [*StagedFiles.objects.all(), *FileDeletion.objects.all()]
    return [name for record in records for name in record.names]
