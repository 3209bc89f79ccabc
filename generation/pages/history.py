"""The history: a grid of one's own generations. A view reads its input, asks one queryset method, and renders."""

from urllib.parse import urlencode
from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from generation import wording
from generation.models import Generation, State
from generation.pages.caching import revalidated

PAGE_SIZE = 48


@revalidated
@login_required
@require_safe
def history(request: HttpRequest) -> HttpResponse:
    """A page of one's own generations, newest first; `before` is the id that the page above ended with.

    `under` is the key of the heading that the page above ended under: it is not said again.
    """
    before = _uuid(request.GET["before"]) if "before" in request.GET else None
    found = Generation.objects.owned_by(request.user).page(PAGE_SIZE, before)
    shown = found[:PAGE_SIZE]
    groups = list(wording.grouped(shown))
    older = None
    if len(found) > PAGE_SIZE:
        older = {"href": _query(before=shown[-1].pk), "more": _query(before=shown[-1].pk, under=groups[-1].key)}
    return render(
        request,
        "generation/history.html",
        {
            "groups": groups,
            "under": request.GET.get("under"),
            "before": before,
            "older": older,
            "live": _live(shown),
            "site": request.build_absolute_uri("/")[:-1],
        },
    )


@revalidated
@login_required
@require_safe
def tiles(request: HttpRequest) -> HttpResponse:
    """Those of the `live` tiles (`id.state`) of one's own that have changed their state, and what is still live."""
    seen = {}
    for text in request.GET.getlist("live")[:PAGE_SIZE]:
        generation_id, _, known_state = text.partition(".")
        seen[_uuid(generation_id)] = known_state
    found = list(Generation.objects.owned_by(request.user).filter(pk__in=seen).prefetch_related("images"))
    changed = [generation for generation in found if generation.state != seen[generation.pk]]
    return render(request, "generation/tiles.html", {"changed": changed, "live": _live(found)})


def _live(generations: list[Generation]) -> str:
    """The query that asks for the tiles of those that are not final; empty when all are."""
    live = [f"{item.pk}.{State(item.state).value}" for item in generations if not item.is_final]
    return urlencode({"live": live}, doseq=True)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise Http404 from None


def _query(**values: object) -> str:
    return "?" + urlencode(values)
