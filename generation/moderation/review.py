"""Reviewing: which pictures wait for a person, who looks at which, and what becomes of a decision.

What waits: what the checker flagged, what a reviewer passed on, and a sample of the rest by chance (`REVIEW_SAMPLE`). The
flag of a picture follows the last decision; the checker's own verdict stays in its score and threshold.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Literal
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction
from django.db.models import (
    Case,
    Count,
    DurationField,
    Exists,
    ExpressionWrapper,
    F,
    OuterRef,
    Q,
    QuerySet,
    Value,
    When,
)
from django.db.models.functions import Coalesce
from django.utils import timezone

from accounts import audit, request_ids
from accounts.models import User
from generation.models import GeneratedImage, Generation, ShareLink
from generation.models.review import DECIDED, IN_REVIEW, OPEN, Reason, Review, ReviewClaim, ReviewDecision
from generation.moderation import quarantine

CLAIM = timedelta(minutes=5)
UNDO = timedelta(hours=24)
MAX_SECONDS = 3600.0
MAX_NOTE = 2000

Why = Literal["escalated", "flagged", "sample", ""]
WHYS: dict[Why, str] = {"": "everything", "flagged": "flagged", "escalated": "escalated", "sample": "sample"}


class ReviewRefused(Exception):
    """The decision was not made; the text says why, for the reviewer."""


class InvalidDecision(ReviewRefused):
    """What was sent is no decision; a corrected one may still be the first."""


@dataclass(frozen=True)
class ReviewFilter:
    """What a reviewer chose to see; empty is no choice."""

    why: Why = ""
    user: str = ""
    model: str = ""


@dataclass(frozen=True)
class PersonRecord:
    """What is known of a user: counts of generations, and of pictures by where their review stands."""

    generations: int
    flagged: int
    waiting: int
    safe: int
    confirmed: int


def why(image: GeneratedImage) -> Why:
    """Why this picture waits, or waited."""
    if image.review == Review.ESCALATED:
        return "escalated"
    return "sample" if image.is_sample else "flagged"


def is_shared() -> Exists:
    """Whether a share link that works leads to a picture, as an annotation of it."""
    working = Q(expires=None) | Q(expires__gt=timezone.now())
    links = ShareLink.objects.filter(working, generation=OuterRef("generation"), index=OuterRef("index"), revoked=None)
    return Exists(links)


def waiting(wanted: ReviewFilter = ReviewFilter()) -> QuerySet[GeneratedImage]:
    """Pictures that wait for a person, the most urgent first.

    What anybody can see through a share link goes first; then score times age. A picture of the sample, whose score says
    that it is harmless, counts as one of 0.5, so that it is not always the last; one that was passed on as one of 1.
    """
    now = timezone.now()
    rows = GeneratedImage.objects.filter(IN_REVIEW, review__in=OPEN, generation__deleted=None)
    match wanted.why:
        case "escalated":
            rows = rows.filter(review=Review.ESCALATED)
        case "sample" | "flagged":
            rows = rows.filter(review=Review.WAITING, is_sample=wanted.why == "sample")
    if wanted.user:
        rows = rows.filter(generation__user__username=wanted.user)
    if wanted.model:
        rows = rows.filter(generation__model=wanted.model)
    weight = Case(
        When(review=Review.ESCALATED, then=Value(1.0)),
        When(is_sample=True, then=Value(0.5)),
        default=Coalesce(F("nsfw_score"), Value(1.0)),
    )
    age = ExpressionWrapper(Value(now) - F("generation__finished"), output_field=DurationField())
    return rows.annotate(
        is_shared=is_shared(), urgency=ExpressionWrapper(weight * age, output_field=DurationField())
    ).order_by("-is_shared", "-urgency", "pk")


def counts() -> dict[Why, int]:
    """How many pictures wait, by why."""
    rows = GeneratedImage.objects.filter(IN_REVIEW, review__in=OPEN, generation__deleted=None)
    found: dict[str, int] = rows.aggregate(
        escalated=Count("pk", Q(review=Review.ESCALATED)),
        flagged=Count("pk", Q(review=Review.WAITING, is_sample=False)),
        sample=Count("pk", Q(review=Review.WAITING, is_sample=True)),
    )
    return {
        "": sum(found.values()),
        "flagged": found["flagged"],
        "escalated": found["escalated"],
        "sample": found["sample"],
    }


def at_work(besides: User) -> QuerySet[ReviewClaim]:
    """What other reviewers look at now."""
    claims = ReviewClaim.objects.filter(expires__gt=timezone.now()).exclude(reviewer=besides)
    return claims.select_related("reviewer")


def next_for(reviewer: User, wanted: ReviewFilter, besides: Collection[int] = ()) -> ReviewClaim | None:
    """A claim on the most urgent picture that nobody looks at; None: nothing waits.

    What the reviewer passed on is for others, unless they ask for what was passed on.
    """
    rows = waiting(wanted).exclude(pk__in=besides)
    if wanted.why != "escalated":
        passed_on = ReviewDecision.objects.filter(reviewer=reviewer, after=Review.ESCALATED)
        own = passed_on.filter(undoes=None, undone_by=None).exclude(image=None)
        rows = rows.exclude(review=Review.ESCALATED, pk__in=own.values("image"))
    while True:
        held = ReviewClaim.objects.filter(expires__gt=timezone.now()).exclude(reviewer=reviewer)
        image = rows.exclude(pk__in=held.values("image")).first()
        if image is None:
            return None
        if claim := claim_of(image, reviewer):
            return claim
        # Somebody else was faster; the next look leaves it out.


def claim_of(image: GeneratedImage, reviewer: User) -> ReviewClaim | None:
    """Claim this picture for five minutes from now. None: another reviewer looks at it."""
    now = timezone.now()
    fields: dict[str, Any] = {"reviewer": reviewer, "key": uuid4(), "expires": now + CLAIM}
    free = ReviewClaim.objects.filter(Q(reviewer=reviewer) | Q(expires__lte=now), image=image)
    if not free.update(**fields):
        try:
            with transaction.atomic():
                ReviewClaim.objects.create(image=image, **fields)
        except IntegrityError:
            return None
    claim = ReviewClaim(image=image, **fields)
    claim._state.adding = False
    return claim


def renew(reviewer: User, keys: Collection[UUID]) -> None:
    """Let the claims that a page has last for five minutes from now."""
    ReviewClaim.objects.filter(reviewer=reviewer, key__in=keys).update(expires=timezone.now() + CLAIM)


def release(reviewer: User, keys: Collection[UUID]) -> None:
    """Let go of claims that a page had; those that were renewed since have other keys, and stay."""
    ReviewClaim.objects.filter(reviewer=reviewer, key__in=keys).delete()


def decide(
    image: GeneratedImage,
    reviewer: User,
    after: Review,
    reason: str = "",
    note: str = "",
    seconds: float | None = None,
) -> ReviewDecision:
    """Decide about a picture as it was loaded: `safe`, `confirmed` with a reason, or `escalated`.

    Of two reviewers one wins: the change is guarded by what the picture's review was when it was shown. Raises `Refused`.
    """
    if after not in (*DECIDED, Review.ESCALATED):
        raise InvalidDecision("Decide that it is safe, that it is confirmed, or pass it on.")
    if after == Review.CONFIRMED and reason not in Reason.values:
        raise InvalidDecision(f"Say why it is confirmed: {', '.join(Reason.values)}.")
    if len(note) > MAX_NOTE:
        raise InvalidDecision(f"The note has {len(note)} characters; {MAX_NOTE} are the most.")
    return _record(
        image,
        reviewer,
        Review(image.review),
        after,
        reason=reason if after == Review.CONFIRMED else "",
        # PostgreSQL stores no NUL.
        note=note.replace("\0", "").strip(),
        seconds=None if seconds is None else min(max(0.0, seconds), MAX_SECONDS),
    )


def undo(reviewer: User) -> ReviewDecision:
    """Take back the reviewer's last decision of the day that still holds, by a further row. Raises `Refused`."""
    recent = ReviewDecision.objects.filter(reviewer=reviewer, when__gt=timezone.now() - UNDO, undoes=None)
    last = recent.filter(undone_by=None).exclude(image=None).select_related("image").first()
    if last is None or last.image is None:
        raise ReviewRefused("There is nothing to take back: you have decided nothing within a day.")
    newest = ReviewDecision.objects.filter(image=last.image).first()
    if newest is not None and newest != last:
        raise ReviewRefused(f"{newest.reviewer_name} has decided about that picture since, so it stays as it is.")
    return _record(last.image, reviewer, Review(last.after), Review(last.before), undoes=last)


