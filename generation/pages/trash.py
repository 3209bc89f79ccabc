"""Delete generations, and the trash, from which they can be restored for `deletion.TRASH_DAYS` days."""

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
_MAX_RESTORED = 1000
_MAX_PAGE = 99_999


def offer_undo(request: HttpRequest, ids: Iterable[UUID], page: str) -> None:
    """Add a message that these generations were moved to the trash, with a button that restores them.

    The button leads back to the address `page`.
    """
    context = {"ids": [str(pk) for pk in ids], "page_url": page}
    messages.success(request, render_to_string("generation/_undo_delete.html", context, request))


@login_required
@require_POST
def delete(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Move one of the user's generations to the trash; the next page offers to undo it.

    For htmx, which is the studio, the response offers it in place of the job.
    """
    rows = Generation.objects.owned_by(request.user).filter(pk=generation_id)
    generation = get_object_or_404(rows)
    if not deletion.trash(rows):
        messages.info(request, "It has not ended yet, so it was not deleted; cancel it first, or wait for its end.")
        return redirect("generation", generation.pk)
    if "HX-Request" in request.headers:
        context = {"ids": [generation.pk], "page_url": reverse("job", args=[generation.pk])}
        return render(request, "generation/_trashed_job.html", context)
    page = came_from(request) or reverse("history")
    offer_undo(request, [generation.pk], page)
    return redirect(page)


@revalidated
@login_required
@require_safe
def trash(request: HttpRequest) -> HttpResponse:
    """Show a page of the trash, the last deleted first; `page` counts from 1."""
    page = whole_number(request.GET.get("page", ""), _MAX_PAGE) or 1
    start = (page - 1) * PAGE_SIZE
    rows = deletion.restorable(Generation.objects.trashed_by(request.user)).order_by("-trashed", "-pk")
    generations = list(rows.select_related("source").prefetch_related("images")[start : start + PAGE_SIZE + 1])
    context = {
        "items": [(generation, display.last_day(generation)) for generation in generations[:PAGE_SIZE]],
        "days": deletion.TRASH_DAYS,
        "newer": page - 1,
        "older": page + 1 if len(generations) > PAGE_SIZE else None,
    }
    return render(request, "generation/trash.html", context)


@login_required
@require_POST
def restore(request: HttpRequest) -> HttpResponse:
    """Restore the user's generations with an `id` of the form, or with `all` the whole trash."""
    rows = Generation.objects.trashed_by(request.user)
    if "all" not in request.POST:
        rows = rows.filter(pk__in=uuids(request.POST.getlist("id")[:_MAX_RESTORED]))
    count = deletion.restore(rows)
    if "HX-Request" in request.headers:
        # The studio shows the job again, in place of a message.
        return redirect(came_from(request) or reverse("history"))
    if count:
        messages.success(request, "It is back in the history." if count == 1 else f"{count} are back in the history.")
    else:
        messages.info(request, "Nothing to restore: it is in the history already, or was deleted permanently.")
    return redirect(came_from(request) or reverse("history"))


@login_required
@require_POST
def delete_now(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Permanently delete a generation in the user's trash."""
    rows = deletion.restorable(Generation.objects.trashed_by(request.user))
    generation = get_object_or_404(rows, pk=generation_id)
    if deletion.delete(generation):
        messages.success(request, "It was deleted permanently.")
    elif generation.legal_hold:
        messages.error(
            request, "Staff must keep this one for now, so it stays in the trash. Try again later, or ask them."
        )
    return redirect(came_from(request) or reverse("trash"))


@login_required
@require_POST
def empty(request: HttpRequest) -> HttpResponse:
    """Have the reaper permanently delete all of the user's trash, except what is on legal hold."""
    rows = Generation.objects.trashed_by(request.user)
    purged = deletion.purge(rows)
    remaining = deletion.restorable(rows).count()
    deleting = f"{purged} {'is' if purged == 1 else 'are'} being deleted permanently."
    if not remaining:
        messages.success(request, f"The trash is empty; {deleting}")
    else:
        on_hold = (
            f"Staff must keep {remaining} for now, so {'it stays' if remaining == 1 else 'they stay'} in the trash."
        )
        messages.error(request, f"{deleting} {on_hold}" if purged else f"{on_hold} Try again later, or ask them.")
    return redirect("trash")
