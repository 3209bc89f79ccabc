"""The multipart form of `POST /image-to-image`: its fields and pictures, validated."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import IO

from django.conf import settings
from pydantic import ValidationError
from rest_framework.request import Request

from generation.api.form_parts import form_parts
from generation.images import remote
from generation.images.inputs import InputFiles, Inputs, read_files
from generation.parameters import ImageToImageParameters, InvalidField, InvalidForm, error_items, missing

_MAX_LISTED_FIELDS = 10
_MAX_LISTED_CHARACTERS = 50
_REFERENCES = ("images", "images[]")
_PICTURES = ("image", "mask", *_REFERENCES)
_AS_FILE = "Send the picture as a file of multipart/form-data, or as a data URL in base64"
_NOT_A_FORM = "Field required; send the fields as multipart/form-data"


@dataclass(frozen=True)
class Form:
    """A valid request."""

    parameters: ImageToImageParameters
    inputs: Inputs
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
    errors = [
        InvalidField(name, "Input should be a valid string", "string_type")
        for name in ImageToImageParameters.model_fields
        if name in parts.files
    ]
    errors += misplaced_texts(texts)
    picture = None
    try:
        picture = find_image(texts, parts.files.get("image"))
    except InvalidField as error:
        errors.append(error)
    references = [file for name in _REFERENCES for file in parts.files.getlist(name)]
    unknown_files = set(parts.files) - {*_PICTURES, *ImageToImageParameters.model_fields}
    form = validate({**dict.fromkeys(unknown_files, ""), **texts}, errors)
    return decode(form, InputFiles(picture, parts.files.get("mask"), references))


def misplaced_texts(texts: Mapping[str, str]) -> list[InvalidField]:
    """Return an error for each field beside `image` that has a text where a picture belongs."""
    return [InvalidField(name, _AS_FILE) for name in _PICTURES if name != "image" and texts.get(name)]


def decode(form: Form, files: InputFiles) -> Form:
    """Return the form with its pictures. Raises `InvalidField` for one that cannot be decoded."""
    inputs, warnings = read_files(
        files,
        max_pixels=settings.MAX_UPLOAD_PIXELS,
        mask_invert=form.parameters.mask_invert,
        is_stored=not form.parameters.dry_run,
    )
    return replace(form, inputs=inputs, warnings=[*form.warnings, *warnings])


def validate(texts: Mapping[str, str], errors: Sequence[InvalidField]) -> Form:
    """Return the form with these texts, and no pictures, since those are decoded only if all else is valid.

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
    unknown = set(texts) - {*_PICTURES, *ImageToImageParameters.model_fields}
    return Form(parameters, Inputs(), _unknown_field_warnings(unknown))


def find_image(texts: Mapping[str, str], file: IO[bytes] | None) -> IO[bytes] | None:
    """Return the file of the picture of a form, None if it is to be fetched. Raises `InvalidField`."""
    if texts.get("image_url"):
        if not settings.FETCH_IMAGE_URLS:
            raise InvalidField(
                "image_url", "Fetching pictures by URL is disabled on this server; send the picture itself as image"
            )
        if file:
            raise InvalidField("image_url", "Send either image or image_url")
        try:
            remote.check(texts["image_url"])
        except remote.RemoteRefused as error:
            raise InvalidField("image_url", error.message) from None
        return None
    if file:
        return file
    if texts.get("image"):
        raise InvalidField("image", _AS_FILE)
    raise InvalidField("image", missing("image")["msg"], "missing")


def _unknown_field_warnings(names: Iterable[str]) -> list[str]:
    """Return a warning that lists these fields, shortened: a client may send any number of any length."""
    labels = [name[:_MAX_LISTED_CHARACTERS].replace("\0", "") for name in sorted(names)]
    if not labels:
        return []
    more = f" and {len(labels) - _MAX_LISTED_FIELDS} more" if len(labels) > _MAX_LISTED_FIELDS else ""
    return [f"There are no such fields, so they were ignored: {', '.join(labels[:_MAX_LISTED_FIELDS])}{more}."]
