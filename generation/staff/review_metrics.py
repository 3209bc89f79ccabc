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
_LABEL_Y, _LABEL_WIDTH, _LINE_HEIGHT = -8, 60, 18
"""Of the labels above the chart. Two that would overlap are in two lines."""

PERIODS = {"7": "7 days", "30": "30 days", "90": "90 days", "365": "a year"}
_DEFAULT_PERIOD = "30"


@reviewers_only
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """Show the metrics of the last `days`, of one `checker`; `threshold` is one to compare with, 0 to 1."""
    period = request.GET.get("days", _DEFAULT_PERIOD)
    period = period if period in PERIODS else _DEFAULT_PERIOD
    since = timezone.now() - timedelta(days=int(period))
    asked = _share(request.GET.get("threshold", ""))
    metrics = domain.review_metrics(since, request.GET.get("checker", ""), asked)
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "Review metrics",
        "metrics": metrics,
        "periods": PERIODS,
        "period": period,
        "change": metrics.change,
        "lines": [("precision", _points(metrics, "precision")), ("recall", _points(metrics, "recall"))],
        "marks": _marks(metrics),
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


def _marks(metrics: domain.ReviewMetrics) -> list[tuple[float, float, str]]:
    """Return x of the current and the selected threshold, y of its label, and the CSS class that is also the label."""
    now, selected = metrics.threshold, metrics.change.point.threshold
    if now is None or now == selected:
        return [(WIDTH * selected, _LABEL_Y, "selected" if now is None else "now")]
    is_near = abs(now - selected) * WIDTH < _LABEL_WIDTH
    return [
        (WIDTH * now, _LABEL_Y - _LINE_HEIGHT * is_near, "now"),
        (WIDTH * selected, _LABEL_Y, "selected"),
    ]


def _share(text: str) -> float | None:
    """Parse a number and clamp it to 0 to 1; return None if it is not a finite number."""
    try:
        number = float(text)
    except ValueError:
        return None
    return min(max(0.0, number), 1.0) if math.isfinite(number) else None
