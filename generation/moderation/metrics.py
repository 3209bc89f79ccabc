"""Estimate the safety checker's precision and recall from the decisions of reviewers.

Reviewers see every flagged picture and a random sample of the others, so the estimate is stratified: flagged pictures are
one stratum, the others the second, and each decided picture is weighted by the size of its stratum divided by the number of
decided pictures in it. Pictures that staff chose by hand belong to neither stratum. Scores are counted in hundredths for
the curve, and exactly for a threshold that somebody asks about.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.core.cache import cache
from django.db.models import Avg, BooleanField, Case, Count, F, FloatField, Q, Value, When
from django.db.models.functions import Least, Round

from generation.models import GeneratedImage, first_id
from generation.models.review import DECIDED, IN_REVIEW, Reason, Review, ReviewDecision

STEPS = 100
SLOW_SECONDS = 0.2
CACHE_SECONDS = 600.0


@dataclass(frozen=True)
class Point:
    """Precision and recall at a threshold, all 0 to 1; None if they cannot be estimated."""

    threshold: float
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Change:
    """The effect of a threshold on flags, from the stored scores alone: counts of pictures, and precision and recall at it.

    Without another threshold it is the effect of those that the pictures were checked with: none.
    """

    point: Point
    flagged_now: int
    flagged_then: int
    newly: int
    no_longer: int


@dataclass(frozen=True)
class Reviewer:
    """A reviewer's decisions; `seconds` is the mean time of a decision, None if none was measured."""

    name: str
    decisions: int
    confirmed: int
    taken_back: int
    seconds: float | None


@dataclass(frozen=True)
class ScoreBucket:
    """A count of pictures that share a hundredth of the score, stratum, review state and side of the asked threshold."""

    step: int
    flagged: bool
    reaches: bool
    is_sample: bool
    review: str
    count: int


@dataclass(frozen=True)
class ReviewMetrics:
    """The metrics of a checker. `flagged` and `unflagged` are the sizes of the strata, `decided_…` their decided pictures."""

    checker: str
    checkers: list[str]
    flagged: int
    unflagged: int
    decided_flagged: int
    decided_sample: int
    threshold: float | None
    curve: list[Point]
    change: Change

    @property
    def weight(self) -> float:
        """The number of pictures that one decided picture of the sample represents."""
        return self.unflagged / self.decided_sample if self.decided_sample else 0.0


def review_metrics(since: datetime, checker: str = "", asked: float | None = None) -> ReviewMetrics:
    """Return the metrics of a checker since then, by default of the busiest one, and its change to the threshold `asked`.

    At most two queries.
    """
    groups = [*_groups(since, IN_REVIEW, asked), *_never_in_review(since, asked)]
    sizes: dict[str, int] = {}
    for row in groups:
        sizes[row["checker"]] = sizes.get(row["checker"], 0) + row["count"]
    names = sorted(sizes, key=lambda name: -sizes[name])
    selected = checker if checker in sizes else next(iter(names), "")
    rows = [row for row in groups if row["checker"] == selected]
    buckets = [
        ScoreBucket(
            int(row["step"]),
            bool(row["by_checker"]),
            bool(row["reaches"]),
            row["is_sample"],
            row["review"],
            row["count"],
        )
        for row in rows
    ]
    flagged, unflagged = (
        sum(bucket.count for bucket in buckets if bucket.flagged == stratum) for stratum in (True, False)
    )
    decided = [bucket for bucket in buckets if bucket.review in DECIDED and (bucket.flagged or bucket.is_sample)]
    decided_flagged, decided_sample = (
        sum(bucket.count for bucket in decided if bucket.flagged == stratum) for stratum in (True, False)
    )
    thresholds: dict[float, int] = {}
    for row in rows:
        if row["threshold"] is not None:
            thresholds[row["threshold"]] = thresholds.get(row["threshold"], 0) + row["count"]
    weights = {
        True: flagged / decided_flagged if decided_flagged else 0.0,
        False: unflagged / decided_sample if decided_sample else 0.0,
    }
    threshold = max(thresholds, key=lambda value: thresholds[value], default=None)
    has_recall = decided_sample > 0 or unflagged == 0
    shown = next((value for value in (asked, threshold) if value is not None), 0.5)
    return ReviewMetrics(
        checker=selected,
        checkers=names,
        flagged=flagged,
        unflagged=unflagged,
        decided_flagged=decided_flagged,
        decided_sample=decided_sample,
        threshold=threshold,
        curve=_curve(decided, weights, has_recall=has_recall),
        change=_change(buckets, _point(shown, decided, weights, has_recall=has_recall)),
    )


