"""Contact sheets: the pictures of an contact_sheet in their rows and columns, while they are being made and after."""

from collections.abc import Mapping, Sequence
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
from generation.models import (
    ContactSheet,
    Generation,
    State,
)
from generation.pages.caching import revalidated

LABELS = {**display.PARAMETERS, "seed": "Seed", "prompt": "Prompt", "model_id": "Model"}
_GONE, _BINNED = "g", "t"


def title(contact_sheet: ContactSheet) -> str:
    """What varies: `Guidance × steps`."""
    words = LABELS[contact_sheet.columns["field"]]
    return f"{words} × {LABELS[contact_sheet.rows['field']].lower()}" if contact_sheet.rows else words


@dataclass(frozen=True)
class Cell:
    """One place of a sheet; without a generation it is of one that was deleted, or is in the trash."""

    number: int
    words: str
    generation: Generation | None
    percent: int | None
    is_binned: bool

    @property
    def status(self) -> str:
        """How far the generation is, in a word or two; empty without one."""
        if self.generation is None:
            return ""
        for image in self.generation.images.all()[:1]:
            return "flagged" if image.nsfw else "made"
        return {State.QUEUED: "queued", State.RUNNING: "generating"}.get(
            State(self.generation.state), self.generation.state
        )

    @property
    def look(self) -> str:
        """What it looked like, in a letter or so: another one is to be drawn anew."""
        if self.generation is None:
            return _BINNED if self.is_binned else _GONE
        return self.generation.state[0] + ("" if self.percent is None else str(self.percent))


@revalidated
@login_required
@require_safe
def sheet(request: HttpRequest, contact_sheet_id: UUID) -> HttpResponse:
    """One of one's own contact sheets."""
    contact_sheet = get_object_or_404(ContactSheet, user=request.user, pk=contact_sheet_id)
    cells = _cells(contact_sheet)
    columns = contact_sheet.columns["values"]
    rows = contact_sheet.rows["values"] if contact_sheet.rows else [""]
    first = next((cell.generation for cell in cells if cell.generation), None)
    return render(
        request,
        "generation/contact_sheet.html",
        {
            "sheet": contact_sheet,
            "title": title(contact_sheet),
            "first": first,
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
    """Those cells that do not look as `seen` says, with commas between, and what is still to come."""
    contact_sheet = get_object_or_404(ContactSheet, user=request.user, pk=contact_sheet_id)
    found = _cells(contact_sheet)
    seen = dict(enumerate(request.GET.get("seen", "").split(",")))
    changed = [cell for cell in found if seen.get(cell.number) != cell.look]
    return render(
        request, "generation/_sheet_update.html", {"sheet": contact_sheet, "changed": changed, **_progress(found)}
    )


@login_required
@require_POST
def cancel(request: HttpRequest, contact_sheet_id: UUID) -> HttpResponse:
    """Cancel all that waits or runs of one of one's own contact sheets."""
    contact_sheet = get_object_or_404(ContactSheet, user=request.user, pk=contact_sheet_id)
    if not contact_sheets.cancel(current_user(request), contact_sheet.pk):
        messages.info(request, "All of it had ended already, so nothing was canceled.")
    return redirect("sheet", contact_sheet.pk)


def _cells(contact_sheet: ContactSheet) -> list[Cell]:
    rows = contact_sheet.rows["values"] if contact_sheet.rows else [""]
    columns = contact_sheet.columns["values"]
    own = Generation.objects.owned_by(contact_sheet.user_id).filter(contact_sheet=contact_sheet)
    found: Mapping[int | None, Generation] = {row.cell: row for row in own.prefetch_related("images")}
    binned = deletion.restorable(Generation.objects.trashed_by(contact_sheet.user_id)).filter(
        contact_sheet=contact_sheet
    )
    in_trash = set(binned.values_list("cell", flat=True))
    at = progress.latest([row.pk for row in found.values() if row.state == State.RUNNING])
    cells = []
    for number in range(len(rows) * len(columns)):
        generation = found.get(number)
        values = [(contact_sheet.columns, columns[number % len(columns)])]
        if contact_sheet.rows:
            values.insert(0, (contact_sheet.rows, rows[number // len(columns)]))
        words = ", ".join(f"{LABELS[axis['field']]} {value}" for axis, value in values)
        percent = at[generation.pk].percent if generation and generation.pk in at else None
        cells.append(Cell(number, words, generation, percent, number in in_trash))
    return cells


def _progress(cells: Sequence[Cell]) -> dict[str, Any]:
    generations = [cell.generation for cell in cells if cell.generation]
    left = [generation for generation in generations if not generation.is_final]
    return {
        "total": len(cells),
        "done": sum(generation.state == State.SUCCEEDED for generation in generations),
        "remaining": len(left),
        "seen": ",".join(cell.look for cell in cells),
    }
