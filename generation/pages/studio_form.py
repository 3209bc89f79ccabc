"""The studio's form: its values and choices for each model, how it is read, and its errors by field."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast
from uuid import UUID

from django.conf import settings
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict
from pydantic import ValidationError

from accounts.models import User
from accounts.requests import whole_number
from generation import display
from generation.images.uploads import MAX_SIDE, Upload, read_upload
from generation.library.stored import StoredPicture, stored_picture
from generation.models import GeneratedImage, Generation
from generation.parameters import (
    ImageToImageParameters,
    InvalidField,
    InvalidForm,
    Refusal,
    bounds,
    error_items,
)
from generation.responses import ModelDescription

SLIDERS = {"guidance_scale": 0.1, "image_guidance_scale": 0.05, "strength": 0.01, "num_inference_steps": 1}
"""The fields with a slider, and the step of each."""
TEXTS = ("prompt", "model_id", "negative_prompt", "seed", "num_images_per_prompt", "output_format", "output_quality")
_MAX_IMAGE_INDEX = 999
_SPAN = 4
"""A slider ends at this multiple of its first value; larger values are typed into the number field."""
_LORA = "lora:"
_WORDS = {
    ("prompt", "missing"): "Say what should happen to the picture.",
    ("image", "missing"): "Choose a picture.",
}
Errors = dict[str, list[str]]
"""Messages by field; under "" those of no field."""


@dataclass(frozen=True)
class Slider:
    """A number field with a slider, which ends at `span`; the number field ends at `maximum`."""

    name: str
    label: str
    help: str
    value: str
    minimum: float
    maximum: float
    span: float
    step: float
    has_effect: bool
    is_whole: bool
    errors: Sequence[str]


@dataclass(frozen=True)
class LoraChoice:
    """A LoRA with its weight, "" if it is not used."""

    id: str
    models: list[str]
    weight: str
    fits: bool


@dataclass(frozen=True)
class StudioRequest:
    """A validated form with an uploaded picture or a stored one."""

    parameters: ImageToImageParameters
    upload: Upload | None
    stored: StoredPicture | None

    def picture(self) -> Upload:
        """Return the picture. Raises `StorageFailed`, and `InvalidField` without one."""
        if self.upload:
            return self.upload
        if self.stored:
            return self.stored.read()
        raise InvalidField("image", _WORDS["image", "missing"], "missing")

    @property
    def source_id(self) -> int | None:
        return self.stored.source_id if self.stored and not self.upload else None


def starting_values(model: ModelDescription) -> dict[str, str]:
    """Return the values of a new form: what is recommended for this model, else the field's default."""
    values = {"model_id": model.id, "num_images_per_prompt": "1", "output_format": "png", "output_quality": "90"}
    for name in SLIDERS:
        values[name] = _start(model, name)
    return values | {"safety_check": "true"}


def values_of(generation: Generation) -> dict[str, str]:
    """Return the form's values for an earlier request, without its seed."""
    parameters = generation.get_parameters().model_dump(mode="json")
    values = {name: _written(parameters[name]) for name in (*TEXTS, *SLIDERS, "safety_check") if name != "seed"}
    values["model_id"] = generation.model_id
    for lora in generation.get_recipe().loras:
        values[f"{_LORA}{lora.id}"] = _written(lora.weight)
    return values


def sliders(model: ModelDescription, values: Mapping[str, str], errors: Errors | None = None) -> list[Slider]:
    """Return the sliders as this model has them, with these values where there are any."""
    return [
        _slider(model, name, values.get(name) or _start(model, name), (errors or {}).get(name, [])) for name in SLIDERS
    ]


def _slider(model: ModelDescription, name: str, value: str, errors: Sequence[str]) -> Slider:
    described = model.parameters[name]
    field = ImageToImageParameters.model_fields[name]
    maximum = float(described.maximum or 0)
    return Slider(
        name=name,
        label=display.PARAMETERS[name],
        help=str(field.description),
        value=value,
        minimum=float(described.minimum or 0),
        maximum=maximum,
        span=min(maximum, float(_start(model, name)) * _SPAN),
        step=SLIDERS[name],
        has_effect=described.has_effect and described.forced is None,
        is_whole=field.annotation is int,
        errors=errors,
    )


def model_behaviour_json(models: Sequence[ModelDescription]) -> dict[str, Any]:
    """Return what the page's script needs to switch between models, as JSON types."""
    return {
        model.id: {
            "sliders": {
                slider.name: {
                    "shown": slider.has_effect,
                    "value": slider.value,
                    "max": slider.maximum,
                    "span": slider.span,
                }
                for slider in sliders(model, {})
            },
            "negative_prompt": model.parameters["negative_prompt"].has_effect,
            "images": model.parameters["num_images_per_prompt"].maximum,
            "sides": [model.sizes.min_side, model.sizes.max_side],
            "examples": model.examples,
        }
        for model in models
    }


