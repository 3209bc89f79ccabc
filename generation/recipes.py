"""Recipes: the values that a model runs with for a request, the picture size, and warnings about ignored values.

A recipe is planned once, when the request is submitted, and stored with it. So the response can contain the warnings before
the run, and a retry after a crash runs with the same values. Models are described by rules (`Traits`) per family or model,
so planning needs neither torch nor the database.
"""

import hashlib
import json
import math
import secrets
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

from generation import prompt_syntax
from generation.families import FAMILY_TRAITS, Family
from generation.family_traits import Guidance, ImageUse, StepRule, Traits
from generation.memory import NO_OPTIONS, MemoryOptions
from generation.parameters import RANDOM_SEED, ImageToImageParameters, InvalidField, OutputFormat

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

    `width` and `height` are those of the result, in pixels. The model draws it `scale` times as large, at least 1, where it
    cannot make such small pictures.
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

    @property
    def drawn_size(self) -> tuple[int, int]:
        """Return width and height of the picture that the model draws, without padding."""
        return max(1, round(self.width * self.scale)), max(1, round(self.height * self.scale))

    @property
    def canvas_size(self) -> tuple[int, int]:
        """Return width and height of what the model makes: the drawn picture, padded to sides that the model supports."""
        traits = traits_of(self.model)
        if traits.sizes:
            return _nearest((self.width, self.height), traits.sizes)
        drawn = self.drawn_size
        # No longer side is below `min_side` unless staff allow only smaller pictures.
        least = min(traits.min_side, max(drawn))
        width, height = (-(-max(side, least) // traits.side_multiple) * traits.side_multiple for side in drawn)
        return width, height

    @property
    def executed_steps(self) -> int:
        """Return the steps that the pipeline runs."""
        return max(1, _executed_steps(self.num_inference_steps, self.strength, traits_of(self.model).step_rule))

    def cost(self, weight: float) -> float:
        """Return executed steps x megapixels that the model makes x images x the model's cost weight."""
        width, height = self.canvas_size
        return self.executed_steps * width * height / 1e6 * len(self.seeds) * weight

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
            # 7.5, which SDKs always send, becomes 1.7475: the guidance scale of the measurements in the model card.
            "guidance_slope": 0.115,
            "recommended": {"guidance_scale": 7.5, "image_guidance_scale": 1.5, "num_inference_steps": 20},
            "side_multiple": 16,
            "min_side": 128,
            "max_side": 512,
        }
    ),
    "dreamsite/tiny-redraw": FAMILY_TRAITS[Family.STABLE_DIFFUSION].model_copy(
        update={
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
) -> tuple[Recipe, list[str]]:
    """Return the recipe of this request for this model, and warnings for the user.

    `size` is width and height of the upright input picture, in pixels. Raises `InvalidField` if a value exceeds a limit of
    staff, or if strength and steps leave no step to run.
    """
    traits = clamp(traits_of(model), limits)
    _check_limits(parameters, model, traits, limits)
    values = _effective_values(parameters, traits)
    warnings = [_no_effect(name, model, traits) for name in sorted(traits.without_effect & parameters.model_fields_set)]
    if values["num_inference_steps"] > parameters.num_inference_steps and "num_inference_steps" not in traits.forced:
        steps = f"{parameters.num_inference_steps} was raised to {traits.min_steps}"
        warnings.append(f"num_inference_steps {steps}, the least that {model.id} works with.")
    if "output_quality" in parameters.model_fields_set and parameters.output_format is OutputFormat.PNG:
        warnings.append("output_quality has no effect on png, which is lossless.")

    for name in ("prompt", "negative_prompt"):
        if name not in traits.without_effect:
            warnings += prompt_syntax.warnings(name, getattr(parameters, name))

    if traits.has_strength:
        values["strength"], strength_warnings = _effective_strength(
            parameters.strength, values["num_inference_steps"], model, traits
        )
        warnings += strength_warnings
    if traits.trained_steps:
        warnings += _keep_to_trained_steps(values, traits.trained_steps, model)

    fitted = fit(size, traits)
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
        width=fitted[0],
        height=fitted[1],
        scale=enlargement(fitted, traits),
        **values,
    )
    return recipe, warnings + _size_warnings(size, recipe, traits)


def _check_limits(parameters: ImageToImageParameters, model: ModelReference, traits: Traits, limits: Limits) -> None:
    for name in ("num_inference_steps", "num_images_per_prompt"):
        allowed = max_allowed(name, traits, limits)
        if allowed is not None and getattr(parameters, name) > allowed:
            raise InvalidField(name, f"Input should be a number from 1 to {allowed} for {model.id}", "less_than_equal")


def _effective_values(parameters: ImageToImageParameters, traits: Traits) -> dict[str, Any]:
    """Return the values of the request with those that the model's rules scale or force."""
    names = {"prompt", "negative_prompt", "strength", "image_guidance_scale", "safety_check", "num_inference_steps"}
    values: dict[str, Any] = parameters.model_dump(include=names)
    values["guidance_scale"] = round(1 + traits.guidance_slope * (parameters.guidance_scale - 1), 6)
    values.update(traits.forced)
    values["num_inference_steps"] = max(int(values["num_inference_steps"]), traits.min_steps)
    return values


def largest_size(model: ModelReference, limits: Limits = NO_LIMITS) -> tuple[int, int]:
    """Return the most expensive size of this model, for planning while the size of the picture is unknown."""
    traits = clamp(traits_of(model), limits)
    return fit((traits.max_side, traits.max_side), traits)


