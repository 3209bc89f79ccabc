"""The studio's form: what it shows for each model, and how it is read. Every error ends beside the field it speaks of."""

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
from generation import display
from generation.images.storage import StorageFailed
from generation.images.uploads import (
    MAX_SIDE,
    Upload,
    read_upload,
)
from generation.jobs.limits import OverLimit, QueueFull
from generation.jobs.submission import Unavailable
from generation.library.stored import Stored, stored
from generation.models import GeneratedImage, Generation
from generation.parameters import (
    MESSAGES,
    ErrorCode,
    ImageToImageParameters,
    InvalidField,
    RequestRefused,
    bounds,
    error_items,
)
from generation.responses import ModelDescription

SLIDERS = {"guidance_scale": 0.1, "image_guidance_scale": 0.05, "strength": 0.01, "num_inference_steps": 1}
"""The fields that have a slider, and its steps."""
TEXTS = ("prompt", "model_id", "negative_prompt", "seed", "num_images_per_prompt", "output_format", "output_quality")
_SPAN = 4
"""A slider reaches to so many times the value it starts with: the whole range is for whoever writes the number."""
_LORA = "lora:"
_WORDS = {
    ("prompt", "missing"): "Say what should happen to the picture.",
    ("image", "missing"): "Choose a picture.",
}
_FIELD_OF = {
    ErrorCode.UNKNOWN_MODEL: "model_id",
    ErrorCode.INVALID_LORAS: "loras",
    ErrorCode.UNKNOWN_LORA: "loras",
}

Errors = dict[str, list[str]]
"""What is wrong, in words, by field; under "" what is of no field."""
REFUSALS = (InvalidField, RequestRefused, OverLimit, QueueFull, Unavailable, StorageFailed)


class Refused(Exception):
    """Everything that is wrong with a form."""

    def __init__(self, errors: Errors, status: int = 422) -> None:
        super().__init__("a form that cannot be accepted")
        self.errors = errors
        self.status = status


@dataclass(frozen=True)
class Slider:
    """A number with a slider: `span` is where that ends, `maximum` where the number does."""

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
    """A LoRA with the weight it is to have, "" where it is not used."""

    id: str
    models: list[str]
    weight: str
    fits: bool


@dataclass(frozen=True)
class Asked:
    """A request that was read: a picture that came with it, or one that is stored already."""

    parameters: ImageToImageParameters
    upload: Upload | None
    stored: Stored | None

    def picture(self) -> Upload:
        """Raises `StorageFailed`, `InvalidField`."""
        if self.upload is None and self.stored is None:
            raise InvalidField("image", _WORDS["image", "missing"], "missing")
        return self.upload or self.stored.read()  # type: ignore[union-attr]

    @property
    def source_id(self) -> int | None:
        return self.stored.source_id if self.stored and not self.upload else None


def starting_values(model: ModelDescription) -> dict[str, str]:
    """What a fresh form holds for this model: what it does best with, else the field's default."""
    values = {"model_id": model.id, "num_images_per_prompt": "1", "output_format": "png", "output_quality": "90"}
    for name in SLIDERS:
        values[name] = _start(model, name)
    return values | {"safety_check": "true"}


def values_of(generation: Generation) -> dict[str, str]:
    """The fields of a request that was made before, but its seed."""
    wanted = generation.get_parameters().model_dump(mode="json")
    values = {name: _written(wanted[name]) for name in (*TEXTS, *SLIDERS, "safety_check") if name != "seed"}
    values["model_id"] = generation.model_id
    for lora in generation.get_recipe().loras:
        values[f"{_LORA}{lora.id}"] = _written(lora.weight)
    return values


def sliders(model: ModelDescription, values: Mapping[str, str], errors: Errors | None = None) -> list[Slider]:
    found = []
    for name, step in SLIDERS.items():
        told = model.parameters[name]
        field = ImageToImageParameters.model_fields[name]
        maximum = float(told.maximum or 0)
        found.append(
            Slider(
                name=name,
                label=display.PARAMETERS[name],
                help=str(field.description),
                value=values.get(name) or _start(model, name),
                minimum=float(told.minimum or 0),
                maximum=maximum,
                span=min(maximum, float(_start(model, name)) * _SPAN),
                step=step,
                has_effect=told.has_effect and told.forced is None,
                is_whole=field.annotation is int,
                errors=(errors or {}).get(name, []),
            )
        )
    return found


def behaviour(models: Sequence[ModelDescription]) -> dict[str, Any]:
    """What the page's script must know to show another model's parameters, as JSON types."""
    return {
        model.id: {
            "sliders": {
                one.name: {
                    "shown": one.has_effect,
                    "value": one.value,
                    "max": one.maximum,
                    "span": one.span,
                }
                for one in sliders(model, {})
            },
            "negative_prompt": model.parameters["negative_prompt"].has_effect,
            "images": model.parameters["num_images_per_prompt"].maximum,
            "sides": [model.sizes.min_side, model.sizes.max_side],
            "examples": model.examples,
        }
        for model in models
    }


