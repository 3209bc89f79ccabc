"""Related generations: neighbours in the history, ancestors, those derived from its results, and those of the same input."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import prefetch_related_objects

from generation.filters import HistoryFilters
from generation.library import search
from generation.models import GeneratedImage, Generation, State

NEIGHBOURS = 5
"""Most neighbours on each side."""

MAX_ANCESTORS = 6
MAX_DERIVED = 12
MAX_OF_SAME_INPUT = 12

_UPWARD = ["source" + "__generation__source" * depth for depth in range(MAX_ANCESTORS + 1)]
# Fields that no page shows of related generations.
_DEFERRED = ("parameters", "recipe", "warnings", "phases", "note", "input_sha256")


@dataclass(frozen=True)
class Related:
    """`newer` and `older` have the nearest first, `derived` the newest. The flags say that there are more.

    `of_sheet` are the others of its contact sheet by their cells, `of_input` the newest others of the same input; both
    have pictures.

    `ancestors` are results, each made from the one before it; the last is the input. They include results whose
    generation was removed.
    """

    newer: list[Generation]
    older: list[Generation]
    ancestors: list[GeneratedImage]
    has_more_ancestors: bool
    derived: list[Generation]
    has_more_derived: bool
    of_sheet: list[Generation]
    of_input: list[Generation]


def related_to(
    generation: Generation, images: Sequence[GeneratedImage], filters: HistoryFilters | None = None
) -> Related:
    """Return what is related to a generation with these results, in at most eight queries.

    The history's filters also apply to newer and older.
    """
    mine = Generation.objects.owned_by(generation.user).defer(*_DEFERRED)
    derived = (
        list(mine.filter(source__in=images).select_related("source").order_by("-pk")[: MAX_DERIVED + 1])
        if images
        else []
    )
    newer, older = search.neighbours(mine, generation.user_id, filters or HistoryFilters(), generation.pk, NEIGHBOURS)
    made = mine.filter(state=State.SUCCEEDED).exclude(pk=generation.pk)
    sheet, digest = generation.contact_sheet_id, generation.input_sha256
    of_sheet = list(made.filter(contact_sheet=sheet).order_by("cell")) if sheet else []
    of_input = list(made.filter(input_sha256=digest).order_by("-pk")[:MAX_OF_SAME_INPUT]) if digest else []
    prefetch_related_objects([*derived, *newer, *older, *of_sheet, *of_input], "images")
    line = _line(generation)
    return Related(
        newer=newer,
        older=older,
        ancestors=line[-MAX_ANCESTORS:],
        has_more_ancestors=len(line) > MAX_ANCESTORS,
        derived=derived[:MAX_DERIVED],
        has_more_derived=len(derived) > MAX_DERIVED,
        of_sheet=of_sheet,
        of_input=of_input,
    )


def _line(generation: Generation) -> list[GeneratedImage]:
    """Return the results it descends from, farthest first; `MAX_ANCESTORS` + 1 if there are more."""
    if generation.source_id is None:
        return []
    keys = Generation.objects.filter(pk=generation.pk).values_list(*_UPWARD).get()
    images = GeneratedImage.objects.filter(pk__in=[key for key in keys if key], generation__user=generation.user)
    by_key = {image.pk: image for image in images.select_related("generation")}
    return [by_key[key] for key in reversed(keys) if key in by_key]
