"""Makes the pictures of a recipe. A worker builds one Engine and is its only caller; it is not safe for threads."""

import logging
import math
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from generation.engine import catalog, safety
from generation.engine.canvas import lay_out
from generation.engine.devices import DTYPES, choose_device, is_out_of_memory, memory_budget, release_memory
from generation.engine.errors import EngineError, ModelFailed, OutOfMemory
from generation.engine.pipelines import WarmPipeline, WarmPipelines, expected_warnings_ignored, quieten
from generation.engine.prompts import unread
from generation.recipes import Family, ModelReference, Recipe, traits_of

log = logging.getLogger(__name__)

OnStep = Callable[[int, int, str], None]
"""Called with steps done, of how many, and the phase: loading, encoding, denoising, decoding or safety.

What it raises ends the run.
"""


@dataclass(frozen=True)
class EngineSettings:
    """How to run on this machine.

    `models_dir` holds models as `<id>` directories, and the hub's cache as `hub`. `device` is auto, cpu, cuda, cuda:1,
    mps; `dtype` auto, float32, bfloat16, float16. `memory_budget` is bytes for warm pipelines, None a share of what
    there is. `safety_threshold` is 0 to 1, None the checker's own. Raises ValueError for a value that is none of these.
    """

    models_dir: Path
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 1
    offline: bool = False
    memory_budget: int | None = None
    safety_checker: str = "opennsfw"
    safety_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.device.split(":")[0] not in {"auto", "cpu", "cuda", "mps"}:
            raise ValueError(f"device must be auto, cpu, cuda, cuda:<number> or mps, not {self.device!r}")
        if self.dtype != "auto" and self.dtype not in DTYPES:
            raise ValueError(f"dtype must be auto, {', '.join(DTYPES)}, not {self.dtype!r}")
        if self.safety_checker not in safety.CHECKERS:
            raise ValueError(f"safety_checker must be {' or '.join(safety.CHECKERS)}, not {self.safety_checker!r}")
        if self.threads < 1:
            raise ValueError(f"threads must be 1 or more, not {self.threads}")


@dataclass(frozen=True)
class Picture:
    """One result. `checker` is empty, `score` and `threshold` None when it was not judged."""

    image: Image.Image
    seed: int
    nsfw: bool = False
    score: float | None = None
    checker: str = ""
    threshold: float | None = None


@dataclass(frozen=True)
class Result:
    """Pictures in the order of the recipe's seeds, warnings in words, seconds by phase."""

    pictures: list[Picture]
    warnings: list[str]
    timings: dict[str, float]


