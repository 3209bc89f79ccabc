"""The review page: one picture at a time, usable by keyboard, with the next picture loaded ahead."""

import mimetypes
from contextlib import suppress
from typing import Any
from uuid import uuid4

from django.contrib import messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from accounts.audit_middleware import changes_nothing
from accounts.requests import current_user, parse_uuid
from generation import display
from generation.images import storage
from generation.models import GeneratedImage, Generation, ReferencePicture
from generation.models.review import Reason, Review, ReviewClaim, ReviewDecision
from generation.moderation import review, review_queue
from generation.staff.permissions import reviewers_only
from generation.staff.review_requests import (
    MAX_CLAIMS,
    SKIPPED,
    add,
    claim_keys,
    filters_of,
    head,
    listed,
    live_counts,
    picture_id,
    query_of,
)
from generation.staff.viewing import record_view


@reviewers_only
@require_safe
def desk(request: HttpRequest) -> HttpResponse:
    """Claim and show the most urgent picture that no other reviewer has claimed, or the picture with the id `image`."""
    reviewer, filters = current_user(request), filters_of(request.GET)
    image_id = request.GET.get("image", "")
    claim, image, blocked = None, None, ""
    if image_id:
        image = get_object_or_404(_pictures(), pk=picture_id(image_id))
        claim = review.claim(image, reviewer)
        if claim is None:
            holder = ReviewClaim.objects.select_related("reviewer").filter(image=image).first()
            blocked = f"{holder.reviewer} is reviewing it now." if holder else "Another reviewer is reviewing it now."
    elif claim := review.next_for(reviewer, filters, listed(request, SKIPPED)):
        image = get_object_or_404(_pictures(), pk=claim.image_id)
    context = {
        **head(request, filters),
        "title": "Review",
        **(_item(image, claim, filters) if image else {}),
        "blocked_reason": blocked,
    }
    return render(request, "admin/review/review_desk.html", context)


@reviewers_only
@require_POST
def next_item(request: HttpRequest) -> HttpResponse:
    """Claim the next picture and return it as HTML for the page to show later, empty if none waits.

    `key` are the keys of the page's claims, which are renewed; `exclude` are the ids of the pictures on the page. The new
    claim gets the key `claim`, which the page got with the picture before.
    """
    changes_nothing(request)
    reviewer, filters = current_user(request), filters_of(request.POST)
    review.renew(reviewer, claim_keys(request))
    excluded_ids = [picture_id(text) for text in request.POST.getlist("exclude")[:MAX_CLAIMS]]
    key = parse_uuid(request.POST.get("claim", ""))
    claim = review.next_for(reviewer, filters, [*excluded_ids, *listed(request, SKIPPED)], key)
    if claim is None:
        return HttpResponse("")
    image = get_object_or_404(_pictures(), pk=claim.image_id)
    return render(request, "admin/review/_item.html", _item(image, claim, filters))


@reviewers_only
@require_POST
def decide(request: HttpRequest, image_id: int) -> HttpResponse:
    """Record a decision about a picture, or skip it. Answer the page's script in JSON, a form with a redirect to the page."""
    reviewer, filters = current_user(request), filters_of(request.POST)
    image = get_object_or_404(GeneratedImage, pk=image_id)
    choice, _, reason = request.POST.get("decision", "").partition(" ")
    if choice == "skip":
        _skip(request, image)
        return _answer(request, "Skipped.", 200, query_of(filters))
    # Compare with the state that the reviewer saw, not the current one: an earlier decision of another must win.
    image.review = request.POST.get("review_before", "")
    if image.review not in Review.values:
        return _answer(
            request, "This form is not valid, so nothing was decided. Reload the page.", 422, query_of(filters)
        )
    seconds = None
    with suppress(ValueError):
        seconds = float(request.POST.get("seconds", ""))
    try:
        after = Review(choice) if choice in Review.values else Review.NONE
        decision = review.decide(image, reviewer, after, reason, request.POST.get("note", ""), seconds)
    except review.ReviewRefused as refusal:
        status = 422 if isinstance(refusal, review.InvalidDecision) else 409
        return _answer(request, refusal.message, status, query_of(filters))
    label = decision.get_after_display() + (f", {decision.reason}" if decision.reason else "")
    return _answer(request, f"Decided: {label}.", 200, query_of(filters))