def _groups(since: datetime, condition: Q, asked: float | None) -> list[Mapping[str, Any]]:
    """Count the checked pictures by checker, threshold, hundredth, stratum, review state and side of the asked threshold."""
    score = F("nsfw_score")
    by_checker, reaches = (
        Case(When(nsfw_score__gte=limit, then=True), default=False, output_field=BooleanField())
        for limit in (F("threshold"), F("threshold") if asked is None else Value(asked))
    )
    rows = (
        GeneratedImage.objects.filter(generation__gte=first_id(since), nsfw_score__isnull=False)
        .filter(condition)
        .order_by()
    )
    # A score of 1 belongs to the last hundredth, and a stored 0.93 that is read as 0.9299999 to the step 93.
    # Round, since SQLite has no built-in floor.
    step = Least(Round(score * STEPS - 0.5 + 1e-6), Value(float(STEPS - 1)), output_field=FloatField())
    groups = rows.annotate(step=step, by_checker=by_checker, reaches=reaches).values(
        "checker", "threshold", "step", "by_checker", "reaches", "is_sample", "review"
    )
    return list(groups.annotate(count=Count("pk")))


def _never_in_review(since: datetime, asked: float | None) -> list[Mapping[str, Any]]:
    """Count the pictures that are not in review, which are most; the counts are cached if the query was slow."""
    key = f"moderation.metrics.{since:%Y-%m-%d}.{asked}"
    groups: list[Mapping[str, Any]] | None = cache.get(key)
    if groups is None:
        start = time.monotonic()
        groups = _groups(since, ~IN_REVIEW, asked)
        if time.monotonic() - start > SLOW_SECONDS:
            cache.set(key, groups, CACHE_SECONDS)
    return groups


def _curve(buckets: list[ScoreBucket], weights: Mapping[bool, float], has_recall: bool) -> list[Point]:
    """Return precision and recall at each hundredth, from the weighted decided pictures."""
    confirmed, decided_weight = [0.0] * STEPS, [0.0] * STEPS
    for bucket in buckets:
        weight = weights[bucket.flagged] * bucket.count
        decided_weight[bucket.step] += weight
        if bucket.review == Review.CONFIRMED:
            confirmed[bucket.step] += weight
    points, total = [], sum(confirmed)
    for step in range(STEPS):
        caught, flagged = sum(confirmed[step:]), sum(decided_weight[step:])
        points.append(
            Point(
                step / STEPS,
                caught / flagged if flagged else None,
                caught / total if has_recall and total else None,
            )
        )
    return points


def _point(threshold: float, decided: list[ScoreBucket], weights: Mapping[bool, float], has_recall: bool) -> Point:
    """Return precision and recall at the asked threshold, from the weighted decided pictures."""
    confirmed = [bucket for bucket in decided if bucket.review == Review.CONFIRMED]
    flagged, caught, total = (
        sum(weights[bucket.flagged] * bucket.count for bucket in buckets)
        for buckets in (
            [bucket for bucket in decided if bucket.reaches],
            [bucket for bucket in confirmed if bucket.reaches],
            confirmed,
        )
    )
    return Point(threshold, caught / flagged if flagged else None, caught / total if has_recall and total else None)


def _change(buckets: list[ScoreBucket], point: Point) -> Change:
    now = sum(bucket.count for bucket in buckets if bucket.flagged)
    newly = sum(bucket.count for bucket in buckets if not bucket.flagged and bucket.reaches)
    no_longer = sum(bucket.count for bucket in buckets if bucket.flagged and not bucket.reaches)
    return Change(point, now, now + newly - no_longer, newly, no_longer)


def reasons(since: datetime) -> list[tuple[str, int]]:
    """Count each reason in confirming decisions that were not undone, the most frequent first. One query."""
    rows = ReviewDecision.objects.filter(when__gte=since, after=Review.CONFIRMED, undoes=None, undone_by=None)
    counts = dict(rows.order_by().values_list("reason").annotate(Count("pk")))
    return sorted(((reason, counts.get(reason, 0)) for reason in Reason.values), key=lambda pair: -pair[1])


def reviewers(since: datetime) -> list[Reviewer]:
    """Return what each reviewer decided and how fast, the busiest first. One query."""
    rows = ReviewDecision.objects.filter(when__gte=since, undoes=None).order_by().values("reviewer_name")
    by_name = rows.annotate(
        decisions=Count("pk"),
        confirmed=Count("pk", Q(after=Review.CONFIRMED)),
        taken_back=Count("undone_by"),
        mean=Avg("seconds"),
    )
    result = [
        Reviewer(row["reviewer_name"], row["decisions"], row["confirmed"], row["taken_back"], row["mean"])
        for row in by_name
    ]
    return sorted(result, key=lambda reviewer: -reviewer.decisions)
