"""One call of a pipeline, for images of one recipe or of several compatible ones."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from PIL import Image

from generation.engine.autoencoders import autoencoder_of
from generation.engine.canvas import Box, fit_back, pad
from generation.engine.errors import ModelFailed
from generation.engine.guidance import per_image, sound_guidance
from generation.engine.observation import results_observed
from generation.engine.pipelines import WarmPipeline
from generation.engine.progress import ProgressSlice
from generation.engine.prompts import readable, truncation_warnings
from generation.family_traits import ImageUse, StepSource, Traits
from generation.recipes import Recipe, traits_of

_OVERFLOW = "The model's numbers overflowed. Ask an administrator to set another DTYPE, such as bfloat16."
_NOT_FINITE = (
    "The model's numbers are not finite. Use a lower guidance_scale; if that does not help, its weights are damaged, and an "
    "administrator must fetch them again."
)

CallPreviewSink = Callable[[Callable[[], list[Image.Image]]], None]
"""Like `progress.PreviewSink`, for one call: the function makes one small picture per image job, or an empty list."""


@dataclass(frozen=True)
class ImageJob:
    """One image of a call, with its own seed and guidance. The picture is drawn in the part `box` of `canvas`, the input."""

    recipe: Recipe
    seed: int
    canvas: Image.Image
    box: Box
    guidance_scale: float
    image_guidance_scale: float


def prepare(warm: WarmPipeline, recipe: Recipe, picture: Image.Image) -> tuple[list[ImageJob], list[str]]:
    """Return one image job per seed of the recipe, and warnings about values without effect."""
    traits = traits_of(recipe.model)
    canvas, box = pad(picture, recipe)
    guidance, image_guidance, warnings = sound_guidance(recipe)
    warnings += truncation_warnings(warm.pipe, "prompt", recipe.prompt, traits.prompt_tokens)
    if recipe.negative_prompt and "negative_prompt" not in traits.without_effect:
        if recipe.is_guided:
            warnings += truncation_warnings(warm.pipe, "negative_prompt", recipe.negative_prompt, traits.prompt_tokens)
        else:
            minimum = f"{traits.guides_above:g}"
            warnings.append(f"negative_prompt had no effect, since it needs a guidance_scale above {minimum}.")
    return [ImageJob(recipe, seed, canvas, box, guidance, image_guidance) for seed in recipe.seeds], warnings


def call(
    warm: WarmPipeline, jobs: Sequence[ImageJob], report: ProgressSlice, on_preview: CallPreviewSink | None
) -> list[Image.Image]:
    """Return the image of each job; the recipes must share one `batch_key`.

    Raises `ModelFailed` if the latents overflow, and any error of diffusers.
    """
    pipe, traits = warm.pipe, traits_of(jobs[0].recipe.model)

    def before_first_step(*_: object) -> None:
        hook.remove()
        report(0, 1, "denoising")

    def after_step(index: int, of: int, latents: torch.Tensor) -> None:
        report(index + 1, of, "denoising")
        if index + 1 == of:
            if not torch.isfinite(latents).all():
                raise ModelFailed(not_finite(warm.dtype))
            report(1, 1, "decoding")
        elif on_preview is not None:
            on_preview(make_previews)

    def on_step_end(pipe: Any, index: int, _: object, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
        after_step(index, pipe.num_timesteps, tensors["latents"])
        return {}

    def on_prior_step_end(*_: object) -> dict[str, torch.Tensor]:
        report(0, 1, "encoding")
        return {}

    def make_previews() -> list[Image.Image]:
        return warm.previews.make([(job.canvas.size, job.box) for job in jobs])

    report(0, 1, "encoding")
    hook = warm.denoiser.register_forward_pre_hook(before_first_step)
    steps_of_scheduler = traits.step_source is StepSource.SCHEDULER
    try:
        with (
            torch.inference_mode(),
            torch.random.fork_rng(devices=[]),
            nullcontext() if on_preview is None else warm.previews.recording(),
            scheduler_steps(pipe.scheduler, after_step) if steps_of_scheduler else nullcontext(),
            finite_decoding(pipe, warm.dtype),
        ):
            # Some pipelines also draw from the global generator (OmniGen, JoyImage).
            torch.manual_seed(jobs[0].seed)
            # CPU generators, so that all devices start from the same noise.
            generators = [torch.Generator().manual_seed(job.seed) for job in jobs]
            arguments = _arguments(warm, jobs, traits)
            if not steps_of_scheduler:
                arguments["callback_on_step_end"] = on_step_end
            if "prior_callback_on_step_end" in warm.arguments:  # to be canceled there too
                arguments["prior_callback_on_step_end"] = on_prior_step_end
            arguments["generator"] = generators[0] if traits.image_use is ImageUse.REFERENCES else generators
            images: list[Image.Image] = getattr(pipe(**arguments), traits.output)
        return [fit_back(image, job.recipe, job.box) for image, job in zip(images, jobs, strict=True)]
    finally:
        hook.remove()
        # After an error, offloaded parts and the residuals of a step cache would be left for the next call.
        pipe.maybe_free_model_hooks()
        # Some pipelines switch the autoencoder to float32 while decoding; a call that fails there does not switch back.
        autoencoder = autoencoder_of(pipe)
        if autoencoder.dtype != warm.dtype:
            autoencoder.to(warm.dtype)


def scheduler_steps(
    scheduler: Any, after_step: Callable[[int, int, torch.Tensor], None]
) -> AbstractContextManager[None]:
    """Call `after_step` with index, number of steps and latents after each step of the scheduler within this context."""
    indices = count()

    def report_step(_: Any, result: Any) -> None:
        after_step(next(indices), len(scheduler.timesteps), result[0])

    return results_observed(scheduler, "step", report_step)


def not_finite(dtype: torch.dtype) -> str:
    """Return what to tell of numbers that are not finite: only float16 has a smaller range than others."""
    return _OVERFLOW if dtype is torch.float16 else _NOT_FINITE


def finite_decoding(pipe: Any, dtype: torch.dtype) -> AbstractContextManager[None]:
    """Raise `ModelFailed` if the autoencoder decodes to numbers that are not finite, of which PIL would make black."""

    def check(_: Any, result: Any) -> None:
        if not torch.isfinite(result[0] if isinstance(result, tuple) else result.sample).all():
            raise ModelFailed(not_finite(dtype))

    return results_observed(autoencoder_of(pipe), "decode", check)


def _arguments(warm: WarmPipeline, jobs: Sequence[ImageJob], traits: Traits) -> dict[str, Any]:
    """Return the arguments for this pipeline: a list where images may differ, one value where they agree."""
    shared, canvas = jobs[0].recipe, jobs[0].canvas

    def read(text: str) -> str:
        return readable(warm.pipe, text, traits.prompt_tokens)

    prompts: Any = [_model_prompt(read(job.recipe.prompt), traits) for job in jobs]
    negative_prompts: Any = [read(job.recipe.negative_prompt) or traits.empty_negative_prompt for job in jobs]
    if not any(negative_prompts):
        # Empty ones would switch off the zero embedding that SDXL was trained with.
        negative_prompts = None
    if traits.image_use is ImageUse.REFERENCES:
        prompts = prompts[0]
        negative_prompts = negative_prompts and negative_prompts[0]
    arguments = {
        "prompt": prompts,
        "negative_prompt": negative_prompts,
        "image": [job.canvas for job in jobs],
        "width": canvas.width,
        "height": canvas.height,
        "area": canvas.width * canvas.height,
        "strength": shared.strength,
        "num_inference_steps": shared.num_inference_steps,
        "guidance_scale": per_image([job.guidance_scale for job in jobs]),
        "image_guidance_scale": per_image([job.image_guidance_scale for job in jobs]),
        "output_type": "pil",
    }
    named = {traits.arguments.get(name, name): value for name, value in arguments.items()}
    known = {name: value for name, value in named.items() if name in warm.arguments and value is not None}
    return known | dict(traits.constants)


def _model_prompt(prompt: str, traits: Traits) -> str:
    return traits.prompt_template.format(prompt=prompt, prompt_json=json.dumps(prompt))
