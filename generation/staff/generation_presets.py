"""Searches in the admin's list of generations that staff often make, with how many rows each has."""

from dataclasses import dataclass
from urllib.parse import urlencode

from django.db.models import Q
from django.http import QueryDict
from django.utils import timezone

from generation.days import start_of_day
from generation.models import GeneratedImage, Generation, State, first_id
from generation.models.review import IN_REVIEW, OPEN

_MOST = 99
"""The highest count; beyond it, how many more there are does not matter."""


@dataclass(frozen=True)
class Preset:
    """A search; `count` is empty for the whole list, and `99+` for many rows."""

    label: str
    query: str
    count: str
    is_current: bool


def presets(query: QueryDict) -> list[Preset]:
    """Return the presets that have rows, or are shown. Each costs one query of an index, which is not read to its end."""
    today = timezone.localdate()
    is_today = Q(pk__gte=first_id(start_of_day(today)))
    waiting = GeneratedImage.objects.filter(IN_REVIEW, review__in=OPEN).values("generation")
    searches = (
        ("Running", {"state__exact": "running"}, Q(state=State.RUNNING)),
        ("Queued", {"state__exact": "queued"}, Q(state=State.QUEUED)),
        ("Waiting for review", {"review": "waiting"}, Q(pk__in=waiting)),
        ("Flagged today", {"flagged": "yes", "date": f"{today}"}, Q(is_flagged=True) & is_today),
        ("Failed today", {"state__exact": "failed", "date": f"{today}"}, Q(state=State.FAILED) & is_today),
        ("On legal hold", {"legal_hold": "yes"}, Q(legal_hold=True)),
    )
    current = {name: value for name, value in query.items() if name != "p"}
    result = [Preset("All", "", "", not current)]
    for label, parameters, condition in searches:
        count = len(Generation.objects.filter(condition).order_by().values_list("pk")[: _MOST + 1])
        if count or parameters == current:
            text = f"{_MOST}+" if count > _MOST else str(count)
            result.append(Preset(label, urlencode(parameters), text, parameters == current))
    return result
