"""The review page: one picture at a time, usable by keyboard, with the next picture loaded ahead."""

import mimetypes
from collections.abc import Sequence
from contextlib import suppress
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from accounts.requests import current_user, uuids, whole_number
from generation.images import storage
from generation.models import DiffusionModel, GeneratedImage
from generation.models.review import Reason, Review, ReviewClaim, ReviewDecision
from generation.moderation import review
from generation.staff.permissions import reviewers_only

_SKIPPED = "review_skipped"
"""The session key of the ids of the pictures that the reviewer skipped."""

_MAX_SKIPPED = 200
_MAX_CLAIMS = 10
_MAX_PICTURE_ID = 10**18


@reviewers_only
@require_safe
def desk(request: HttpRequest) -> HttpResponse:
    """Claim and show the most urgent picture that no other reviewer has claimed, or the picture with the id `image`."""
    reviewer, filters = current_user(request), _filters(request.GET)
    image_id = request.GET.get("image", "")
    claim, image, blocked = None, None, ""
    if image_id:
        image = get_object_or_404(_pictures(), pk=_picture_id(image_id))
        claim = review.claim(image, reviewer)
        if claim is None:
            holder = ReviewClaim.objects.select_related("reviewer").filter(image=image).first()
            blocked = f"{holder.reviewer} is reviewing it now." if holder else "Another reviewer is reviewing it now."
    elif claim := review.next_for(reviewer, filters, _skipped(request)):
        image = get_object_or_404(_pictures(), pk=claim.image_id)
    counts = review.counts()
    context = {
        **admin.site.each_context(request),
        "title": "Review",
        **(_item(image, claim, filters) if image else {}),
        "blocked_reason": blocked,
        "filters": filters,
        "queues": [(name, label, counts[name]) for name, label in review.QUEUE_LABELS.items()],
        "waiting_count": counts[""],
        "models": DiffusionModel.objects.filter(enabled=True),
        "query": _query(filters),
        "other_reviewers": sorted({str(claim.reviewer) for claim in review.active_claims(exclude=reviewer)}),
        "skipped_count": len(_skipped(request)),
    }
    return render(request, "admin/review/review_desk.html", context)


@reviewers_only
@require_POST
def next_item(request: HttpRequest) -> HttpResponse:
    """Claim the next picture and return it as HTML for the page to show later, empty if none waits.

    `key` are the keys of the page's claims, which are renewed; `exclude` are the ids of the pictures on the page.
    """
    reviewer, filters = current_user(request), _filters(request.POST)
    review.renew(reviewer, _keys(request))
    excluded_ids = [_picture_id(text) for text in request.POST.getlist("exclude")[:_MAX_CLAIMS]]
    claim = review.next_for(reviewer, filters, [*excluded_ids, *_skipped(request)])
    if claim is None:
        return HttpResponse("")
    image = get_object_or_404(_pictures(), pk=claim.image_id)
    return render(request, "admin/review/_item.html", _item(image, claim, filters))


@reviewers_only
@require_POST
def decide(request: HttpRequest, image_id: int) -> HttpResponse:
    """Record a decision about a picture, or skip it. Answer the page's script in JSON, a form with a redirect to the page."""
    reviewer, filters = current_user(request), _filters(request.POST)
    image = get_object_or_404(GeneratedImage, pk=image_id)
    choice, _, reason = request.POST.get("decision", "").partition(" ")
    if choice == "skip":
        _skip(request, image)
        return _answer(request, "Skipped.", 200, _query(filters))
    # Compare with the state that the reviewer saw, not the current one: an earlier decision of another must win.
    image.review = request.POST.get("review_before", "")
    if image.review not in Review.values:
        return _answer(
            request, "This form is not valid, so nothing was decided. Reload the page.", 422, _query(filters)
        )
    seconds = None
    with suppress(ValueError):
        seconds = float(request.POST.get("seconds", ""))
    try:
        after = Review(choice) if choice in Review.values else Review.NONE
        decision = review.decide(image, reviewer, after, reason, request.POST.get("note", ""), seconds)
    except review.ReviewRefused as refusal:
        status = 422 if isinstance(refusal, review.InvalidDecision) else 409
        return _answer(request, refusal.message, status, _query(filters))
    label = decision.get_after_display() + (f", {decision.reason}" if decision.reason else "")
    return _answer(request, f"Decided: {label}.", 200, _query(filters))


