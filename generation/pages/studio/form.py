"""Read and validate the studio's form, and its errors by field."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, cast
from uuid import UUID

from django.conf import settings
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict
from pydantic import ValidationError

from accounts.models import User
from accounts.requests import parse_uuid, whole_number
from generation import display
from generation.images.sizes import MAX_SIDE
from generation.images.uploads import Upload, read_upload
from generation.jobs import contact_sheets
from generation.library.stored import StoredPicture, stored_picture
from generation.models import GeneratedImage, Generation
from generation.pages.studio.fields import LORA_PREFIX, SLIDERS, TEXTS, Errors
from generation.parameters import ImageToImageParameters, InvalidField, InvalidForm, Refusal, error_items

_MAX_IMAGE_INDEX = 999
_MESSAGES = {
    ("prompt", "missing"): "Say what should happen to the picture.",
    ("image", "missing"): "Choose a picture.",
}


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
        raise InvalidField("image", _MESSAGES["image", "missing"], "missing")

    @property
    def source_id(self) -> int | None:
        return self.stored.source_id if self.stored and not self.upload else None


def parameter_fields(post: QueryDict) -> dict[str, str]:
    """Return the fields of `ImageToImageParameters` from the fields of the form."""
    texts = {name: str(post[name]).strip() for name in (*TEXTS, *SLIDERS, "safety_check") if name in post}
    weights = {
        name.removeprefix(LORA_PREFIX): _number(str(text))
        for name, text in post.items()
        if name.startswith(LORA_PREFIX) and str(text).strip()
    }
    if weights:
        texts["loras"] = json.dumps(weights)
    if texts.get("output_format", "png") == "png":
        texts.pop("output_quality", None)
    return texts


def read(user: User, post: QueryDict, files: MultiValueDict[str, Any], fields: Mapping[str, str]) -> StudioRequest:
    """Validate the whole form; `fields` are its `parameter_fields`.

    Raises `InvalidForm`, `InvalidField` for a picture that cannot be decoded, and `DoesNotExist` for one that is not the
    user's.
    """
    items: list[dict[str, Any]] = []
    parameters = upload = stored = None
    try:
        parameters = ImageToImageParameters.from_form(fields)
    except ValidationError as error:
        items += error_items(error)
    except InvalidField as error:
        items += error.items
    file = files.get("image")
    try:
        stored = None if file else stored_choice(user, post)
    except InvalidField as error:
        items += error.items
    if items or parameters is None:
        raise InvalidForm(items)
    if file:
        # Decoded only if all else is valid.
        upload = read_upload(cast(BinaryIO, file), max_pixels=settings.MAX_UPLOAD_PIXELS)
    return StudioRequest(parameters, upload, stored)


def stored_choice(user: User, fields: Mapping[str, Any]) -> StoredPicture | None:
    """Return the stored picture that a form or a query names: with `from`, a generation's input; with `source`, a result.

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


def grid(post: QueryDict) -> contact_sheets.Grid | None:
    """Return the grid of the form's contact sheet, None if the columns are empty. Raises `InvalidField`."""
    columns = contact_sheets.read_axis("columns", post.get("columns_field", ""), post.get("columns", ""))
    rows = contact_sheets.read_axis("rows", post.get("rows_field", ""), post.get("rows", ""))
    return contact_sheets.Grid(columns, rows) if columns else None


def picture_size(post: QueryDict) -> tuple[int, int] | None:
    """Return width and height of the picture in pixels, as the page's script sends them; None without valid ones."""
    width, height = (whole_number(str(post.get(name, "")), MAX_SIDE) for name in ("width", "height"))
    return (width, height) if width and height else None


def form_errors(refusal: Refusal) -> Errors:
    """Return the messages of a refusal by the form's fields."""
    if not refusal.items:
        return {refusal.field: [refusal.message]}
    errors: Errors = {}
    for item in refusal.items:
        field = item["loc"][1]
        message = _MESSAGES.get((field, item["type"])) or display.error_sentence(item)
        errors.setdefault(field, []).append(message)
    return errors


def _number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _uuid(text: object) -> UUID:
    """Parse an id. Raises `DoesNotExist` if it is not one, as for an unknown generation."""
    generation_id = parse_uuid(str(text))
    if generation_id is None:
        raise Generation.DoesNotExist
    return generation_id
