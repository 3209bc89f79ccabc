"""Review: the order of the queue, claims, append-only decisions, undo, and the review page without scripts."""

import json
import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import request_ids
from accounts.append_only import Unchangeable
from accounts.models import AuditEntry, User
from generation.jobs import queue
from generation.library import deletion
from generation.models import GeneratedImage, Generation, ShareLink, State
from generation.models.review import Reason, Review, ReviewClaim, ReviewDecision
from generation.moderation import review
from generation.moderation.review import ReviewFilter
from tests.support.generations import make_generation
from tests.support.html import squeeze
from tests.support.roles import REVIEWERS, staff

DESK = "/admin/review/"
BATCH = f"{DESK}batch/"


@pytest.fixture
def dora(db: None) -> User:
    """A reviewer."""
    return staff("dora", REVIEWERS)


@pytest.fixture
def erin(db: None) -> User:
    """Another one."""
    return staff("erin", REVIEWERS)


@pytest.fixture
def desk(client: Client, dora: User) -> Client:
    client.force_login(dora)
    return client


def flagged(user: User, **fields: Any) -> GeneratedImage:
    image: GeneratedImage = make_generation(user, flagged=[0], **fields).images.get()
    return image


def ago(**delta: int) -> Any:
    return timezone.now() - timedelta(**delta)


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


def test_finished_pictures_enter_the_queue(alice: User, redis: None, settings: Any) -> None:
    reviews = {}
    for share in (0.0, 1.0):
        settings.REVIEW_SAMPLE = share
        generation = make_generation(alice, State.RUNNING, num_images_per_prompt=2)
        images = [
            GeneratedImage(generation=generation, index=index, seed=index, width=1, height=1, nsfw=nsfw, nsfw_score=0.5)
            for index, nsfw in enumerate((True, False))
        ]
        assert queue.finish(generation, images, [], {})
        reviews[share] = list(generation.images.values_list("review", "is_sample"))
    assert reviews == {0.0: [("waiting", False), ("", False)], 1.0: [("waiting", False), ("waiting", True)]}


def test_the_most_urgent_comes_first(alice: User, bob: User) -> None:
    sample = make_generation(alice, sampled=[0], created=ago(hours=1)).images.get()
    make_generation(alice)
    young = flagged(alice, created=ago(minutes=10))
    old = flagged(bob, created=ago(hours=2))
    shared = flagged(alice, created=ago(minutes=1))
    ShareLink.objects.create(user=shared.generation.user, generation=shared.generation, index=0, code="a")
    ShareLink.objects.create(
        user=young.generation.user, generation=young.generation, index=0, code="b", revoked=timezone.now()
    )
    ShareLink.objects.create(
        user=young.generation.user, generation=young.generation, index=0, code="c", expires=ago(days=1)
    )
    assert list(review.waiting()) == [shared, old, sample, young]
    assert list(review.waiting(ReviewFilter(why="sample"))) == [sample]
    assert list(review.waiting(ReviewFilter(why="flagged", user="alice"))) == [shared, young]
    assert list(review.waiting(ReviewFilter(model="stabilityai/sd-turbo"))) == []
    assert review.counts() == {"": 4, "flagged": 3, "escalated": 0, "sample": 1}


def test_two_reviewers_get_different_pictures(alice: User, dora: User, erin: User) -> None:
    flagged(alice)
    flagged(alice)
    first, second = review.next_for(dora, ReviewFilter()), review.next_for(erin, ReviewFilter())
    assert first is not None
    assert second is not None
    assert first.image_id != second.image_id
    assert review.next_for(erin, ReviewFilter(), [second.image_id]) is None
    assert [str(claim.reviewer) for claim in review.active_claims(exclude=dora)] == ["erin"]
    # A page releases its claim by its key alone.
    review.release(dora, [uuid4()])
    assert ReviewClaim.objects.count() == 2
    review.release(erin, [first.key])
    assert ReviewClaim.objects.count() == 2
    review.release(dora, [first.key])
    assert review.claim(first.image, erin) is not None


