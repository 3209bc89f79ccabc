"""The history pages. A view reads its input, asks one queryset method, and renders."""

from urllib.parse import urlencode
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import cache_control
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh

from generation import pages, queue
from generation.models import Generation, State

PAGE_SIZE = 48

# Signed URLs are in these pages, so no cache may share them; `no-store` would cost the back button its scroll position.
_uncached = cache_control(private=True, no_cache=True)


@_uncached
@login_required
@require_safe
def history(request: HttpRequest) -> HttpResponse:
    """A page of one's own generations, newest first; `before` is the id that the page above ended with.

    `under` is the key of the heading that the page above ended under: it is not said again.
    """
    before = _uuid(request.GET["before"]) if "before" in request.GET else None
    found = Generation.objects.owned_by(request.user).page(PAGE_SIZE, before)
    shown = found[:PAGE_SIZE]
    groups = list(pages.grouped(shown))
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


@_uncached
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


@_uncached
@login_required
@require_safe
def generation(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """One generation of one's own; `picture` chooses among its results, from 1."""
    shown = get_object_or_404(
        Generation.objects.owned_by(request.user).select_related("user", "token").prefetch_related("images"),
        pk=generation_id,
    )
    if "HX-Request" in request.headers and shown.is_final:
        # A page that waited has nothing more to wait for: it wants all of the finished one.
        return HttpResponseClientRefresh()
    images = list(shown.images.all())
    number = request.GET.get("picture", "1")
    at = int(number) - 1 if number.isascii() and number.isdigit() and len(number) < 4 else 0
    return render(
        request,
        "generation/generation.html",
        {
            "generation": shown,
            "state": pages.state(shown),
            "outlook": pages.outlook(shown),
            "recipe": shown.effective,
            "parameters": pages.parameters(shown),
            "timings": [(part, pages.seconds(part.seconds)) for part in pages.timings(shown)],
            "images": [(image, pages.safety(image)) for image in images],
            "chosen": images[at] if 0 <= at < len(images) else next(iter(images), None),
        },
    )


@login_required
@require_POST
def cancel(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Cancel one of one's own; then back to the page that asked: the history, or the generation's own."""
    shown = get_object_or_404(Generation.objects.owned_by(request.user), pk=generation_id)
    if not queue.cancel(shown):
        messages.info(request, "It had ended already, so nothing was canceled.")
    if request.POST.get("back") == "history":
        return redirect("history")
    return redirect("generation", shown.pk)


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