def loras(models: Sequence[ModelDescription], chosen: ModelDescription, values: Mapping[str, str]) -> list[LoraChoice]:
    """All LoRAs that any of the models may use."""
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
    """What these values name, such as those of an earlier request, that cannot be used with the model of the form."""
    errors: Errors = {}
    wanted = values.get("model_id")
    if wanted and wanted != chosen.id:
        errors["model_id"] = [f"{wanted} cannot be used here now; this is {chosen.id} instead."]
    weights = {name.removeprefix(_LORA): text for name, text in values.items() if name.startswith(_LORA)}
    for name in [name for name, text in weights.items() if text.strip() and name not in chosen.loras]:
        errors.setdefault("loras", []).append(f"{name} cannot be used with this model now; it is left out.")
    return errors


def texts_of(post: QueryDict) -> dict[str, str]:
    """The fields of the request among those of the form."""
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


def read(user: User, post: QueryDict, files: MultiValueDict[str, Any], texts: Mapping[str, str]) -> Asked:
    """Judge the form as a whole. Raises `Refused`, and `DoesNotExist` where it names a picture that is not the user's."""
    errors: Errors = {}
    parameters = upload = kept = None
    try:
        parameters = ImageToImageParameters.from_form(texts)
    except ValidationError as error:
        for item in error_items(error):
            _note(errors, item)
    except InvalidField as error:
        _note(errors, error.item)
    try:
        if file := files.get("image"):
            upload = read_upload(cast(BinaryIO, file), max_pixels=settings.MAX_UPLOAD_PIXELS)
        else:
            kept = stored_choice(user, post)
    except InvalidField as error:
        _note(errors, error.item)
    if errors or parameters is None:
        raise Refused(errors)
    return Asked(parameters, upload, kept)


def stored_choice(user: User, fields: Mapping[str, Any]) -> Stored | None:
    """The stored picture that a form or an address names: `from` a generation's input, or a `source`'s result.

    Raises `InvalidField` where it cannot be used, and `DoesNotExist` where it is not this user's.
    """
    if fields.get("source"):
        index = str(fields.get("image", "0"))
        if not (index.isascii() and index.isdigit() and len(index) < 4):
            raise GeneratedImage.DoesNotExist
        return stored(user, _uuid(fields["source"]), int(index))
    if fields.get("from"):
        return stored(user, _uuid(fields["from"]))
    return None


def size_of(post: QueryDict) -> tuple[int, int] | None:
    """The size that the page's script has seen of a picture, in pixels; None where it told none that can be."""
    sides = [str(post.get(name, "")) for name in ("width", "height")]
    if not all(side.isascii() and side.isdigit() and len(side) < 6 and 0 < int(side) <= MAX_SIDE for side in sides):
        return None
    return int(sides[0]), int(sides[1])


def refusal(error: Exception) -> Refused:
    """What one of `REFUSALS` says, as errors of the form."""
    errors: Errors = {}
    match error:
        case InvalidField():
            _note(errors, error.item)
            return Refused(errors, error.code.status)
        case RequestRefused():
            return Refused({_FIELD_OF.get(error.code, ""): [error.message]}, error.code.status)
        case OverLimit():
            return Refused({"": [error.message]}, error.code.status)
        case QueueFull():
            words = f"Too many requests are waiting; try again in {QueueFull.retry_after} seconds."
            return Refused({"": [words]}, ErrorCode.QUEUE_FULL.status)
        case StorageFailed():
            return Refused({"": [MESSAGES[ErrorCode.STORAGE_FAILED]]}, ErrorCode.STORAGE_FAILED.status)
        case _:
            words = f"The service cannot take requests now; try again in {Unavailable.retry_after} seconds."
            return Refused({"": [words]}, ErrorCode.UNAVAILABLE.status)


def limit_of(name: str) -> int:
    """The most characters of a text field."""
    return int(bounds(ImageToImageParameters.model_fields[name])["max_length"])


def _note(errors: Errors, item: Mapping[str, Any]) -> None:
    field = item["loc"][1]
    words = _WORDS.get((field, item["type"])) or display.complaint(item)
    errors.setdefault(field, []).append(words)


def _start(model: ModelDescription, name: str) -> str:
    told = model.parameters[name]
    value = told.recommended if told.recommended is not None else told.default
    return _written(min(float(value or 0), float(told.maximum or 0)))


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
    """Raises `DoesNotExist` for what is none: such a generation is nobody's."""
    try:
        return UUID(str(text))
    except ValueError:
        raise Generation.DoesNotExist from None