def test_a_claim_ends_after_five_minutes_unless_renewed(alice: User, dora: User, erin: User) -> None:
    image = flagged(alice)
    claim = review.claim(image, dora)
    assert claim is not None
    assert timedelta(minutes=4, seconds=50) < claim.expires - timezone.now() <= timedelta(minutes=5)
    assert review.claim(image, erin) is None
    ReviewClaim.objects.update(expires=ago(seconds=1))
    review.renew(dora, [claim.key])
    assert review.claim(image, erin) is None
    ReviewClaim.objects.update(expires=ago(seconds=1))
    assert review.claim(image, erin) is not None
    with pytest.raises(review.ReviewRefused, match="erin is reviewing this picture now"):
        review.decide(image, dora, Review.SAFE)


def test_of_two_simultaneous_decisions_one_is_recorded(alice: User, dora: User, erin: User) -> None:
    image = flagged(alice)
    same = GeneratedImage.objects.get(pk=image.pk)
    review.decide(image, dora, Review.CONFIRMED, Reason.NUDITY)
    with pytest.raises(review.ReviewRefused, match=r"dora decided first: confirmed\. Your decision was not saved\."):
        review.decide(same, erin, Review.SAFE)
    assert ReviewDecision.objects.count() == 1
    assert GeneratedImage.objects.get().nsfw


def test_escalated_pictures_are_for_others(alice: User, dora: User, erin: User) -> None:
    image = flagged(alice)
    review.decide(image, dora, Review.ESCALATED, note="not sure")
    image.refresh_from_db()
    assert (image.review, image.nsfw) == (Review.ESCALATED, True)
    assert review.next_for(dora, ReviewFilter()) is None
    assert review.next_for(erin, ReviewFilter()) is not None
    assert review.counts()["escalated"] == 1


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


def test_tombstones_do_not_wait(alice: User, dora: User, redis: None) -> None:
    image = flagged(alice)
    deletion.delete(image.generation)
    assert review.next_for(dora, ReviewFilter()) is None
    assert review.counts()[""] == 0


def test_the_page_shows_one_picture_and_all_about_it(desk: Client, alice: User, erin: User) -> None:
    earlier = flagged(alice)
    review.decide(earlier, erin, Review.CONFIRMED, Reason.NUDITY)
    image = flagged(alice, prompt="make it <night>", negative_prompt="fog")
    ShareLink.objects.create(user=image.generation.user, generation=image.generation, index=0, code="a")
    answer = desk.get(DESK)
    page = squeeze(answer.content.decode())
    assert "no-store" in answer["Cache-Control"]
    for text in (
        *(
            "flagged,<strong>shared</strong>",
            "make it &lt;night&gt;",
            "negative prompt: fog",
            "0.930 against 0.80, opennsfw",
            "dreamsite/tiny-edit, seed 1207",
        ),
        *("2 generations, 2 flagged; 1 picture confirmed", f'src="{DESK}{image.pk}/result"', "Nudity<kbd>"),
    ):
        assert text in page
    assert image.file.url not in page
    for which in ("input", "result"):
        answer = desk.get(f"{DESK}{image.pk}/{which}")
        assert answer["Content-Type"].startswith("image/")
        assert "no-store" in answer["Cache-Control"]
    assert desk.get(f"{DESK}{image.pk}/original").status_code == 404
    assert ReviewClaim.objects.get().image_id == image.pk


