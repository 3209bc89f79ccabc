"""Review in batches: pictures with low scores beside each other, which one decision marks safe."""

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST, require_safe

from accounts.requests import current_user
from generation.models import GeneratedImage
from generation.models.review import Review
from generation.moderation import review
from generation.staff.permissions import reviewers_only
from generation.staff.review_requests import (
    LEFT_OUT,
    SKIPPED,
    add,
    claim_keys,
    filters_of,
    head,
    listed,
    picture_id,
    query_of,
)

_KEYS = "1234567890-="
"""The key that leaves out each picture, in the order of the pictures."""

SIZE = len(_KEYS)


@reviewers_only
@require_safe
def batch(request: HttpRequest) -> HttpResponse:
    """Claim and show the pictures with the lowest scores that wait and were not left out of a batch before."""
    reviewer, filters = current_user(request), filters_of(request.GET)
    excluded = [*listed(request, SKIPPED), *listed(request, LEFT_OUT)]
    claims = review.claim_lowest(reviewer, filters, SIZE, excluded)
    images = GeneratedImage.objects.select_related("generation__user").in_bulk(claims)
    context = {
        **head(request, filters),
        "title": "Review in batches",
        "pictures": [(images[pk], claims[pk], key) for pk, key in zip(claims, _KEYS, strict=False) if pk in images],
        "left_out_count": len(listed(request, LEFT_OUT)),
    }
    return render(request, "admin/review/batch.html", context)


@reviewers_only
@require_POST
def decide(request: HttpRequest) -> HttpResponse:
    """Mark the pictures `image` safe. The others of those `shown` wait to be looked at one by one."""
    reviewer = current_user(request)
    shown, chosen = ([picture_id(text) for text in request.POST.getlist(name)[:SIZE]] for name in ("shown", "image"))
    marked, refusals, now = 0, [], timezone.now()
    for image in GeneratedImage.objects.filter(pk__in=[pk for pk in chosen if pk in shown]).order_by("pk"):
        # Only waiting pictures are shown: an earlier decision of another must win.
        image.review = Review.WAITING
        try:
            review.decide(image, reviewer, Review.SAFE, when=now)
            marked += 1
        except review.ReviewRefused as refusal:
            refusals.append(refusal.message)
    add(request, LEFT_OUT, [pk for pk in shown if pk not in chosen])
    review.release(reviewer, claim_keys(request))
    if marked:
        messages.success(request, f"{marked} marked safe.")
    for message in refusals:
        messages.warning(request, message)
    return redirect(reverse("review-batch") + query_of(filters_of(request.POST)))
