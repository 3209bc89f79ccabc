"""What staff do to generations: each action shows first what it would do, and is in the audit log."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.utils import timezone

from accounts import (
    audit,
    confirm_actions,
    csv_export,
)
from accounts.models import User
from generation.jobs import queue, retry
from generation.library import deletion
from generation.maintenance import retention
from generation.models import Generation
from generation.models.review import Reason, Review
from generation.moderation import review

_COLUMNS = (
    *(
        "id",
        "created",
        "user",
        "model",
        "state",
        "error_code",
        "seeds",
        "pictures",
        "flagged",
        "highest score",
        "review",
    ),
    *("cost", "queued seconds", "running seconds", "input_sha256", "request_id", "prompt"),
)

Action = Callable[[Generation], str]
"""Does something to one generation; empty when done, else why not. Raises nothing."""


ACTIONS = ("retry", "cancel", "hold", "lift_hold", "delete_for_good", "mark_safe", "confirm_flag", "export")


class GenerationActions:
    """The actions of the list of generations; each asks for its own permission."""

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Needs Django's permission to change generations, though nobody edits one."""
        return bool(request.user.has_perm("generation.change_generation"))

    def has_remove_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("generation.delete_generation"))

    def has_review_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("generation.review_generation"))

    def has_operate_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("generation.operate"))

    @admin.action(description="Make again (same picture, parameters and seeds)", permissions=["cancel"])
    def retry(self, request: HttpRequest, chosen: QuerySet[Generation]) -> HttpResponseBase | None:
        def deed(generation: Generation) -> str:
            try:
                made = retry.retry(generation)
            except retry.RetryRefused as impossible:
                return str(impossible)
            audit.record(request.user, "generation.retry", generation, None, {"made": made})
            return ""

        says = (
            "For each, a new generation of the same user is queued. It counts for their limits and is in their history."
        )
        return self._confirmed(request, chosen, "retry", "Make again", says, deed, "queued again")

    @admin.action(description="Cancel", permissions=["cancel"])
    def cancel(self, request: HttpRequest, chosen: QuerySet[Generation]) -> HttpResponseBase | None:
        def deed(generation: Generation) -> str:
            if generation.is_final or not queue.cancel(generation):
                return "it had ended already"
            audit.record(
                request.user, "generation.cancel", generation, {"state": generation.state}, {"state": "canceled"}
            )
            return ""

        says = "What waits is canceled at once, what runs stops within a step. Its user is told that it was canceled."
        return self._confirmed(request, chosen, "cancel", "Cancel", says, deed, "canceled")

    @admin.action(description="Delete for good, files too", permissions=["remove"])
    def delete_for_good(self, request: HttpRequest, chosen: QuerySet[Generation]) -> HttpResponseBase | None:
        def deed(generation: Generation) -> str:
            if generation.legal_hold:
                return "it is on legal hold"
            if not deletion.delete(generation):
                return "it has not ended, or was deleted before"
            audit.record(request.user, "generation.delete", generation, {"deleted": None}, {"deleted": timezone.now()})
            return ""

        says = "Pictures and words are removed, and nothing brings them back. The row stays, with times, seeds and numbers."
        return self._confirmed(request, chosen, "delete_for_good", "Delete for good", says, deed, "deleted")

    @admin.action(description="Hold (nothing of it is removed)", permissions=["operate"])
    def hold(self, request: HttpRequest, chosen: QuerySet[Generation]) -> HttpResponseBase | None:
        says = "Nothing of these is removed, by rules nor by their users, who are told so, until the hold is lifted."
        deed = _holding(request, True)
        return self._confirmed(request, chosen, "hold", "Hold", says, deed, "put on legal hold", asks="Why?")

    @admin.action(description="Lift the hold", permissions=["operate"])
    def lift_hold(self, request: HttpRequest, chosen: QuerySet[Generation]) -> HttpResponseBase | None:
        says = "Their users may delete these again, and the rules of retention apply to them as to all."
        deed = _holding(request, False)
        return self._confirmed(request, chosen, "lift_hold", "Lift the hold", says, deed, "released", asks="Why?")

    @admin.action(description="Mark safe", permissions=["review"])
    def mark_safe(self, request: HttpRequest, chosen: QuerySet[Generation]) -> HttpResponseBase | None:
        says = "All pictures of these generations count as safe, whatever the checker said."
        deed = _decision(request, Review.SAFE)
        return self._confirmed(request, chosen, "mark_safe", "Mark safe", says, deed, "marked safe")

    @admin.action(description="Confirm the flag", permissions=["review"])
    def confirm_flag(self, request: HttpRequest, chosen: QuerySet[Generation]) -> HttpResponseBase | None:
        says = "The flagged pictures of these generations count as confirmed; where none is flagged, all of them do."
        deed = _decision(request, Review.CONFIRMED)
        return self._confirmed(
            request, chosen, "confirm_flag", "Confirm the flag", says, deed, "confirmed", reasons=Reason.choices
        )

    @admin.action(description="Export as CSV", permissions=["cancel"])
    def export(self, request: HttpRequest, chosen: QuerySet[Generation]) -> HttpResponseBase:
        is_whole = request.POST.get("select_across") == "1"
        after = {
            "query": request.META["QUERY_STRING"][:500],
            "chosen": "all" if is_whole else request.POST.getlist(ACTION_CHECKBOX_NAME)[: confirm_actions.MAX_AT_ONCE],
        }
        audit.record(request.user, "generation.export", "selection", None, after)
        rows = chosen.iterator(chunk_size=500)
        return csv_export.streamed(f"generations-{timezone.now():%Y%m%d-%H%M}.csv", _COLUMNS, map(_row, rows))

    def _confirmed(
        self,
        request: HttpRequest,
        chosen: QuerySet[Generation],
        action: str,
        title: str,
        says: str,
        deed: Action,
        done_words: str,
        **more: Any,
    ) -> HttpResponseBase | None:
        """The page that asks, or once that is answered the deed for each, and a message."""
        rows = confirm_actions.selected_ids(request, chosen)
        if rows is None:
            return None
        if not confirm_actions.is_confirmed(request):
            return confirm_actions.render(self, request, rows, action, title, says, **more)
        refused: dict[str, int] = {}
        for generation in rows:
            if why := deed(generation):
                refused[why] = refused.get(why, 0) + 1
        done = len(rows) - sum(refused.values())
        if done:
            messages.success(request, f"{done} {done_words}.")
        for why, count in refused.items():
            messages.warning(request, f"{count} not {done_words}: {why.rstrip('.')}.")
        return confirm_actions.redirect_back(request, rows)


