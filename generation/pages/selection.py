"""What is done with generations of one's own from a page that shows them: with one by its button, with many by their boxes."""

from uuid import UUID

from django.contrib.auth.decorators import login_required
from django.db.models import F
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from generation.models import Generation


@login_required
@require_POST
def favourite(request: HttpRequest, generation_id: UUID) -> HttpResponse:
    """Make one of one's own a favourite, or no more; then back to the page that asked, which htmx never left."""
    rows = Generation.objects.owned_by(request.user).filter(pk=generation_id)
    rows.update(is_favourite=~F("is_favourite"))
    generation = get_object_or_404(rows)
    if "HX-Request" in request.headers:
        return render(request, "generation/favourite.html", {"generation": generation})
    return redirect(came_from(request) or reverse("generation", args=[generation_id]))


def came_from(request: HttpRequest) -> str:
    """The page of this site that the form names in `next`; empty: none."""
    page = request.POST.get("next", "")
    return page if page.startswith("/") and url_has_allowed_host_and_scheme(page, allowed_hosts=None) else ""
