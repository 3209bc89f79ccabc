"""Read and validate the studio's form, and its errors by field."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.conf import settings
from django.http import QueryDict
from django.utils.datastructures import MultiValueDict
from pydantic import ValidationError

from accounts.models import User
from accounts.requests import parse_uuid, whole_number
from generation import display
from generation.images import masks
from generation.images.input_files import read_whole
from generation.images.inputs import InputFiles, Inputs, fitted, read_references, usable
from generation.images.masks import Mask
from generation.images.sizes import MAX_SIDE
from generation.images.uploads import read_upload
from generation.inpainting import Box
from generation.jobs import contact_sheets
from generation.library.stored import (
    StoredPicture,
    generation_with_mask,
    generation_with_references,
    stored_mask,
    stored_picture,
    stored_references,
)
from generation.models import GeneratedImage, Generation
from generation.pages.studio.fields import LORA_PREFIX, MASK_FIELDS, SLIDERS, TEXTS, Errors
from generation.parameters import ImageToImageParameters, InvalidField, InvalidForm, Refusal, error_items

_MAX_IMAGE_INDEX = 999
_MESSAGES = {
    ("prompt", "missing"): "Say what should happen to the picture.",
    ("image", "missing"): "Choose a picture.",
}


@dataclass(frozen=True)
class StudioRequest:
    """A validated form. Each of its pictures is a file, or one that is stored for a generation: see `read`."""

    parameters: ImageToImageParameters
    files: InputFiles
    stored: StoredPicture | None
    mask_of: Generation | None
    references_of: Generation | None

    def inputs(self) -> tuple[Inputs, list[str]]:
        """Return the decoded pictures, and warnings. Raises `StorageFailed`, and `InvalidField`, such as without a picture."""
        limit = settings.MAX_UPLOAD_PIXELS
        mask = None
        warnings: list[str] = []
        sent = masks.read_mask(self.files.mask, max_pixels=limit) if self.files.mask else self._stored_mask()
        if sent:
            mask, warnings = usable(sent, mask_invert=self.parameters.mask_invert)
        if self.files.picture:
            picture = (read_whole if mask else read_upload)(self.files.picture, max_pixels=limit)
        elif self.stored:
            picture = self.stored.read(whole=mask is not None)
        else:
            raise InvalidField("image", _MESSAGES["image", "missing"], "missing")
        references = stored_references(self.references_of) if self.references_of else []
        references += read_references(self.files.references, max_pixels=limit)
        inputs, more = fitted(Inputs(picture, mask, references))
        return inputs, warnings + more

    @property
    def source_id(self) -> int | None:
        return self.stored.source_id if self.stored and not self.files.picture else None

    def _stored_mask(self) -> Mask | None:
        return stored_mask(self.mask_of) if self.mask_of else None


def parameter_fields(post: QueryDict) -> dict[str, str]:
    """Return the fields of `ImageToImageParameters` from the fields of the form."""
    texts = {name: str(post[name]).strip() for name in (*TEXTS, *SLIDERS, *MASK_FIELDS, "safety_check") if name in post}
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
    """Validate the whole form, but decode no picture; `fields` are its `parameter_fields`.

    A generation whose pictures are used is named by `from` or `source` (see `stored_choice`), by `mask_from` for its mask, and
    by `images_from` for its further pictures, which come before those that are sent. Raises `InvalidForm`, and `DoesNotExist`
    for a generation that is not the user's.
    """
    items: list[dict[str, Any]] = []
    parameters = stored = mask_of = references_of = None
    try:
        parameters = ImageToImageParameters.from_form(fields)
    except ValidationError as error:
        items += error_items(error)
    except InvalidField as error:
        items += error.items
    sent = InputFiles(files.get("image"), files.get("mask"), files.getlist("images[]"))
    try:
        stored = None if sent.picture else stored_choice(user, post)
        if post.get("mask_from") and not sent.mask:
            mask_of = generation_with_mask(user, _uuid(post["mask_from"]))
        if post.get("images_from"):
            references_of = generation_with_references(user, _uuid(post["images_from"]))
    except InvalidField as error:
        items += error.items
    if items or parameters is None:
        raise InvalidForm(items)
    return StudioRequest(parameters, sent, stored, mask_of, references_of)


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


def open_box(post: QueryDict) -> Box | None:
    """Return the box of what the mask lets change, in pixels of the picture, as the page's script sends it as `open_box`."""
    edges = [whole_number(text, MAX_SIDE) for text in str(post.get("open_box", "")).split(",")]
    match edges:
        case [int(left), int(upper), int(right), int(lower)] if left < right and upper < lower:
            return left, upper, right, lower
    return None


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
