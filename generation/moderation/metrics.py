"""What the decisions of reviewers teach about the checker: how often it is right, and how much it misses.

Everything the checker flags is reviewed, of the rest a random sample. So the decided pictures are two strata, flagged and not,
and each decided picture stands for as many as its stratum has in all, divided by how many of it were decided. Pictures that
staff picked out by hand are in neither. Scores are counted in hundredths.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db.models import Avg, BooleanField, Case, Count, F, FloatField, Q, Value, When
from django.db.models.functions import Least, Round

from generation.models import GeneratedImage, first_id
from generation.models.review import DECIDED, IN_REVIEW, Reason, Review, ReviewDecision

STEPS = 100
LONG_SECONDS = 0.2
KEPT_SECONDS = 600.0

_cache: dict[date, tuple[float, list[Mapping[str, Any]]]] = {}


@dataclass(frozen=True)
class Point:
    """The checker as it would be at this threshold, 0 to 1; None where nothing is known."""

    threshold: float
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Change:
    """What flags would be at another threshold, by the stored scores alone: counts of pictures."""

    threshold: float
    flagged_now: int
    flagged_then: int
    newly: int
    no_longer: int


@dataclass(frozen=True)
class Reviewer:
    """What one reviewer did; seconds are the mean of a decision, None where none was measured."""

    name: str
    decisions: int
    confirmed: int
    taken_back: int
    seconds: float | None


@dataclass(frozen=True)
class Cell:
    """Pictures of one hundredth of the score."""

    step: int
    flagged: bool
    is_sample: bool
    review: str
    count: int


@dataclass(frozen=True)
class ReviewMetrics:
    """`flagged` and `unflagged` are all pictures of each stratum, `decided_…` those of them that were decided."""

    checker: str
    checkers: list[str]
    flagged: int
    unflagged: int
    decided_flagged: int
    decided_sample: int
    threshold: float | None
    curve: list[Point]
    cells: list[Cell]

    @property
    def weight(self) -> float:
        """How many pictures one decided picture of the sample stands for."""
        return self.unflagged / self.decided_sample if self.decided_sample else 0.0


def review_metrics(since: datetime, checker: str = "") -> ReviewMetrics:
    """What is known of the pictures of this checker, the busiest one for "", since then. Two queries at most."""
    found = [*_groups(since, IN_REVIEW), *_never_in_review(since)]
    sizes: dict[str, int] = {}
    for row in found:
        sizes[row["checker"]] = sizes.get(row["checker"], 0) + row["count"]
    names = sorted(sizes, key=lambda name: -sizes[name])
    chosen = checker if checker in sizes else next(iter(names), "")
    own = [row for row in found if row["checker"] == chosen]
    cells = [
        Cell(int(row["step"]), bool(row["by_checker"]), row["is_sample"], row["review"], row["count"]) for row in own
    ]
    flagged, unflagged = (sum(cell.count for cell in cells if cell.flagged == stratum) for stratum in (True, False))
    decided = [cell for cell in cells if cell.review in DECIDED and (cell.flagged or cell.is_sample)]
    decided_flagged, decided_sample = (
        sum(cell.count for cell in decided if cell.flagged == stratum) for stratum in (True, False)
    )
    thresholds: dict[float, int] = {}
    for row in own:
        if row["threshold"] is not None:
            thresholds[row["threshold"]] = thresholds.get(row["threshold"], 0) + row["count"]
    weights = {
        True: flagged / decided_flagged if decided_flagged else 0.0,
        False: unflagged / decided_sample if decided_sample else 0.0,
    }
    return ReviewMetrics(
        checker=chosen,
        checkers=names,
        flagged=flagged,
        unflagged=unflagged,
        decided_flagged=decided_flagged,
        decided_sample=decided_sample,
        threshold=max(thresholds, key=lambda value: thresholds[value], default=None),
        curve=_curve(decided, weights, recall_is_known=decided_sample > 0 or unflagged == 0),
        cells=cells,
    )


def _groups(since: datetime, which: Q) -> list[Mapping[str, Any]]:
    score = F("nsfw_score")
    by_checker = Case(When(nsfw_score__gte=F("threshold"), then=True), default=False, output_field=BooleanField())
    rows = (
        GeneratedImage.objects.filter(generation__gte=first_id(since), nsfw_score__isnull=False)
        .filter(which)
        .order_by()
    )
    # A score of 1 belongs to the last hundredth. What is rounded to 0.9299999 of a stored 0.93 must not fall below it.
    # Rounded, not floored: that is no function of SQLite's own.
    step = Least(Round(score * STEPS - 0.5 + 1e-6), Value(float(STEPS - 1)), output_field=FloatField())
    groups = rows.annotate(step=step, by_checker=by_checker).values(
        "checker", "threshold", "step", "by_checker", "is_sample", "review"
    )
    return list(groups.annotate(count=Count("pk")))


def _never_in_review(since: datetime) -> list[Mapping[str, Any]]:
    """Those that no reviewer sees: nearly all, so where counting them took long, the counts hold for a while."""
    day = since.date()
    start = time.monotonic()
    if day in _cache and start - _cache[day][0] < KEPT_SECONDS:
        return _cache[day][1]
    found = _groups(since, ~IN_REVIEW)
    now = time.monotonic()
    if now - start > LONG_SECONDS:
        for old in [old for old, (when, _) in _cache.items() if now - when >= KEPT_SECONDS]:
            _cache.pop(old, None)
        _cache[day] = now, found
    return found


def _curve(decided: list[Cell], weights: Mapping[bool, float], recall_is_known: bool) -> list[Point]:
    """Precision and recall at each hundredth, from the decided pictures by their weights."""
    bad, every = [0.0] * STEPS, [0.0] * STEPS
    for cell in decided:
        weight = weights[cell.flagged] * cell.count
        every[cell.step] += weight
        if cell.review == Review.CONFIRMED:
            bad[cell.step] += weight
    points, whole = [], sum(bad)
    for step in range(STEPS):
        caught, flagged = sum(bad[step:]), sum(every[step:])
        points.append(
            Point(
                step / STEPS,
                caught / flagged if flagged else None,
                caught / whole if recall_is_known and whole else None,
            )
        )
    return points


def change(known: ReviewMetrics, threshold: float) -> Change:
    """What flags would be at this threshold, 0 to 1, rounded to hundredths."""
    step = round(threshold * STEPS)
    now = sum(cell.count for cell in known.cells if cell.flagged)
    newly = sum(cell.count for cell in known.cells if not cell.flagged and cell.step >= step)
    no_longer = sum(cell.count for cell in known.cells if cell.flagged and cell.step < step)
    return Change(step / STEPS, now, now + newly - no_longer, newly, no_longer)


def reasons(since: datetime) -> list[tuple[str, int]]:
    """How often each reason was given in decisions that were not taken back, the most frequent first. One query."""
    rows = ReviewDecision.objects.filter(when__gte=since, after=Review.CONFIRMED, undoes=None, undone_by=None)
    found = dict(rows.order_by().values_list("reason").annotate(Count("pk")))
    return sorted(((reason, found.get(reason, 0)) for reason in Reason.values), key=lambda pair: -pair[1])


def reviewers(since: datetime) -> list[Reviewer]:
    """Who decided how much, how fast, the busiest first. One query."""
    rows = ReviewDecision.objects.filter(when__gte=since, undoes=None).order_by().values("reviewer_name")
    found = rows.annotate(
        decisions=Count("pk"),
        confirmed=Count("pk", Q(after=Review.CONFIRMED)),
        taken_back=Count("undone_by"),
        mean=Avg("seconds"),
    )
    made = [
        Reviewer(row["reviewer_name"], row["decisions"], row["confirmed"], row["taken_back"], row["mean"])
        for row in found
    ]
    return sorted(made, key=lambda reviewer: -reviewer.decisions)
