"""The rules that families of models differ in, as the types of their declarations in `generation.families`."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

MEGAPIXEL = 1024 * 1024


class ImageUse(StrEnum):
    """What a pipeline does with the pictures of its argument `image`."""

    START = "start"
    """Denoising starts from it, one for each prompt; `strength` counts."""
    CONDITION = "condition"
    """It is read beside the noise, one for each prompt; `strength` has no effect."""
    REFERENCES = "references"
    """As CONDITION, but a list is shared by all prompts of the call. So a call makes one image of one request."""


class StepRule(StrEnum):
    """How many of n steps a pipeline runs with a strength s."""

    ROUND_DOWN = "round down"
    """int(n * s)"""
    ROUND_UP = "round up"
    """n - int(n - n * s); above s = 1 - 1 / n that is n, which starts from noise alone."""
    ALL = "all"
    """n"""


class Guidance(StrEnum):
    """How a pipeline follows the prompt more closely."""

    CLASSIFIER_FREE = "classifier-free"
    """Each step also runs the model without the prompt, above the scale `guides_above`."""
    EMBEDDED = "embedded"
    """The model reads the scale, one number for a call; there is no negative prompt."""
    NONE = "none"
    """Guidance is distilled into the model."""


class LatentLayout(StrEnum):
    """The shape of a pipeline's latents."""

    SPATIAL = "spatial"
    """(images, channels, height, width), for videos with one frame before height."""
    PATCHES = "patches"
    """(images, patches, channels * 4): patches of 2 x 2, the channel outermost."""
    NORMALIZED_PATCHES = "normalized patches"
    """As PATCHES, on the scale of the autoencoder's batch normalization."""
    CELLS = "cells"
    """(images, cells, channels)"""
    CHANNELS_LAST = "channels last"
    """(images, 1, height, width, channels)"""
    AFTER_REFERENCE = "after the reference"
    """(images, 2, channels, 1, height, width): the latents of the reference, then those of the image."""


class StepSource(StrEnum):
    """What tells the end of a step: `callback_on_step_end`, or for pipelines without it the scheduler's `step`."""

    CALLBACK = "callback"
    SCHEDULER = "scheduler"


class Traits(BaseModel):
    """The rules of a family or model.

    `models` names those that a family is for. `pipeline` is the class of diffusers that is loaded, `inpaint_pipeline` the one
    that is called with its networks for a mask; without one, the engine composites the latents after each step. Models with
    `needs_mask` are made to fill in a part, and do nothing without a mask. `max_references` is how many pictures beside the
    first the model reads. `without_effect` are
    request fields that it ignores; `forced` are values that replace those of the request; `recommended` are the best values
    to request. `guidance_slope` maps the API's guidance scale g to `1 + slope * (g - 1)` for the model. Without
    `guides_each_image`, all images of a call have the same guidance scale. With `needs_picture_guidance`, the pipeline guides
    only if `image_guidance_scale` is at least 1 too.

    Sides are in pixels, a multiple of `side_multiple`. A model makes good pictures from `min_side` to `max_side` and up to
    `area` pixels: smaller ones are drawn larger and scaled back, larger ones are reduced. With `has_fixed_area` pictures of
    `area` are made whatever size is requested, and if there are `sizes`, pairs of width and height, only those: the picture
    is padded to the nearest of their aspect ratios.

    `arguments` are the pipeline's names of request fields, where they differ, and of `area`, width x height. `constants`
    are arguments with the same value in each call. `prompt_template` makes the model's prompt: `{prompt}` is the user's,
    `{prompt_json}` the same as JSON. `picture_name` precedes it for each picture, with its `{number}` from 1.
    `empty_negative_prompt` stands for no negative prompt. `min_steps` is the least number of steps that works, `max_steps`
    the most that is of use. With `trained_steps`, steps are chosen among those that the model was trained with, of which
    `strength` leaves a share. `prompt_tokens` is how many tokens of a prompt are read, None if the tokenizer tells.
    `output` is the attribute of the pipeline's answer that has the pictures. `gpu_dtype` is the number type on GPUs.
    `packages` are installed beside diffusers. `can_cache_steps` is true where diffusers' first-block cache works,
    `can_compile` where diffusers names the blocks of the denoiser that are compiled once for all.
    """

    model_config = ConfigDict(frozen=True)

    models: str = ""
    pipeline: str = "StableDiffusionImg2ImgPipeline"
    inpaint_pipeline: str = ""
    needs_mask: bool = False
    max_references: int = 0
    image_use: ImageUse = ImageUse.START
    step_rule: StepRule = StepRule.ROUND_DOWN
    guidance: Guidance = Guidance.CLASSIFIER_FREE
    guides_above: float = 1.0
    guides_each_image: bool = True
    needs_picture_guidance: bool = False
    arguments: Mapping[str, str] = {}
    constants: Mapping[str, Any] = {}
    prompt_template: str = "{prompt}"
    picture_name: str = ""
    prompt_tokens: int | None = None
    empty_negative_prompt: str = ""
    without_effect: frozenset[str] = frozenset({"image_guidance_scale"})
    forced: dict[str, int | float] = {}
    guidance_slope: float = 1.0
    recommended: dict[str, int | float] = {}
    min_steps: int = 1
    max_steps: int | None = None
    trained_steps: int | None = None
    side_multiple: int = 8
    min_side: int = 512
    max_side: int = 1024
    area: int = 768 * 768
    has_fixed_area: bool = False
    sizes: tuple[tuple[int, int], ...] = ()
    latents: LatentLayout = LatentLayout.SPATIAL
    step_source: StepSource = StepSource.CALLBACK
    output: str = "images"
    gpu_dtype: str = "float16"
    packages: tuple[str, ...] = ()
    can_cache_steps: bool = False
    can_compile: bool = True

    @property
    def max_pixels(self) -> int:
        return min(self.area, self.max_side**2)

    @property
    def has_strength(self) -> bool:
        return "strength" not in self.without_effect
