"""Actions on generations in the history: on one by its button, on several by their checkboxes."""

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import F, QuerySet
from django.http import HttpRequest, HttpResponse, QueryDict, StreamingHttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts.requests import came_from, current_user, uuids
from generation.asgi import transfers
from generation.library import archive, deletion, search
from generation.models import Album, Generation, State
from generation.pages.files import attachment
from generation.pages.history_filters import album_menu
from generation.pages.history_query import parse_address, parse_query
from generation.pages.trash import offer_undo

MAX_SELECTED = 500


@dataclass(frozen=True)
class Selection:
    """What a form of the history selects: the ids as they were sent, and the user's generations that have them."""

    ids: Sequence[UUID]
    shown_ids: Sequence[UUID]
    rows: QuerySet[Generation]

    @property
    def shown(self) -> QuerySet[Generation]:
        """Return those whose tiles are on the page."""
        return self.rows.filter(pk__in=self.shown_ids)


@login_required
@require_POST
def favourite(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Toggle whether one of the user's generations is a favourite."""
    rows = Generation.objects.owned_by(request.user).filter(pk=generation_id)
    rows.update(is_favourite=~F("is_favourite"))
    generation = get_object_or_404(rows)
    if "HX-Request" in request.headers:
        return render(request, "generation/_favourite_button.html", {"generation": generation})
    return redirect(came_from(request) or reverse("generation", args=[generation_id]))


@login_required
@require_POST
def selection(request: HttpRequest) -> HttpResponseBase:
    """Apply `action` to the selection."""
    selected = read_selection(request)
    if selected is None:
        return bulk_result(request, Generation.objects.none())
    rows = selected.rows
    match request.POST.get("action"):
        case "favourite":
            _report(request, rows.update(is_favourite=True), "now a favourite", "now favourites")
        case "not-favourite":
            _report(request, rows.update(is_favourite=False), "no longer a favourite", "no longer favourites")
        case "delete":
            return _trash(request, selected)
        case "download":
            return _download(request, rows)
        case "compare":
            return _compare(request, rows)
        case _:
            return HttpResponse(status=400)
    return bulk_result(request, selected.shown)


def read_selection(request: HttpRequest) -> Selection | None:
    """Return the selection of a form; None, with a message, if it is empty or more than `MAX_SELECTED`.

    It is the user's generations with an `id`, or without any the one with `fallback_id`. Those with an `unseen_id` are
    selected, too, but not on the page: see `matching`.
    """
    shown_ids = uuids(request.POST.getlist("id") or request.POST.getlist("fallback_id"))
    ids = list(dict.fromkeys([*shown_ids, *uuids(request.POST.getlist("unseen_id"))]))
    if len(ids) > MAX_SELECTED:
        messages.error(request, f"You selected {len(ids)}; select at most {MAX_SELECTED} at once. Nothing was done.")
        return None
    if not ids:
        messages.info(request, "Nothing is selected. Select pictures first.")
        return None
    return Selection(ids, shown_ids, Generation.objects.owned_by(request.user).filter(pk__in=ids))


@never_cache
@login_required
@require_safe
def matching(request: HttpRequest) -> HttpResponse:
    """Render the ids of all of the user's generations that pass the history's filters, up to `MAX_SELECTED`, as fields."""
    user = current_user(request)
    query = parse_query(request.GET)
    rows = Generation.objects.owned_by(user)
    ids = [] if query.errors else search.ids(rows, user.pk, query.filters, MAX_SELECTED + 1)
    context = {"ids": ids[:MAX_SELECTED], "has_more": len(ids) > MAX_SELECTED, "filters": query.filters}
    return render(request, "generation/_matching.html", context)


def _compare(request: HttpRequest, rows: QuerySet[Generation]) -> HttpResponse:
    """Redirect to the page of the newer of two generations, compared with the older."""
    made = list(rows.filter(state=State.SUCCEEDED).order_by("-pk")[:3])
    if len(made) != 2:
        messages.info(request, "Select two that have pictures to compare them.")
        return redirect(_page(request))
    newer, older = made
    suffix = parse_address(_page(request)).querystring_suffix
    return redirect(f"{reverse('generation', args=[newer.pk])}?with={older.pk}.0{suffix}")


def _download(request: HttpRequest, rows: QuerySet[Generation]) -> HttpResponseBase:
    """Return a zip of the pictures and recipes, newest first."""
    generations = list(
        rows.order_by("-pk").select_related("user").prefetch_related("images", "references", "environment")
    )
    name = f"dreamsite-{timezone.localtime():%Y-%m-%d-%H%M}.zip"
    headers = {"Content-Disposition": attachment(name)}
    response = StreamingHttpResponse(archive.stream_zip(generations), content_type="application/zip", headers=headers)
    return transfers.limited(response, transfers.of_user(current_user(request).pk))


def _trash(request: HttpRequest, selected: Selection) -> HttpResponse:
    rows = selected.rows
    ids = list(rows.values_list("pk", flat=True))
    deletion.trash(rows)
    trashed_ids = list(Generation.objects.trashed_by(request.user).filter(pk__in=ids).values_list("pk", flat=True))
    if trashed_ids:
        offer_undo(request, trashed_ids, _page(request))
    if unfinished := len(ids) - len(trashed_ids):
        subject = "One has" if unfinished == 1 else f"{unfinished} have"
        messages.info(request, f"{subject} not ended yet and cannot be deleted; cancel first, or wait.")
    return bulk_result(request, rows, [pk for pk in selected.shown_ids if pk in trashed_ids])


def bulk_result(
    request: HttpRequest,
    rows: QuerySet[Generation],
    removed_ids: Sequence[UUID] | None = None,
    albums: Sequence[Album] = (),
) -> HttpResponse:
    """Redirect to the page of the form; for htmx, return the parts of that page that changed.

    With `albums`, what the selection can be added to changed.
    """
    if "HX-Request" not in request.headers:
        return redirect(_page(request))
    # Unfinished tiles are left to the page's poll, which has their progress.
    tiles = [] if removed_ids else rows.select_related("source").prefetch_related("images")
    changed = [(row, None) for row in tiles if row.is_final]
    context = {
        "changed": changed,
        "removed_ids": removed_ids or [],
        "albums": albums,
        "album_menu": album_menu(QueryDict(urlsplit(_page(request)).query), albums),
        "querystring": parse_address(_page(request)).querystring,
    }
    return render(request, "generation/_bulk_result.html", context)


def _page(request: HttpRequest) -> str:
    return came_from(request) or reverse("history")


def _report(request: HttpRequest, count: int, singular: str, plural: str) -> None:
    messages.success(request, f"It is {singular}." if count == 1 else f"{count} are {plural}.")
