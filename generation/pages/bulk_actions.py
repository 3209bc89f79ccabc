"""What is done with generations of one's own from a page that shows them: with one by its button, with many by their boxes."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from accounts.requests import came_from, uuids
from generation.library import archive, deletion
from generation.models import Generation
from generation.pages.history_query import narrowed_by
from generation.pages.streaming import streamed
from generation.pages.trash import offer_undo

MOST_AT_ONCE = 500


@login_required
@require_POST
def favourite(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Make one of one's own a favourite, or no more; then back to the page that asked, which htmx never left."""
    rows = Generation.objects.owned_by(request.user).filter(pk=generation_id)
    rows.update(is_favourite=~F("is_favourite"))
    generation = get_object_or_404(rows)
    if "HX-Request" in request.headers:
        return render(request, "generation/_favourite_button.html", {"generation": generation})
    return redirect(came_from(request) or reverse("generation", args=[generation_id]))


@login_required
@require_POST
def selection(request: HttpRequest) -> HttpResponseBase:
    """Do what `do` says with those of one's own whose boxes are ticked, or with `only` where none is."""
    ids = uuids(request.POST.getlist("id") or request.POST.getlist("only"))
    rows = Generation.objects.owned_by(request.user).filter(pk__in=ids[:MOST_AT_ONCE])
    if len(ids) > MOST_AT_ONCE:
        messages.error(request, f"You chose {len(ids)}; choose at most {MOST_AT_ONCE} at once. Nothing was done.")
        return _back(request, rows.none())
    if not ids:
        messages.info(request, "Nothing was chosen; tick the boxes of the pictures first.")
        return _back(request, rows)
    match request.POST.get("do"):
        case "favourite":
            _say(request, rows.update(is_favourite=True), "now a favourite", "now favourites")
        case "not-favourite":
            _say(request, rows.update(is_favourite=False), "no favourite any more", "no favourites any more")
        case "delete":
            return _trash(request, rows)
        case "download":
            chosen = list(rows.order_by("-pk").prefetch_related("images"))
            response = streamed(request, archive.stream_zip(chosen), "application/zip")
            name = f"dreamsite-{timezone.localtime():%Y-%m-%d-%H%M}.zip"
            response["Content-Disposition"] = f'attachment; filename="{name}"'
            return response
        case _:
            return HttpResponse(status=400)
    return _back(request, rows)


def _trash(request: HttpRequest, rows: QuerySet[Generation]) -> HttpResponse:
    chosen = list(rows.values_list("pk", flat=True))
    deletion.trash(rows)
    trashed = list(Generation.objects.trashed_by(request.user).filter(pk__in=chosen).values_list("pk", flat=True))
    if trashed:
        offer_undo(request, trashed, _page(request))
    if left := len(chosen) - len(trashed):
        noun = "one has" if left == 1 else f"{left} have"
        messages.info(request, f"{noun.capitalize()} not ended yet and cannot be deleted; cancel first, or wait.")
    return _back(request, rows, trashed)


def _back(request: HttpRequest, rows: QuerySet[Generation], removed: list[UUID] | None = None) -> HttpResponse:
    """To the page that asked; to htmx, which never left it, what has changed on it."""
    if "HX-Request" not in request.headers:
        return redirect(_page(request))
    changed = [] if removed else [(row, None) for row in rows.prefetch_related("images") if row.is_final]
    context = {"changed": changed, "removed_ids": removed or [], "querystring": narrowed_by(_page(request)).query}
    return render(request, "generation/_bulk_result.html", context)


def _page(request: HttpRequest) -> str:
    return came_from(request) or reverse("history")


def _say(request: HttpRequest, count: int, one: str, many: str) -> None:
    messages.success(request, f"It is {one}." if count == 1 else f"{count} are {many}.")
