"""What staff do to generations: each action shows first what it would do, and is in the audit log."""

from collections.abc import Callable, Sequence
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponseBase
from django.template.response import TemplateResponse
from django.utils import timezone

from accounts import audit, csv_export
from accounts.models import User
from generation import queue, removal, retry, review
from generation.models import Generation
from generation.models.review import Reason, Review

MAX_AT_ONCE = 200
"""How many generations one action changes."""

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

Deed = Callable[[Generation], str]
"""Does something to one generation; empty when done, else why not. Raises nothing."""


ACTIONS = ("retry", "cancel", "delete_for_good", "mark_safe", "confirm_flag", "export")


class GenerationActions:
    """The actions of the list of generations; each asks for its own permission."""

    def has_cancel_permission(self, request: HttpRequest) -> bool:
        """Needs Django's permission to change generations, though nobody edits one."""
        return bool(request.user.has_perm("generation.change_generation"))

    def has_remove_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("generation.delete_generation"))

    def has_review_permission(self, request: HttpRequest) -> bool:
        return bool(request.user.has_perm("generation.review_generation"))

    @admin.action(description="Make again (same picture, parameters and seeds)", permissions=["cancel"])
    def retry(self, request: HttpRequest, chosen: QuerySet[Generation]) -> HttpResponseBase | None:
        def deed(generation: Generation) -> str:
            try:
                made = retry.again(generation)
            except retry.Impossible as impossible:
                return str(impossible)
            audit.note(request.user, "generation.retry", generation, None, {"made": made})
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
            audit.note(
                request.user, "generation.cancel", generation, {"state": generation.state}, {"state": "canceled"}
            )
            return ""

        says = "What waits is canceled at once, what runs stops within a step. Its user is told that it was canceled."
        return self._confirmed(request, chosen, "cancel", "Cancel", says, deed, "canceled")

    @admin.action(description="Delete for good, files too", permissions=["remove"])
    def delete_for_good(self, request: HttpRequest, chosen: QuerySet[Generation]) -> HttpResponseBase | None:
        def deed(generation: Generation) -> str:
            if not removal.delete(generation):
                return "it has not ended, or was deleted before"
            audit.note(request.user, "generation.delete", generation, {"deleted": None}, {"deleted": timezone.now()})
            return ""

        says = "Pictures and words are removed, and nothing brings them back. The row stays, with times, seeds and numbers."
        return self._confirmed(request, chosen, "delete_for_good", "Delete for good", says, deed, "deleted")

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
        audit.note(request.user, "generation.export", "selection", None, {"query": request.META["QUERY_STRING"][:500]})
        rows = chosen.iterator(chunk_size=500)
        return csv_export.streamed(f"generations-{timezone.now():%Y%m%d-%H%M}.csv", _COLUMNS, map(_row, rows))

    def _confirmed(
        self,
        request: HttpRequest,
        chosen: QuerySet[Generation],
        action: str,
        title: str,
        says: str,
        deed: Deed,
        done_words: str,
        **more: Any,
    ) -> HttpResponseBase | None:
        """The page that asks, or once that is answered the deed for each, and a message."""
        rows = list(chosen[: MAX_AT_ONCE + 1])
        if len(rows) > MAX_AT_ONCE:
            messages.error(request, f"{MAX_AT_ONCE} at once are the most; select fewer, or narrow the list by filters.")
            return None
        if "confirmed" not in request.POST:
            site = cast(Any, self).admin_site
            context = {
                **site.each_context(request),
                "title": title,
                "opts": Generation._meta,
                "says": says,
                "action": action,
                "rows": rows,
                "checkbox": ACTION_CHECKBOX_NAME,
                **more,
            }
            return TemplateResponse(request, "admin/generation/generation/confirm.html", context)
        refused: dict[str, int] = {}
        for generation in rows:
            if why := deed(generation):
                refused[why] = refused.get(why, 0) + 1
        done = len(rows) - sum(refused.values())
        if done:
            messages.success(request, f"{done} {done_words}.")
        for why, count in refused.items():
            messages.warning(request, f"{count} not {done_words}: {why.rstrip('.')}.")
        return None


def _decision(request: HttpRequest, after: Review) -> Deed:
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
        except review.Refused as refused:
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