@reviewers_only
@require_POST
def undo(request: HttpRequest) -> HttpResponse:
    """Undo the reviewer's last decision and show its picture again."""
    filters = _filters(request.POST)
    try:
        decision = review.undo(current_user(request))
    except review.ReviewRefused as refusal:
        messages.info(request, refusal.message)
        return redirect(reverse("review") + _query(filters))
    messages.success(request, f"Undone: {decision.get_before_display()}.")
    return redirect(reverse("review") + _query(filters, image=decision.image_id))


@reviewers_only
@require_POST
def release(request: HttpRequest) -> HttpResponse:
    """Release the claims with the keys `key`; the page's script sends them when the page is closed."""
    review.release(current_user(request), _keys(request))
    return HttpResponse(status=204)


@reviewers_only
@require_safe
def picture(request: HttpRequest, image_id: int, which: str) -> HttpResponse:
    """Serve the `input` or the `result` to reviewers only, by a path that needs their session and is not cached."""
    image = get_object_or_404(_pictures(), pk=image_id)
    if which not in ("input", "result"):
        raise Http404
    name = str(image.generation.input.name) if which == "input" else image.original_names[0]
    try:
        content = storage.read(name)
    except storage.StorageFailed:
        raise Http404 from None
    response = HttpResponse(content, content_type=mimetypes.guess_type(name)[0] or "application/octet-stream")
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _skip(request: HttpRequest, image: GeneratedImage) -> None:
    """Release the reviewer's claims on this picture, and do not offer it again in this session."""
    request.session[_SKIPPED] = [*_skipped(request), image.pk][-_MAX_SKIPPED:]
    claims = ReviewClaim.objects.filter(image=image, reviewer=current_user(request))
    review.release(current_user(request), list(claims.values_list("key", flat=True)))


def _item(image: GeneratedImage, claim: ReviewClaim | None, filters: review.ReviewFilter) -> dict[str, Any]:
    score, threshold = image.nsfw_score, image.threshold
    return {
        "image": image,
        "generation": image.generation,
        "claim": claim,
        "filters": filters,
        "queue": review.QUEUE_LABELS[review.queue_of(image)],
        "score": None if score is None else round(100 * score, 1),
        "threshold": None if threshold is None else round(100 * threshold, 1),
        "user_record": review.user_record(image.generation.user),
        "previous_decisions": list(ReviewDecision.objects.filter(image=image)[:5]),
        "reasons": Reason.choices,
    }


def _pictures() -> Any:
    rows = GeneratedImage.objects.filter(generation__deleted=None).annotate(is_shared=review.is_shared())
    return rows.select_related("generation__user", "generation__model")


def _filters(values: QueryDict) -> review.ReviewFilter:
    why = values.get("why", "")
    return review.ReviewFilter(
        why=why if why in review.QUEUE_LABELS else "",
        user=values.get("user", "").replace("\0", "")[:150],
        model=values.get("model", "").replace("\0", "")[:200],
    )


def _query(filters: review.ReviewFilter, **more: Any) -> str:
    parameters = {"why": filters.why, "user": filters.user, "model": filters.model, **more}
    query = urlencode({name: value for name, value in parameters.items() if value})
    return f"?{query}" if query else ""


def _skipped(request: HttpRequest) -> Sequence[int]:
    skipped: list[int] = request.session.get(_SKIPPED, [])
    return skipped


def _picture_id(text: str) -> int:
    """Parse the id of a picture; return 0, which no picture has, for an invalid one."""
    return whole_number(text, _MAX_PICTURE_ID) or 0


def _keys(request: HttpRequest) -> list[UUID]:
    """Return the keys of the claims that the page sends."""
    return uuids(request.POST.getlist("key")[:_MAX_CLAIMS])


def _answer(request: HttpRequest, message: str, status: int, query: str) -> HttpResponse:
    if "application/json" in request.headers.get("Accept", ""):
        # Others decide too, so every answer has the counts of all queues.
        content = {"message": message, "counts": review.counts(), "skipped": len(_skipped(request))}
        return JsonResponse(content, status=status)
    (messages.success if status == 200 else messages.warning)(request, message)
    return redirect(reverse("review") + query)
