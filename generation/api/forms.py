"""The multipart form of `POST /image-to-image`: its fields and picture, validated."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO, Any

from django.conf import settings
from pydantic import ValidationError
from rest_framework.request import Request

from generation.api.form_parts import form_parts
from generation.images import remote
from generation.images.uploads import Upload, read_upload
from generation.parameters import ImageToImageParameters, InvalidField, InvalidForm, error_items, missing

_MAX_LISTED_FIELDS = 10
_MAX_LISTED_CHARACTERS = 50
_NOT_A_FORM = "Field required; send the fields as multipart/form-data"


@dataclass(frozen=True)
class Form:
    """A valid request. `picture` is None if the request has an `image_url` instead."""

    parameters: ImageToImageParameters
    picture: Upload | None
    warnings: Sequence[str]


def read_form(request: Request) -> Form:
    """Read and validate the form of a request.

    Raises `InvalidForm` with all errors, or if there is no other, `InvalidField` for a picture that cannot be decoded.
    The last of several fields with the same name counts. Warnings list unknown fields.
    """
    parts = form_parts(request)
    if not parts.is_form:
        raise InvalidForm([{**missing(name), "msg": _NOT_A_FORM} for name in ("prompt", "image")])
    texts = {name: str(text) for name, text in parts.texts.items()}
    files: dict[str, Any] = dict(parts.files.items())
    errors = [
        InvalidField(name, "Input should be a valid string", "string_type")
        for name in ImageToImageParameters.model_fields
        if name in files
    ]
    file = None
    try:
        file = find_image(texts, files)
    except InvalidField as error:
        errors.append(error)
    unknown_files = set(files) - {"image", *ImageToImageParameters.model_fields}
    form = validate({**dict.fromkeys(unknown_files, ""), **texts}, errors)
    return replace(form, picture=decode_image(file))


def validate(texts: Mapping[str, str], errors: Sequence[InvalidField]) -> Form:
    """Return the form with these texts, and no picture, since that is decoded only if all else is valid.

    Raises `InvalidForm` with `errors` and the errors in the texts, `image` last.
    """
    items = [error.item for error in errors if error.item["loc"][1] != "image"]
    invalid_names = {item["loc"][1] for item in items}
    parameters = None
    try:
        parameters = ImageToImageParameters.from_form(texts)
    except ValidationError as error:
        items += [item for item in error_items(error) if item["loc"][1] not in invalid_names]
    except InvalidField as error:
        items.append(error.item)
    items += [error.item for error in errors if error.item["loc"][1] == "image"]
    if items or parameters is None:
        raise InvalidForm(items)
    return Form(parameters, None, _unknown_field_warnings(set(texts) - {"image", *ImageToImageParameters.model_fields}))


def find_image(texts: Mapping[str, str], files: Mapping[str, Any]) -> IO[bytes] | None:
    """Return the file of the picture of a form, None if it is to be fetched. Raises `InvalidField`."""
    if texts.get("image_url"):
        if not settings.FETCH_IMAGE_URLS:
            raise InvalidField(
                "image_url", "Fetching pictures by URL is disabled on this server; send the picture itself as image"
            )
        if "image" in files:
            raise InvalidField("image_url", "Send either image or image_url")
        try:
            remote.check(texts["image_url"])
        except remote.RemoteRefused as error:
            raise InvalidField("image_url", error.message) from None
        return None
    if "image" in files:
        file: IO[bytes] = files["image"]
        return file
    if texts.get("image"):
        raise InvalidField("image", "Send the picture as a file of multipart/form-data, or as a data URL in base64")
    raise InvalidField("image", missing("image")["msg"], "missing")


def decode_image(file: IO[bytes] | None) -> Upload | None:
    """Return the picture in a file, None without one. Raises `InvalidField`."""
    return read_upload(file, max_pixels=settings.MAX_UPLOAD_PIXELS) if file else None


def _unknown_field_warnings(names: Iterable[str]) -> list[str]:
    """Return a warning that lists these fields, shortened: a client may send any number of any length."""
    labels = [name[:_MAX_LISTED_CHARACTERS].replace("\0", "") for name in sorted(names)]
    if not labels:
        return []
    more = f" and {len(labels) - _MAX_LISTED_FIELDS} more" if len(labels) > _MAX_LISTED_FIELDS else ""
    return [f"There are no such fields, so they were ignored: {', '.join(labels[:_MAX_LISTED_FIELDS])}{more}."]
