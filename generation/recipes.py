"""Recipes: the values that a model runs with for a request, the picture size, and warnings about ignored values.

A recipe is planned once, when the request is submitted, and stored with it. So the response can contain the warnings before
the run, and a retry after a crash runs with the same values. Models are described by rules (`Traits`) per family or model,
so planning needs neither torch nor the database.
"""

import hashlib
import json
import math
import secrets
from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from generation import prompt_syntax
from generation.families import FAMILY_TRAITS, Family
from generation.family_traits import Guidance, ImageUse, Traits
from generation.inpainting import Box, Inpainting, inpaint
from generation.memory import NO_OPTIONS, MemoryOptions
from generation.parameters import RANDOM_SEED, ImageToImageParameters, InvalidField, OutputFormat
from generation.sizes import enlargement, fit, nearest
from generation.steps import effective_strength, executed_steps, keep_to_trained_steps

BUNDLED_OWNER = "dreamsite"
"""The first part of the names of bundled models and LoRAs."""


class ModelReference(BaseModel):
    """The weights of a model: repository name, pinned revision ("" for weights on disk), family, and memory options."""

    model_config = ConfigDict(frozen=True)

    id: str
    revision: str
    family: Family
    memory: MemoryOptions = NO_OPTIONS


class LoraReference(BaseModel):
    """A LoRA and its weight."""

    model_config = ConfigDict(frozen=True)

    id: str
    revision: str
    weight_name: str
    weight: float


class Limits(BaseModel):
    """The limits that staff set for a model; None means that only the model's own limits apply. Sides are in pixels."""

    model_config = ConfigDict(frozen=True)

    num_inference_steps: int | None = None
    num_images_per_prompt: int | None = None
    side: int | None = None


NO_LIMITS = Limits()

RANDOM_SEED_WARNING = f"seed {RANDOM_SEED} means a random seed, as if none were sent."


