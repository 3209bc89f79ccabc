"""The history: a grid of one's own generations. A view reads its input, asks one domain verb, and renders."""

from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.requests import current_user, parse_uuid
from generation import display
from generation.library import search
from generation.models import Generation, State
from generation.pages.caching import revalidated
from generation.pages.history_filters import address, chips
from generation.pages.history_query import Narrowed, narrowed

PAGE_SIZE = 48


@revalidated
@login_required
@require_safe
def history(request: HttpRequest) -> HttpResponse:
    """A page of those of one's own that the filters leave, newest first; `before` is the id that the page above ended with.

    `under` is the key of the heading that the page above ended under: it is not said again, and the grid comes alone.
    """
    user = current_user(request)
    before = _uuid(request.GET["before"]) if "before" in request.GET else None
    asked = narrowed(request.GET)
    own = Generation.objects.owned_by(user)
    found = [] if asked.wrong else search.page(own, user.pk, asked.filters, PAGE_SIZE, before)
    shown = found[:PAGE_SIZE]
    groups = list(display.grouped(shown, display.outlooks(shown)))
    older = None
    if len(found) > PAGE_SIZE:
        last = shown[-1].pk
        older = {
            "href": address(request.GET, before=last),
            "more": address(request.GET, before=last, under=groups[-1].key),
        }
    context: dict[str, Any] = {
        "groups": groups,
        "under": request.GET.get("under"),
        "before": before,
        "older_page": older,
        "querystring": asked.query,
        "live_query": _live(shown, asked),
    }
    if "HX-Request" in request.headers and "under" in request.GET:
        return render(request, "generation/_history_grid.html", context)
    filter_bar = chips(user, request.GET, asked.filters)
    context |= {
        "is_empty": not (shown or before or filter_bar.is_on or asked.wrong),
        "filters": asked.filters,
        "filter_bar": filter_bar,
        "errors": asked.wrong,
        "page_url": request.get_full_path(),
        "newest_url": address(request.GET),
        "site_url": request.build_absolute_uri("/")[:-1],
    }
    return render(request, "generation/history.html", context, status=400 if asked.wrong else 200)


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
    outlooks = display.outlooks(found)
    changed = [(item, outlooks.get(item.pk)) for item in found if item.state != seen[item.pk]]
    same = [(item, outlooks[item.pk]) for item in found if item.state == seen[item.pk] and item.pk in outlooks]
    asked = narrowed(request.GET)
    context = {"changed": changed, "unchanged": same, "querystring": asked.query, "live_query": _live(found, asked)}
    return render(request, "generation/_tiles_update.html", context)


def _live(generations: list[Generation], asked: Narrowed) -> str:
    """The query that asks for the tiles of those that are not final; empty when all are."""
    live = [f"{item.pk}.{State(item.state).value}" for item in generations if not item.is_final]
    return urlencode({"live": live}, doseq=True) + asked.appended if live else ""


def _uuid(text: str) -> UUID:
    generation_id = parse_uuid(text)
    if generation_id is None:
        raise Http404
    return generation_id
