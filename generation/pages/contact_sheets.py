"""The page of a contact sheet: a table of generations that vary one or two fields."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe
from PIL import Image

from accounts.requests import current_user
from generation import display
from generation.broker import progress
from generation.images import credentials, encoding, labelled_grid, storage
from generation.images.blur import blurred
from generation.jobs import contact_sheets
from generation.library import deletion
from generation.models import ContactSheet, GeneratedImage, Generation, State
from generation.pages.caching import revalidated
from generation.pages.trash import offer_undo
from generation.parameters import OutputFormat
from generation.recipes import traits_of

logger = logging.getLogger(__name__)

LABELS = {**display.PARAMETERS, "seed": "Seed", "prompt": "Prompt", "model_id": "Model"}
"""The labels of the fields that can vary."""


def title(contact_sheet: ContactSheet) -> str:
    """Return what varies, such as `Guidance × steps`."""
    columns = LABELS[contact_sheet.columns["field"]]
    return f"{columns} × {LABELS[contact_sheet.rows['field']].lower()}" if contact_sheet.rows else columns


@dataclass(frozen=True)
class Cell:
    """A cell of the table; `label` has the values that vary. It has no generation if that was trashed or deleted."""

    number: int
    label: str
    generation: Generation | None
    percent: int | None
    is_trashed: bool

    @property
    def image(self) -> GeneratedImage | None:
        """The generation's picture, once it is made."""
        images = self.generation.images.all() if self.generation else ()
        return next(iter(images), None)

    @property
    def status(self) -> str:
        """The generation's status in a word, empty without a generation."""
        if self.generation is None:
            return ""
        if self.image:
            return "flagged" if self.image.nsfw else "made"
        return {State.QUEUED: "queued", State.RUNNING: "generating"}.get(
            State(self.generation.state), self.generation.state_word
        )

    @property
    def fingerprint(self) -> str:
        """A short text that changes whenever the cell must be rendered again."""
        if self.generation is None:
            return "t" if self.is_trashed else "d"
        return self.generation.state[0] + ("" if self.percent is None else str(self.percent))


@revalidated
@login_required
@require_safe
def sheet(request: HttpRequest, contact_sheet_id: UUID) -> HttpResponse:
    """Show one of the user's contact sheets."""
    contact_sheet = get_object_or_404(ContactSheet, user=request.user, pk=contact_sheet_id)
    cells = _cells(contact_sheet)
    columns, rows = _axis_values(contact_sheet)
    lines = [cells[start : start + len(columns)] for start in range(0, len(cells), len(columns))]
    first = _first(cells)
    context = {
        "sheet": contact_sheet,
        "title": title(contact_sheet),
        "first": first,
        "has_blurred_input": bool(first and first.has_flagged_input and current_user(request).blur_flagged),
        "fixed_values": _fixed_values(contact_sheet, first) if first else [],
        "columns": columns,
        "columns_label": LABELS[contact_sheet.columns["field"]],
        "rows_label": LABELS[contact_sheet.rows["field"]] if contact_sheet.rows else "",
        "rows": [(value, line, _extension(contact_sheet, line)) for value, line in zip(rows, lines, strict=True)],
        **_progress(cells),
    }
    return render(request, "generation/contact_sheet.html", context)


@revalidated
@login_required
@require_safe
def cells(request: HttpRequest, contact_sheet_id: UUID) -> HttpResponse:
    """Render the progress, and the cells whose fingerprints are not those that the page has, `fingerprints`."""
    contact_sheet = get_object_or_404(ContactSheet, user=request.user, pk=contact_sheet_id)
    current = _cells(contact_sheet)
    fingerprints = dict(enumerate(request.GET.get("fingerprints", "").split(",")))
    changed = [cell for cell in current if fingerprints.get(cell.number) != cell.fingerprint]
    return render(
        request, "generation/_sheet_update.html", {"sheet": contact_sheet, "changed": changed, **_progress(current)}
    )


@login_required
@require_POST
def cancel(request: HttpRequest, contact_sheet_id: UUID) -> HttpResponse:
    """Cancel the unfinished generations of one of the user's contact sheets."""
    contact_sheet = get_object_or_404(ContactSheet, user=request.user, pk=contact_sheet_id)
    if not contact_sheets.cancel(current_user(request), contact_sheet.pk):
        messages.info(request, "All of it had ended already, so nothing was canceled.")
    return redirect("sheet", contact_sheet.pk)


@login_required
@require_POST
def delete(request: HttpRequest, contact_sheet_id: UUID) -> HttpResponse:
    """Move all generations of one of the user's contact sheets to the trash; the next page offers to undo it."""
    contact_sheet = get_object_or_404(ContactSheet, user=request.user, pk=contact_sheet_id)
    rows = Generation.objects.owned_by(request.user).filter(contact_sheet=contact_sheet)
    if rows.live().exists():
        messages.info(request, "It is not made yet, so it was not deleted; cancel what remains first.")
        return redirect("sheet", contact_sheet.pk)
    ids = list(rows.values_list("pk", flat=True))
    if ids:
        deletion.trash(rows)
        offer_undo(request, ids, reverse("sheet", args=[contact_sheet.pk]))
    return redirect("history")


