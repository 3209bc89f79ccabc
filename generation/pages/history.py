"""The history: a grid of the user's generations."""

from collections.abc import Sequence
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, QueryDict
from django.shortcuts import render
from django.views.decorators.http import require_safe

from accounts.requests import current_user, parse_uuid
from generation import display
from generation.library import search
from generation.models import Generation, State
from generation.pages.caching import revalidated
from generation.pages.history_filters import address, filter_bar
from generation.pages.history_query import HistoryQuery, parse_query

PAGE_SIZE = 48


@revalidated
@login_required
@require_safe
def history(request: HttpRequest) -> HttpResponse:
    """Show a page of the user's generations that match the filters, newest first, older than the id `before`.

    htmx loads further pages: with `heading`, the key of the last heading above, only the grid is rendered, and that heading
    is not repeated.
    """
    user = current_user(request)
    before = _uuid(request.GET["before"]) if "before" in request.GET else None
    query = parse_query(request.GET)
    rows = Generation.objects.owned_by(user)
    # One more than a page, to know whether there is another page.
    matches = [] if query.errors else search.page(rows, user.pk, query.filters, PAGE_SIZE, before)
    generations = matches[:PAGE_SIZE]
    groups = list(display.grouped(generations, display.live_statuses(generations)))
    context: dict[str, Any] = {
        "groups": groups,
        "last_heading": request.GET.get("heading"),
        "before": before,
        "older_page": _older_page(request.GET, generations[-1].pk, groups) if len(matches) > PAGE_SIZE else None,
        "querystring": query.querystring,
        "live_query": _live_query(generations, query),
    }
    if "HX-Request" in request.headers and "heading" in request.GET:
        return render(request, "generation/_history_grid.html", context)
    bar = filter_bar(user, request.GET, query.filters)
    context |= {
        "is_empty": not (generations or before or bar.is_active or query.errors),
        "filters": query.filters,
        "filter_bar": bar,
        "errors": query.errors,
        "page_url": request.get_full_path(),
        "newest_url": address(request.GET),
        "site_url": request.build_absolute_uri("/")[:-1],
    }
    return render(request, "generation/history.html", context, status=400 if query.errors else 200)


@revalidated
@login_required
@require_safe
def tiles(request: HttpRequest) -> HttpResponse:
    """Render what changed of the unfinished tiles `live`, each `id.state` as the page shows it.

    A tile whose state changed is rendered whole, of the others only the progress.
    """
    states = {}
    for text in request.GET.getlist("live")[:PAGE_SIZE]:
        generation_id, _, state = text.partition(".")
        states[_uuid(generation_id)] = state
    rows = list(Generation.objects.owned_by(request.user).filter(pk__in=states).prefetch_related("images"))
    live_statuses = display.live_statuses(rows)
    changed = [(row, live_statuses.get(row.pk)) for row in rows if row.state != states[row.pk]]
    unchanged = [
        (row, live_statuses[row.pk]) for row in rows if row.state == states[row.pk] and row.pk in live_statuses
    ]
    query = parse_query(request.GET)
    context = {
        "changed": changed,
        "unchanged": unchanged,
        "querystring": query.querystring,
        "live_query": _live_query(rows, query),
    }
    return render(request, "generation/_tiles_update.html", context)


def _older_page(query: QueryDict, last_id: UUID, groups: Sequence[display.Group]) -> dict[str, str]:
    """Return the address of the next page, and that of its grid alone, for htmx."""
    return {
        "href": address(query, before=last_id),
        "grid_href": address(query, before=last_id, heading=groups[-1].key),
    }


def _live_query(generations: list[Generation], query: HistoryQuery) -> str:
    """Return the query with which the page polls its unfinished tiles; empty if there are none."""
    live = [f"{row.pk}.{State(row.state).value}" for row in generations if not row.is_final]
    return urlencode({"live": live}, doseq=True) + query.querystring_suffix if live else ""


def _uuid(text: str) -> UUID:
    """Parse an id. Raises `Http404`."""
    generation_id = parse_uuid(text)
    if generation_id is None:
        raise Http404
    return generation_id
