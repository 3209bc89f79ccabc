"""Decisions of reviewers: append-only, undone by further rows, one of two at a time."""

import json
from typing import Any

import pytest
from django.test import Client

from accounts import request_ids
from accounts.append_only import Unchangeable
from accounts.models import AuditEntry, User
from generation.library import deletion
from generation.models import GeneratedImage, Generation
from generation.models.review import Reason, Review, ReviewClaim, ReviewDecision
from generation.moderation import review
from generation.moderation.review_queue import ReviewFilter
from tests.support.generations import make_generation
from tests.support.review import flagged


def test_it_works(alice: User, dora: User) -> None:
    image = flagged(alice)
    claim = review.next_for(dora, ReviewFilter())
    assert claim is not None
    assert claim.image_id == image.pk
    with request_ids.bind("request-1"):
        review.decide(image, dora, Review.SAFE, seconds=1.5, note=" a statue ")
    image.refresh_from_db()
    assert (image.review, image.nsfw, image.is_flagged_by_checker) == (Review.SAFE, False, True)
    assert not Generation.objects.get().is_flagged
    row = ReviewDecision.objects.get()
    assert (row.reviewer_name, row.before, row.after, row.note, row.seconds) == (
        "dora",
        "waiting",
        "safe",
        "a statue",
        1.5,
    )
    assert (row.request_id, row.score, row.threshold, row.checker, row.is_sample) == (
        *("request-1", 0.93, 0.8, "opennsfw", False),
    )
    assert not ReviewClaim.objects.exists()
    assert review.next_for(dora, ReviewFilter()) is None
    assert AuditEntry.objects.get().after == {"review": "safe", "nsfw": False}


def test_of_two_simultaneous_decisions_one_is_recorded(alice: User, dora: User, erin: User) -> None:
    image = flagged(alice)
    same = GeneratedImage.objects.get(pk=image.pk)
    review.decide(image, dora, Review.CONFIRMED, Reason.NUDITY)
    with pytest.raises(review.ReviewRefused, match=r"dora decided first: confirmed\. Your decision was not saved\."):
        review.decide(same, erin, Review.SAFE)
    assert ReviewDecision.objects.count() == 1
    assert GeneratedImage.objects.get().nsfw


def test_a_sample_that_is_confirmed_becomes_flagged_everywhere(
    alice: User, dora: User, alices_token: str, client: Client
) -> None:
    image = make_generation(alice, sampled=[0]).images.get()
    review.decide(image, dora, Review.CONFIRMED, Reason.VIOLENCE)
    assert Generation.objects.get().is_flagged
    bearer = {"Authorization": f"Bearer {alices_token}"}
    record = client.get(f"/generations/{image.generation_id}", headers=bearer).json()
    assert record["images"][0]["nsfw"] is True
    client.force_login(alice)
    assert "flagged" in client.get(f"/history/{image.generation_id}/").content.decode()
    review.undo(dora)
    record = client.get(f"/generations/{image.generation_id}", headers=bearer).json()
    assert record["images"][0]["nsfw"] is False


def test_undo_is_a_further_row(alice: User, dora: User, erin: User) -> None:
    image = flagged(alice)
    with pytest.raises(review.ReviewRefused, match="nothing to undo"):
        review.undo(dora)
    review.decide(image, dora, Review.SAFE)
    with pytest.raises(review.ReviewRefused, match="nothing to undo"):
        review.undo(erin)
    review.undo(dora)
    image.refresh_from_db()
    assert (image.review, image.nsfw) == (Review.WAITING, True)
    assert [(row.before, row.after, row.undoes_id is not None) for row in ReviewDecision.objects.all()] == [
        ("safe", "waiting", True),
        ("waiting", "safe", False),
    ]
    with pytest.raises(review.ReviewRefused, match="nothing to undo"):
        review.undo(dora)
    # Once somebody else has decided since, it stays.
    review.decide(image, dora, Review.ESCALATED)
    review.decide(image, erin, Review.SAFE)
    with pytest.raises(review.ReviewRefused, match="erin has decided about that picture since"):
        review.undo(dora)


@pytest.mark.parametrize(
    ("after", "fields", "says"),
    [
        (Review.WAITING, {}, "Choose a decision: safe, confirmed or escalated"),
        (Review.CONFIRMED, {}, "Choose a reason: nudity, sexual, violence, other"),
        (Review.CONFIRMED, {"reason": "dull"}, "Choose a reason"),
        (Review.SAFE, {"note": "x" * 2001}, "The note has 2001 characters; at most 2000 are allowed."),
    ],
)
def test_invalid_decisions_are_refused(alice: User, dora: User, after: Review, fields: Any, says: str) -> None:
    image = flagged(alice)
    with pytest.raises(review.ReviewRefused, match=says):
        review.decide(image, dora, after, **fields)
    assert not ReviewDecision.objects.exists()


def test_nobody_edits_or_deletes_a_decision(client: Client, alice: User, dora: User, charlie: User) -> None:
    decision = review.decide(flagged(alice), dora, Review.SAFE)
    for change in (
        decision.save,
        decision.delete,
        ReviewDecision.objects.all().delete,
        lambda: ReviewDecision.objects.update(after="confirmed"),
    ):
        with pytest.raises(Unchangeable):
            change()
    client.force_login(charlie)
    address = f"/admin/generation/reviewdecision/{decision.pk}/"
    assert client.get(f"{address}change/").status_code == 200
    assert client.post(f"{address}change/", {"after": "confirmed"}).status_code == 403
    assert client.post(f"{address}delete/", {"post": "yes"}).status_code == 403


def test_decisions_outlive_picture_owner_and_reviewer(alice: User, dora: User, redis: None) -> None:
    image = flagged(alice, prompt="my own words")
    generation = image.generation
    review.decide(image, dora, Review.CONFIRMED, Reason.OTHER)
    assert deletion.delete(generation)
    with pytest.raises(review.ReviewRefused, match="This picture was deleted"):
        review.decide(GeneratedImage.objects.get(), dora, Review.SAFE)
    alice.delete()
    dora.delete()
    row = ReviewDecision.objects.get()
    assert (row.image, row.reviewer, row.reviewer_name, row.generation) == (None, None, "dora", generation.pk)
    assert "my own words" not in json.dumps(list(ReviewDecision.objects.values()), default=str)
