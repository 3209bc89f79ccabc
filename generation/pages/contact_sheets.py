"""The page of a contact sheet: a table of generations that vary one or two fields."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from accounts.requests import current_user
from generation import display
from generation.broker import progress
from generation.jobs import contact_sheets
from generation.library import deletion
from generation.models import ContactSheet, Generation, State
from generation.pages.caching import revalidated

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
    def status(self) -> str:
        """The generation's status in a word, empty without a generation."""
        if self.generation is None:
            return ""
        for image in self.generation.images.all()[:1]:
            return "flagged" if image.nsfw else "made"
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
    return render(
        request,
        "generation/contact_sheet.html",
        {
            "sheet": contact_sheet,
            "title": title(contact_sheet),
            "first": next((cell.generation for cell in cells if cell.generation), None),
            "columns": columns,
            "columns_label": LABELS[contact_sheet.columns["field"]],
            "rows_label": LABELS[contact_sheet.rows["field"]] if contact_sheet.rows else "",
            "rows": [
                (value, cells[number * len(columns) : (number + 1) * len(columns)]) for number, value in enumerate(rows)
            ],
            "varies_prompt": "prompt" in (contact_sheet.columns["field"], (contact_sheet.rows or {}).get("field")),
            **_progress(cells),
        },
    )


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


def _axis_values(contact_sheet: ContactSheet) -> tuple[list[str], list[str]]:
    """Return the values of the columns and of the rows; a sheet without rows has one, without a value."""
    return contact_sheet.columns["values"], contact_sheet.rows["values"] if contact_sheet.rows else [""]


def _cells(contact_sheet: ContactSheet) -> list[Cell]:
    columns, rows = _axis_values(contact_sheet)
    generations = Generation.objects.owned_by(contact_sheet.user_id).filter(contact_sheet=contact_sheet)
    by_cell: dict[int | None, Generation] = {row.cell: row for row in generations.prefetch_related("images")}
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
        "fingerprints": ",".join(cell.fingerprint for cell in cells),
    }
