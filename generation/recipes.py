"""What a model makes of a request: effective values, picture size, and a warning for whatever had no effect.

Decided once, when the request is submitted, and stored with it: the answer can say what was ignored before anything ran, and
a retry after a crash runs exactly the same. Knows models by their family's rules alone: it needs neither torch nor a database.
"""

import hashlib
import json
import math
import secrets
from collections.abc import Sequence
from enum import StrEnum
from typing import Any

from pydantic import BaseModel, ConfigDict

from generation.parameters import ImageToImageParameters, InvalidField, OutputFormat

BUNDLED_OWNER = "dreamsite"
"""The first part of the names of bundled models and LoRAs."""


class Family(StrEnum):
    """How a model is driven. The values are stored in the database."""

    IMAGE_TO_IMAGE = "image-to-image"
    INSTRUCT_PIX2PIX = "instruct-pix2pix"
    TURBO = "turbo"
    LIGHTNING = "lightning"


class ModelReference(BaseModel):
    """Which weights: a repository name, pinned revision ("" for what is on disk) and how to drive them."""

    model_config = ConfigDict(frozen=True)

    id: str
    revision: str
    family: Family


class LoraReference(BaseModel):
    """Which LoRA, and how strongly."""

    model_config = ConfigDict(frozen=True)

    id: str
    revision: str
    weight_name: str
    weight: float


class Traits(BaseModel):
    """The rules of a model.

    `without_effect` are request fields the pipeline does not use; `forced` are values it needs whatever was asked;
    `recommended` are those it does best with, as a request would send them. `guidance_slope` maps the API's guidance g to
    `1 + slope * (g - 1)` on the model's own scale; sides are pixels.
    """

    model_config = ConfigDict(frozen=True)

    without_effect: frozenset[str] = frozenset()
    forced: dict[str, int | float] = {}
    guidance_slope: float = 1.0
    recommended: dict[str, int | float] = {}
    side_multiple: int = 8
    min_side: int = 256
    max_side: int = 1024


class Limits(BaseModel):
    """What staff allow on a model, within what it can do; None is no further limit. Sides are pixels."""

    model_config = ConfigDict(frozen=True)

    num_inference_steps: int | None = None
    num_images_per_prompt: int | None = None
    side: int | None = None


NO_LIMITS = Limits()


class Recipe(BaseModel):
    """Everything that decides the pixels. `width` and `height` are those of the result, in pixels."""

    model_config = ConfigDict(frozen=True)

    model: ModelReference
    loras: tuple[LoraReference, ...]
    prompt: str
    negative_prompt: str
    strength: float
    guidance_scale: float
    image_guidance_scale: float
    num_inference_steps: int
    seeds: tuple[int, ...]
    safety_check: bool
    width: int
    height: int

    @property
    def executed_steps(self) -> int:
        """Steps that are really run: where strength has an effect the share that it leaves, as diffusers counts it."""
        if "strength" in traits_of(self.model).without_effect:
            return self.num_inference_steps
        return max(1, int(self.num_inference_steps * self.strength))

    def cost(self, weight: float) -> float:
        """Return executed steps x megapixels x images x the model's cost weight."""
        megapixels = self.width * self.height / 1e6
        return self.executed_steps * megapixels * len(self.seeds) * weight

    @property
    def is_guided(self) -> bool:
        """Whether each step runs the model without the prompt too (classifier-free guidance).

        diffusers guides above a scale of 1; InstructPix2Pix by the prompt, by the picture, or by both.
        """
        by_picture = self.model.family is Family.INSTRUCT_PIX2PIX and self.image_guidance_scale > 1
        return self.guidance_scale > 1 or by_picture

    @property
    def batch_key(self) -> str:
        """16 hexadecimal digits, the same for recipes whose images one pipeline call can make together.

        One call has one set of weights, one size and one sequence of timesteps for all its images, and guides all or
        none of them: these are in the key. Prompts, seeds and guidance scales are each image's own, so they are not; nor
        is the safety check, which comes after. Whether there is a negative prompt at all counts where a model may have
        been trained with zeros in the place of an empty one, as SDXL was: a call has either the zeros or the texts.
        """
        has_strength = "strength" not in traits_of(self.model).without_effect
        shared = {
            "model": self.model.model_dump(mode="json"),
            "loras": sorted([lora.id, lora.revision, lora.weight_name, lora.weight] for lora in self.loras),
            "size": [self.width, self.height],
            "steps": self.num_inference_steps,
            "strength": self.strength if has_strength else None,
            "guided": self.is_guided,
            "negative": self.is_guided and self.model.family is Family.IMAGE_TO_IMAGE and self.negative_prompt != "",
        }
        return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:16]


