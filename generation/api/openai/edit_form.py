"""What clients send to `POST /v1/images/edits`: a form or JSON, read as a request of this service.

The fields are those of https://platform.openai.com/docs/api-reference/images/createEdit.
"""

import re
from collections.abc import Iterator
from dataclasses import replace

from rest_framework.request import Request

from generation.api.form_parts import FormParts, form_parts
from generation.api.forms import Form, decode, find_image, misplaced_texts, validate
from generation.api.openai.json_body import json_parts
from generation.api.openai.models import choose_model
from generation.api.openai.shape import OUR_NAMES
from generation.images.inputs import InputFiles
from generation.images.uploads import Upload
from generation.models import DiffusionModel
from generation.parameters import ErrorCode, ImageToImageParameters, InvalidField, RequestRefused
from generation.recipes import max_allowed, traits_of

SIZE = "^(auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"
_RESPONSE_FORMATS = {"b64_json": "data", "url": "url"}
_OPAQUE = ("auto", "opaque")

_WITHOUT_EFFECT = {
    "quality": (("auto", "standard"), "num_inference_steps says how many steps are made"),
    "input_fidelity": (
        ("low",),
        "strength, or image_guidance_scale for InstructPix2Pix models, says how closely the result follows the picture",
    ),
    "complexity": ((), "num_inference_steps says how many steps are made"),
    "moderation": (("auto",), "safety_check says whether results are scored"),
    "partial_images": (("0",), "GET /generations/{id}/events streams previews"),
    "user": ((), "it is not recorded"),
    "safety_identifier": ((), "it is not recorded"),
}
"""Fields of OpenAI that have no effect here: the values that ask for nothing else, and what to know of any other."""

_OPENAI_ONLY = {"size", "stream", "background", "response_format", "markup", *_WITHOUT_EFFECT}

_PICTURES = ("image", "image[]", "images", "images[]")
_SIZE_WITH_MASK = "size has no effect with a mask: the result has the size of the picture."


def read_edit(request: Request) -> Form:
    """Read and validate an edit. Raises `InvalidForm` with all errors, `InvalidField` and `RequestRefused`."""
    parts = _parts(request)
    texts = {name: str(text) for name, text in parts.texts.items() if text != ""}
    if "image[]" in texts:
        texts["image"] = texts.pop("image[]")
    model_name = texts.pop("model", "") or texts.pop("model_id", "")
    model = choose_model(request.user, model_name)
    fields = {OUR_NAMES.get(name, name): text for name, text in texts.items() if name not in _OPENAI_ONLY}
    if model_name:
        fields["model_id"] = model.pk
    fields.setdefault("num_inference_steps", _recommended_steps(model))
    fields["response_format"] = _RESPONSE_FORMATS.get(texts.get("response_format", "b64_json"), "")
    # The first is the one that changes.
    pictures = [file for name in _PICTURES for file in parts.files.getlist(name)]
    errors = list(_refused(texts, parts))
    errors += misplaced_texts(texts)
    file = box = None
    warnings = [] if model_name in ("", model.pk) else [f"{model_name} is an alias of {model.pk} here."]
    warnings += _ineffective(texts)
    try:
        box = _box(texts.get("size", "auto"))
        file = find_image(texts, next(iter(pictures), None))
    except InvalidField as error:
        errors.append(error)
    references = pictures[1:] if file else pictures
    form = decode(validate(fields, errors), InputFiles(file, parts.files.get("mask"), references, has_openai_mask=True))
    inputs = form.inputs
    if box and inputs.mask:
        if inputs.picture is None or inputs.picture.size != box:
            warnings.append(_SIZE_WITH_MASK)
    elif box:
        inputs = replace(inputs, picture=inputs.picture and _fit(inputs.picture, box))
        if inputs.picture is None or inputs.picture.size != box:
            warnings.append(_size_warning(inputs.picture, box))
    return replace(form, inputs=inputs, warnings=[*warnings, *form.warnings])


def _parts(request: Request) -> FormParts:
    media_type = request.content_type.partition(";")[0].strip().lower()
    if media_type == "application/json":
        return json_parts(request.body)
    parts = form_parts(request)
    if not parts.is_form:
        raise RequestRefused(
            ErrorCode.UNSUPPORTED_MEDIA_TYPE, "Send multipart/form-data or application/json, named in Content-Type."
        )
    return parts


def _refused(texts: dict[str, str], parts: FormParts) -> Iterator[InvalidField]:
    """Yield an error for each field that asks for another result than the one that would be made."""
    if texts.get("response_format", "b64_json") not in _RESPONSE_FORMATS:
        yield InvalidField("response_format", "Send url or b64_json")
    if texts.get("stream", "").lower() in ("true", "1"):
        yield InvalidField("stream", "Not supported; follow GET /generations/{id}/events instead")
    if texts.get("background", "auto") not in _OPAQUE:
        yield InvalidField("background", "Results are opaque; send auto or opaque")
    if "markup" in parts.files or "markup" in texts:
        yield InvalidField("markup", "Not supported; send a mask, or describe in the prompt what to change")


def _ineffective(texts: dict[str, str]) -> Iterator[str]:
    """Yield a warning for each field that asks for something that has no effect here."""
    for name, (neutral, instead) in _WITHOUT_EFFECT.items():
        if name in texts and texts[name] not in neutral:
            yield f"{name} has no effect: {instead}."


def _recommended_steps(model: DiffusionModel) -> str:
    """Return the recommended steps of a model, at most what staff allow; empty if its steps are forced."""
    traits = traits_of(model.reference())
    if "num_inference_steps" in traits.forced:
        return ""
    default = ImageToImageParameters.model_fields["num_inference_steps"].default
    steps = int(traits.recommended.get("num_inference_steps", default))
    allowed = max_allowed("num_inference_steps", traits, model.limits())
    return str(steps if allowed is None else min(steps, allowed))


def _box(size: str) -> tuple[int, int] | None:
    if not re.match(SIZE, size):
        raise InvalidField("size", "Send auto, or width and height in pixels such as 512x512")
    if size == "auto":
        return None
    width, height = size.split("x")
    return int(width), int(height)


def _fit(upload: Upload, box: tuple[int, int]) -> Upload:
    """Return the upload, reduced to fit into the box of width and height in pixels."""
    if upload.size[0] <= box[0] and upload.size[1] <= box[1]:
        return upload
    picture = upload.picture.copy()
    picture.thumbnail(box)
    return replace(upload, picture=picture, size=picture.size)


def _size_warning(picture: Upload | None, box: tuple[int, int]) -> str:
    if picture is None:
        return "size has no effect on a picture that is fetched."
    width, height = picture.size
    return f"The picture is not cropped or enlarged: in {box[0]}x{box[1]} it is {width}x{height}."