def test_without_scripts_forms_do_it_all(desk: Client, dora: User, alice: User) -> None:
    first, second = flagged(alice, created=ago(hours=2)), flagged(alice)
    form = {"review_before": "waiting", "seconds": "", "user": "alice"}
    answer = desk.post(f"{DESK}{first.pk}/decide", {**form, "decision": "confirmed sexual", "note": "why"}, follow=True)
    assert answer.redirect_chain[0][0] == f"{DESK}?user=alice"
    page = answer.content.decode()
    assert "Decided: confirmed, sexual." in page
    assert f'data-image="{second.pk}"' in page
    answer = desk.post(f"{DESK}{second.pk}/decide", {**form, "decision": "skip"}, follow=True)
    assert "You skipped <b>1</b>." in answer.content.decode()
    assert not ReviewClaim.objects.exists()
    answer = desk.post(f"{DESK}undo", {"user": "alice"}, follow=True)
    page = answer.content.decode()
    assert "Undone: confirmed." in page
    assert f'data-image="{first.pk}"' in page
    answer = desk.post(f"{DESK}{first.pk}/decide", {**form, "review_before": "safe", "decision": "safe"}, follow=True)
    assert "Your decision was not saved." in answer.content.decode()
    assert "nothing to undo" in desk.post(f"{DESK}undo", follow=True).content.decode()


def test_scripts_are_answered_in_json(desk: Client, erin: User, alice: User) -> None:
    image = flagged(alice)
    address = f"{DESK}{image.pk}/decide"
    form = {"review_before": "waiting", "decision": "safe", "seconds": "2.5"}
    accept = {"Accept": "application/json"}
    assert (
        desk.post(address, {**form, "decision": "confirmed"}, headers=accept)
        .json()["message"]
        .startswith("Choose a reason")
    )
    assert desk.post(address, form, headers=accept).json() == {
        "message": "Decided: safe.",
        "counts": {"": 0, "flagged": 0, "escalated": 0, "sample": 0},
        "others": "",
        "decided": 1,
        "skipped": 0,
    }
    assert ReviewDecision.objects.get().seconds == 2.5
    answer = desk.post(address, form, headers=accept)
    assert (answer.status_code, answer.json()["message"][:18]) == (409, "dora decided first")


def test_the_next_picture_is_claimed_ahead_and_released(desk: Client, alice: User) -> None:
    first, second = flagged(alice, created=ago(hours=2)), flagged(alice)
    desk.get(DESK)
    key = str(ReviewClaim.objects.get().key)
    ReviewClaim.objects.update(expires=timezone.now() + timedelta(seconds=1))
    page = desk.post(f"{DESK}next", {"exclude": first.pk, "key": key}).content.decode()
    assert f'data-image="{second.pk}"' in page
    assert ReviewClaim.objects.get(image=first).expires > timezone.now() + timedelta(minutes=4)
    assert desk.post(f"{DESK}next", {"exclude": [first.pk, second.pk]}).content == b""
    keys = list(ReviewClaim.objects.values_list("key", flat=True))
    assert desk.post(f"{DESK}release", {"key": [*keys, "odd"]}).status_code == 204
    assert not ReviewClaim.objects.exists()


def test_a_picture_claimed_by_another_is_shown_without_buttons(desk: Client, erin: User, alice: User) -> None:
    image = flagged(alice)
    review.claim(image, erin)
    page = desk.get(DESK, {"image": image.pk}).content.decode()
    assert "erin is reviewing it now." in page
    assert "Also reviewing: <b>erin</b>." in page
    assert 'name="decision"' not in page
    assert desk.get(DESK, {"image": "x"}).status_code == 404


@pytest.mark.parametrize("query", [{"why": "odd"}, {"user": "\0"}, {"model": "x" * 400}])
def test_odd_filters_answer(desk: Client, query: dict[str, str]) -> None:
    assert desk.get(DESK, query).status_code == 200


@pytest.mark.parametrize("number", ["9" * 19, "9" * 5000, "-1", "\0"])
def test_odd_numbers_are_no_pictures(desk: Client, alice: User, number: str) -> None:
    image = flagged(alice)
    assert desk.get(DESK, {"image": number}).status_code == 404
    assert f'data-image="{image.pk}"' in desk.post(f"{DESK}next", {"exclude": number}).content.decode()


