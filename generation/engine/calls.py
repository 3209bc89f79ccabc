"""One call of a pipeline, for images of one recipe or of several compatible ones."""

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from PIL import Image

from generation.engine.autoencoders import autoencoder_of
from generation.engine.canvas import fit_back, pad, pad_mask
from generation.engine.compositing import KeptPicture, outside_kept
from generation.engine.errors import ModelFailed
from generation.engine.guidance import per_image, sound_guidance
from generation.engine.masks import MaskedPicture, in_cells
from generation.engine.observation import results_observed
from generation.engine.pipelines import WarmPipeline, arguments_of
from generation.engine.progress import ProgressSlice
from generation.engine.prompts import readable, truncation_warnings
from generation.engine.references import beside, within
from generation.family_traits import ImageUse, StepSource, Traits
from generation.inpainting import Box
from generation.recipes import Recipe, traits_of

_OVERFLOW = "The model's numbers overflowed. Ask an administrator to set another DTYPE, such as bfloat16."
_NOT_FINITE = (
    "The model's numbers are not finite. Use a lower guidance_scale; if that does not help, its weights are damaged, and an "
    "administrator must fetch them again."
)

_MASK = "mask_image"

CallPreviewSink = Callable[[Callable[[], list[Image.Image]]], None]
"""Like `progress.PreviewSink`, for one call: the function makes one small picture per image job, or an empty list."""


@dataclass(frozen=True)
class ImageJob:
    """One image of a call, with its own seed and guidance. The picture is drawn in the part `box` of `canvas`, the input.

    With a mask, `masked` is the upload that the drawn part is pasted into, and `mask` its mask on the canvas, black and white.
    """

    recipe: Recipe
    seed: int
    canvas: Image.Image
    box: Box
    guidance_scale: float
    image_guidance_scale: float
    masked: MaskedPicture | None = None
    mask: Image.Image | None = None
    references: Sequence[Image.Image] = ()


def prepare(
    warm: WarmPipeline,
    recipe: Recipe,
    picture: Image.Image,
    mask: Image.Image | None = None,
    references: Sequence[Image.Image] = (),
) -> tuple[list[ImageJob], list[str]]:
    """Return one image job per seed of the recipe, and warnings about values without effect.

    Raises ValueError if the recipe needs a mask or references and they are missing.
    """
    traits = traits_of(recipe.model)
    if len(references) != recipe.references:
        raise ValueError(f"the recipe has {recipe.references} references, not {len(references)}")
    masked = canvas_mask = None
    if recipe.inpainting:
        if mask is None or not recipe.inpainting.size == picture.size == mask.size:
            raise ValueError(f"the recipe needs a picture and a mask of {recipe.inpainting.size} pixels")
        masked = MaskedPicture(picture.convert("RGB"), mask, recipe.inpainting)
        picture, mask = masked.part
        canvas_mask = pad_mask(mask, recipe)
    canvas, box = pad(picture, recipe)
    scaled = [within(reference.convert("RGB"), canvas.width * canvas.height) for reference in references]
    guidance, image_guidance, warnings = sound_guidance(recipe)
    warnings += truncation_warnings(warm.pipe, "prompt", recipe.prompt, traits.prompt_tokens)
    if recipe.negative_prompt and "negative_prompt" not in traits.without_effect:
        if recipe.is_guided:
            warnings += truncation_warnings(warm.pipe, "negative_prompt", recipe.negative_prompt, traits.prompt_tokens)
        else:
            minimum = f"{traits.guides_above:g}"
            warnings.append(f"negative_prompt had no effect, since it needs a guidance_scale above {minimum}.")
    jobs = [
        ImageJob(recipe, seed, canvas, box, guidance, image_guidance, masked, canvas_mask, scaled)
        for seed in recipe.seeds
    ]
    return jobs, warnings