def refit(recipe: Recipe, size: tuple[int, int], limits: Limits = NO_LIMITS) -> tuple[Recipe, list[str]]:
    """Return the recipe adapted to the size of a picture that was unknown when it was planned, and warnings."""
    traits = clamp(traits_of(recipe.model), limits)
    width, height = fit(size, traits)
    changes = {"width": width, "height": height, "scale": enlargement((width, height), traits)}
    recipe = recipe.model_copy(update=changes)
    return recipe, _size_warnings(size, recipe, traits)


def _size_warnings(size: tuple[int, int], recipe: Recipe, traits: Traits) -> list[str]:
    """Return warnings about a result of another size than the input, and about one that is drawn larger than it is."""
    warnings = []
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


def fit(size: tuple[int, int], traits: Traits) -> tuple[int, int]:
    """Return the largest width and height up to `size` within `max_side` and `area`, with the same aspect ratio.

    If the model makes only some sizes, they are within the nearest one.
    """
    width, height = size
    if traits.sizes:
        most = _nearest(size, traits.sizes)
        scale = min(1.0, traits.max_side / max(size), most[0] / width, most[1] / height)
        return max(1, round(width * scale)), max(1, round(height * scale))
    if width * height <= traits.area and max(size) <= traits.max_side:
        return size
    side_scale, area_scale = traits.max_side / max(size), math.sqrt(traits.area / (width * height))
    if side_scale <= area_scale:
        return max(1, round(width * side_scale)), max(1, round(height * side_scale))
    return max(1, int(width * area_scale)), max(1, int(height * area_scale))


def enlargement(size: tuple[int, int], traits: Traits) -> float:
    """Return how many times as large the model draws a result of this size, which `fit` returned; at least 1.

    The shorter side has `min_side` then, as far as `max_side` and `area` allow; they have priority. `side_multiple` does not
    matter, since the engine pads the picture to it and crops the result.
    """
    if traits.sizes:
        width, height = _nearest(size, traits.sizes)
        return min(width / size[0], height / size[1])
    area_scale = math.sqrt(traits.area / (size[0] * size[1]))
    if traits.has_fixed_area:
        return max(1.0, area_scale)
    return max(1.0, min(traits.min_side / min(size), traits.max_side / max(size), area_scale))


def _nearest(size: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the size with the nearest aspect ratio."""
    return min(sizes, key=lambda one: abs(one[0] / one[1] - size[0] / size[1]))


def _executed_steps(steps: int, strength: float, rule: StepRule) -> int:
    """Return how many of `steps` a pipeline runs with this strength, as `get_timesteps` of diffusers computes it."""
    match rule:
        case StepRule.ROUND_DOWN:
            return min(int(steps * strength), steps)
        case StepRule.ROUND_UP:
            return steps - int(max(steps - min(steps * strength, steps), 0))
        case StepRule.ALL:
            return steps


def _keep_to_trained_steps(values: dict[str, Any], trained: int, model: ModelReference) -> list[str]:
    """Change strength and steps to what the schedule of the training has, as LCM's scheduler requires; return warnings."""
    warnings, strength, steps = [], values["strength"], values["num_inference_steps"]
    if int(trained * strength) < 1:
        values["strength"] = 1 / trained
        warnings.append(f"strength {strength:g} was raised to {1 / trained:g}, the least that {model.id} works with.")
    most = int(trained * values["strength"])
    if steps > most:
        values["num_inference_steps"] = most
        with_strength = f"works with at strength {values['strength']:g}"
        warnings.append(f"num_inference_steps {steps} was lowered to {most}, the most that {model.id} {with_strength}.")
    return warnings


def _effective_strength(strength: float, steps: int, model: ModelReference, traits: Traits) -> tuple[float, list[str]]:
    """Return a strength with at least one step that starts from the picture, and warnings.

    Raises `InvalidField` if rounding down leaves no step, unless the model has few steps anyway. Where steps are rounded
    up and none is left out, the run would start from noise alone, so lower the strength by as little as leaves one out.
    """
    executed = _executed_steps(steps, strength, traits.step_rule)
    if traits.step_rule is StepRule.ROUND_UP and executed == steps > 1:
        lower = (steps - 1) / steps
        while _executed_steps(steps, lower, traits.step_rule) == steps:  # rounding
            lower = math.nextafter(lower, 0)
        warning = f"strength {strength:g} was lowered to {lower:g}: with {steps} steps, more would ignore the picture."
        return lower, [warning]
    if executed >= 1:
        return strength, []
    minimum = 1 / steps
    while _executed_steps(steps, minimum, traits.step_rule) < 1:  # rounding: 49 * (1 / 49) is below 1
        minimum = math.nextafter(minimum, 1)
    if traits.guidance is Guidance.NONE:  # distilled to few steps
        return minimum, [f"strength {strength} was raised to {minimum:g}, so that one step of {steps} remains."]
    # Rounded up, so that what is told is accepted.
    allowed = f"from {math.ceil(minimum * 1e4) / 1e4:g} to 1" if traits.step_rule is StepRule.ROUND_DOWN else "above 0"
    more = ", or more steps" if strength > 0 else ""
    raise InvalidField(
        "strength", f"strength {strength:g} leaves none of {steps} steps for {model.id}: use a strength {allowed}{more}"
    )


def _no_effect(name: str, model: ModelReference, traits: Traits) -> str:
    forced = f"; it always runs with {traits.forced[name]:g}" if name in traits.forced else ""
    return f"{name} has no effect on {model.id}{forced}."