_NO_GUIDANCE = frozenset({"guidance_scale", "image_guidance_scale", "negative_prompt"})

FAMILY_TRAITS = {
    Family.IMAGE_TO_IMAGE: Traits(without_effect=frozenset({"image_guidance_scale"})),
    Family.INSTRUCT_PIX2PIX: Traits(without_effect=frozenset({"strength"})),
    Family.TURBO: Traits(
        without_effect=_NO_GUIDANCE, forced={"guidance_scale": 0}, recommended={"num_inference_steps": 2}
    ),
    Family.LIGHTNING: Traits(
        without_effect=_NO_GUIDANCE | {"num_inference_steps"},
        forced={"guidance_scale": 0, "num_inference_steps": 8},
    ),
}
# torch's CPU generator, a Mersenne twister, reads the low 32 bits of a seed.
_GENERATOR_SEEDS = 2**32
_LIGHTNING_STEPS = {"-2step": 2, "-4step": 4, "-8step": 8}

MODEL_TRAITS = {
    "dreamsite/tiny-edit": FAMILY_TRAITS[Family.INSTRUCT_PIX2PIX].model_copy(
        update={
            # 7.5, which SDKs always send, is 1.7475 on the model's own scale: what its card was measured at.
            "guidance_slope": 0.115,
            "recommended": {"guidance_scale": 7.5, "image_guidance_scale": 1.5, "num_inference_steps": 20},
            "side_multiple": 16,
            "min_side": 128,
            "max_side": 512,
        }
    ),
    "dreamsite/tiny-redraw": FAMILY_TRAITS[Family.IMAGE_TO_IMAGE].model_copy(
        update={
            # 7.5 is 1.91 on the model's own scale: what its card was measured at.
            "guidance_slope": 0.14,
            "recommended": {"guidance_scale": 7.5, "strength": 0.9, "num_inference_steps": 25},
            "side_multiple": 16,
            "min_side": 128,
            "max_side": 192,
        }
    ),
}


def traits_of(model: ModelReference) -> Traits:
    """The rules of this model: its own where it has some, else those of its family."""
    traits = MODEL_TRAITS.get(model.id, FAMILY_TRAITS[model.family])
    if model.family is Family.LIGHTNING:
        for suffix, steps in _LIGHTNING_STEPS.items():
            if model.id.endswith(suffix):
                return traits.model_copy(update={"forced": {**traits.forced, "num_inference_steps": steps}})
    return traits


def clamp(traits: Traits, limits: Limits) -> Traits:
    """The rules with no side above what staff allow."""
    if limits.side is None:
        return traits
    longest = min(traits.max_side, limits.side)
    return traits.model_copy(update={"min_side": min(traits.min_side, longest), "max_side": longest})


def max_allowed(field: str, traits: Traits, limits: Limits) -> int | None:
    """The most of a request field that staff allow, None for no limit of theirs: a forced value knows none."""
    allowed: int | None = None if field in traits.forced else getattr(limits, field, None)
    return allowed


