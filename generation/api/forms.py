"""The multipart form of `POST /image-to-image`, read into parameters and a picture."""

from typing import Any

from django.conf import settings
from pydantic import ValidationError
from rest_framework.exceptions import UnsupportedMediaType
from rest_framework.request import Request

from generation.api.errors import InvalidForm
from generation.intake import Intake, read_picture
from generation.parameters import ImageToImageParameters, InvalidField, error_items, missing


def read_form(request: Request) -> tuple[ImageToImageParameters, Intake]:
    """Validate the whole form, so that one answer names all that is wrong. Raises `InvalidForm`.

    Of a repeated field the last one counts; unknown fields are ignored; a body of another type is a form without any.
    """
    # As the contract's server reads it, whatever charset it names: Python also knows some that are no text at all.
    request.parser_context["encoding"] = "utf-8"
    try:
        texts = {name: str(text) for name, text in request.POST.items()}
        files: dict[str, Any] = dict(request.FILES.items())
    except UnsupportedMediaType:
        texts, files = {}, {}
    items = [
        {"loc": ["body", name], "msg": "Input should be a valid string", "type": "string_type"}
        for name in ImageToImageParameters.model_fields
        if name in files
    ]
    wrong = {item["loc"][1] for item in items}
    parameters = picture = None
    try:
        parameters = ImageToImageParameters.from_form(texts)
    except ValidationError as error:
        items += [item for item in error_items(error) if item["loc"][1] not in wrong]
    except InvalidField as error:
        items.append(error.item)
    try:
        picture = _read_image(texts, files)
    except InvalidField as error:
        items.append(error.item)
    if items or parameters is None or picture is None:
        raise InvalidForm(items)
    return parameters, picture


def _read_image(texts: dict[str, str], files: dict[str, Any]) -> Intake:
    if "image" in files:
        return read_picture(files["image"], max_pixels=settings.MAX_UPLOAD_PIXELS)
    if texts.get("image"):
        raise InvalidField("image", "Send image as a file part of multipart/form-data, not as text")
    raise InvalidField("image", missing("image")["msg"], "missing")