class Recipe(BaseModel):
    """All values that determine the result.

    `width` and `height` are those of what is drawn for the result, in pixels. The model draws it `scale` times as large, at
    least 1, where it cannot make such small pictures. Without a mask it is the result; with one it is fitted into the part
    `inpainting.box` of the upload. `references` is the number of further pictures that the model reads.
    """

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
    scale: float = 1.0
    inpainting: Inpainting | None = None
    references: int = 0

    @property
    def result_size(self) -> tuple[int, int]:
        """Return width and height of the result: with a mask those of the upload."""
        return self.inpainting.size if self.inpainting else (self.width, self.height)

    @property
    def drawn_size(self) -> tuple[int, int]:
        """Return width and height of the picture that the model draws, without padding."""
        return max(1, round(self.width * self.scale)), max(1, round(self.height * self.scale))

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Return width and height of what the model makes: the drawn picture, padded to sides that the model supports."""
        traits = traits_of(self.model)
        if traits.sizes:
            return nearest((self.width, self.height), traits.sizes)
        drawn = self.drawn_size
        # No longer side is below `min_side` unless staff allow only smaller pictures.
        least = min(traits.min_side, max(drawn))
        width, height = (-(-max(side, least) // traits.side_multiple) * traits.side_multiple for side in drawn)
        return width, height

    @property
    def executed_steps(self) -> int:
        """Return the steps that the pipeline runs."""
        return max(1, executed_steps(self.num_inference_steps, self.strength, traits_of(self.model).step_rule))

    def cost(self, weight: float) -> float:
        """Return executed steps x megapixels that the model makes x images x the model's cost weight.

        A reference counts as half of what is made: a step reads one picture beside the one that it makes anyway.
        """
        width, height = self.canvas_size
        pictures = len(self.seeds) * (1 + self.references / 2)
        return self.executed_steps * width * height / 1e6 * pictures * weight

    @property
    def is_guided(self) -> bool:
        """Return whether each step also runs the model without the prompt (classifier-free guidance).

        Some pipelines have one scale for the prompt and one for the picture.
        """
        traits = traits_of(self.model)
        if traits.guidance is not Guidance.CLASSIFIER_FREE:
            return False
        is_guided_by_picture = "image_guidance_scale" not in traits.without_effect and self.image_guidance_scale > 1
        return self.guidance_scale > traits.guides_above or is_guided_by_picture

    @property
    def batch_key(self) -> str:
        """Return 16 hexadecimal digits, equal for recipes whose images can be made in one call of the pipeline.

        All images of a call have the same weights, size and timesteps, and are all guided or all not; so these are in the
        key. Prompts, seeds and guidance scales may differ between images, and the safety check runs after the call. The
        presence of a negative prompt is in the key for models that may have been trained with zeros in place of an empty
        one, as SDXL was: a call uses either the zeros or the texts. So is a guidance scale that is one number for a call.
        """
        traits = traits_of(self.model)
        shared = {
            "model": self.model.model_dump(mode="json"),
            "loras": sorted([lora.id, lora.revision, lora.weight_name, lora.weight] for lora in self.loras),
            "size": [self.width, self.height, self.scale],
            "is_inpainted": self.inpainting is not None,
            "has_references": self.references > 0,
            "steps": self.num_inference_steps,
            "strength": self.strength if traits.has_strength else None,
            "guided": self.is_guided,
            "negative": self.is_guided and traits.image_use is ImageUse.START and self.negative_prompt != "",
            "guidance": None if traits.guides_each_image else self.guidance_scale,
        }
        return hashlib.sha256(json.dumps(shared, sort_keys=True).encode()).hexdigest()[:16]


# torch's CPU generator, a Mersenne twister, reads the low 32 bits of a seed.
_GENERATOR_SEEDS = 2**32
_LIGHTNING_STEPS = {"-2step": 2, "-4step": 4, "-8step": 8}


def _recommend(family: Family, **values: float) -> Traits:
    return FAMILY_TRAITS[family].model_copy(update={"recommended": values})


MODEL_TRAITS = {
    "dreamsite/tiny-edit": FAMILY_TRAITS[Family.INSTRUCT_PIX2PIX].model_copy(
        update={
            # Distilled to few steps of one pass each.
            "guidance": Guidance.NONE,
            "without_effect": frozenset({"strength", "guidance_scale", "image_guidance_scale", "negative_prompt"}),
            "forced": {"guidance_scale": 1, "image_guidance_scale": 1},
            "max_steps": 2,
            "recommended": {"num_inference_steps": 2},
            "side_multiple": 16,
            "min_side": 128,
            "max_side": 512,
        }
    ),
    "dreamsite/tiny-redraw": FAMILY_TRAITS[Family.STABLE_DIFFUSION].model_copy(
        update={
            # The pipeline for masks refuses its latents of 12 channels.
            "inpaint_pipeline": "",
            # 7.5 becomes 1.91: the guidance scale of the measurements in the model card.
            "guidance_slope": 0.14,
            "recommended": {"guidance_scale": 7.5, "strength": 0.9, "num_inference_steps": 25},
            "side_multiple": 16,
            "min_side": 128,
            "max_side": 192,
        }
    ),
    # These differ from the rest of their families, as their cards on the hub say.
    "stabilityai/stable-diffusion-3.5-medium": _recommend(Family.SD3, guidance_scale=4.5, num_inference_steps=40),
    "stabilityai/stable-diffusion-3.5-large": _recommend(Family.SD3, guidance_scale=3.5, num_inference_steps=28),
    "stabilityai/stable-diffusion-3.5-large-turbo": FAMILY_TRAITS[Family.SD3].model_copy(
        update={
            "guidance": Guidance.NONE,
            "without_effect": frozenset({"guidance_scale", "image_guidance_scale", "negative_prompt"}),
            "forced": {"guidance_scale": 0},
            # Of 4 steps with more strength, none would be left out, so that the picture would not count.
            "recommended": {"num_inference_steps": 4, "strength": 0.75},
        }
    ),
    "black-forest-labs/FLUX.1-Krea-dev": _recommend(Family.FLUX, guidance_scale=4.5, num_inference_steps=28),
}


def traits_of(model: ModelReference) -> Traits:
    """Return the rules of this model, or else those of its family."""
    traits = MODEL_TRAITS.get(model.id, FAMILY_TRAITS[model.family])
    if model.family is Family.LIGHTNING:
        for suffix, steps in _LIGHTNING_STEPS.items():
            if model.id.endswith(suffix):
                return traits.model_copy(update={"forced": {**traits.forced, "num_inference_steps": steps}})
    return traits


def clamp(traits: Traits, limits: Limits) -> Traits:
    """Return the rules with sides reduced to the limit of staff."""
    if limits.side is None:
        return traits
    longest = min(traits.max_side, limits.side)
    return traits.model_copy(update={"min_side": min(traits.min_side, longest), "max_side": longest})


def max_allowed(field: str, traits: Traits, limits: Limits) -> int | None:
    """Return the maximum that staff set for a request field; None without one, and for forced values."""
    allowed: int | None = None if field in traits.forced else getattr(limits, field, None)
    return allowed


def plan(
    parameters: ImageToImageParameters,
    model: ModelReference,
    loras: Sequence[LoraReference],
    size: tuple[int, int],
    limits: Limits = NO_LIMITS,
    open_box: Box | None = None,
    references: int = 0,
) -> tuple[Recipe, list[str]]:
    """Return the recipe of this request for this model, and warnings for the user.

    `size` is width and height of the upright input picture, in pixels, `open_box` what of it the mask lets change, None
    without a mask, `references` the number of further pictures. Raises `InvalidField` if a value exceeds a limit of staff, if
    strength and steps leave no step to run, if the model needs a mask, or if it does not read so many pictures.
    """
    traits = clamp(traits_of(model), limits)
    values = _effective_values(parameters, traits)
    images = parameters.num_images_per_prompt
    _check_limits(
        {"num_inference_steps": values["num_inference_steps"], "num_images_per_prompt": images}, model, traits, limits
    )
    _check_pictures(model, traits, has_mask=open_box is not None, references=references)
    warnings = [_no_effect(name, model, traits) for name in sorted(traits.without_effect & parameters.model_fields_set)]
    if "num_inference_steps" not in traits.forced:
        warnings += _steps_warnings(parameters, values["num_inference_steps"], model)
    if "output_quality" in parameters.model_fields_set and parameters.output_format is OutputFormat.PNG:
        warnings.append("output_quality has no effect on png, which is lossless.")

    for name in ("prompt", "negative_prompt"):
        if name not in traits.without_effect:
            warnings += prompt_syntax.warnings(name, getattr(parameters, name))

    if traits.has_strength:
        values["strength"], strength_warnings = effective_strength(
            parameters.strength, values["num_inference_steps"], model.id, traits
        )
        warnings += strength_warnings
    if traits.trained_steps:
        warnings += keep_to_trained_steps(values, traits.trained_steps, model.id)

    inpainting = None
    if open_box is not None:
        inpainting = inpaint(size, open_box, parameters.mask_feather, parameters.mask_padding)
    else:
        warnings += [
            f"{name} has no effect without a mask."
            for name in ("mask_feather", "mask_invert", "mask_padding")
            if getattr(parameters, name) is not ImageToImageParameters.model_fields[name].default
        ]
    seed = parameters.seed
    if seed is None:
        seed = secrets.randbelow(_GENERATOR_SEEDS - parameters.num_images_per_prompt)
        if "seed" in parameters.model_fields_set:
            warnings.append(RANDOM_SEED_WARNING)
    elif seed >= _GENERATOR_SEEDS:
        warnings.append(f"seed {seed} gives the same pixels as seed {seed % _GENERATOR_SEEDS}.")
    recipe = Recipe(
        model=model,
        loras=() if "loras" in traits.without_effect else tuple(loras),
        seeds=tuple(range(seed, seed + parameters.num_images_per_prompt)),
        references=references,
        **_drawn(size, inpainting, traits),
        **values,
    )
    return recipe, warnings + _size_warnings(size, recipe, traits)


def _check_pictures(model: ModelReference, traits: Traits, *, has_mask: bool, references: int) -> None:
    if traits.needs_mask and not has_mask:
        raise InvalidField("mask", f"{model.id} fills in a part of a picture: send a mask that marks it", "missing")
    if references > traits.max_references:
        if traits.max_references:
            allowed = f"reads at most {traits.max_references} further pictures: send no more"
        else:
            allowed = "reads one picture: send no further ones, or choose a model that reads several"
        raise InvalidField("images[]", f"{model.id} {allowed}")


def _drawn(size: tuple[int, int], inpainting: Inpainting | None, traits: Traits) -> dict[str, Any]:
    """Return the fields of a recipe that say what is drawn for an upload of this size.

    A part around a mask is drawn at the model's full size, however small it is.
    """
    part = inpainting.drawn_part if inpainting else size
    fitted = fit(part, traits)
    scale = enlargement(fitted, traits)
    if part != size:
        scale = max(scale, min(traits.max_side / max(fitted), math.sqrt(traits.area / (fitted[0] * fitted[1]))))
    return {"width": fitted[0], "height": fitted[1], "scale": scale, "inpainting": inpainting}


def _steps_warnings(parameters: ImageToImageParameters, steps: int, model: ModelReference) -> list[str]:
    """Return what to tell of steps that the rules of the model changed; nothing if the request left them to the default."""
    requested = parameters.num_inference_steps
    if steps > requested:
        return [f"num_inference_steps {requested} was raised to {steps}, the least that {model.id} works with."]
    if steps < requested and "num_inference_steps" in parameters.model_fields_set:
        return [f"num_inference_steps {requested} was lowered to {steps}: {model.id} has no use for more."]
    return []


def _check_limits(values: Mapping[str, int], model: ModelReference, traits: Traits, limits: Limits) -> None:
    for name, value in values.items():
        allowed = max_allowed(name, traits, limits)
        if allowed is not None and value > allowed:
            raise InvalidField(name, f"Input should be a number from 1 to {allowed} for {model.id}", "less_than_equal")


def _effective_values(parameters: ImageToImageParameters, traits: Traits) -> dict[str, Any]:
    """Return the values of the request with those that the model's rules scale or force."""
    names = {"prompt", "negative_prompt", "strength", "image_guidance_scale", "safety_check", "num_inference_steps"}
    values: dict[str, Any] = parameters.model_dump(include=names)
    values["guidance_scale"] = round(1 + traits.guidance_slope * (parameters.guidance_scale - 1), 6)
    values.update(traits.forced)
    steps = int(values["num_inference_steps"])
    values["num_inference_steps"] = max(min(steps, traits.max_steps or steps), traits.min_steps)
    return values


