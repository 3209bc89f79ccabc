"""The page of review metrics: a chart of precision and recall as SVG coordinates, and tables."""

import math
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe

from generation.moderation import metrics as domain
from generation.staff.permissions import reviewers_only

WIDTH, HEIGHT = 600, 300
PERIODS = {"7": "7 days", "30": "30 days", "90": "90 days", "365": "a year"}
_DEFAULT_PERIOD = "30"


@reviewers_only
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """Show the metrics of the last `days`, of one `checker`; `threshold` is one to compare with, 0 to 1."""
    period = request.GET.get("days", _DEFAULT_PERIOD)
    period = period if period in PERIODS else _DEFAULT_PERIOD
    since = timezone.now() - timedelta(days=int(period))
    metrics = domain.review_metrics(since, request.GET.get("checker", ""))
    threshold = _share(request.GET.get("threshold", ""))
    if threshold is None:
        threshold = metrics.threshold if metrics.threshold is not None else 0.5
    change = domain.change(metrics, threshold)
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Review metrics",
        "metrics": metrics,
        "periods": PERIODS,
        "period": period,
        "change": change,
        "changed_point": metrics.curve[min(round(threshold * domain.STEPS), domain.STEPS - 1)],
        "lines": [("precision", _points(metrics, "precision")), ("recall", _points(metrics, "recall"))],
        "marks": [(WIDTH * share, label) for share, label in _marks(metrics, change)],
        "grid": [
            (round(HEIGHT * (1 - share)), round(WIDTH * share), f"{share:g}") for share in (0, 0.25, 0.5, 0.75, 1)
        ],
        "width": WIDTH,
        "height": HEIGHT,
        "rows": metrics.curve[::5],
        "reasons": domain.reasons(since),
        "reviewers": domain.reviewers(since),
    }
    return render(request, "admin/review/metrics.html", context)


def _points(metrics: domain.ReviewMetrics, name: str) -> str:
    """Return the points of an SVG polyline for `precision` or `recall`."""
    values = ((point.threshold, getattr(point, name)) for point in metrics.curve)
    return " ".join(f"{WIDTH * x:.1f},{HEIGHT * (1 - y):.1f}" for x, y in values if y is not None)


def _marks(metrics: domain.ReviewMetrics, change: domain.Change) -> list[tuple[float, str]]:
    """Return the current and the selected threshold, with the CSS classes that are also their labels."""
    marks = [] if metrics.threshold is None else [(metrics.threshold, "now")]
    return marks if marks and marks[0][0] == change.threshold else [*marks, (change.threshold, "selected")]


def _share(text: str) -> float | None:
    """Parse a number and clamp it to 0 to 1; return None if it is not a finite number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return min(max(0.0, number), 1.0) if math.isfinite(number) else None
