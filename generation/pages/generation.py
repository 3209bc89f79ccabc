"""The page of one generation, and what can be done with it."""

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
from generation.jobs import queue
from generation.library import sharing
from generation.library.related import related_to
from generation.models import Generation
from generation.pages import compare
from generation.pages.caching import revalidated
from generation.pages.downloads import FORMATS, NAMES
from generation.pages.history_query import narrowed
from generation.pages.notes import NoteForm
from generation.pages.sharing import NewLinkForm


@revalidated
@login_required
@require_safe
def generation(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """One generation of one's own.

    `picture` chooses among its results, from 1; `with` what that is compared with: see `comparing.selected`. What narrows
    the history down does so for those beside it, too.
    """
    shown = get_object_or_404(
        Generation.objects.owned_by(request.user).select_related("user", "token").prefetch_related("images"),
        pk=generation_id,
    )
    if "HX-Request" in request.headers:
        if shown.is_final:
            # A page that waited has nothing more to wait for: it wants all of the finished one.
            return HttpResponseClientRefresh()
        return render(request, "generation/_live_status.html", _outlook(shown))
    images = list(shown.images.all())
    number = whole_number(request.GET.get("picture", ""), len(images)) or 1
    chosen = images[number - 1] if images else None
    asked = narrowed(request.GET)
    surroundings = related_to(shown, images, asked.filters)
    context = _outlook(shown) | {
        "recipe": shown.get_recipe(),
        "parameters": display.parameters(shown),
        "timings": [(part, display.seconds(part.seconds)) for part in display.timings(shown)],
        "images": [(image, display.safety(image)) for image in images],
        "result": chosen,
        "related": surroundings,
        "notes_form": NoteForm(instance=shown),
        "querystring": asked.query,
        "querystring_suffix": asked.appended,
        "page_url": request.get_full_path(),
        "site_url": request.build_absolute_uri("/")[:-1],
    }
    if chosen:
        blurs = current_user(request).blur_flagged
        offered = compare.others(shown, chosen, images, surroundings)
        other = compare.selected(shown, chosen, offered, request.GET.get("with", ""))
        context |= {
            "number": chosen.index + 1,
            "is_blurred": blurs and chosen.nsfw,
            "others": offered,
            "other": other,
            "is_other_blurred": blurs and other.is_flagged,
            "has_other_shape": compare.is_unlike(chosen, other),
            "formats": [(extension, NAMES[format_]) for extension, format_ in FORMATS.items()],
            "original_format": encoding.media_type(str(chosen.file)).removeprefix("image/"),
            "is_share_open": "sharing" in request.GET,
            "share_links": sharing.live_links(shown),
            "link_form": NewLinkForm(initial={"picture": chosen.index + 1}),
        }
    return render(request, "generation/generation.html", context)


def _outlook(shown: Generation) -> dict[str, object]:
    return {"generation": shown, "state": display.state(shown), "outlook": display.outlook(shown)}


@login_required
@require_POST
def cancel(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Cancel one of one's own; then back to the page that asked."""
    shown = get_object_or_404(Generation.objects.owned_by(request.user), pk=generation_id)
    if not queue.cancel(shown):
        messages.info(request, "It had ended already, so nothing was canceled.")
    return redirect(came_from(request) or reverse("generation", args=[shown.pk]))