def largest_size(model: ModelReference, limits: Limits = NO_LIMITS) -> tuple[int, int]:
    """Return the most expensive size of this model, for planning while the size of the picture is unknown."""
    traits = clamp(traits_of(model), limits)
    return fit((traits.max_side, traits.max_side), traits)


def refit(
    recipe: Recipe,
    parameters: ImageToImageParameters,
    size: tuple[int, int],
    limits: Limits = NO_LIMITS,
    open_box: Box | None = None,
) -> tuple[Recipe, list[str]]:
    """Return the recipe adapted to the size of a picture that was unknown when it was planned, and warnings.

    `open_box` is what its mask lets change of it, None without a mask.
    """
    traits = clamp(traits_of(recipe.model), limits)
    inpainting = inpaint(size, open_box, parameters.mask_feather, parameters.mask_padding) if open_box else None
    recipe = recipe.model_copy(update=_drawn(size, inpainting, traits))
    return recipe, _size_warnings(size, recipe, traits)


def _size_warnings(size: tuple[int, int], recipe: Recipe, traits: Traits) -> list[str]:
    """Return warnings about a result of another size than the input, and about one that is drawn larger than it is.

    With a mask the result has the size of the input, and what is drawn fits into it.
    """
    warnings: list[str] = []
    if recipe.inpainting:
        return warnings
    if (recipe.width, recipe.height) != size:
        most = f"{traits.max_side} pixels a side"
        if max(recipe.width, recipe.height) < traits.max_side:
            most = f"{traits.area / 1e6:.1f} megapixels"
        warnings.append(
            f"The picture of {size[0]} x {size[1]} pixels was fitted to {recipe.width} x {recipe.height}, "
            f"since {recipe.model.id} makes at most {most}."
        )
    if recipe.scale > 1:
        width, height = recipe.drawn_size
        least = f"needs {traits.min_side} pixels a side"
        if traits.has_fixed_area:
            least = f"always makes {traits.area / 1e6:.1f} megapixels"
        warnings.append(
            f"The picture was drawn at {width} x {height} pixels and scaled back to {recipe.width} x {recipe.height}, "
            f"since {recipe.model.id} {least}."
        )
    return warnings


def _no_effect(name: str, model: ModelReference, traits: Traits) -> str:
    forced = f"; it always runs with {traits.forced[name]:g}" if name in traits.forced else ""
    return f"{name} has no effect on {model.id}{forced}."
