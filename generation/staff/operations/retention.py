"""The page of retention: rules with what each would remove, and the generations on legal hold."""

from typing import cast
from uuid import UUID

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from accounts import audit
from accounts.models import User
from generation.maintenance import retention
from generation.models import Generation, RetentionRule
from generation.staff.operations.views import for_operators

_HELD_SHOWN = 50


@for_operators
@never_cache
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """All rules; with `preview`, what each would remove now."""
    wanted = "preview" in request.GET
    rules = [(rule, retention.preview(rule) if wanted else None) for rule in RetentionRule.objects.all()]
    held = list(retention.on_hold().select_related("user").order_by("-pk")[:_HELD_SHOWN])
    context = {"title": "Retention", "rules": rules, "is_preview": wanted, "held": held, "most": _HELD_SHOWN}
    return render(request, "admin/operations/retention.html", {**admin.site.each_context(request), **context})


@for_operators
@require_POST
def run(request: HttpRequest, rule_id: int) -> HttpResponse:
    """Apply a rule now, to a bounded number of generations."""
    rule = get_object_or_404(RetentionRule, pk=rule_id)
    removed = retention.step(rule, retention.REMOVED_BY_HAND, anew=True)
    after = {"rule": str(rule), "generations": removed}
    audit.record(cast(User, request.user), "retention.run", rule, None, after)
    rest = "That is all for now." if rule.is_through else "There is more to look at: run it again, or enable it."
    messages.success(request, f"{rule}: removed of {removed} generation{'s' if removed != 1 else ''}. {rest}")
    # Where it can be run again, with what is left.
    return redirect(reverse("operations-retention") + "?preview")


@for_operators
@require_POST
def hold(request: HttpRequest) -> HttpResponse:
    """Put the generation of this `id` on legal hold, or with `release` take it off; `reason` says why."""
    try:
        wanted = UUID(request.POST.get("id", "").strip())
    except ValueError:
        messages.error(request, "That is no id of a generation; it looks like 01a2030c-14cb-74d1-9440-56bf4fa2fb08.")
        return redirect("operations-retention")
    held, reason = "release" not in request.POST, request.POST.get("reason", "")
    if not Generation.objects.filter(pk=wanted).exists():
        messages.error(request, "There is no such generation.")
    elif why_not := retention.set_hold(wanted, held, cast(User, request.user), reason):
        messages.error(request, f"Nothing changed: {why_not}.")
    else:
        messages.success(request, f"{wanted} is {'on legal hold' if held else 'released'}.")
    return redirect("operations-retention")
