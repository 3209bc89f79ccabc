"""Contact sheets: generations of one picture with one or two fields of the request varied, at low priority."""

import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import cache
from itertools import product
from typing import Any, cast
from uuid import UUID

from pydantic import ValidationError

from accounts.models import User
from generation.images.inputs import Inputs
from generation.inpainting import Box
from generation.jobs import idempotency, queue, submission
from generation.models import FINAL_STATES, ContactSheet, Generation
from generation.parameters import ErrorCode, ImageToImageParameters, InvalidField, Priority, Refusal, error_items
from generation.recipes import RANDOM_SEED_WARNING, traits_of

MAX_CELLS = 36
TEXTS = ("prompt", "negative_prompt", "model_id")
FIELDS = ("strength", "guidance_scale", "image_guidance_scale", "num_inference_steps", "seed", *TEXTS)
"""The fields that may vary."""
_SEEDS = 2**32
_MAX_MORE = 4


@dataclass(frozen=True)
class Axis:
    """The values of one field, as the user wrote them. `place` is columns or rows."""

    place: str
    field: str
    values: tuple[str, ...]

    @property
    def as_json(self) -> dict[str, Any]:
        return {"field": self.field, "values": list(self.values)}


@dataclass(frozen=True)
class Grid:
    """What varies in a contact sheet."""

    columns: Axis
    rows: Axis | None

    @property
    def axes(self) -> list[Axis]:
        return [self.columns] + ([self.rows] if self.rows else [])

    def cells(self) -> list[dict[str, str]]:
        """Return the varied fields of each cell, row by row. Raises `InvalidField` for an impossible grid."""
        if self.rows and self.rows.field == self.columns.field:
            raise InvalidField("rows", "This varies along the columns already; choose another parameter")
        downwards = [{self.rows.field: value} for value in self.rows.values] if self.rows else [{}]
        count = len(self.columns.values) * len(downwards)
        if count > MAX_CELLS:
            raise InvalidField("rows", f"These would be {count} pictures; a sheet holds at most {MAX_CELLS}")
        return [{self.columns.field: value, **down} for down, value in product(downwards, self.columns.values)]

    def locate(self, error: Refusal, model_id: str = "") -> Refusal:
        """Return the error of a cell with the axis that varies the field at fault as its field, if one does."""
        for axis in self.axes:
            if axis.field == error.field:
                message = f"{model_id}: {error.message}" if error.code is ErrorCode.UNKNOWN_MODEL else error.message
                return InvalidField(axis.place, message, error.items[0]["type"] if error.items else "value_error")
        return error


def read_axis(place: str, field: str, text: str) -> Axis | None:
    """Read an axis: texts by lines, numbers by the separators between them; None if no field is chosen.

    Raises `InvalidField` for the place.
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


def more_values(field: str, values: Sequence[str]) -> list[str]:
    """Return up to four values of this field that continue those of an axis by their last step; none for texts."""
    if field in TEXTS:
        return []
    numbers = [Decimal(value) for value in values]
    step = numbers[-1] - numbers[-2] if len(numbers) > 1 else Decimal(1)
    candidates = [f"{numbers[-1] + step * count:f}" for count in range(1, _MAX_MORE + 1)]
    return [value for value in candidates if value not in values and _is_valid(field, value)]


def _is_valid(field: str, value: str) -> bool:
    try:
        ImageToImageParameters.from_form({"prompt": "any", field: value})
    except (ValidationError, InvalidField):
        return False
    return True


def submit_once(
    user: User,
    fields: Mapping[str, str],
    inputs: Inputs,
    grid: Grid,
    source_id: int | None = None,
    idempotent: idempotency.IdempotentRequest | None = None,
    warnings: Sequence[str] = (),
) -> ContactSheet:
    """Submit all cells of a sheet, or none. For `fields` and errors see `drafts` and `submission.submit_once`.

    `warnings` are about the inputs.
    """

    def build() -> list[Generation]:
        rows = grid.rows.as_json if grid.rows else None
        sheet = ContactSheet(user=user, columns=grid.columns.as_json, rows=rows)
        generations = drafts(user, fields, inputs, grid)
        for cell, generation in enumerate(generations):
            generation.contact_sheet, generation.cell, generation.source_id = sheet, cell, source_id
            generation.warnings = [*warnings, *generation.warnings]
        return generations

    return cast(ContactSheet, submission.submit_once(build, inputs, idempotent).contact_sheet)


def drafts(
    user: User,
    fields: Mapping[str, str],
    inputs: Inputs,
    grid: Grid,
    size: tuple[int, int] | None = None,
    open_box: Box | None = None,
) -> list[Generation]:
    """Return the unsaved generations of a sheet, row by row. `fields` are the fields of the request that they share.

    Each makes one picture at low priority, with the same seed unless it varies. `size` and `open_box` are those of pictures
    that are not sent yet, if they are known. Raises `InvalidField`, for an axis if one of its values is wrong, and what
    `submission.build` raises.
    """
    shared = {**fields, "num_images_per_prompt": "1", "priority": Priority.LOW}
    seed = secrets.randbelow(_SEEDS)
    resolve = cache(submission.resolve_model)
    generations = []
    for parameters in [_parameters({**shared, **varied}, grid) for varied in grid.cells()]:
        request = replace(_request(user, parameters, seed, inputs), size=size, open_box=open_box)
        try:
            generation = submission.build(request, resolve)
        except Refusal as error:
            raise grid.locate(error, parameters.model_id) from None
        _refuse_without_effect(generation, grid)
        generations.append(generation)
    return generations


def cancel(user: User, contact_sheet_id: UUID) -> int:
    """Cancel the unfinished generations of a sheet of this user, and return how many there were."""
    unfinished = Generation.objects.filter(user=user, contact_sheet=contact_sheet_id).exclude(state__in=FINAL_STATES)
    return sum(queue.cancel(generation) for generation in unfinished)


def _parameters(fields: Mapping[str, str], grid: Grid) -> ImageToImageParameters:
    try:
        return ImageToImageParameters.from_form(fields)
    except ValidationError as error:
        raise grid.locate(_first_error(error)) from None
    except InvalidField as error:
        raise grid.locate(error) from None


def _request(user: User, parameters: ImageToImageParameters, seed: int, inputs: Inputs) -> submission.Request:
    """Return the request of a cell; `seed` is for cells that have none."""
    warnings = []
    if parameters.seed is None:
        if "seed" in parameters.model_fields_set:
            warnings.append(RANDOM_SEED_WARNING)
        parameters = parameters.model_copy(update={"seed": seed})
    return submission.Request(user, None, parameters, inputs, warnings=warnings)


def _first_error(error: ValidationError) -> InvalidField:
    item = error_items(error)[0]
    return InvalidField(item["loc"][1], item["msg"], item["type"])


def _refuse_without_effect(generation: Generation, grid: Grid) -> None:
    without_effect = traits_of(generation.get_recipe().model).without_effect
    for axis in grid.axes:
        if axis.field in without_effect:
            message = f"{axis.field} has no effect on {generation.model_id}; choose another parameter"
            raise InvalidField(axis.place, message)
