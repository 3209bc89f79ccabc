"""What waits for review: the order, the counts, and the claims of reviewers."""

from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.db.models import Q
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from generation.jobs import queue
from generation.library import albums, deletion
from generation.models import Album, GeneratedImage, ShareLink, State
from generation.models.review import Review, ReviewClaim
from generation.moderation import review, review_queue
from generation.moderation.review_queue import ReviewFilter
from tests.support.generations import make_generation
from tests.support.review import ago, flagged


def test_finished_pictures_enter_the_queue(alice: User, redis: None, settings: Any) -> None:
    reviews = {}
    for share in (0.0, 1.0):
        settings.REVIEW_SAMPLE, settings.REVIEW_UNCHECKED_SAMPLE = share, 1.0 - share
        generation = make_generation(alice, State.RUNNING, num_images_per_prompt=3)
        images = [
            GeneratedImage(
                generation=generation, index=index, seed=index, width=1, height=1, nsfw=nsfw, checker=checker
            )
            for index, (nsfw, checker) in enumerate(((True, "opennsfw"), (False, "opennsfw"), (False, "")))
        ]
        assert queue.finish(generation, images, [], {}, 100)
        reviews[share] = list(generation.images.values_list("review", "is_sample"))
    assert reviews == {
        0.0: [("waiting", False), ("", False), ("waiting", True)],
        1.0: [("waiting", False), ("waiting", True), ("", False)],
    }


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
    assert list(review_queue.waiting()) == [shared, old, sample, young]
    assert list(review_queue.waiting(ReviewFilter(why="sample"))) == [sample]
    assert list(review_queue.waiting(ReviewFilter(why="flagged", user="alice"))) == [shared, young]
    assert list(review_queue.waiting(ReviewFilter(model="stabilityai/sd-turbo"))) == []
    assert {name: count for name, count in review_queue.counts().items() if count} == {"": 4, "flagged": 3, "sample": 1}


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


def test_escalated_pictures_are_for_others(alice: User, dora: User, erin: User) -> None:
    image = flagged(alice)
    review.decide(image, dora, Review.ESCALATED, note="not sure")
    image.refresh_from_db()
    assert (image.review, image.nsfw) == (Review.ESCALATED, True)
    assert review.next_for(dora, ReviewFilter()) is None
    assert review.next_for(erin, ReviewFilter()) is not None
    assert review_queue.counts()["escalated"] == 1


def test_tombstones_do_not_wait(alice: User, dora: User, redis: None) -> None:
    image = flagged(alice)
    deletion.delete(image.generation)
    assert review.next_for(dora, ReviewFilter()) is None
    assert review_queue.counts()[""] == 0


def plans(queries: CaptureQueriesContext) -> list[tuple[str, str]]:
    """Return each query with SQLite's plan of it; none on another database."""
    if connection.vendor != "sqlite":
        return []
    assert queries.captured_queries
    texts = [query["sql"] for query in queries.captured_queries]
    with connection.cursor() as cursor:
        rows = [cursor.execute(f"EXPLAIN QUERY PLAN {text}").fetchall() for text in texts]
    return [(text, " ".join(step for *_, step in steps)) for text, steps in zip(texts, rows, strict=True)]


def assert_index_is_read_in_order(queries: CaptureQueriesContext) -> None:
    """Check that each query reads what waits from the index, as far as it must and without sorting it."""
    for text, plan in plans(queries):
        if "generation_generatedimage" in text:
            assert "INDEX in_review (review=?" in plan
        # Each generation by its id, after the index, whatever the statistics of the tables say.
        assert "SCAN" not in plan
        assert "B-TREE" not in plan, "rows are read in the order of the index"


def test_each_queue_is_counted_up_to_a_bound(alice: User, dora: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(review_queue, "MOST_COUNTED", 2)
    for _ in range(4):
        escalated = flagged(alice)
    make_generation(alice, sampled=[0])
    review.decide(escalated, dora, Review.ESCALATED)
    with CaptureQueriesContext(connection) as queries:
        counts = review_queue.counts()
    assert counts == {"": 3, "flagged": 3, "escalated": 1, "sample": 1, "reported": 0, "unchecked": 0}
    assert [review_queue.count_text(count) for count in (3, 2, 1, 0)] == ["2+", "2", "1", "0"]
    assert_index_is_read_in_order(queries)
    assert "LIMIT 3" in queries.captured_queries[0]["sql"]


def test_the_most_urgent_is_sought_among_the_oldest_and_the_shared(
    alice: User, dora: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(review_queue, "MOST_RANKED", 2)
    images = [flagged(alice, created=ago(hours=hours)) for hours in (9, 8, 7, 6)]
    GeneratedImage.objects.filter(pk__in=[image.pk for image in images[:2]]).update(nsfw_score=0.1)
    assert list(review_queue.waiting()) == images[:2]
    ShareLink.objects.create(user=alice, generation=images[3].generation, index=0, code="a")
    assert list(review_queue.waiting()) == [images[3], *images[:2]]
    assert list(review_queue.waiting(excluded=Q(pk=images[0].pk))) == [images[3], images[2], images[1]]
    samples = [make_generation(alice, sampled=[0], created=ago(hours=hours)).images.get() for hours in (5, 4, 3)]
    album = Album.objects.create(user=alice, name="a")
    albums.add(album, [samples[2].generation_id])
    ShareLink.objects.create(user=alice, album=album, code="b")
    with CaptureQueriesContext(connection) as queries:
        assert list(review_queue.waiting(ReviewFilter(why="sample"))) == [samples[2], *samples[:2]]
        list(review_queue.waiting())
    for text, plan in plans(queries):
        if 'ORDER BY "generation_generatedimage"."generation_id"' in text:
            assert "LIMIT 2" in text
            assert "INDEX in_review (review=? AND is_sample=?" in plan
            assert "B-TREE" not in plan, "rows are read in the order of the index"
        else:
            # The shared ones and the ranked ones, each by its key.
            assert "in_review" not in plan
            assert "SCAN generation_generatedimage" not in plan


def test_the_oldest_and_the_number_of_what_waits(alice: User, dora: User) -> None:
    assert (review_queue.oldest_waiting(), review_queue.waiting_count(2)) == (None, 0)
    flagged(alice)
    oldest, decided = flagged(alice, created=ago(days=2)), flagged(alice, created=ago(days=3))
    review.decide(decided, dora, Review.SAFE)
    assert (review_queue.oldest_waiting(), review_queue.waiting_count(1)) == (oldest.generation.finished, 1)
    review.decide(oldest, dora, Review.ESCALATED)
    with CaptureQueriesContext(connection) as queries:
        assert (review_queue.oldest_waiting(), review_queue.waiting_count(9)) == (oldest.generation.finished, 2)
    assert_index_is_read_in_order(queries)


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
