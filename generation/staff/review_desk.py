"""The review cockpit: one picture at a time, by keyboard, the next one ready."""

import mimetypes
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, cast
from urllib.parse import urlencode
from uuid import UUID

from django.contrib import admin, messages
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe

from accounts.models import User
from generation.images import storage
from generation.models import DiffusionModel, GeneratedImage
from generation.models.review import Reason, Review, ReviewClaim, ReviewDecision
from generation.moderation import review
from generation.staff.permissions import reviewers_only

_SKIPPED = "review_skipped"
_MOST_SKIPPED = 200


@reviewers_only
@require_safe
def cockpit(request: HttpRequest) -> HttpResponse:
    """The most urgent picture that waits and nobody looks at, claimed; `image` asks for a certain one."""
    reviewer, wanted = _reviewer(request), _wanted(request.GET)
    asked = request.GET.get("image", "")
    claim, image, blocked = None, None, ""
    if asked:
        image = get_object_or_404(_pictures(), pk=_number(asked))
        claim = review.claim_of(image, reviewer)
        if claim is None:
            holder = ReviewClaim.objects.select_related("reviewer").filter(image=image).first()
            blocked = f"{holder.reviewer} is looking at it now." if holder else "Somebody is looking at it now."
    elif claim := review.next_for(reviewer, wanted, _skipped(request)):
        image = get_object_or_404(_pictures(), pk=claim.image_id)
    counts = review.counts()
    context = {
        **admin.site.each_context(request),
        "title": "Review",
        **(_item(image, claim, wanted) if image else {}),
        "blocked_reason": blocked,
        "filters": wanted,
        "queues": [(name, words, counts[name]) for name, words in review.WHYS.items()],
        "waiting_count": counts[""],
        "models": DiffusionModel.objects.filter(enabled=True),
        "query": _query(wanted),
        "other_reviewers": sorted({str(other.reviewer) for other in review.at_work(reviewer)}),
        "skipped_count": len(_skipped(request)),
    }
    return render(request, "admin/review/review_desk.html", context)


@reviewers_only
@require_POST
def upcoming(request: HttpRequest) -> HttpResponse:
    """The picture after the one that is shown, claimed too, as HTML to keep ready; empty when there is none.

    `key` are the claims of the page, which are renewed; `besides` are pictures that it has.
    """
    reviewer, wanted = _reviewer(request), _wanted(request.POST)
    review.renew(reviewer, _keys(request))
    shown = [_number(text) for text in request.POST.getlist("besides")[:10]]
    claim = review.next_for(reviewer, wanted, [*shown, *_skipped(request)])
    if claim is None:
        return HttpResponse("")
    image = get_object_or_404(_pictures(), pk=claim.image_id)
    return render(request, "admin/review/_item.html", _item(image, claim, wanted))


@reviewers_only
@require_POST
def decide(request: HttpRequest, image_id: int) -> HttpResponse:
    """Decide about a picture, or leave it for later; JSON for the page's script, else back to the cockpit."""
    reviewer, wanted = _reviewer(request), _wanted(request.POST)
    image = get_object_or_404(GeneratedImage, pk=image_id)
    verdict, _, reason = request.POST.get("verdict", "").partition(" ")
    if verdict == "skip":
        request.session[_SKIPPED] = [*_skipped(request), image.pk][-_MOST_SKIPPED:]
        release = ReviewClaim.objects.filter(image=image, reviewer=reviewer)
        review.release(reviewer, list(release.values_list("key", flat=True)))
        return _answer(request, "Left for later.", 200, _query(wanted))
    # What the reviewer saw decides who was first, not what is there now.
    image.review = request.POST.get("seen", "")
    if image.review not in Review.values:
        return _answer(
            request, "That form is not of this page, so nothing was decided. Load it again.", 422, _query(wanted)
        )
    seconds = None
    with suppress(ValueError):
        seconds = float(request.POST.get("seconds", ""))
    try:
        after = Review(verdict) if verdict in Review.values else Review.NONE
        made = review.decide(image, reviewer, after, reason, request.POST.get("note", ""), seconds)
    except review.ReviewRefused as refused:
        status = 422 if isinstance(refused, review.InvalidDecision) else 409
        return _answer(request, str(refused), status, _query(wanted))
    words = made.get_after_display() + (f", {made.reason}" if made.reason else "")
    return _answer(request, f"Decided: {words}.", 200, _query(wanted))


@reviewers_only
@require_POST
def undo(request: HttpRequest) -> HttpResponse:
    """Take the last decision back, and show its picture again."""
    wanted = _wanted(request.POST)
    try:
        made = review.undo(_reviewer(request))
    except review.ReviewRefused as refused:
        messages.info(request, str(refused))
        return redirect(reverse("review") + _query(wanted))
    messages.success(request, f"Taken back: {made.get_before_display()}.")
    return redirect(reverse("review") + _query(wanted, image=made.image_id))


@reviewers_only
@require_POST
def leave(request: HttpRequest) -> HttpResponse:
    """The page is left: its claims, by `key`, are free for others at once."""
    review.release(_reviewer(request), _keys(request))
    return HttpResponse(status=204)


@reviewers_only
@require_safe
def picture(request: HttpRequest, image_id: int, which: str) -> HttpResponse:
    """The `input` or the `result` itself, for this page alone: no address that works elsewhere, nothing stored."""
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


def _item(image: GeneratedImage, claim: ReviewClaim | None, wanted: review.ReviewFilter) -> dict[str, Any]:
    score, threshold = image.nsfw_score, image.threshold
    return {
        "image": image,
        "generation": image.generation,
        "claim": claim,
        "filters": wanted,
        "queue_reason": review.WHYS[review.why(image)],
        "score": None if score is None else round(100 * score, 1),
        "threshold": None if threshold is None else round(100 * threshold, 1),
        "user_record": review.person_record(image.generation.user),
        "previous_decisions": list(ReviewDecision.objects.filter(image=image)[:5]),
        "reasons": Reason.choices,
    }


def _pictures() -> Any:
    rows = GeneratedImage.objects.filter(generation__deleted=None).annotate(is_shared=review.is_shared())
    return rows.select_related("generation__user", "generation__model")


def _reviewer(request: HttpRequest) -> User:
    return cast(User, request.user)


def _wanted(values: QueryDict) -> review.ReviewFilter:
    why = values.get("why", "")
    return review.ReviewFilter(
        why=why if why in review.WHYS else "",
        user=values.get("user", "").replace("\0", "")[:150],
        model=values.get("model", "").replace("\0", "")[:200],
    )


def _query(wanted: review.ReviewFilter, **more: Any) -> str:
    chosen = {"why": wanted.why, "user": wanted.user, "model": wanted.model, **more}
    query = urlencode({name: value for name, value in chosen.items() if value})
    return f"?{query}" if query else ""


def _skipped(request: HttpRequest) -> Sequence[int]:
    skipped: list[int] = request.session.get(_SKIPPED, [])
    return skipped


def _number(text: str) -> int:
    """The key of a picture; that of none where it is no number that a database knows."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _keys(request: HttpRequest) -> list[UUID]:
    keys = []
    for text in request.POST.getlist("key")[:10]:
        with suppress(ValueError):
            keys.append(UUID(text))
    return keys


def _answer(request: HttpRequest, words: str, status: int, query: str) -> HttpResponse:
    if "application/json" in request.headers.get("Accept", ""):
        return JsonResponse({"message": words}, status=status)
    (messages.success if status == 200 else messages.warning)(request, words)
    return redirect(reverse("review") + query)