def _holding(request: HttpRequest, held: bool) -> Action:
    reason = request.POST.get("note", "")
    return lambda generation: retention.set_hold(generation.pk, held, cast(User, request.user), reason)


def _decision(request: HttpRequest, after: Review) -> Action:
    reason, note = request.POST.get("reason", ""), request.POST.get("note", "")

    def deed(generation: Generation) -> str:
        images = list(generation.images.all())
        if after == Review.CONFIRMED:
            images = [image for image in images if image.nsfw] or images
        images = [image for image in images if image.review != after]
        if not images:
            return "there is no picture that it would change"
        try:
            for image in images:
                review.decide(image, cast(User, request.user), after, reason, note)
        except review.ReviewRefused as refused:
            return str(refused)
        return ""

    return deed


def _row(generation: Generation) -> Sequence[Any]:
    images = list(generation.images.all())
    scores = [image.nsfw_score for image in images if image.nsfw_score is not None]
    return (
        *(generation.pk, generation.created.isoformat(), generation.user.get_username(), generation.model_id),
        *(generation.state, generation.error_code, " ".join(map(str, generation.recipe.get("seeds", [])))),
        *(len(images), sum(image.nsfw for image in images), max(scores, default=None)),
        " ".join(sorted({image.review for image in images if image.review})),
        *(generation.cost, generation.queued_seconds, generation.running_seconds),
        *(generation.input_sha256, generation.request_id, generation.prompt),
    )
