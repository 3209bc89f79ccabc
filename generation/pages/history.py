"""The history: a grid of one's own generations. A view reads its input, asks one domain verb, and renders."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.views.decorators.http import require_safe
from pydantic import ValidationError

from generation import search, wording
from generation.filters import HistoryFilters
from generation.models import Generation, State
from generation.pages.caching import revalidated
from generation.pages.chips import address, chips
from generation.pages.requests import person
from generation.parameters import error_items

PAGE_SIZE = 48


@revalidated
@login_required
@require_safe
def history(request: HttpRequest) -> HttpResponse:
    """A page of those of one's own that the filters leave, newest first; `before` is the id that the page above ended with.

    `under` is the key of the heading that the page above ended under: it is not said again, and the grid comes alone.
    """
    user = person(request)
    before = _uuid(request.GET["before"]) if "before" in request.GET else None
    filters, wrong = _filters(request.GET)
    found = [] if wrong else search.page(Generation.objects.owned_by(user), user.pk, filters, PAGE_SIZE, before)
    shown = found[:PAGE_SIZE]
    groups = list(wording.grouped(shown, wording.outlooks(shown)))
    older = None
    if len(found) > PAGE_SIZE:
        here, last = address(request.GET).rstrip("?"), urlencode({"before": shown[-1].pk})
        start = f"{here}&" if here else "?"
        older = {"href": f"{start}{last}", "more": f"{start}{last}&{urlencode({'under': groups[-1].key})}"}
    context: dict[str, Any] = {
        "groups": groups,
        "under": request.GET.get("under"),
        "before": before,
        "older": older,
        "live": _live(shown),
    }
    if "HX-Request" in request.headers and "under" in request.GET:
        return render(request, "generation/grid.html", context)
    context |= {
        "filters": filters,
        "chips": chips(user, request.GET, filters),
        "wrong": wrong,
        "here": request.get_full_path(),
        "newest": address(request.GET),
        "site": request.build_absolute_uri("/")[:-1],
    }
    return render(request, "generation/history.html", context, status=400 if wrong else 200)


@revalidated
@login_required
@require_safe
def tiles(request: HttpRequest) -> HttpResponse:
    """Of the `live` tiles (`id.state`) of one's own those that changed their state, how the others do, what is still live."""
    seen = {}
    for text in request.GET.getlist("live")[:PAGE_SIZE]:
        generation_id, _, known_state = text.partition(".")
        seen[_uuid(generation_id)] = known_state
    found = list(Generation.objects.owned_by(request.user).filter(pk__in=seen).prefetch_related("images"))
    outlooks = wording.outlooks(found)
    changed = [(item, outlooks.get(item.pk)) for item in found if item.state != seen[item.pk]]
    same = [(item, outlooks[item.pk]) for item in found if item.state == seen[item.pk] and item.pk in outlooks]
    return render(request, "generation/tiles.html", {"changed": changed, "same": same, "live": _live(found)})


def _filters(query: QueryDict) -> tuple[HistoryFilters, list[str]]:
    """What the address asks for, and what is wrong with it in words; then nothing is asked for."""
    known = [(name, values) for name, values in query.lists() if name in HistoryFilters.model_fields]
    try:
        return HistoryFilters.from_query(known), []
    except ValidationError as error:
        items = error_items(error, HistoryFilters, "query")
        return HistoryFilters(), [f"{str(item['loc'][-1]).replace('_', ' ')}: {item['msg']}." for item in items]


def _live(generations: list[Generation]) -> str:
    """The query that asks for the tiles of those that are not final; empty when all are."""
    live = [f"{item.pk}.{State(item.state).value}" for item in generations if not item.is_final]
    return urlencode({"live": live}, doseq=True)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Http404 from None