def person_record(user: User) -> PersonRecord:
    generations = Generation.objects.filter(user=user).order_by()
    rows = GeneratedImage.objects.filter(IN_REVIEW, generation__user=user).order_by()
    by_review = dict(rows.values_list("review").annotate(Count("pk")))
    return PersonRecord(
        generations=generations.count(),
        flagged=generations.filter(is_flagged=True).count(),
        waiting=by_review.get(Review.WAITING, 0) + by_review.get(Review.ESCALATED, 0),
        safe=by_review.get(Review.SAFE, 0),
        confirmed=by_review.get(Review.CONFIRMED, 0),
    )


def _record(image: GeneratedImage, reviewer: User, before: Review, after: Review, **fields: Any) -> ReviewDecision:
    """The guarded change of the picture, and its row: both, or neither and `Refused`."""
    flag = image.is_flagged_by_checker if after in (Review.NONE, *OPEN) else after == Review.CONFIRMED
    with transaction.atomic():
        # Locked first, so that its flag is right whoever decides about its other pictures meanwhile.
        row = Generation.objects.select_for_update().filter(pk=image.generation_id, deleted=None).first()
        if row is None:
            raise ReviewRefused("It was deleted meanwhile, so there is nothing to decide.")
        claims = ReviewClaim.objects.filter(image=image)
        other = claims.filter(expires__gt=timezone.now()).exclude(reviewer=reviewer).select_related("reviewer").first()
        if other is not None:
            raise ReviewRefused(f"{other.reviewer} is looking at it now, so your decision was not taken.")
        held = GeneratedImage.objects.filter(pk=image.pk, review=before)
        if not held.update(review=after, nsfw=flag, **({} if after == Review.CONFIRMED else {"quarantined": None})):
            last = ReviewDecision.objects.filter(image=image).first()
            said = f"{last.reviewer_name} decided first: {last.get_after_display()}" if last else "It has changed"
            raise ReviewRefused(f"{said}. Your decision was not taken.")
        decision: ReviewDecision = ReviewDecision.objects.create(
            image=image,
            generation=row.pk,
            index=image.index,
            reviewer=reviewer,
            reviewer_name=reviewer.get_username(),
            before=before,
            after=after,
            request_id=request_ids.current()[:64],
            score=image.nsfw_score,
            threshold=image.threshold,
            checker=image.checker,
            is_sample=image.is_sample,
            **fields,
        )
        claims.delete()
        flagged = GeneratedImage.objects.filter(generation=row, nsfw=True).exists()
        Generation.objects.filter(pk=row.pk).update(is_flagged=flagged)
        told = {"review": before, "nsfw": image.nsfw}, {"review": after, "nsfw": flag}
        audit.record(reviewer, "image.undo" if decision.undoes_id else "image.review", image, *told)
    image.review, image.nsfw = after, flag
    # Where that fails, the reaper does it.
    quarantine.apply(image.pk)
    return decision
