"""The retention page: rules with a preview of what each would remove, and the generations on legal hold."""

from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from accounts import audit
from accounts.requests import current_user, parse_uuid
from generation.maintenance import retention
from generation.models import Generation, RetentionRule
from generation.staff.permissions import operators_only

_MAX_ON_HOLD = 50
_EXAMPLE_ID = "01a2030c-14cb-74d1-9440-56bf4fa2fb08"


@operators_only
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """Show all rules; with `preview`, also what each would remove now."""
    is_preview = "preview" in request.GET
    rules = [(rule, retention.preview(rule) if is_preview else None) for rule in RetentionRule.objects.all()]
    generations = list(retention.on_hold().select_related("user").order_by("-pk")[:_MAX_ON_HOLD])
    context = {
        "title": "Retention",
        "rules": rules,
        "is_preview": is_preview,
        "generations": generations,
        "max_shown": _MAX_ON_HOLD,
    }
    return render(request, "admin/operations/retention.html", {**admin.site.each_context(request), **context})


@operators_only
@require_POST
def run(request: HttpRequest, rule_id: int) -> HttpResponse:
    """Apply a rule now, to a bounded number of generations."""
    rule = get_object_or_404(RetentionRule, pk=rule_id)
    count = retention.step(rule, retention.MANUAL_LIMIT, restart=True)
    after = {"rule": str(rule), "generations": count}
    audit.record(current_user(request), "retention.run", rule, None, after)
    rest = "Nothing more is due now." if rule.is_finished else "There is more to remove: run it again, or enable it."
    messages.success(request, f"{rule}: applied to {count} generation{'s' if count != 1 else ''}. {rest}")
    # The preview shows what remains, and the button to run it again.
    return redirect(reverse("operations-retention") + "?preview")


@operators_only
@require_POST
def hold(request: HttpRequest) -> HttpResponse:
    """Put the generation `id` on legal hold, or with `lift` lift the hold; `reason` says why."""
    generation_id = parse_uuid(request.POST.get("id", "").strip())
    if generation_id is None:
        messages.error(request, f"That is not the id of a generation; ids look like {_EXAMPLE_ID}.")
        return redirect("operations-retention")
    should_hold, reason = "lift" not in request.POST, request.POST.get("reason", "")
    if not Generation.objects.filter(pk=generation_id).exists():
        messages.error(request, "There is no generation with this id.")
    elif why_not := retention.set_hold(generation_id, should_hold, current_user(request), reason):
        messages.error(request, f"Nothing changed: {why_not}.")
    else:
        messages.success(request, f"{generation_id} is {'' if should_hold else 'no longer '}on legal hold.")
    return redirect("operations-retention")
