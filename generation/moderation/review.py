"""Review of pictures by people: claims of reviewers, decisions and undo.

A picture's flag follows the last decision; the checker's result remains in its score and threshold.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import IntegrityError, transaction
from django.db.models import (
    Count,
    Q,
    QuerySet,
)
from django.utils import timezone

from accounts import audit, request_ids
from accounts.models import User
from accounts.refusals import StaffRefusal
from generation.days import start_of_day
from generation.models import GeneratedImage, Generation
from generation.models.review import DECIDED, IN_REVIEW, OPEN, Reason, Review, ReviewClaim, ReviewDecision
from generation.moderation import quarantine
from generation.moderation.review_queue import ReviewFilter, matching, waiting

CLAIM_DURATION = timedelta(minutes=5)
UNDO_PERIOD = timedelta(hours=24)
MAX_SECONDS = 3600.0
MAX_NOTE_LENGTH = 2000


class ReviewRefused(StaffRefusal):
    """A decision that was not recorded."""


class InvalidDecision(ReviewRefused):
    """A decision with invalid values; the reviewer may correct and repeat it."""


@dataclass(frozen=True)
class UserRecord:
    """Counts of a user's generations, and of their pictures by review state."""

    generations: int
    flagged: int
    waiting: int
    safe: int
    confirmed: int


def active_claims(exclude: User) -> QuerySet[ReviewClaim]:
    """Return the current claims of other reviewers."""
    claims = ReviewClaim.objects.filter(expires__gt=timezone.now()).exclude(reviewer=exclude)
    return claims.select_related("reviewer")


def next_for(
    reviewer: User, filters: ReviewFilter, exclude: Collection[int] = (), key: UUID | None = None
) -> ReviewClaim | None:
    """Claim the most urgent picture that no other reviewer has claimed; return None if none waits.

    `key` identifies the claim, so that a page can release it before it has heard of it; by default it is a new one.
    Pictures that the reviewer escalated are for others, unless the filter asks for escalated ones.
    """
    excluded = Q(pk__in=exclude) | Q(pk__in=active_claims(exclude=reviewer).values("image"))
    if filters.why != "escalated":
        escalated = ReviewDecision.objects.filter(reviewer=reviewer, after=Review.ESCALATED)
        in_effect = escalated.filter(undoes=None, undone_by=None).exclude(image=None)
        excluded |= Q(review=Review.ESCALATED, pk__in=in_effect.values("image"))
    while True:
        image = waiting(filters, excluded).first()
        if image is None:
            return None
        if new_claim := claim(image, reviewer, key):
            return new_claim
        # Another reviewer claimed it first; the next query excludes it.


def claim_lowest(
    reviewer: User, filters: ReviewFilter, count: int, exclude: Collection[int] = ()
) -> dict[int, ReviewClaim]:
    """Claim the waiting pictures with the lowest scores that no other reviewer has claimed, at most `count`.

    Returns the claims by the pictures' ids, lowest score first. Those that are escalated or reported, or have no score, are
    looked at one by one.
    """
    now = timezone.now()
    # The condition of the partial index, and its order.
    rows = matching(filters).filter(review=Review.WAITING, nsfw_score__isnull=False).exclude(pk__in=exclude)
    rows = rows.exclude(pk__in=active_claims(exclude=reviewer).values("image"))
    ids = list(rows.order_by("nsfw_score", "pk").values_list("pk", flat=True)[:count])
    claims = [ReviewClaim(image_id=pk, reviewer=reviewer, key=uuid4(), expires=now + CLAIM_DURATION) for pk in ids]
    with transaction.atomic():
        ReviewClaim.objects.filter(Q(reviewer=reviewer) | Q(expires__lte=now), image__in=ids).delete()
        # What another reviewer has claimed since stays theirs.
        ReviewClaim.objects.bulk_create(claims, ignore_conflicts=True)
    mine = set(ReviewClaim.objects.filter(key__in=[each.key for each in claims]).values_list("key", flat=True))
    return {each.image_id: each for each in claims if each.key in mine}


def claim(image: GeneratedImage, reviewer: User, key: UUID | None = None) -> ReviewClaim | None:
    """Claim this picture for `CLAIM_DURATION` from now. Return None if another reviewer has claimed it."""
    now, key = timezone.now(), key or uuid4()
    fields: dict[str, Any] = {"reviewer": reviewer, "key": key, "expires": now + CLAIM_DURATION}
    available = ReviewClaim.objects.filter(Q(reviewer=reviewer) | Q(expires__lte=now), image=image)
    if available.update(**fields):
        # A new key of the same claim, or none if another reviewer has taken an expired claim since.
        return ReviewClaim.objects.filter(image=image, key=key).first()
    try:
        with transaction.atomic():
            new_claim: ReviewClaim = ReviewClaim.objects.create(image=image, **fields)
    except IntegrityError:
        return None
    return new_claim


def renew(reviewer: User, keys: Collection[UUID]) -> None:
    """Extend the claims of a page to `CLAIM_DURATION` from now."""
    ReviewClaim.objects.filter(reviewer=reviewer, key__in=keys).update(expires=timezone.now() + CLAIM_DURATION)


def release(reviewer: User, keys: Collection[UUID]) -> None:
    """Release the claims of a page. A picture that was claimed again since has another key, and stays claimed."""
    ReviewClaim.objects.filter(reviewer=reviewer, key__in=keys).delete()