@reviewers_only
@require_POST
def undo(request: HttpRequest) -> HttpResponse:
    """Undo the reviewer's last decision and show its picture again; of a batch, show all its pictures."""
    filters = filters_of(request.POST)
    try:
        undone = review.undo(current_user(request))
    except review.ReviewRefused as refusal:
        messages.info(request, refusal.message)
        return redirect(reverse("review") + query_of(filters))
    if len(undone) > 1:
        messages.success(request, f"Undone: {len(undone)} decisions.")
        return redirect(reverse("review-batch") + query_of(filters))
    messages.success(request, f"Undone: {undone[0].get_before_display()}.")
    return redirect(reverse("review") + query_of(filters, image=undone[0].image_id))


@reviewers_only
@require_POST
def status(request: HttpRequest) -> HttpResponse:
    """Renew the claims of a page and return what it shows of the queues, in JSON."""
    changes_nothing(request)
    review.renew(current_user(request), claim_keys(request))
    return JsonResponse(live_counts(request))


@reviewers_only
@require_POST
def release(request: HttpRequest) -> HttpResponse:
    """Release the claims with the keys `key`; the page's script sends them when the page is closed."""
    changes_nothing(request)
    review.release(current_user(request), claim_keys(request))
    return HttpResponse(status=204)


@reviewers_only
@require_safe
def picture(request: HttpRequest, image_id: int, which: str) -> HttpResponse:
    """Serve a picture to reviewers only, by a path that needs their session.

    It is the `input`, the `mask`, the `reference-0` or further, the `result` or its `thumbnail`.
    """
    image = get_object_or_404(_pictures(), pk=image_id)
    record_view(request, image.generation)
    file, thumbnail = image.original_names
    generation = image.generation
    names = {
        "input": str(generation.input.name),
        "mask": str(generation.mask.name),
        "result": file,
        "thumbnail": thumbnail,
    }
    names |= {name: str(reference.file.name) for name, reference in _references(generation)}
    if (name := names.get(which)) is None:
        raise Http404
    try:
        content = storage.read(name)
    except storage.StorageFailed:
        raise Http404 from None
    response = HttpResponse(content, content_type=mimetypes.guess_type(name)[0] or "application/octet-stream")
    response["X-Content-Type-Options"] = "nosniff"
    return response


def _skip(request: HttpRequest, image: GeneratedImage) -> None:
    """Release the reviewer's claims on this picture, and do not offer it again in this session."""
    add(request, SKIPPED, [image.pk])
    claims = ReviewClaim.objects.filter(image=image, reviewer=current_user(request))
    review.release(current_user(request), list(claims.values_list("key", flat=True)))


def _item(image: GeneratedImage, claim: ReviewClaim | None, filters: review_queue.ReviewFilter) -> dict[str, Any]:
    score, threshold = image.nsfw_score, image.threshold
    return {
        "image": image,
        "generation": image.generation,
        "mask_words": display.mask(image.generation),
        "references": _references(image.generation),
        "claim": claim,
        "next_key": uuid4(),
        "filters": filters,
        "queue": review_queue.QUEUE_LABELS[review_queue.queue_of(image)],
        "score": None if score is None else round(100 * score, 1),
        "threshold": None if threshold is None else round(100 * threshold, 1),
        "user_record": review.user_record(image.generation.user),
        "reports": list(image.reports.all()[:5]),
        "previous_decisions": list(ReviewDecision.objects.filter(image=image)[:5]),
        "reasons": Reason.choices,
    }


def _references(generation: Generation) -> list[tuple[str, ReferencePicture]]:
    """Return the further pictures of a request that are still stored, each with its name for `picture`."""
    rows = generation.references.all()
    return [(f"reference-{reference.index}", reference) for reference in rows if reference.file]


def _pictures() -> Any:
    rows = GeneratedImage.objects.filter(generation__deleted=None).annotate(is_shared=review_queue.is_shared())
    return rows.select_related("generation__user", "generation__model")


def _answer(request: HttpRequest, message: str, status: int, query: str) -> HttpResponse:
    if "application/json" in request.headers.get("Accept", ""):
        return JsonResponse({"message": message, **live_counts(request)}, status=status)
    (messages.success if status == 200 else messages.warning)(request, message)
    return redirect(reverse("review") + query)