def call(
    warm: WarmPipeline, jobs: Sequence[ImageJob], report: ProgressSlice, on_preview: CallPreviewSink | None
) -> list[Image.Image]:
    """Return the image of each job; the recipes must share one `batch_key`.

    Raises `ModelFailed` if the latents overflow, and any error of diffusers.
    """
    shared, traits = jobs[0].recipe, traits_of(jobs[0].recipe.model)
    # The pipelines of diffusers for masks read one picture.
    pipe = warm.inpainter if shared.inpainting and not shared.references else warm.pipe
    names = arguments_of(pipe)

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
        made = warm.previews.make([(job.canvas.size, job.box) for job in jobs])
        return [job.masked.preview(small) if job.masked else small for job, small in zip(jobs, made, strict=False)]

    report(0, 1, "encoding")
    hook = warm.denoiser.register_forward_pre_hook(before_first_step)
    steps_of_scheduler = traits.step_source is StepSource.SCHEDULER
    try:
        with torch.inference_mode(), torch.random.fork_rng(devices=[]), ExitStack() as contexts:
            if shared.inpainting and _MASK not in names:
                kept = [KeptPicture(job.canvas, job.mask, job.seed) for job in jobs if job.mask]
                contexts.enter_context(outside_kept(pipe, traits.latents, kept))
            if on_preview is not None:
                contexts.enter_context(warm.previews.recording())
            if steps_of_scheduler:
                contexts.enter_context(scheduler_steps(pipe.scheduler, after_step))
            contexts.enter_context(finite_decoding(pipe, warm.dtype))
            # Some pipelines also draw from the global generator (OmniGen, JoyImage).
            torch.manual_seed(jobs[0].seed)
            # CPU generators, so that all devices start from the same noise.
            generators = [torch.Generator().manual_seed(job.seed) for job in jobs]
            arguments = _arguments(pipe, jobs, traits, names)
            if not steps_of_scheduler:
                arguments["callback_on_step_end"] = on_step_end
            if "prior_callback_on_step_end" in names:  # to be canceled there too
                arguments["prior_callback_on_step_end"] = on_prior_step_end
            arguments["generator"] = generators[0] if traits.image_use is ImageUse.REFERENCES else generators
            images: list[Image.Image] = getattr(pipe(**arguments), traits.output)
        return [_finish(image, job) for image, job in zip(images, jobs, strict=True)]
    finally:
        hook.remove()
        # After an error, offloaded parts and the residuals of a step cache would be left for the next call.
        pipe.maybe_free_model_hooks()
        # Some pipelines switch the autoencoder to float32 while decoding; a call that fails there does not switch back.
        autoencoder = autoencoder_of(pipe)
        if autoencoder.dtype != warm.dtype:
            autoencoder.to(warm.dtype)


def _finish(image: Image.Image, job: ImageJob) -> Image.Image:
    """Return the result from what the model drew."""
    drawn = fit_back(image, job.recipe, job.box)
    return job.masked.paste(drawn) if job.masked else drawn


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


def _arguments(pipe: Any, jobs: Sequence[ImageJob], traits: Traits, names: frozenset[str]) -> dict[str, Any]:
    """Return the arguments with these names for this pipeline: a list where images may differ, else one value."""
    shared, canvas = jobs[0].recipe, jobs[0].canvas

    def read(text: str) -> str:
        return readable(pipe, text, traits.prompt_tokens)

    prompts: Any = [_model_prompt(read(job.recipe.prompt), traits, 1 + len(job.references)) for job in jobs]
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
        "image": _images(jobs, traits),
        "width": canvas.width,
        "height": canvas.height,
        "area": canvas.width * canvas.height,
        # The pipelines for masks of models that edit would start from the picture.
        "strength": shared.strength if traits.has_strength else 1.0,
        "num_inference_steps": shared.num_inference_steps,
        "guidance_scale": per_image([job.guidance_scale for job in jobs]),
        "image_guidance_scale": per_image([job.image_guidance_scale for job in jobs]),
        "output_type": "pil",
    }
    if _MASK in names:
        arguments[_MASK] = [in_cells(job.mask, pipe.vae_scale_factor) for job in jobs if job.mask]
    named = {traits.arguments.get(name, name): value for name, value in arguments.items()}
    known = {name: value for name, value in named.items() if name in names and value is not None}
    return known | dict(traits.constants)


def _images(jobs: Sequence[ImageJob], traits: Traits) -> list[Image.Image]:
    if traits.image_use is ImageUse.REFERENCES:
        return [picture for job in jobs for picture in (job.canvas, *job.references)]
    return [beside(job.canvas, job.references) for job in jobs]


def _model_prompt(prompt: str, traits: Traits, pictures: int) -> str:
    names = "".join(traits.picture_name.format(number=number + 1) for number in range(pictures))
    return names + traits.prompt_template.format(prompt=prompt, prompt_json=json.dumps(prompt))
