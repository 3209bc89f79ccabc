"""Review metrics: the weighted precision and recall of the checker, and the effect of another threshold."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from generation.models import GeneratedImage
from generation.models.review import Reason, Review
from generation.moderation import metrics, review
from tests.support.generations import make_generation
from tests.support.roles import REVIEWERS, staff

PAGE = "/admin/review/metrics/"
LONG_AGO = timezone.now() - timedelta(days=30)


@pytest.fixture
def pictures(alice: User) -> None:
    """Ten flagged pictures, five of six reviewed ones confirmed; ninety others scored 0.3, one of three confirmed."""
    generation = make_generation(alice)
    image = generation.images.get()
    image.delete()
    rows = []
    for index in range(100):
        flagged, sampled = index < 10, index in (10, 11, 12)
        decision = Review.NONE
        if (flagged and index < 6) or sampled:
            decision = Review.CONFIRMED if index in (0, 1, 2, 3, 4, 10) else Review.SAFE
        score = 0.9 if index < 6 else 0.85 if flagged else 0.3
        fields = {"file": "x", "thumbnail": "x", "width": 1, "height": 1, "checker": "opennsfw", "threshold": 0.8}
        rows.append(
            GeneratedImage(
                generation=generation,
                index=index,
                seed=index,
                nsfw_score=score,
                is_sample=sampled,
                review=decision or (Review.WAITING if flagged else Review.NONE),
                **fields,
            )
        )
    # Chosen by staff, so it is not part of the sample.
    rows[50].review = Review.CONFIRMED
    GeneratedImage.objects.bulk_create(rows)


def test_the_sample_is_weighted(pictures: None) -> None:
    result = metrics.review_metrics(LONG_AGO)
    assert (result.flagged, result.unflagged, result.decided_flagged, result.decided_sample) == (10, 90, 6, 3)
    assert (result.threshold, result.weight) == (0.8, 30)
    at = {point.threshold: point for point in result.curve}
    # Flagged: 6 decided stand for 10, 5 of them confirmed. Not flagged: 3 stand for 90, one of them confirmed.
    assert at[0.8].precision == pytest.approx(5 / 6)
    assert at[0.8].recall == pytest.approx((5 * 10 / 6) / (5 * 10 / 6 + 30))
    assert at[0.3].precision == pytest.approx((5 * 10 / 6 + 30) / 100)
    assert at[0.3].recall == at[0.0].recall == 1
    assert at[0.31].recall == at[0.8].recall
    assert (at[0.9].recall, at[0.91].precision, at[0.91].recall) == (at[0.8].recall, None, 0)


def test_without_a_sample_there_is_no_recall(pictures: None) -> None:
    GeneratedImage.objects.filter(is_sample=True).update(review=Review.WAITING)
    result = metrics.review_metrics(LONG_AGO)
    assert result.weight == 0
    assert {point.recall for point in result.curve} == {None}
    assert result.curve[80].precision == pytest.approx(5 / 6)


@pytest.mark.parametrize(
    ("threshold", "then", "newly", "no_longer"),
    [(None, 10, 0, 0), (0.8, 10, 0, 0), (0.3, 100, 90, 0), (0.3004, 10, 0, 0), (0.8504, 6, 0, 4), (1, 0, 0, 10)],
)
def test_another_threshold_changes_flags(
    pictures: None, threshold: float | None, then: int, newly: int, no_longer: int
) -> None:
    change = metrics.review_metrics(LONG_AGO, asked=threshold).change
    assert (change.flagged_now, change.flagged_then, change.newly, change.no_longer) == (10, then, newly, no_longer)


def test_precision_and_recall_are_those_of_the_asked_threshold(pictures: None) -> None:
    whole = metrics.review_metrics(LONG_AGO)
    at = {point.threshold: point for point in whole.curve}
    assert whole.change.point == at[0.8]
    assert metrics.review_metrics(LONG_AGO, asked=0.3).change.point == at[0.3]
    assert metrics.review_metrics(LONG_AGO, asked=0.3004).change.point == metrics.Point(
        0.3004, at[0.31].precision, at[0.31].recall
    )


def test_without_pictures_there_are_no_metrics(db: None) -> None:
    result = metrics.review_metrics(LONG_AGO)
    assert (result.checker, result.threshold, result.flagged) == ("", None, 0)
    assert (result.change.flagged_then, result.change.point) == (0, metrics.Point(0.5, None, None))


def test_reasons_and_reviewers_are_counted(alice: User) -> None:
    dora, erin = staff("dora", REVIEWERS), staff("erin", REVIEWERS)
    for reason, by in ((Reason.NUDITY, dora), (Reason.NUDITY, erin), (Reason.VIOLENCE, dora)):
        review.decide(make_generation(alice, flagged=[0]).images.get(), by, Review.CONFIRMED, reason, seconds=2)
    review.undo(dora)
    review.decide(make_generation(alice, flagged=[0]).images.get(), dora, Review.SAFE, seconds=5)
    assert metrics.reasons(LONG_AGO) == [("nudity", 2), ("sexual", 0), ("violence", 0), ("other", 0)]
    assert metrics.reviewers(LONG_AGO) == [
        metrics.Reviewer("dora", 3, 2, 1, 3.0),
        metrics.Reviewer("erin", 1, 1, 0, 2.0),
    ]


def test_the_page_uses_a_constant_number_of_queries(client: Client, pictures: None, alice: User) -> None:
    dora = staff("dora", REVIEWERS)
    client.force_login(dora)
    counted = []
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            page = client.get(PAGE, {"threshold": "0.3"}).content.decode()
        counted.append(len(queries))
        review.decide(make_generation(alice, flagged=[0]).images.get(), dora, Review.CONFIRMED, Reason.OTHER, seconds=3)
    assert counted[0] == counted[1] <= 9
    assert '<polyline class="precision" points="0.0,' in page
    assert '<polyline class="recall" points="' in page
    assert "Each picture of the sample represents 30 unreviewed pictures." in page
    assert "<dt>newly flagged</dt><dd>90</dd>" in page
    assert "<dt>flagged at this threshold</dt><dd><b>101</b></dd>" in page


@pytest.mark.parametrize(
    "query", [{"threshold": "nan"}, {"threshold": "x"}, {"threshold": "7"}, {"days": "0"}, {"checker": "odd"}]
)
def test_odd_queries_are_answered(client: Client, db: None, query: dict[str, str]) -> None:
    client.force_login(staff("dora", REVIEWERS))
    assert "No pictures were checked in this period." in client.get(PAGE, query).content.decode()


def test_slow_counts_are_cached_but_decisions_count_at_once(pictures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "SLOW_SECONDS", 0)
    before = metrics.review_metrics(LONG_AGO)
    # One that was never in review, and one that waits.
    GeneratedImage.objects.get(index=60).delete()
    GeneratedImage.objects.filter(index=7).update(review=Review.SAFE)
    after = metrics.review_metrics(LONG_AGO)
    assert (after.unflagged, after.decided_flagged) == (before.unflagged, before.decided_flagged + 1)
    cache.clear()
    assert metrics.review_metrics(LONG_AGO).unflagged == before.unflagged - 1