def plan(
    parameters: ImageToImageParameters,
    model: ModelReference,
    loras: Sequence[LoraReference],
    size: tuple[int, int],
    limits: Limits = NO_LIMITS,
) -> tuple[Recipe, list[str]]:
    """The recipe for this request on this model, and warnings in words.

    `size` is width and height of the upright input picture, in pixels. Raises `InvalidField` where a limit is passed, or
    where strength and steps leave nothing to do.
    """
    traits = clamp(traits_of(model), limits)
    for name in ("num_inference_steps", "num_images_per_prompt"):
        allowed = max_allowed(name, traits, limits)
        if allowed is not None and getattr(parameters, name) > allowed:
            raise InvalidField(name, f"Input should be a number from 1 to {allowed} for {model.id}", "less_than_equal")
    values: dict[str, Any] = parameters.model_dump(
        include={"prompt", "negative_prompt", "strength", "guidance_scale", "image_guidance_scale", "safety_check"}
    )
    values["num_inference_steps"] = parameters.num_inference_steps
    values["guidance_scale"] = round(1 + traits.guidance_slope * (parameters.guidance_scale - 1), 6)
    values.update(traits.forced)
    values["num_inference_steps"] = int(values["num_inference_steps"])
    warnings = [_no_effect(name, model, traits) for name in sorted(traits.without_effect & parameters.model_fields_set)]
    if "output_quality" in parameters.model_fields_set and parameters.output_format is OutputFormat.PNG:
        warnings.append("output_quality has no effect on png, which is without loss; jpeg and webp have one.")

    if "strength" not in traits.without_effect:
        values["strength"], changed = _workable_strength(parameters.strength, values["num_inference_steps"], model)
        warnings += changed

    width, height = fit(size, traits)
    warnings += _fitted(size, (width, height), model, traits)

    first = parameters.seed
    if first is None:
        first = secrets.randbelow(_GENERATOR_SEEDS - parameters.num_images_per_prompt)
    elif first >= _GENERATOR_SEEDS:
        warnings.append(f"seed {first} gives the same pixels as seed {first % _GENERATOR_SEEDS}.")
    recipe = Recipe(
        model=model,
        loras=tuple(loras),
        seeds=tuple(range(first, first + parameters.num_images_per_prompt)),
        width=width,
        height=height,
        **values,
    )
    return recipe, warnings


def largest_size(model: ModelReference, limits: Limits = NO_LIMITS) -> tuple[int, int]:
    """The size that costs most on this model: what is planned with until the picture is known."""
    side = clamp(traits_of(model), limits).max_side
    return side, side


def refit(recipe: Recipe, size: tuple[int, int], limits: Limits = NO_LIMITS) -> tuple[Recipe, list[str]]:
    """The recipe for a picture whose size was not known when it was planned, and what is to be said about that."""
    traits = clamp(traits_of(recipe.model), limits)
    width, height = fit(size, traits)
    warnings = _fitted(size, (width, height), recipe.model, traits)
    return recipe.model_copy(update={"width": width, "height": height}), warnings


def _fitted(size: tuple[int, int], fitted: tuple[int, int], model: ModelReference, traits: Traits) -> list[str]:
    if fitted == size:
        return []
    warning = (
        f"The picture of {size[0]} x {size[1]} pixels was fitted to {fitted[0]} x {fitted[1]}, "
        f"since {model.id} works from {traits.min_side} to {traits.max_side} pixels a side"
        + ("." if min(fitted) >= traits.min_side else ", and the longer side decides.")
    )
    return [warning]


def fit(size: tuple[int, int], traits: Traits) -> tuple[int, int]:
    """Width and height nearest to `size` that the model can do, keeping the aspect ratio.

    The shorter side is brought up to `min_side` first, then the longer one down to `max_side`, which wins for a very long
    picture; the engine pads to the model's multiple and crops again, so no multiple shows here.
    """
    width, height = size
    scale = max(1.0, traits.min_side / min(size))
    scale = min(scale, traits.max_side / max(size))
    return max(1, round(width * scale)), max(1, round(height * scale))


def _workable_strength(strength: float, steps: int, model: ModelReference) -> tuple[float, list[str]]:
    """Strength that leaves at least one step: diffusers runs int(steps * strength) of them and breaks on none."""
    if int(steps * strength) >= 1:
        return strength, []
    least = 1 / steps
    if int(steps * least) < 1:  # rounding: 49 * (1 / 49) is below 1
        least = math.nextafter(least, 1)
    if model.family in (Family.TURBO, Family.LIGHTNING):
        return least, [f"strength {strength} was raised to {least:g}, so that one step of {steps} remains."]
    raise InvalidField(
        "strength",
        f"strength x num_inference_steps must be at least 1 for {model.id}: with {steps} steps, use a strength "
        f"from {least:g} to 1, or more steps",
    )


def _no_effect(name: str, model: ModelReference, traits: Traits) -> str:
    used = f"; it always runs with {traits.forced[name]:g}" if name in traits.forced else ""
    return f"{name} has no effect on {model.id}{used}."
