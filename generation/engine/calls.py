"""One call of a pipeline, for images of one recipe or of several that may share it."""

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

OfferPictures = Callable[[Callable[[], list[Image.Image]]], None]
"""Like `progress.Offer`, for the shots of one call: small pictures of all of them, or none at all."""


@dataclass(frozen=True)
class ImageJob:
    """One image to make, and what is its own in a call. `box` is the wanted part of `canvas`, the picture laid out."""

    recipe: Recipe
    seed: int
    canvas: Image.Image
    box: Box
    guidance_scale: float
    image_guidance_scale: float


def prepare(warm: WarmPipeline, recipe: Recipe, picture: Image.Image) -> tuple[list[ImageJob], list[str]]:
    """The shots of this recipe, one for each seed, and warnings for what will not be as asked."""
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
    warm: WarmPipeline, shots: Sequence[ImageJob], report: ProgressSlice, offer: OfferPictures | None
) -> list[Image.Image]:
    """The images of these shots, whose recipes have one `batch_key`. Raises `ModelFailed`, or what diffusers raises."""
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
        elif offer is not None:
            offer(look)
        return {}

    def look() -> list[Image.Image]:
        return warm.previews.make([(shot.canvas.size, shot.box) for shot in shots])

    report(0, 1, "encoding")
    hook = warm.denoiser.register_forward_pre_hook(before_first_step)
    try:
        with torch.inference_mode(), nullcontext() if offer is None else warm.previews.watched():
            # CPU generators, so that all devices start from the same noise.
            generators = [torch.Generator().manual_seed(shot.seed) for shot in shots]
            images: list[Image.Image] = pipe(
                **_arguments(warm, shots), generator=generators, callback_on_step_end=after_step
            ).images
        return [_cut(image, shot) for image, shot in zip(images, shots, strict=True)]
    finally:
        hook.remove()
        # Some pipelines raise the autoencoder to float32 for a while; a call that broke in there leaves it so.
        vae = getattr(pipe, "vae", None)
        if vae is not None and vae.dtype != warm.dtype:
            vae.to(warm.dtype)


def _arguments(warm: WarmPipeline, shots: Sequence[ImageJob]) -> dict[str, Any]:
    """The arguments that this pipeline takes: lists of what each image has its own of, and what all of them share."""
    shared, canvas = shots[0].recipe, shots[0].canvas
    negative_prompts = [shot.recipe.negative_prompt for shot in shots]
    wanted = {
        "prompt": [shot.recipe.prompt for shot in shots],
        # Empty ones would switch off the zero embedding that SDXL was trained with.
        "negative_prompt": negative_prompts if any(negative_prompts) else None,
        "image": [shot.canvas for shot in shots],
        "width": canvas.width,
        "height": canvas.height,
        "strength": shared.strength,
        "num_inference_steps": shared.num_inference_steps,
        "guidance_scale": per_image([shot.guidance_scale for shot in shots]),
        "image_guidance_scale": per_image([shot.image_guidance_scale for shot in shots]),
        "output_type": "pil",
    }
    return {name: value for name, value in wanted.items() if name in warm.arguments and value is not None}


def _cut(image: Image.Image, shot: ImageJob) -> Image.Image:
    size = shot.canvas.size
    if image.size != size:  # some pipelines choose a size of their own
        image = image.resize(size, Image.Resampling.LANCZOS)
    return image if shot.box == (0, 0, *size) else image.crop(shot.box)
