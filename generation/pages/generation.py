"""The page of one generation, and what can be done with it."""

from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh

from generation import queue, wording
from generation.models import Generation
from generation.pages.caching import revalidated

_BACK = {"history": "history", "studio": "home"}


@revalidated
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
            "state": wording.state(shown),
            "outlook": wording.outlook(shown),
            "recipe": shown.effective,
            "parameters": wording.parameters(shown),
            "timings": [(part, wording.seconds(part.seconds)) for part in wording.timings(shown)],
            "images": [(image, wording.safety(image)) for image in images],
            "chosen": images[at] if 0 <= at < len(images) else next(iter(images), None),
        },
    )


@login_required
@require_POST
def cancel(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Cancel one of one's own; then back to the page that asked: the history, the studio, or the generation's own."""
    shown = get_object_or_404(Generation.objects.owned_by(request.user), pk=generation_id)
    if not queue.cancel(shown):
        messages.info(request, "It had ended already, so nothing was canceled.")
    if (back := _BACK.get(request.POST.get("back", ""))) is not None:
        return redirect(back)
    return redirect("generation", shown.pk)
