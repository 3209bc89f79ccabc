"""Answer a request that repeats an earlier one of its user, seed included, with the pictures that are kept.

They are what a run would make: the recipe and the inputs are the same, and a worker has the model loaded with all that made
them then. A model that no worker has loaded is run, since nobody knows what its files are now.
"""

import json
from collections.abc import Iterable
from functools import partial
from hashlib import sha256
from typing import Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.utils import timezone
from redis import RedisError

from generation.broker import workers
from generation.images import certificates, storage
from generation.images.inputs import Inputs
from generation.models import Environment, GeneratedImage, Generation, State
from generation.models.review import Review, ReviewDecision
from generation.parameters import ImageToImageParameters, OutputFormat
from generation.recipes import Recipe, traits_of

_MAX_TRIED = 5
"""How many earlier requests are looked at; the newest is nearly always the one."""


def result_key(recipe: Recipe, parameters: ImageToImageParameters, inputs: Inputs) -> str | None:
    """Return 32 hexadecimal digits, equal for requests of the same pictures and files; None while the input is not there."""
    if inputs.picture is None:
        return None
    sources = [inputs.picture, *inputs.references]
    digests = [source.sha256 for source in sources] + ([inputs.mask.sha256] if inputs.mask else [])
    quality = None if parameters.output_format is OutputFormat.PNG else parameters.output_quality
    values = recipe.model_dump(mode="json", exclude=set(traits_of(recipe.model).without_effect))
    parts = [digests, values, parameters.output_format, quality]
    return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def answer(draft: Generation) -> None:
    """Let an unsaved generation be the answer with kept pictures, at no cost, if there are such."""
    kept = _find(draft)
    if kept is None:
        return
    draft.reused_from = kept
    draft.state, draft.started, draft.finished = State.SUCCEEDED, timezone.now(), timezone.now()
    draft.cost = 0.0
    draft.environment, draft.calls = kept.environment, kept.calls
    draft.output_bytes = kept.output_bytes
    draft.run_warnings = kept.run_warnings or 0
    draft.warnings = [*draft.warnings, *kept.warnings[len(kept.warnings) - draft.run_warnings :]]


def images(draft: Generation, kept: Generation) -> list[GeneratedImage]:
    """Return the unsaved rows of the kept pictures, judged as if they were new, with names of their own for the files."""
    stem = partial(storage.output_stem, draft.pk, draft.created, draft.attempt)
    rows = list(kept.images.all())
    digests = [row.recipe_digest for row in rows]
    confirmed = ReviewDecision.confirmed_digests(digests)
    made = [
        GeneratedImage(
            generation=draft,
            index=row.index,
            seed=row.seed,
            file=f"{stem(row.index)}.{row.extension}",
            thumbnail=f"{stem(row.index)}-small.webp",
            width=row.width,
            height=row.height,
            nsfw=row.is_flagged_by_checker or digest in confirmed,
            nsfw_score=row.nsfw_score,
            checker=row.checker,
            threshold=row.threshold,
            watermark=row.watermark,
        )
        for row, digest in zip(rows, digests, strict=True)
    ]
    for image in made:
        image.await_review(settings.REVIEW_SAMPLE if image.is_checked else settings.REVIEW_UNCHECKED_SAMPLE)
    draft.is_flagged = any(image.nsfw for image in made)
    return made


def copy_files(made: Iterable[GeneratedImage], kept: Generation) -> None:
    """Copy the kept files to the names of these rows, so that each generation can be deleted alone. Raises `StorageFailed`."""
    for image, row in zip(made, kept.images.all(), strict=True):
        storage.copy(str(row.file.name), str(image.file.name))
        storage.copy(str(row.thumbnail.name), str(image.thumbnail.name))


def _find(draft: Generation) -> Generation | None:
    rows = Generation.objects.owned_by(draft.user).filter(
        result_key=draft.result_key, state=State.SUCCEEDED, reused_from=None
    )
    rows = (
        rows.exclude(environment=None).select_related("environment", "model").prefetch_related("images", "references")
    )
    return next((row for row in rows.order_by("-pk")[:_MAX_TRIED] if _is_current(row) and _is_whole(row)), None)


def _is_whole(row: Generation) -> bool:
    """Return whether all files are there, and no reviewer has hidden one."""
    made = list(row.images.all())
    hidden = (Review.CONFIRMED, Review.ESCALATED)
    if not made or any(image.original or not image.file or image.review in hidden for image in made):
        return False
    return all(default_storage.exists(str(file)) for image in made for file in (image.file.name, image.thumbnail.name))


def _is_current(row: Generation) -> bool:
    """Return whether a worker would make them with the same: see `WorkerInfo.environments`."""
    values: dict[str, Any] = {**row.environment.values} if row.environment else {}
    if values.pop("watermark", None) is not row.model.has_watermark:
        return False
    if values.pop("watermark_key", None) not in (None, certificates.own_key_name()):
        return False
    loras = set(values["loras"].values())
    without_loras = Environment.objects.digest({**values, "loras": {}})
    try:
        ready = workers.ready()
    except RedisError:
        return False
    return any(
        worker.environments.get(row.model_id) == without_loras and loras <= set(worker.loras) for worker in ready
    )
