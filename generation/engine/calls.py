"""One call of a pipeline, for images of one recipe or of several compatible ones."""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image

from generation.engine.canvas import Box, pad_to_multiple
from generation.engine.errors import ModelFailed
from generation.engine.guidance import per_image, sound_guidance
from generation.engine.pipelines import WarmPipeline
from generation.engine.progress import ProgressSlice
from generation.engine.prompts import truncation_warnings
from generation.recipes import Recipe, traits_of

CallPreviewSink = Callable[[Callable[[], list[Image.Image]]], None]
"""Like `progress.PreviewSink`, for one call: the function makes one small picture per image job, or an empty list."""


@dataclass(frozen=True)
class ImageJob:
    """One image of a call, with its own seed and guidance. The result is the part `box` of `canvas`, the padded input."""

    recipe: Recipe
    seed: int
    canvas: Image.Image
    box: Box
    guidance_scale: float
    image_guidance_scale: float


def prepare(warm: WarmPipeline, recipe: Recipe, picture: Image.Image) -> tuple[list[ImageJob], list[str]]:
    """Return one image job per seed of the recipe, and warnings about values without effect."""
    canvas, box = pad_to_multiple(picture, (recipe.width, recipe.height), traits_of(recipe.model))
    guidance, image_guidance, warnings = sound_guidance(recipe)
    warnings += truncation_warnings(warm.pipe, "prompt", recipe.prompt)
    if recipe.negative_prompt and "negative_prompt" not in traits_of(recipe.model).without_effect:
        if "negative_prompt" not in warm.arguments:
            warnings.append(f"negative_prompt has no effect on {recipe.model.id}.")
        elif not recipe.is_guided:
            warnings.append("negative_prompt had no effect, since it needs a guidance_scale above 1.")
        else:
            warnings += truncation_warnings(warm.pipe, "negative_prompt", recipe.negative_prompt)
    return [ImageJob(recipe, seed, canvas, box, guidance, image_guidance) for seed in recipe.seeds], warnings


def call(
    warm: WarmPipeline, jobs: Sequence[ImageJob], report: ProgressSlice, on_preview: CallPreviewSink | None
) -> list[Image.Image]:
    """Return the image of each job; the recipes must share one `batch_key`.

    Raises `ModelFailed` if the latents overflow, and any error of diffusers.
    """
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
        elif on_preview is not None:
            on_preview(make_previews)
        return {}

    def make_previews() -> list[Image.Image]:
        return warm.previews.make([(job.canvas.size, job.box) for job in jobs])

    report(0, 1, "encoding")
    hook = warm.denoiser.register_forward_pre_hook(before_first_step)
    try:
        with torch.inference_mode(), nullcontext() if on_preview is None else warm.previews.recording():
            # CPU generators, so that all devices start from the same noise.
            generators = [torch.Generator().manual_seed(job.seed) for job in jobs]
            images: list[Image.Image] = pipe(
                **_arguments(warm, jobs), generator=generators, callback_on_step_end=after_step
            ).images
        return [_crop(image, job) for image, job in zip(images, jobs, strict=True)]
    finally:
        hook.remove()
        # Some pipelines switch the autoencoder to float32 while decoding; a call that fails there does not switch back.
        vae = getattr(pipe, "vae", None)
        if vae is not None and vae.dtype != warm.dtype:
            vae.to(warm.dtype)


def _arguments(warm: WarmPipeline, jobs: Sequence[ImageJob]) -> dict[str, Any]:
    """Return the arguments for this pipeline: a list where images may differ, one value where they agree."""
    shared, canvas = jobs[0].recipe, jobs[0].canvas
    negative_prompts = [job.recipe.negative_prompt for job in jobs]
    arguments = {
        "prompt": [job.recipe.prompt for job in jobs],
        # Empty ones would switch off the zero embedding that SDXL was trained with.
        "negative_prompt": negative_prompts if any(negative_prompts) else None,
        "image": [job.canvas for job in jobs],
        "width": canvas.width,
        "height": canvas.height,
        "strength": shared.strength,
        "num_inference_steps": shared.num_inference_steps,
        "guidance_scale": per_image([job.guidance_scale for job in jobs]),
        "image_guidance_scale": per_image([job.image_guidance_scale for job in jobs]),
        "output_type": "pil",
    }
    return {name: value for name, value in arguments.items() if name in warm.arguments and value is not None}


def _crop(image: Image.Image, job: ImageJob) -> Image.Image:
    size = job.canvas.size
    if image.size != size:  # some pipelines choose another output size
        image = image.resize(size, Image.Resampling.LANCZOS)
    return image if job.box == (0, 0, *size) else image.crop(job.box)