class Engine:
    """Warm models, their LoRAs and the safety checker."""

    def __init__(self, settings: EngineSettings) -> None:
        quieten()
        torch.set_num_threads(settings.threads)
        self._settings = settings
        self._device = choose_device(settings.device)
        budget = memory_budget(self._device) if settings.memory_budget is None else settings.memory_budget
        self._pipelines = WarmPipelines(settings.models_dir, settings.offline, self._device, settings.dtype, budget)
        self._judge: safety.Judge | None = None

    @property
    def warm_models(self) -> list[str]:
        """Ids of the models that are loaded, least recently used first."""
        return self._pipelines.models

    def warm(self, model: ModelReference) -> None:
        """Load the model and the safety checker and run one small step. Raises what `run` raises."""
        side = traits_of(model).min_side
        recipe = Recipe(
            model=model,
            loras=(),
            prompt="",
            negative_prompt="",
            strength=1,
            guidance_scale=traits_of(model).forced.get("guidance_scale", 2),
            image_guidance_scale=1.5,
            num_inference_steps=1,
            seeds=(0,),
            safety_check=True,
            width=side,
            height=side,
        )
        self.run(recipe, Image.new("RGB", (side, side), "grey"), lambda done, of, phase: None)

    def run(self, recipe: Recipe, picture: Image.Image, on_step: OnStep) -> Result:
        """The pictures of this recipe, made of an RGB picture of any size.

        Raises what `on_step` raised, within one step and without decoding, or an `EngineError`.
        """
        progress = _Progress(on_step)
        try:
            with expected_warnings_ignored():
                return self._run(recipe, picture, progress)
        except Exception as error:
            if error is progress.raised or isinstance(error, EngineError):
                raise
            if is_out_of_memory(error):
                raise OutOfMemory from error
            raise ModelFailed(f"Model '{recipe.model.id}' failed while it was making the pictures.") from error

    def _run(self, recipe: Recipe, picture: Image.Image, progress: "_Progress") -> Result:
        steps = _expected_steps(recipe)
        progress(0, steps, "loading")
        warm = self._pipelines.get(recipe.model)
        with warm.loras.applied(recipe.loras) as warnings:
            self._pipelines.trim()
            canvas, box = lay_out(picture, (recipe.width, recipe.height), traits_of(recipe.model))
            arguments, changed = _arguments(warm, recipe, canvas)
            images = self._make(warm, arguments, recipe.seeds, steps, progress)
        results = [_cut(image, canvas.size, box) for image in images]
        pictures = self._judged(results, recipe, progress)
        return Result(pictures, warnings + changed, progress.finish())

    def _make(
        self, warm: WarmPipeline, arguments: dict[str, Any], seeds: Sequence[int], steps: int, progress: "_Progress"
    ) -> list[Image.Image]:
        """All images in one batch if memory allows, else in halves of it."""
        images: list[Image.Image] = []
        size = len(seeds)
        calls = 0
        while len(images) < len(seeds):
            left = seeds[len(images) :]
            of = steps * (calls + math.ceil(len(left) / size))
            try:
                images += _call(warm, arguments, left[:size], _Span(progress, calls * steps, steps, of))
                calls += 1
                continue
            except Exception as error:
                if error is progress.raised or not is_out_of_memory(error):
                    raise
                failure = error
            # The frames of the failed call still hold its tensors.
            traceback.clear_frames(failure.__traceback__)
            freed = self._pipelines.drop_idle()
            release_memory(self._device)
            if size == 1 and not freed:
                raise OutOfMemory from failure
            size = max(1, size // 2)
            log.warning("out of memory, trying with batches of %d", size)
        return images

    def _judged(self, images: list[Image.Image], recipe: Recipe, progress: "_Progress") -> list[Picture]:
        if not recipe.safety_check:
            return [Picture(image, seed) for image, seed in zip(images, recipe.seeds, strict=True)]
        progress(progress.of, progress.of, "safety")
        if self._judge is None:
            self._judge = self._load_judge()
        return [
            Picture(image, seed, verdict.nsfw, verdict.score, verdict.checker, verdict.threshold)
            for image, seed, verdict in zip(images, recipe.seeds, self._judge(images), strict=True)
        ]

    def _load_judge(self) -> safety.Judge:
        settings = self._settings
        if settings.safety_checker == "opennsfw":
            return safety.open_nsfw(settings.safety_threshold, settings.threads)
        directory = catalog.find_safety_checker(settings.models_dir, settings.offline)
        return safety.stable_diffusion(settings.safety_threshold, directory, self._device)


class _Progress:
    """Tells `on_step` where the run is, keeps what it raised, and measures the seconds of each phase."""

    def __init__(self, on_step: OnStep) -> None:
        self.raised: BaseException | None = None
        self.of = 0
        self._on_step = on_step
        self._timings: dict[str, float] = {}
        self._phase = ""
        self._since = 0.0

    def __call__(self, done: int, of: int, phase: str) -> None:
        self.of = of
        if phase != self._phase:
            self.finish()
            self._phase, self._since = phase, time.perf_counter()
        try:
            self._on_step(done, of, phase)
        except BaseException as error:
            self.raised = error
            raise

    def finish(self) -> dict[str, float]:
        if self._phase:
            self._timings[self._phase] = self._timings.get(self._phase, 0.0) + time.perf_counter() - self._since
            self._phase = ""
        return self._timings


@dataclass(frozen=True)
class _Span:
    """The part of a run that one call of the pipeline makes: `steps` of all `of`, after those made `before`."""

    progress: _Progress
    before: int
    steps: int
    of: int

    def __call__(self, done: int, calls: int, phase: str) -> None:
        # Some schedulers call the model more often than there are steps: what is told are the steps asked for.
        self.progress(self.before + self.steps * done // calls, self.of, phase)


def _call(warm: WarmPipeline, arguments: dict[str, Any], seeds: Sequence[int], report: _Span) -> list[Image.Image]:
    """One call of the pipeline for these seeds."""
    pipe = warm.pipe

    def before_first_step(*_: object) -> None:
        hook.remove()
        report(0, 1, "denoising")

    def after_step(pipe: Any, index: int, _: object, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        report(index + 1, pipe.num_timesteps, "denoising")
        if index + 1 == pipe.num_timesteps:
            if not torch.isfinite(tensors["latents"]).all():
                raise ModelFailed("The model's numbers overflowed; other parameters may help.")
            report(1, 1, "decoding")
        return {}

    report(0, 1, "encoding")
    hook = warm.denoiser.register_forward_pre_hook(before_first_step)
    try:
        with torch.inference_mode():
            # CPU generators, so that all devices start from the same noise.
            generators = [torch.Generator().manual_seed(seed) for seed in seeds]
            made: list[Image.Image] = pipe(
                **arguments, num_images_per_prompt=len(seeds), generator=generators, callback_on_step_end=after_step
            ).images
        return made
    finally:
        hook.remove()
        # Some pipelines raise the autoencoder to float32 for a while; a call that broke in there leaves it so.
        vae = getattr(pipe, "vae", None)
        if vae is not None and vae.dtype != warm.dtype:
            vae.to(warm.dtype)


def _arguments(warm: WarmPipeline, recipe: Recipe, canvas: Image.Image) -> tuple[dict[str, Any], list[str]]:
    """The arguments that this pipeline takes, and warnings for what will not be as asked."""
    guidance, image_guidance, warnings = _sound_guidance(recipe)
    wanted = {
        "prompt": recipe.prompt,
        # An empty one would switch off the zero embedding that SDXL was trained with.
        "negative_prompt": recipe.negative_prompt or None,
        "image": canvas,
        "width": canvas.width,
        "height": canvas.height,
        "strength": recipe.strength,
        "num_inference_steps": recipe.num_inference_steps,
        "guidance_scale": guidance,
        "image_guidance_scale": image_guidance,
        "output_type": "pil",
    }
    arguments = {name: value for name, value in wanted.items() if name in warm.arguments and value is not None}
    warnings += unread(warm.pipe, "prompt", recipe.prompt)
    if recipe.negative_prompt and "negative_prompt" not in traits_of(recipe.model).without_effect:
        if "negative_prompt" not in arguments:
            warnings.append(f"negative_prompt has no effect on {recipe.model.id}.")
        elif guidance <= 1:
            warnings.append("negative_prompt had no effect, since it needs a guidance_scale above 1.")
        else:
            warnings += unread(warm.pipe, "negative_prompt", recipe.negative_prompt)
    return arguments, warnings


def _sound_guidance(recipe: Recipe) -> tuple[float, float, list[str]]:
    """Guidance by text and by picture, and warnings.

    InstructPix2Pix switches both off when the text's is not above 1 or the picture's is below 1. So the picture's is at
    least 1, and where it is wanted a text guidance of 1 or less, which is none, is given as barely above 1.
    """
    guidance, image_guidance = recipe.guidance_scale, recipe.image_guidance_scale
    if recipe.model.family is not Family.INSTRUCT_PIX2PIX:
        return guidance, image_guidance, []
    warnings = []
    if image_guidance < 1:
        warnings.append(f"image_guidance_scale {image_guidance:g} was raised to 1, the least for {recipe.model.id}.")
        image_guidance = 1.0
    if guidance <= 1 < image_guidance:
        guidance = math.nextafter(1, 2)
    return guidance, image_guidance, warnings


def _expected_steps(recipe: Recipe) -> int:
    if "strength" in traits_of(recipe.model).without_effect:
        return recipe.num_inference_steps
    return max(1, int(recipe.num_inference_steps * recipe.strength))


def _cut(image: Image.Image, size: tuple[int, int], box: tuple[int, int, int, int]) -> Image.Image:
    if image.size != size:  # some pipelines choose a size of their own
        image = image.resize(size, Image.Resampling.LANCZOS)
    return image if box == (0, 0, *size) else image.crop(box)