def decide(
    image: GeneratedImage,
    reviewer: User,
    after: Review,
    reason: str = "",
    note: str = "",
    seconds: float | None = None,
    when: datetime | None = None,
) -> ReviewDecision:
    """Record a decision about a picture as it was loaded: `safe`, `confirmed` with a reason, or `escalated`.

    `seconds` is how long the reviewer looked. Decisions with the same `when`, by default now, are undone together. Of two
    concurrent decisions only the first is recorded: the picture must still have the review state that `image` has. Raises
    `ReviewRefused`.
    """
    if after not in (*DECIDED, Review.ESCALATED):
        raise InvalidDecision("Choose a decision: safe, confirmed or escalated.")
    if after == Review.CONFIRMED and reason not in Reason.values:
        raise InvalidDecision(f"Choose a reason: {', '.join(Reason.values)}.")
    if len(note) > MAX_NOTE_LENGTH:
        raise InvalidDecision(f"The note has {len(note)} characters; at most {MAX_NOTE_LENGTH} are allowed.")
    return _record(
        image,
        reviewer,
        Review(image.review),
        after,
        reason=reason if after == Review.CONFIRMED else "",
        # PostgreSQL stores no NUL.
        note=note.replace("\0", "").strip(),
        seconds=None if seconds is None else min(max(0.0, seconds), MAX_SECONDS),
        when=when or timezone.now(),
    )


def undo(reviewer: User) -> list[ReviewDecision]:
    """Undo the reviewer's last decision within `UNDO_PERIOD`, and all that were made with it, by further rows.

    Returns these rows; decisions about pictures that others have decided about since stay. Raises `ReviewRefused` if nothing
    can be undone.
    """
    mine = ReviewDecision.objects.filter(reviewer=reviewer, when__gt=timezone.now() - UNDO_PERIOD, undoes=None)
    mine = mine.filter(undone_by=None).exclude(image=None).select_related("image")
    last = mine.first()
    if last is None:
        raise ReviewRefused("There is nothing to undo: you have made no decision within the last 24 hours.")
    undone, refusals = [], []
    for decision in mine.filter(when=last.when):
        try:
            undone.append(_undo(decision, reviewer))
        except ReviewRefused as refusal:
            refusals.append(refusal)
    if not undone:
        raise refusals[0]
    return undone


def _undo(decision: ReviewDecision, reviewer: User) -> ReviewDecision:
    if (image := decision.image) is None:
        raise ReviewRefused("The picture was deleted.")
    newest = ReviewDecision.objects.filter(image=image).first()
    if newest is not None and newest != decision:
        raise ReviewRefused(
            f"{newest.reviewer_name} has decided about that picture since, so your decision cannot be undone."
        )
    return _record(image, reviewer, Review(decision.after), Review(decision.before), undoes=decision)


def decided_today(reviewer: User) -> int:
    """Count the reviewer's decisions since midnight that were not undone."""
    since = start_of_day(timezone.localdate())
    return ReviewDecision.objects.filter(reviewer=reviewer, when__gte=since, undoes=None, undone_by=None).count()


def user_record(user: User) -> UserRecord:
    """Count a user's generations and reviewed pictures."""
    generations = Generation.objects.filter(user=user).order_by()
    rows = GeneratedImage.objects.filter(IN_REVIEW, generation__user=user).order_by()
    by_review = dict(rows.values_list("review").annotate(Count("pk")))
    return UserRecord(
        generations=generations.count(),
        flagged=generations.filter(is_flagged=True).count(),
        waiting=sum(by_review.get(status, 0) for status in OPEN),
        safe=by_review.get(Review.SAFE, 0),
        confirmed=by_review.get(Review.CONFIRMED, 0),
    )


def _record(image: GeneratedImage, reviewer: User, before: Review, after: Review, **fields: Any) -> ReviewDecision:
    """Change the review state and add the decision's row, or raise `ReviewRefused` and change nothing."""
    flag = image.is_flagged_by_checker if after in (Review.NONE, *OPEN) else after == Review.CONFIRMED
    with transaction.atomic():
        # Lock it first: its flag depends on all its pictures, and others may be decided at the same time.
        generation = Generation.objects.select_for_update().filter(pk=image.generation_id, deleted=None).first()
        if generation is None:
            raise ReviewRefused("This picture was deleted, so your decision was not saved.")
        claims = ReviewClaim.objects.filter(image=image)
        other = claims.filter(expires__gt=timezone.now()).exclude(reviewer=reviewer).select_related("reviewer").first()
        if other is not None:
            raise ReviewRefused(f"{other.reviewer} is reviewing this picture now, so your decision was not saved.")
        unchanged = GeneratedImage.objects.filter(pk=image.pk, review=before)
        quarantined = {} if after == Review.CONFIRMED else {"quarantined": None}
        if not unchanged.update(review=after, nsfw=flag, **quarantined):
            last = ReviewDecision.objects.filter(image=image).first()
            cause = (
                f"{last.reviewer_name} decided first: {last.get_after_display()}" if last else "The picture has changed"
            )
            raise ReviewRefused(f"{cause}. Your decision was not saved.")
        decision: ReviewDecision = ReviewDecision.objects.create(
            image=image,
            generation=generation.pk,
            index=image.index,
            reviewer=reviewer,
            reviewer_name=reviewer.get_username(),
            before=before,
            after=after,
            recipe_digest=image.recipe_digest,
            request_id=request_ids.current()[:64],
            score=image.nsfw_score,
            threshold=image.threshold,
            checker=image.checker,
            is_sample=image.is_sample,
            **fields,
        )
        claims.delete()
        is_flagged = GeneratedImage.objects.filter(generation=generation, nsfw=True).exists()
        Generation.objects.filter(pk=generation.pk).update(is_flagged=is_flagged)
        action = "image.undo" if decision.undoes_id else "image.review"
        values_before, values_after = {"review": before, "nsfw": image.nsfw}, {"review": after, "nsfw": flag}
        audit.record(reviewer, action, image, values_before, values_after)
    image.review, image.nsfw = after, flag
    # If this fails, the reaper repeats it.
    quarantine.apply(image.pk)
    return decision
