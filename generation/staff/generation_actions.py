"""Admin actions on generations: each is confirmed first and recorded in the audit log."""

from collections.abc import Callable, Sequence
from typing import Any

from django.contrib import admin
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone

from accounts import audit
from accounts.admin_tools import confirm_actions
from accounts.admin_tools.confirm_actions import Action
from accounts.admin_tools.csv_export import csv_response
from accounts.refusals import StaffRefusal
from accounts.requests import current_user
from generation.jobs import proofs, queue, retry
from generation.library import deletion
from generation.maintenance import retention
from generation.models import Generation
from generation.models.review import Reason, Review
from generation.moderation import review
from generation.parameters import Refusal
from generation.staff.permissions import can_operate

_CSV_COLUMNS = (
    *("id", "created", "user", "model", "state", "error_code", "seeds", "pictures", "flagged"),
    *("highest score", "review", "cost", "queued seconds", "running seconds"),
    *("input_sha256", "mask_sha256", "reference_sha256", "request_id", "prompt"),
)
_MAX_QUERY = 500


class GenerationActions(admin.ModelAdmin[Generation]):
    """The actions of the list of generations; each requires its own permission."""

    actions = (
        "retry",
        "prove",
        "cancel",
        "hold",
        "lift_hold",
        "delete_permanently",
        "mark_safe",
        "confirm_flag",
        "export",
    )

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        # Django's permission to change generations, which has no other use, as no page edits one.
        return bool(request.user.has_perm("generation.change_generation"))

    def has_remove_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("generation.delete_generation"))

    def has_review_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("generation.review_generation"))

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return can_operate(request)

    @admin.action(description="Retry (same picture, parameters and seeds)", permissions=["cancel"])
    def retry(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponseBase | None:
        def apply(generation: Generation) -> str:
            try:
                new = retry.retry(generation, generation.token)
            except Refusal as refusal:
                raise StaffRefusal(refusal.message) from refusal
            audit.record(request.user, "generation.retry", generation, None, {"made": new})
            return ""

        description = (
            "Each is queued again as a new generation of the same user. It counts towards their limits and is in their "
            "history."
        )
        action = Action("retry", "Retry", description, apply, "queued again")
        return confirm_actions.run(self, request, queryset, action)

    @admin.action(description="Prove (make again and compare)", permissions=["cancel"])
    def prove(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponseBase | None:
        def apply(generation: Generation) -> str:
            try:
                proof = proofs.submit(generation, current_user(request))
            except Refusal as refusal:
                raise StaffRefusal(refusal.message) from refusal
            audit.record(request.user, "generation.prove", generation, None, {"proof": proof})
            return ""

        description = (
            "Each is made again, and compared with its pictures; nothing else is kept. It counts towards your own "
            "limits. The result is on the page of the generation."
        )
        return confirm_actions.run(self, request, queryset, Action("prove", "Prove", description, apply, "queued"))

    @admin.action(description="Cancel", permissions=["cancel"])
    def cancel(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponseBase | None:
        def apply(generation: Generation) -> str:
            if generation.is_final or not queue.cancel(generation):
                raise StaffRefusal("it had ended already")
            audit.record(
                request.user, "generation.cancel", generation, {"state": generation.state}, {"state": "canceled"}
            )
            return ""

        description = (
            "Queued generations are canceled at once, running ones stop within a step. Their users see that they were "
            "canceled."
        )
        return confirm_actions.run(self, request, queryset, Action("cancel", "Cancel", description, apply, "canceled"))

    @admin.action(description="Delete permanently, with all files", permissions=["remove"])
    def delete_permanently(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponseBase | None:
        def apply(generation: Generation) -> str:
            if generation.legal_hold:
                raise StaffRefusal("it is on legal hold")
            if not deletion.delete(generation):
                raise StaffRefusal("it has not ended, or was deleted before")
            audit.record(request.user, "generation.delete", generation, {"deleted": None}, {"deleted": timezone.now()})
            return ""

        description = (
            "Pictures and texts are removed and cannot be restored. The row stays, with times, seeds and numbers."
        )
        action = Action("delete_permanently", "Delete permanently", description, apply, "deleted")
        return confirm_actions.run(self, request, queryset, action)

    @admin.action(description="Put on legal hold", permissions=["operate"])
    def hold(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponseBase | None:
        description = "Neither their users nor retention rules can delete these until the hold is lifted."
        apply, context = _set_hold(request, True), {"note_label": "Reason"}
        action = Action("hold", "Put on legal hold", description, apply, "put on legal hold", context)
        return confirm_actions.run(self, request, queryset, action)

    @admin.action(description="Lift the legal hold", permissions=["operate"])
    def lift_hold(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponseBase | None:
        description = "Their users may delete these again, and retention rules apply to them."
        apply, context = _set_hold(request, False), {"note_label": "Reason"}
        action = Action("lift_hold", "Lift the legal hold", description, apply, "lifted", context)
        return confirm_actions.run(self, request, queryset, action)

    @admin.action(description="Mark safe", permissions=["review"])
    def mark_safe(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponseBase | None:
        description = "All pictures of these generations count as safe, regardless of the checker's result."
        apply = _decide(request, Review.SAFE)
        action = Action("mark_safe", "Mark safe", description, apply, "marked safe")
        return confirm_actions.run(self, request, queryset, action)

    @admin.action(description="Confirm the flag", permissions=["review"])
    def confirm_flag(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponseBase | None:
        description = "Confirms the flagged pictures of each generation, or all of its pictures if none is flagged."
        apply, context = _decide(request, Review.CONFIRMED), {"reasons": Reason.choices}
        action = Action("confirm_flag", "Confirm the flag", description, apply, "confirmed", context)
        return confirm_actions.run(self, request, queryset, action)

    @admin.action(description="Export as CSV", permissions=["cancel"])
    def export(self, request: HttpRequest, queryset: QuerySet[Generation]) -> HttpResponseBase:
        selected = request.POST.getlist(ACTION_CHECKBOX_NAME)[: confirm_actions.MAX_ROWS]
        after = {
            "query": request.META["QUERY_STRING"][:_MAX_QUERY],
            "chosen": "all" if request.POST.get("select_across") == "1" else selected,
        }
        audit.record(request.user, "generation.export", "selection", None, after)
        rows = map(_csv_row, queryset.prefetch_related("references").iterator(chunk_size=500))
        return csv_response(f"generations-{timezone.now():%Y%m%d-%H%M}.csv", _CSV_COLUMNS, rows)


def _set_hold(request: HttpRequest, should_hold: bool) -> Callable[[Generation], str]:
    reason = request.POST.get("note", "")

    def apply(generation: Generation) -> str:
        retention.set_hold(generation.pk, should_hold, current_user(request), reason)
        return ""

    return apply


def _decide(request: HttpRequest, after: Review) -> Callable[[Generation], str]:
    reason, note = request.POST.get("reason", ""), request.POST.get("note", "")

    def apply(generation: Generation) -> str:
        images = list(generation.images.all())
        if after == Review.CONFIRMED:
            images = [image for image in images if image.nsfw] or images
        images = [image for image in images if image.review != after]
        if not images:
            raise StaffRefusal("it would change no picture")
        for image in images:
            review.decide(image, current_user(request), after, reason, note)
        return ""

    return apply


def _csv_row(generation: Generation) -> Sequence[Any]:
    images = list(generation.images.all())
    scores = [image.nsfw_score for image in images if image.nsfw_score is not None]
    return (
        *(generation.pk, generation.created.isoformat(), generation.user.get_username(), generation.model_id),
        *(generation.state, generation.error_code, " ".join(map(str, generation.recipe.get("seeds", [])))),
        *(len(images), sum(image.nsfw for image in images), max(scores, default=None)),
        " ".join(sorted({image.review for image in images if image.review})),
        *(generation.cost, generation.queued_seconds, generation.running_seconds),
        *(generation.input_sha256, generation.mask_sha256),
        " ".join(reference.sha256 for reference in generation.references.all()),
        *(generation.request_id, generation.prompt),
    )
