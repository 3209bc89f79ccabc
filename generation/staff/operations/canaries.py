"""The page of canaries: changed pictures beside those before, failures, and what was made last of each model."""

from dataclasses import dataclass

from django.conf import settings
from django.contrib import admin, messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST, require_safe

from accounts import audit
from accounts.requests import current_user
from generation.jobs import canaries
from generation.models import Canary, DiffusionModel
from generation.staff.operations.canary_words import changes, result, words
from generation.staff.permissions import operators_only

_MOST_SHOWN = 100


@dataclass(frozen=True)
class CanaryView:
    """A canary, what came of it in words, and what differs from the one that it was compared with."""

    canary: Canary
    result: str
    differences: list[dict[str, str | None]]


@operators_only
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """Show what waits to be accepted, then the newest runs, and the models without any."""
    rows = Canary.objects.exclude(finished=None).select_related("environment", "before__environment")
    waiting = list(rows.filter(pk__in=Canary.objects.unaccepted().values("pk")))
    without = DiffusionModel.objects.filter(enabled=True).exclude(pk__in=rows.values("model"))
    context = {
        "title": "Canaries",
        "waiting": [CanaryView(row, words(row), changes(row)) for row in waiting],
        "canaries": [CanaryView(row, result(row), []) for row in rows.order_by("model", "-finished")[:_MOST_SHOWN]],
        "without": list(without),
        "is_on": settings.CANARIES,
    }
    return render(request, "admin/operations/canaries.html", {**admin.site.each_context(request), **context})


@operators_only
@require_POST
def accept(request: HttpRequest, canary_id: int) -> HttpResponse:
    """Accept a changed picture or a failure, which then needs no attention."""
    canary = get_object_or_404(Canary, pk=canary_id)
    user = current_user(request)
    with transaction.atomic():
        is_accepted = canaries.accept(canary, user.get_username())
        if is_accepted:
            audit.record(user, "canary.accept", canary, {"accepted": False}, {"accepted": True, "name": str(canary)})
    if not is_accepted:
        messages.info(request, "Somebody else has decided meanwhile.")
    elif canary.file:
        messages.success(request, f"Later pictures of {canary.model_id} are compared with this one.")
    else:
        messages.success(request, f"The failure of {canary.model_id} is dismissed. It is tried again every night.")
    return redirect("operations-canaries")
