"""Contact sheets: one picture, with one or two fields of the request varied, as a group of generations of low priority."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from typing import Any
from uuid import UUID

from pydantic import ValidationError

from accounts.models import User
from generation.images.uploads import Upload
from generation.jobs import (
    idempotency,
    queue,
    submission,
)
from generation.models import (
    FINAL_STATES,
    ContactSheet,
    Generation,
)
from generation.parameters import ErrorCode, ImageToImageParameters, InvalidField, Priority, RequestRefused, error_items
from generation.recipes import traits_of

MAX_CELLS = 36
TEXTS = ("prompt", "negative_prompt", "model_id")
FIELDS = ("strength", "guidance_scale", "image_guidance_scale", "num_inference_steps", "seed", *TEXTS)
"""What may vary."""
_SEEDS = 2**32


@dataclass(frozen=True)
class Axis:
    """The values of one field, as they were written. `place` is columns or rows."""

    place: str
    field: str
    values: tuple[str, ...]

    @property
    def stored(self) -> dict[str, Any]:
        return {"field": self.field, "values": list(self.values)}


def axis(place: str, field: str, text: str) -> Axis | None:
    """Read an axis: texts by lines, numbers by whatever stands between; None where no field is chosen.

    Raises `InvalidField` on the place.
    """
    if not field:
        return None
    if field not in FIELDS:
        raise InvalidField(place, f"Choose one of {', '.join(FIELDS)}")
    parts = text.splitlines() if field in TEXTS else re.split(r"[\s,;]+", text)
    values = tuple(dict.fromkeys(part.strip() for part in parts if part.strip()))
    if not values:
        each = "one value on each line" if field in TEXTS else "values with commas between, such as 2, 4, 7.5"
        raise InvalidField(place, f"Write {each}")
    if len(values) > MAX_CELLS:
        raise InvalidField(place, f"These are {len(values)} values; a sheet holds at most {MAX_CELLS} pictures")
    return Axis(place, field, values)


def explore(
    user: User,
    texts: Mapping[str, str],
    picture: Upload,
    columns: Axis,
    rows: Axis | None,
    *,
    source_id: int | None = None,
    request_id: str = "",
    attempt: idempotency.IdempotentRequest | None = None,
) -> ContactSheet:
    """Submit all cells of a sheet, or none. Raises as `drafts` and `submission.submit_together` do."""
    contact_sheet = ContactSheet(user=user, columns=columns.stored, rows=rows.stored if rows else None)
    generations = drafts(user, texts, picture, columns, rows)
    for cell, generation in enumerate(generations):
        generation.contact_sheet, generation.cell = contact_sheet, cell
        generation.request_id, generation.source_id = request_id, source_id
    return submission.submit_together(contact_sheet, generations, picture, attempt)


def drafts(
    user: User,
    texts: Mapping[str, str],
    picture: Upload | None,
    columns: Axis,
    rows: Axis | None,
    *,
    size: tuple[int, int] | None = None,
) -> list[Generation]:
    """The cells of a sheet, row by row. `texts` are the fields of the request that they share.

    Each is one picture of low priority, and all have one seed unless it varies. Without a picture, `size` is what is known
    of it. Raises `InvalidField`, on the place where a value of an axis is wrong, and what `submission.draft` raises.
    """
    find = cache(submission.weights)
    generations = []
    for parameters in _cells(texts, columns, rows):
        try:
            generation = submission.build(user, None, parameters, picture, size=size, find=find)
        except InvalidField as error:
            raise _placed(error.item, columns, rows) from error
        except RequestRefused as error:
            varied = [one for one in (columns, rows) if one and one.field == "model_id"]
            if error.code is not ErrorCode.UNKNOWN_MODEL or not varied:
                raise
            raise InvalidField(varied[0].place, f"{parameters.model_id}: {error.message}") from error
        _refuse_without_effect(generation, columns, rows)
        generations.append(generation)
    return generations


def cancel(user: User, contact_sheet_id: UUID) -> int:
    """Cancel what waits or runs of a sheet of this user; how many these were."""
    left = Generation.objects.filter(user=user, contact_sheet=contact_sheet_id).exclude(state__in=FINAL_STATES)
    return sum(queue.cancel(generation) for generation in left)


def _cells(texts: Mapping[str, str], columns: Axis, rows: Axis | None) -> list[ImageToImageParameters]:
    """The requests, row by row."""
    if rows and rows.field == columns.field:
        raise InvalidField("rows", "This varies along the columns already; choose another parameter")
    count = len(columns.values) * len(rows.values if rows else [""])
    if count > MAX_CELLS:
        raise InvalidField("rows", f"These would be {count} pictures; a sheet holds at most {MAX_CELLS}")
    shared = {**texts, "num_images_per_prompt": "1", "priority": Priority.LOW}
    shared["seed"] = texts.get("seed") or str(secrets.randbelow(_SEEDS))
    cells = []
    for down, along in product(rows.values if rows else [""], columns.values):
        varied = {columns.field: along} | ({rows.field: down} if rows else {})
        try:
            cells.append(ImageToImageParameters.from_form({**shared, **varied}))
        except ValidationError as error:
            raise _placed(error_items(error)[0], columns, rows) from error
        except InvalidField as error:
            raise _placed(error.item, columns, rows) from error
    return cells


def _placed(item: Mapping[str, Any], columns: Axis, rows: Axis | None) -> InvalidField:
    """What is wrong with a field, said of the axis that varies it."""
    field = item["loc"][1]
    for one in filter(None, (columns, rows)):
        if one.field == field:
            return InvalidField(one.place, item["msg"], item["type"])
    return InvalidField(field, item["msg"], item["type"])


def _refuse_without_effect(generation: Generation, columns: Axis, rows: Axis | None) -> None:
    idle = traits_of(generation.get_recipe().model).without_effect
    for one in filter(None, (columns, rows)):
        if one.field in idle:
            raise InvalidField(
                one.place, f"{one.field} has no effect on {generation.model_id}; choose another parameter"
            )