@revalidated
@login_required
@require_safe
def picture(request: HttpRequest, contact_sheet_id: UUID) -> HttpResponse:
    """Download one of the user's contact sheets as one picture with labels. Flagged pictures are blurred in it."""
    contact_sheet = get_object_or_404(ContactSheet, user=request.user, pk=contact_sheet_id)
    cells = _cells(contact_sheet)
    first = _first(cells)
    size = next(((cell.image.width, cell.image.height) for cell in cells if cell.image), None)
    if first is None or size is None:
        messages.info(request, "No picture of it is made yet, so there is nothing to download.")
        return redirect("sheet", contact_sheet.pk)
    columns, rows = _axis_values(contact_sheet)
    fixed = " · ".join(_written(name, value) for name, value in _fixed_values(contact_sheet, first))
    try:
        sheet = labelled_grid.draw(
            fixed,
            _axis_labels(contact_sheet.columns["field"], columns),
            _axis_labels(contact_sheet.rows["field"], rows) if contact_sheet.rows else rows,
            labelled_grid.cell_size(*size, len(cells)),
            _pictures(cells),
        )
    except storage.StorageFailed:
        logger.exception("a picture cannot be read")
        messages.error(request, "The pictures cannot be read now, so nothing was downloaded; try again in a minute.")
        return redirect("sheet", contact_sheet.pk)
    content = credentials.compose(encoding.encode(sheet, OutputFormat.PNG, 0), "image/png")
    response = HttpResponse(content, content_type="image/png")
    response["Content-Disposition"] = f'attachment; filename="contact-sheet-{contact_sheet.created:%Y-%m-%d-%H%M}.png"'
    return response


def _pictures(cells: Sequence[Cell]) -> Iterator[Image.Image | str]:
    """Yield the picture of each cell, or its status. Raises `StorageFailed`."""
    for cell in cells:
        if cell.image is None:
            yield cell.status or ("in the trash" if cell.is_trashed else "deleted")
        else:
            decoded = encoding.decode(storage.read(str(cell.image.file.name)))
            yield blurred(decoded) if cell.image.nsfw else decoded


def _axis_labels(field: str, values: Sequence[str]) -> list[str]:
    return [_written(LABELS[field], value, f" {number}") for number, value in enumerate(values, 1)]


def _written(name: str, value: str, number: str = "") -> str:
    """Return a label of the drawn sheet. A value that it cannot show, such as Japanese words, is left to the page."""
    return f"{name}: {value}" if labelled_grid.can_write(value) else f"{name}{number}: see the page of the sheet"


def _first(cells: Sequence[Cell]) -> Generation | None:
    return next((cell.generation for cell in cells if cell.generation), None)


def _fixed_values(contact_sheet: ContactSheet, generation: Generation) -> list[tuple[str, str]]:
    """Return labels and values of the fields that all cells share and that have an effect; `generation` is one of them."""
    recipe = generation.get_recipe()
    varied = {axis["field"] for axis in (contact_sheet.columns, contact_sheet.rows) if axis}
    seed = str(recipe.seeds[0])
    texts = {"model_id": str(generation.model_id), "prompt": generation.prompt, "seed": seed}
    fixed = [(LABELS[name], value) for name, value in texts.items() if name not in varied]
    names = [name for name in display.SHARED if name not in varied | traits_of(recipe.model).without_effect]
    shared = display.parameters(generation, names)
    if mask := display.mask(generation):
        fixed.append(("Mask", mask[0]))
    return fixed + [(parameter.label, parameter.value) for parameter in shared if parameter.value != "none"]


def _extension(contact_sheet: ContactSheet, cells: Sequence[Cell]) -> str:
    """Return the studio's address for a sheet that continues this row, empty if nothing of the row is left."""
    generation = _first(cells)
    if generation is None or not generation.input:
        return ""
    field = contact_sheet.columns["field"]
    more = ", ".join(contact_sheets.more_values(field, contact_sheet.columns["values"]))
    query = {"from": generation.pk, "mode": "exact", "columns_field": field, "columns": more}
    return f"{reverse('home')}?{urlencode(query)}#contact-sheet"


def _axis_values(contact_sheet: ContactSheet) -> tuple[list[str], list[str]]:
    """Return the values of the columns and of the rows; a sheet without rows has one, without a value."""
    return contact_sheet.columns["values"], contact_sheet.rows["values"] if contact_sheet.rows else [""]


def _cells(contact_sheet: ContactSheet) -> list[Cell]:
    columns, rows = _axis_values(contact_sheet)
    generations = Generation.objects.owned_by(contact_sheet.user_id).filter(contact_sheet=contact_sheet)
    by_cell: dict[int | None, Generation] = {
        row.cell: row for row in generations.select_related("source").prefetch_related("images")
    }
    trashed = deletion.restorable(Generation.objects.trashed_by(contact_sheet.user_id))
    trashed_cells = set(trashed.filter(contact_sheet=contact_sheet).values_list("cell", flat=True))
    progress_of = progress.latest([row.pk for row in by_cell.values() if row.state == State.RUNNING])
    cells = []
    for number in range(len(rows) * len(columns)):
        generation = by_cell.get(number)
        values = [(contact_sheet.columns, columns[number % len(columns)])]
        if contact_sheet.rows:
            values.insert(0, (contact_sheet.rows, rows[number // len(columns)]))
        label = ", ".join(f"{LABELS[axis['field']]} {value}" for axis, value in values)
        latest = progress_of.get(generation.pk) if generation else None
        cells.append(Cell(number, label, generation, latest.percent if latest else None, number in trashed_cells))
    return cells


def _progress(cells: Sequence[Cell]) -> dict[str, Any]:
    generations = [cell.generation for cell in cells if cell.generation]
    return {
        "total": len(cells),
        "done": sum(generation.state == State.SUCCEEDED for generation in generations),
        "remaining": sum(not generation.is_final for generation in generations),
        "is_any_left": bool(generations),
        "fingerprints": ",".join(cell.fingerprint for cell in cells),
    }
