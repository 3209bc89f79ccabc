"""`manage.py verify_batching`: check whether a model generates the same pictures in a batch as one by one."""

import math
from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any, NamedTuple

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from PIL import Image

from dreamsite.worker_setup import worker_setups
from generation.images import samples
from generation.images.differences import difference
from generation.models import DiffusionModel
from generation.parameters import ImageToImageParameters, bounds
from generation.recipes import ModelReference, plan, traits_of

if TYPE_CHECKING:
    from generation.engine.batches import BatchItem
    from generation.engine.engine import Engine

MIN_PSNR = 40.0
"""Decibels. At 40 the values of a picture, 0 to 255, differ by 2.5 (root mean square), which is not visible.

Measured on the bundled model with 20 steps, 4 pictures, one and two threads: at least 91 dB in float32 and 47 dB in bfloat16,
where only rounding differs; at most 26 dB with the prompt or negative prompt of another request, less than 40 with its seed.
"""

_SIDE = 256
_PROMPTS = (
    "make it night",
    "turn it into a pencil sketch",
    "make it winter",
    "make it look like an oil painting",
    "make it black and white",
    "make it autumn",
)
_NEGATIVE_PROMPTS = ("blurry", "people", "text and watermarks", "dark")


class Command(BaseCommand):
    help = "Compare pictures of one batch with the same pictures one by one, and allow batches for the model or not."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "model_id", metavar="MODEL", help="A model of the admin's list, such as stabilityai/sd-turbo."
        )
        parser.add_argument(
            "--images", type=int, default=4, help="Number of requests, each for one picture (default 4)."
        )
        parser.add_argument(
            "--steps", type=int, help="Steps of each (default: those that the model recommends, else 20)."
        )

    def handle(self, *args: Any, model_id: str, images: int, steps: int | None, **options: Any) -> None:
        max_steps = int(bounds(ImageToImageParameters.model_fields["num_inference_steps"])["le"])
        if images < 2:
            raise CommandError("--images must be at least 2.")
        if steps is not None and not 2 <= steps <= max_steps:
            raise CommandError(f"--steps must be from 2 to {max_steps}.")
        row = DiffusionModel.objects.filter(pk=model_id).first()
        if row is None:
            model_ids = ", ".join(DiffusionModel.objects.values_list("pk", flat=True))
            raise CommandError(f"There is no model {model_id!r}; add it in the admin, or choose one of {model_ids}.")
        model = row.reference()
        try:
            fingerprint = self._compare(
                model, images, steps or int(traits_of(model).recommended.get("num_inference_steps", 20))
            )
        except CommandError:
            _store(model, "")
            raise
        _store(model, fingerprint)
        self.stdout.write(f"{model_id} makes the same pictures in a batch: compatible requests may share one.")

    def _compare(self, model: ModelReference, images: int, steps: int) -> str:
        """Print how much pictures of a batch differ from those generated alone. Return the fingerprint of the model.

        Raises `CommandError` if they differ too much.
        """
        # Imported here: torch takes seconds to load.
        from generation.engine.engine import Engine, EngineSettings

        engine = Engine(
            EngineSettings(
                models_dir=settings.MODELS_DIR,
                device=settings.DEVICE,
                dtype=settings.DTYPE,
                threads=worker_setups(settings.DEVICE)[0].threads,
                offline=settings.MODELS_OFFLINE,
            )
        )
        items = _batch_items(model, images, steps)
        effective_steps = items[0].recipe.num_inference_steps
        self.stdout.write(
            f"Making {images} different pictures of {effective_steps} steps, one by one and in a batch ..."
        )
        self.stdout.flush()
        singles = [_run(engine, [item]) for item in items]
        batch = _run(engine, items)
        if batch.steps != singles[0].steps:
            raise CommandError(
                f"{model.id} may not be batched: the batch was not made in one call, since memory is short or the model "
                "breaks with several requests; the log says which. Fewer --images may help."
            )
        worst = math.inf
        for number, (single, picture) in enumerate(zip(singles, batch.pictures, strict=True), start=1):
            largest, psnr = difference(single.pictures[0], picture)
            worst = min(worst, psnr)
            self.stdout.write(f"picture {number}: largest difference {largest} of 255, PSNR {psnr:.1f} dB")
        self.stdout.write(
            f"one by one {sum(single.seconds for single in singles):.1f} s, in a batch {batch.seconds:.1f} s"
        )
        if worst < MIN_PSNR:
            raise CommandError(
                f"{model.id} may not be batched: PSNR must be {MIN_PSNR:g} dB or more for every picture, "
                f"the worst has {worst:.1f}."
            )
        proven = engine.fingerprints.get(model.id)
        if proven is None:
            raise CommandError(f"The files of {model.id} have changed meanwhile; run the command again.")
        return proven


class _Run(NamedTuple):
    """The pictures of one run. `seconds` are without loading the model; `steps` are those of all its calls."""

    pictures: list[Image.Image]
    seconds: float
    steps: int


def _batch_items(model: ModelReference, count: int, steps: int) -> "list[BatchItem]":
    """Return requests that differ much in all that may differ within a batch, so that a mix-up is noticed."""
    from generation.engine.batches import BatchItem

    photo = Image.open(samples.PHOTO).convert("RGB")
    items = []
    for index in range(count):
        share = index / (count - 1)
        left, upper = round(share * (photo.width - _SIDE)), round((1 - share) * (photo.height - _SIDE))
        parameters = ImageToImageParameters(
            prompt=_PROMPTS[index % len(_PROMPTS)],
            negative_prompt=_NEGATIVE_PROMPTS[index % len(_NEGATIVE_PROMPTS)],
            guidance_scale=3 + 9 * share,
            image_guidance_scale=1.2 + 0.8 * share,
            seed=1000 * index,
            num_inference_steps=steps,
            safety_check=False,
        )
        recipe, _ = plan(parameters, model, [], (_SIDE, _SIDE))
        items.append(BatchItem(recipe, photo.crop((left, upper, left + _SIDE, upper + _SIDE))))
    return items


def _run(engine: "Engine", items: "list[BatchItem]") -> _Run:
    """Generate one picture for each item. Raises `CommandError` if one fails."""
    from generation.engine.errors import EngineError

    pictures, seconds, total_steps = [], 0.0, [0]
    for outcome in engine.run_batch(items, lambda done, of, phase: total_steps.append(of)):
        if isinstance(outcome, EngineError):
            raise CommandError(f"{items[0].recipe.model.id} cannot be run: {outcome.message}")
        pictures.append(outcome.pictures[0].image)
        seconds = sum(outcome.timings.values()) - outcome.timings["loading"]
    return _Run(pictures, seconds, total_steps[-1])


def _store(model: ModelReference, result: str) -> None:
    DiffusionModel.objects.filter(pk=model.id).update(batching_verified=result)
