"""The trash: where what was deleted in the pages stays for a while, and the way back out of it."""

from collections.abc import Iterable
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from accounts.requests import came_from, uuids, whole_number
from generation import display
from generation.library import deletion
from generation.models import Generation
from generation.pages.caching import revalidated

PAGE_SIZE = 48
_MAX_AT_ONCE = 1000
_MAX_PAGE = 99_999


def offer_undo(request: HttpRequest, ids: Iterable[UUID], page: str) -> None:
    """Say on this page, the next one, that these went into the trash, with a button that takes them out again."""
    context = {"ids": [str(pk) for pk in ids], "page_url": page}
    messages.success(request, render_to_string("generation/_undo_delete.html", context, request))


@login_required
@require_POST
def delete(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Put one of one's own into the trash; the page that one is sent to, the history, then offers to undo that."""
    rows = Generation.objects.owned_by(request.user).filter(pk=generation_id)
    shown = get_object_or_404(rows)
    if not deletion.trash(rows):
        messages.info(request, "It has not ended yet, so it was not deleted; cancel it first, or wait for its end.")
        return redirect("generation", shown.pk)
    page = came_from(request) or reverse("history")
    offer_undo(request, [shown.pk], page)
    return redirect(page)


@revalidated
@login_required
@require_safe
def trash(request: HttpRequest) -> HttpResponse:
    """What can be restored, what was deleted last first; `page` counts from 1."""
    page = whole_number(request.GET.get("page", ""), _MAX_PAGE) or 1
    start = (page - 1) * PAGE_SIZE
    rows = deletion.restorable(Generation.objects.trashed_by(request.user)).order_by("-trashed", "-pk")
    found = list(rows.prefetch_related("images")[start : start + PAGE_SIZE + 1])
    context = {
        "trashed": [(generation, display.last_day(generation)) for generation in found[:PAGE_SIZE]],
        "days": deletion.TRASH_DAYS,
        "newer": page - 1,
        "older": page + 1 if len(found) > PAGE_SIZE else None,
    }
    return render(request, "generation/trash.html", context)


@login_required
@require_POST
def restore(request: HttpRequest) -> HttpResponse:
    """Take those of one's own with an `id` of the form, or with `all` every one, out of the trash again."""
    rows = Generation.objects.trashed_by(request.user)
    if "all" not in request.POST:
        rows = rows.filter(pk__in=uuids(request.POST.getlist("id")[:_MAX_AT_ONCE]))
    count = deletion.restore(rows)
    if count:
        messages.success(request, "It is back in the history." if count == 1 else f"{count} are back in the history.")
    else:
        messages.info(request, "There was nothing to restore: it is in the history already, or gone for good.")
    return redirect(came_from(request) or reverse("history"))


@login_required
@require_POST
def delete_now(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Delete one that is in one's trash for good."""
    binned = get_object_or_404(deletion.restorable(Generation.objects.trashed_by(request.user)), pk=generation_id)
    if deletion.delete(binned):
        messages.success(request, "It is gone for good.")
    elif binned.legal_hold:
        messages.error(
            request, "Staff must keep this one for now, so it stays in the trash. Try again later, or ask them."
        )
    return redirect(came_from(request) or reverse("trash"))


@login_required
@require_POST
def empty(request: HttpRequest) -> HttpResponse:
    """Delete all that is in one's trash for good, but what is on hold; the reaper does it."""
    rows = Generation.objects.trashed_by(request.user)
    count = deletion.purge(rows)
    kept = deletion.restorable(rows).count()
    going = f"{count} {'is' if count == 1 else 'are'} being deleted for good."
    if not kept:
        messages.success(request, f"The trash is empty; {going}")
    else:
        staying = f"Staff must keep {kept} for now, so {'it stays' if kept == 1 else 'they stay'} in the trash."
        messages.error(request, f"{going} {staying}" if count else f"{staying} Try again later, or ask them.")
    return redirect("trash")
