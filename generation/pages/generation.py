"""The page of one generation."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh

from accounts.requests import came_from, current_user, whole_number
from generation import display
from generation.images import encoding
from generation.jobs import queue, retry
from generation.library.related import Related, related_to
from generation.maintenance import retention
from generation.models import GeneratedImage, Generation, State
from generation.pages import compare, proofs
from generation.pages.albums import menu_context
from generation.pages.caching import revalidated
from generation.pages.downloads import FORMATS, NAMES
from generation.pages.history_query import parse_query
from generation.pages.notes import NoteForm
from generation.pages.sharing import share_context
from generation.parameters import Refusal


@revalidated
@login_required
@require_safe
def generation(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Show one of the user's generations.

    `picture` selects a result, counted from 1, and `with` what it is compared with: see `compare.select`. The history's
    filters also apply to the links to the previous and the next generation.
    """
    row = get_object_or_404(
        Generation.objects.owned_by(request.user)
        .select_related("user", "token", "source", "environment", "model")
        .prefetch_related("images", "references"),
        pk=generation_id,
    )
    if "HX-Request" in request.headers:
        if row.is_final:
            # The page waits for the end: now it needs the results, the timings and other buttons.
            return HttpResponseClientRefresh()
        return render(request, "generation/_live_status.html", _status_context(row))
    images = list(row.images.all())
    number = whole_number(request.GET.get("picture", ""), len(images)) or 1
    result = images[number - 1] if images else None
    query = parse_query(request.GET)
    related = related_to(row, images, query.filters)
    context = _status_context(row) | {
        "recipe": row.get_recipe(),
        "parameters": display.parameters(row),
        "mask_words": display.mask(row),
        "references": list(row.references.all()),
        "timings": [(part, display.seconds(part.seconds)) for part in display.timings(row)],
        "receipt": display.receipt(row),
        "is_receipt_open": "receipt" in request.GET,
        "images": [(image, display.safety(image)) for image in images],
        "watermark": display.watermark(images),
        "upload_credentials": display.upload_credentials(row),
        "result": result,
        "related": related,
        "notes_form": NoteForm(instance=row),
        "has_blurred_input": row.has_flagged_input and current_user(request).blur_flagged,
        "querystring": query.querystring,
        "querystring_suffix": query.querystring_suffix,
        "page_url": request.get_full_path(),
        "site_url": request.build_absolute_uri("/")[:-1],
    }
    if row.state in (State.FAILED, State.CANCELED):
        context["upload_expiry"] = retention.upload_expiry(row)
    if result:
        context |= _result_context(request, row, result, images, related)
        context |= proofs.context(row)
    return render(request, "generation/generation.html", context)


@login_required
@require_POST
def cancel(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Cancel one of the user's generations."""
    row = get_object_or_404(Generation.objects.owned_by(request.user), pk=generation_id)
    if not queue.cancel(row):
        messages.info(request, "It had ended already, so nothing was canceled.")
    return redirect(came_from(request) or reverse("generation", args=[row.pk]))


@login_required
@require_POST
def anew(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Make one of the user's generations again, as a new one, and show that."""
    row = get_object_or_404(Generation.objects.owned_by(request.user), pk=generation_id)
    try:
        new = retry.retry(row, None)
    except Refusal as refusal:
        messages.error(request, refusal.message)
        return redirect("generation", row.pk)
    return redirect("generation", new.pk)


def _status_context(row: Generation) -> dict[str, Any]:
    return {"generation": row, "state": display.state(row), "live_status": display.live_status(row)}


def _result_context(
    request: HttpRequest, row: Generation, result: GeneratedImage, images: Sequence[GeneratedImage], related: Related
) -> dict[str, Any]:
    """Return what the page shows of one result: the comparison, the downloads and the share links."""
    has_blur = current_user(request).blur_flagged
    choices = compare.choices(row, result, images, related)
    other = compare.select(row, result, choices, request.GET.get("with", ""))
    return {
        **menu_context(request, row),
        **share_context(request, row, result, request.get_full_path()),
        "is_blurred": has_blur and result.nsfw,
        "compare_choices": choices,
        "other": other,
        "is_other_blurred": has_blur and other.is_flagged,
        "has_other_shape": compare.has_other_shape(result, other),
        "formats": [(extension, NAMES[output_format]) for extension, output_format in FORMATS.items()],
        "original_format": encoding.media_type(str(result.file)).removeprefix("image/"),
        "is_share_open": "sharing" in request.GET,
    }