def test_odd_forms_decide_nothing(desk: Client, alice: User) -> None:
    address = f"{DESK}{flagged(alice).pk}/decide"
    for seen in ("odd", "\0"):
        answer = desk.post(address, {"review_before": seen, "decision": "safe"}, headers={"Accept": "application/json"})
        assert (answer.status_code, "nothing was decided" in answer.json()["message"]) == (422, True)
    assert not ReviewDecision.objects.exists()
    desk.post(address, {"review_before": "waiting", "decision": "safe", "note": "a \0note\0 "})
    assert ReviewDecision.objects.get().note == "a note"


def test_the_number_of_queries_is_constant(desk: Client, alice: User) -> None:
    counted = []
    flagged(alice, created=ago(days=1))
    desk.get(DESK)
    for count in (1, 6):
        for _ in range(count):
            flagged(alice)
        with CaptureQueriesContext(connection) as queries:
            desk.get(DESK)
        counted.append(len(queries))
    assert counted[0] == counted[1] <= 22


def test_the_oldest_and_the_number_of_what_waits(alice: User, dora: User) -> None:
    assert (review.oldest_waiting(), review.waiting_count(2)) == (None, 0)
    flagged(alice)
    oldest, decided = flagged(alice, created=ago(days=2)), flagged(alice, created=ago(days=3))
    review.decide(decided, dora, Review.SAFE)
    assert (review.oldest_waiting(), review.waiting_count(1)) == (oldest.generation.finished, 1)
    review.decide(oldest, dora, Review.ESCALATED)
    with CaptureQueriesContext(connection) as queries:
        assert (review.oldest_waiting(), review.waiting_count(9)) == (oldest.generation.finished, 2)
    if connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            for query in queries.captured_queries:
                cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
                plan = " ".join(step for *_, step in cursor.fetchall())
                assert "INDEX in_review (review=?)" in plan
                assert "B-TREE" not in plan, "rows are read in the order of the index"


def test_an_escalated_picture_is_not_offered_to_its_escalator(alice: User, dora: User, erin: User) -> None:
    image = flagged(alice)
    review.decide(image, dora, Review.ESCALATED)
    review.decide(image, erin, Review.SAFE)
    review.undo(erin)
    assert review.next_for(dora, ReviewFilter()) is None
    assert review.next_for(erin, ReviewFilter()) is not None


def test_an_undone_escalation_is_offered_again(alice: User, dora: User, erin: User) -> None:
    image = flagged(alice)
    review.decide(image, dora, Review.ESCALATED)
    review.undo(dora)
    image.refresh_from_db()
    review.decide(image, erin, Review.ESCALATED)
    assert review.next_for(erin, ReviewFilter()) is None
    assert review.next_for(dora, ReviewFilter()) is not None


def test_a_removed_upload_is_not_shown_as_failed(desk: Client, alice: User) -> None:
    image = flagged(alice)
    assert f"{DESK}{image.pk}/input" in desk.get(DESK, {"image": image.pk}).content.decode()
    Generation.objects.update(input="", input_thumbnail="")
    page = desk.get(DESK, {"image": image.pk}).content.decode()
    assert f"{DESK}{image.pk}/input" not in page
    assert "The upload was removed." in page


def scored(user: User, *scores: float) -> list[GeneratedImage]:
    """Make a flagged picture with each of these scores."""
    images = [flagged(user) for _ in scores]
    for image, score in zip(images, scores, strict=True):
        GeneratedImage.objects.filter(pk=image.pk).update(nsfw_score=score)
    return images


def shown_in_batch(page: str) -> list[int]:
    return [int(pk) for pk in re.findall(r'name="shown" value="(\d+)"', page)]


def test_a_batch_has_the_lowest_scores_that_nobody_else_looks_at(desk: Client, alice: User, erin: User) -> None:
    high, low, middle, taken, escalated = scored(alice, 0.97, 0.81, 0.9, 0.8, 0.8)
    assert review.claim(taken, erin)
    review.decide(escalated, erin, Review.ESCALATED)
    page = desk.get(BATCH).content.decode()
    assert shown_in_batch(page) == [low.pk, middle.pk, high.pk]
    assert {claim.image_id for claim in ReviewClaim.objects.filter(reviewer__username="dora")} == {
        low.pk,
        middle.pk,
        high.pk,
    }
    assert review.claim(low, erin) is None
    assert len(re.findall("<li>", desk.get(f"{BATCH}?user=bob").content.decode().partition('class="batch"')[2])) == 0


