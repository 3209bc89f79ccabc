"""The fields of the studio's form: their values, and sliders and LoRAs for each model."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from PIL import Image

from generation import display
from generation.images.kinds import HEIC_EXTENSIONS, HEIC_TYPES, PILLOW_FORMATS
from generation.models import Generation
from generation.parameters import ImageToImageParameters, bounds
from generation.responses import ModelDescription

SLIDERS = {"guidance_scale": 0.1, "image_guidance_scale": 0.05, "strength": 0.01, "num_inference_steps": 1}
"""The fields with a slider, and the step of each."""

TEXTS = ("prompt", "model_id", "negative_prompt", "seed", "num_images_per_prompt", "output_format", "output_quality")
"""The other fields, without `safety_check` and `MASK_FIELDS`."""

MASK_FIELDS = ("mask_invert", "mask_feather", "mask_padding")
"""What a mask means and how it is used; without one they have no effect."""

LORA_PREFIX = "lora:"
"""The field with the weight of a LoRA is named by this and the LoRA's id."""

_ENDS = {
    "guidance_scale": ("freer", "closer to the words"),
    "image_guidance_scale": ("changes more", "closer to the picture"),
    "strength": ("keeps the picture", "draws it anew"),
    "num_inference_steps": ("faster", "finer"),
}
"""What the ends of the sliders mean."""

_SLIDER_RANGE = 4
"""A slider ends at this multiple of its starting value; larger values are typed into the number field."""

Errors = dict[str, list[str]]
"""Messages by field; messages about no single field are under ""."""


@dataclass(frozen=True)
class Slider:
    """A number field up to `maximum` with a slider up to `slider_maximum`, whose ends mean `low` and `high`."""

    name: str
    label: str
    help: str
    low: str
    high: str
    value: str
    recommended: str
    minimum: float
    maximum: float
    slider_maximum: float
    step: float
    has_effect: bool
    is_whole: bool
    errors: Sequence[str]


@dataclass(frozen=True)
class LoraChoice:
    """A LoRA with the models that can use it, and its weight as a text, empty if it is not used."""

    id: str
    models: list[str]
    weight: str
    is_available: bool


def starting_values(model: ModelDescription) -> dict[str, str]:
    """Return the values of a new form: those recommended for this model, or else the fields' defaults."""
    values = {"model_id": model.id, "num_images_per_prompt": "1", "output_format": "png", "output_quality": "90"}
    for name in SLIDERS:
        values[name] = _starting_value(model, name)
    return values | {"safety_check": "true"}


def values_of(generation: Generation) -> dict[str, str]:
    """Return the form's values for an earlier request, without its seed."""
    parameters = generation.get_parameters().model_dump(mode="json")
    values = {
        name: _text(parameters[name]) for name in (*TEXTS, *SLIDERS, *MASK_FIELDS, "safety_check") if name != "seed"
    }
    values["model_id"] = generation.model_id
    for lora in generation.get_recipe().loras:
        values[f"{LORA_PREFIX}{lora.id}"] = _text(lora.weight)
    return values


def sliders(model: ModelDescription, values: Mapping[str, str], errors: Errors | None = None) -> list[Slider]:
    """Return the sliders of this model with these values, or else the starting values."""
    return [
        _slider(model, name, values.get(name) or _starting_value(model, name), (errors or {}).get(name, []))
        for name in SLIDERS
    ]


def _slider(model: ModelDescription, name: str, value: str, errors: Sequence[str]) -> Slider:
    parameter = model.parameters[name]
    field = ImageToImageParameters.model_fields[name]
    maximum = float(parameter.maximum or 0)
    return Slider(
        name=name,
        label=display.PARAMETERS[name],
        help=str(field.description),
        low=_ENDS[name][0],
        high=_ENDS[name][1],
        value=value,
        recommended=_starting_value(model, name),
        minimum=float(parameter.minimum or 0),
        maximum=maximum,
        slider_maximum=min(maximum, float(_starting_value(model, name)) * _SLIDER_RANGE),
        step=SLIDERS[name],
        has_effect=parameter.has_effect and parameter.forced is None,
        is_whole=field.annotation is int,
        errors=errors,
    )


@cache
def accepted_files() -> str:
    """Return what uploads may be, for `accept`: content types, and extensions for systems that do not know a type."""
    # This also lets Pillow load all its plugins, so that `MIME` is complete.
    extensions = [name for name, kind in Image.registered_extensions().items() if kind in PILLOW_FORMATS]
    types = [*(Image.MIME[kind] for kind in PILLOW_FORMATS), *HEIC_TYPES]
    return ",".join([*types, *sorted([*extensions, *HEIC_EXTENSIONS])])


def model_behaviour_json(models: Sequence[ModelDescription]) -> dict[str, Any]:
    """Return what the page's script needs to switch between models, as JSON types."""
    return {
        model.id: {
            "sliders": {
                slider.name: {
                    "has_effect": slider.has_effect,
                    "value": slider.value,
                    "max": slider.maximum,
                    "slider_max": slider.slider_maximum,
                }
                for slider in sliders(model, {})
            },
            "negative_prompt": model.parameters["negative_prompt"].has_effect,
            "images": model.parameters["num_images_per_prompt"].maximum,
            "sizes": model.sizes.model_dump(include={"max_side", "max_pixels"}),
            "examples": model.examples,
            "needs_mask": model.needs_mask,
            "max_references": model.max_images - 1,
        }
        for model in models
    }


def loras(models: Sequence[ModelDescription], model: ModelDescription, values: Mapping[str, str]) -> list[LoraChoice]:
    """Return the LoRAs of all models; those of `model` are available."""
    names = sorted({name for each in models for name in each.loras})
    return [
        LoraChoice(
            id=name,
            models=[each.id for each in models if name in each.loras],
            weight=values.get(f"{LORA_PREFIX}{name}", ""),
            is_available=name in model.loras,
        )
        for name in names
    ]


def unavailable_errors(model: ModelDescription, values: Mapping[str, str]) -> Errors:
    """Return errors if the model or LoRAs in `values`, which may be an earlier request's, are not available any more.

    `model` is what the form shows.
    """
    errors: Errors = {}
    model_id = values.get("model_id")
    if model_id and model_id != model.id:
        errors["model_id"] = [f"{model_id} cannot be used here now; this is {model.id} instead."]
    weights = {name.removeprefix(LORA_PREFIX): text for name, text in values.items() if name.startswith(LORA_PREFIX)}
    for name in [name for name, text in weights.items() if text.strip() and name not in model.loras]:
        errors.setdefault("loras", []).append(f"{name} cannot be used with this model now; it is left out.")
    return errors


def max_characters(name: str) -> int:
    """Return the maximum length of a text field."""
    return int(bounds(ImageToImageParameters.model_fields[name])["max_length"])


def _starting_value(model: ModelDescription, name: str) -> str:
    parameter = model.parameters[name]
    value = parameter.recommended if parameter.recommended is not None else parameter.default
    return _text(min(float(value or 0), float(parameter.maximum or 0)))


def _text(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case _:
            return str(value)