def loras(models: Sequence[ModelDescription], chosen: ModelDescription, values: Mapping[str, str]) -> list[LoraChoice]:
    """Return all LoRAs that any of the models may use."""
    names = sorted({name for model in models for name in model.loras})
    return [
        LoraChoice(
            id=name,
            models=[model.id for model in models if name in model.loras],
            weight=values.get(f"{_LORA}{name}", ""),
            fits=name in chosen.loras,
        )
        for name in names
    ]


def unavailable(chosen: ModelDescription, values: Mapping[str, str]) -> Errors:
    """Return errors for the model and the LoRAs of these values that cannot be used, as those of an earlier request."""
    errors: Errors = {}
    model_id = values.get("model_id")
    if model_id and model_id != chosen.id:
        errors["model_id"] = [f"{model_id} cannot be used here now; this is {chosen.id} instead."]
    weights = {name.removeprefix(_LORA): text for name, text in values.items() if name.startswith(_LORA)}
    for name in [name for name, text in weights.items() if text.strip() and name not in chosen.loras]:
        errors.setdefault("loras", []).append(f"{name} cannot be used with this model now; it is left out.")
    return errors


def parameter_fields(post: QueryDict) -> dict[str, str]:
    """Return the fields of `ImageToImageParameters` from those of the form."""
    texts = {name: str(post[name]).strip() for name in (*TEXTS, *SLIDERS, "safety_check") if name in post}
    weights = {
        name.removeprefix(_LORA): _number(str(text))
        for name, text in post.items()
        if name.startswith(_LORA) and str(text).strip()
    }
    if weights:
        texts["loras"] = json.dumps(weights)
    if texts.get("output_format", "png") == "png":
        texts.pop("output_quality", None)
    return texts


def read(user: User, post: QueryDict, files: MultiValueDict[str, Any], fields: Mapping[str, str]) -> StudioRequest:
    """Validate the whole form; `fields` are its `parameter_fields`.

    Raises `InvalidForm`, and `DoesNotExist` for a picture that is not the user's.
    """
    items: list[dict[str, Any]] = []
    parameters = upload = stored_picture = None
    try:
        parameters = ImageToImageParameters.from_form(fields)
    except ValidationError as error:
        items += error_items(error)
    except InvalidField as error:
        items += error.items
    try:
        if file := files.get("image"):
            upload = read_upload(cast(BinaryIO, file), max_pixels=settings.MAX_UPLOAD_PIXELS)
        else:
            stored_picture = stored_choice(user, post)
    except InvalidField as error:
        items += error.items
    if items or parameters is None:
        raise InvalidForm(items)
    return StudioRequest(parameters, upload, stored_picture)


def stored_choice(user: User, fields: Mapping[str, Any]) -> StoredPicture | None:
    """Return the stored picture that a form or a query names: `from` a generation's input, or a `source`'s result.

    Raises `InvalidField` if it cannot be used, and `DoesNotExist` if it is not this user's.
    """
    if fields.get("source"):
        index = whole_number(str(fields.get("image", "0")), _MAX_IMAGE_INDEX)
        if index is None:
            raise GeneratedImage.DoesNotExist
        return stored_picture(user, _uuid(fields["source"]), index)
    if fields.get("from"):
        return stored_picture(user, _uuid(fields["from"]))
    return None


def size_of(post: QueryDict) -> tuple[int, int] | None:
    """Return the size of the picture as the page's script sent it, in pixels; None without a valid one."""
    width, height = (whole_number(str(post.get(name, "")), MAX_SIDE) for name in ("width", "height"))
    return (width, height) if width and height else None


def form_errors(refusal: Refusal) -> Errors:
    """Return the messages of a refusal by the form's fields."""
    if not refusal.items:
        return {refusal.field: [refusal.message]}
    errors: Errors = {}
    for item in refusal.items:
        field = item["loc"][1]
        words = _WORDS.get((field, item["type"])) or display.complaint(item)
        errors.setdefault(field, []).append(words)
    return errors


def limit_of(name: str) -> int:
    """Return the maximum length of a text field."""
    return int(bounds(ImageToImageParameters.model_fields[name])["max_length"])


def _start(model: ModelDescription, name: str) -> str:
    described = model.parameters[name]
    value = described.recommended if described.recommended is not None else described.default
    return _written(min(float(value or 0), float(described.maximum or 0)))


def _written(value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case float():
            return str(int(value)) if value.is_integer() else repr(value)
        case _:
            return str(value)


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _uuid(text: object) -> UUID:
    """Raises `DoesNotExist` for any other text, as for an unknown generation."""
    try:
        return UUID(str(text))
    except ValueError:
        raise Generation.DoesNotExist from None