def test_a_batch_is_marked_safe_at_once_and_undone_at_once(desk: Client, dora: User, alice: User, erin: User) -> None:
    first, second, third, stolen = scored(alice, 0.8, 0.81, 0.82, 0.83)
    page = desk.get(BATCH).content.decode()
    keys = re.findall(r'name="key" value="([^"]+)"', page)
    ReviewClaim.objects.filter(image=stolen).delete()
    review.decide(stolen, erin, Review.CONFIRMED, "nudity")
    form = {"shown": shown_in_batch(page), "image": [first.pk, second.pk, stolen.pk], "key": keys}
    said = desk.post(f"{BATCH}decide", form, follow=True).content.decode()
    assert "2 marked safe." in said
    assert "Erin decided first: confirmed. Your decision was not saved." in said
    reviews = dict(GeneratedImage.objects.values_list("pk", "review"))
    assert reviews == {first.pk: "safe", second.pk: "safe", third.pk: "waiting", stolen.pk: "confirmed"}
    # What was left out is for the page of single pictures, and free for other reviewers.
    assert shown_in_batch(said) == []
    assert 'What you left out of a batch waits to be looked at <a href="/admin/review/">one by one</a>.' in said
    assert not ReviewClaim.objects.exists()
    assert f'data-image="{third.pk}"' in desk.get(DESK).content.decode()
    assert review.decided_today(dora) == 2
    assert "Undone: 2 decisions." in desk.post(f"{DESK}undo", follow=True).content.decode()
    assert set(GeneratedImage.objects.filter(review=Review.WAITING)) == {first, second, third}
    assert review.decided_today(dora) == 0


def test_a_batch_marks_nothing_that_it_did_not_show(desk: Client, alice: User) -> None:
    image = flagged(alice)
    desk.post(f"{BATCH}decide", {"shown": [], "image": [image.pk, "x", 10**30]})
    image.refresh_from_db()
    assert image.review == Review.WAITING


def test_the_page_of_a_batch_takes_a_constant_number_of_queries(desk: Client, alice: User) -> None:
    counted = []
    for count in (2, 7):
        scored(alice, *[0.9] * count)
        with CaptureQueriesContext(connection) as queries:
            assert desk.get(BATCH).status_code == 200
        counted.append(len(queries))
    assert counted[0] == counted[1]


def test_the_status_renews_claims_and_counts(desk: Client, dora: User, alice: User, erin: User) -> None:
    one, two, _ = scored(alice, 0.8, 0.9, 0.95)
    claim = review.claim(one, dora)
    assert claim
    review.claim(two, erin)
    ReviewClaim.objects.update(expires=timezone.now() + timedelta(seconds=5))
    review.decide(two, erin, Review.SAFE)
    review.claim(two, erin)
    answer = desk.post(f"{DESK}status", {"key": str(claim.key)}).json()
    assert answer == {
        "counts": {"": 2, "flagged": 2, "escalated": 0, "sample": 0},
        "others": "erin",
        "decided": 0,
        "skipped": 0,
    }
    claim.refresh_from_db()
    assert claim.expires > timezone.now() + timedelta(minutes=4)


def test_reviewers_see_the_thumbnail_of_a_quarantined_picture(desk: Client, dora: User, alice: User) -> None:
    image = flagged(alice)
    before = b"".join(desk.get(f"{DESK}{image.pk}/thumbnail"))
    review.decide(image, dora, Review.CONFIRMED, "nudity")
    assert b"".join(desk.get(f"{DESK}{image.pk}/thumbnail")) == before
    assert desk.get(f"{DESK}{image.pk}/original").status_code == 404
