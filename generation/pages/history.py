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
MAX_NEW = 100
"""Up to how many new generations are counted."""


@revalidated
@login_required
@require_safe
def history(request: HttpRequest) -> HttpResponse:
    """Show a page of the user's generations that match the filters, those older than the id `before`.

    Oldest first, the page has those newer than the id `after`. htmx loads further pages: with `heading`, the key of the last
    heading above, only the grid is rendered, and that heading is not repeated.
    """
    user = current_user(request)
    query = parse_query(request.GET)
    paging = _paging(query)
    last = _uuid(request.GET[paging]) if paging in request.GET else None
    rows = Generation.objects.owned_by(user)
    # One more than a page, to know whether there is another page.
    matches = [] if query.errors else search.page(rows, user.pk, query.filters, PAGE_SIZE, last)
    generations = matches[:PAGE_SIZE]
    groups = list(display.grouped(generations, display.live_statuses(generations, with_previews=True)))
    newest = None if last or query.errors or query.filters.sort == "oldest" else _newest(generations)
    context: dict[str, Any] = {
        "groups": groups,
        "last_heading": request.GET.get("heading"),
        "is_later_page": last is not None,
        "next_page": _next_page(request.GET, query, generations[-1].pk, groups) if len(matches) > PAGE_SIZE else None,
        "querystring": query.querystring,
        "filters": query.filters,
        **_poll(generations, query, newest, 0),
    }
    if "HX-Request" in request.headers and "heading" in request.GET:
        return render(request, "generation/_history_grid.html", context)
    bar = filter_bar(user, request.GET, query.filters)
    context |= {
        "is_empty": not (generations or last or bar.is_active or query.errors),
        "filter_bar": bar,
        "errors": query.errors,
        "page_url": request.get_full_path(),
        "first_page_url": address(request.GET),
        "site_url": request.build_absolute_uri("/")[:-1],
    }
    return render(request, "generation/history.html", context, status=400 if query.errors else 200)


@revalidated
@login_required
@require_safe
def tiles(request: HttpRequest) -> HttpResponse:
    """Render what changed of the unfinished tiles `live`, each `id.state` as the page shows it, and what is new.

    A tile whose state changed is rendered whole, of the others only the progress. New is what matches the filters and is
    newer than the id `newest`; nothing is rendered of it while there are as many as the page says already, `new`.
    """
    states = {}
    for text in request.GET.getlist("live")[:PAGE_SIZE]:
        generation_id, _, state = text.partition(".")
        states[_uuid(generation_id)] = state
    rows = list(
        Generation.objects.owned_by(request.user)
        .filter(pk__in=states)
        .select_related("source")
        .prefetch_related("images")
    )
    live_statuses = display.live_statuses(rows, with_previews=True)
    changed = [(row, live_statuses.get(row.pk)) for row in rows if row.state != states[row.pk]]
    unchanged = [
        (row, live_statuses[row.pk]) for row in rows if row.state == states[row.pk] and row.pk in live_statuses
    ]
    query = parse_query(request.GET)
    newest = _uuid(request.GET["newest"]) if "newest" in request.GET else None
    user = current_user(request)
    new = (
        search.count_newer(Generation.objects.owned_by(user), user.pk, query.filters, newest, MAX_NEW) if newest else 0
    )
    context = {
        "changed": changed,
        "unchanged": unchanged,
        "querystring": query.querystring,
        "new": new,
        "has_other_new": str(new) != request.GET.get("new", "0"),
        "max_new": MAX_NEW,
        "newest": newest,
        **_poll(rows, query, newest, new),
    }
    return render(request, "generation/_tiles_update.html", context)


def _paging(query: HistoryQuery) -> str:
    """Return the name in an address that says after which generation the page begins."""
    return "after" if query.filters.sort == "oldest" else "before"


def _next_page(names: QueryDict, query: HistoryQuery, last_id: UUID, groups: Sequence[display.Group]) -> dict[str, str]:
    """Return the address of the next page, and that of its grid alone, for htmx."""
    last = {_paging(query): last_id}
    return {"href": address(names, **last), "grid_href": address(names, **last, heading=groups[-1].key)}


def _newest(generations: Sequence[Generation]) -> UUID:
    """Return the id of the first one; without any, the id that all are newer than."""
    return generations[0].pk if generations else UUID(int=0)


def _poll(generations: list[Generation], query: HistoryQuery, newest: UUID | None, new: int) -> dict[str, Any]:
    """Return the query with which the page asks what changed of its unfinished tiles, and what is new since `newest`.

    It is empty if there is nothing to ask.
    """
    live = [f"{row.pk}.{State(row.state).value}" for row in generations if not row.is_final]
    names: dict[str, Any] = {"live": live} if live else {}
    if newest is not None:
        names |= {"newest": newest, "new": new}
    return {
        "poll_query": urlencode(names, doseq=True) + query.querystring_suffix if names else "",
        "has_live": bool(live),
    }


def _uuid(text: str) -> UUID:
    """Parse an id. Raises `Http404`."""
    generation_id = parse_uuid(text)
    if generation_id is None:
        raise Http404
    return generation_id
