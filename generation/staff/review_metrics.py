"""The page on what the decisions teach: a plot that the server draws, and tables."""

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
SPANS = {"7": "7 days", "30": "30 days", "90": "90 days", "365": "a year"}
_DEFAULT_SPAN = "30"


@reviewers_only
@require_safe
def insight(request: HttpRequest) -> HttpResponse:
    """`days` back, of one `checker`; `t` is another threshold to look at, 0 to 1."""
    span = request.GET.get("days", _DEFAULT_SPAN)
    span = span if span in SPANS else _DEFAULT_SPAN
    since = timezone.now() - timedelta(days=int(span))
    known = domain.review_metrics(since, request.GET.get("checker", ""))
    tried = _share(request.GET.get("t", ""))
    if tried is None:
        tried = known.threshold if known.threshold is not None else 0.5
    changed = domain.change(known, tried)
    context: dict[str, Any] = {
        **admin.site.each_context(request),
        "title": "What the decisions teach",
        "metrics": known,
        "periods": SPANS,
        "period": span,
        "change": changed,
        "changed_point": known.curve[min(round(tried * domain.STEPS), domain.STEPS - 1)],
        "lines": [("precision", _points(known, "precision")), ("recall", _points(known, "recall"))],
        "marks": [(WIDTH * share, words) for share, words in _marks(known, changed)],
        "grid": [
            (round(HEIGHT * (1 - share)), round(WIDTH * share), f"{share:g}") for share in (0, 0.25, 0.5, 0.75, 1)
        ],
        "width": WIDTH,
        "height": HEIGHT,
        "rows": known.curve[::5],
        "reasons": domain.reasons(since),
        "reviewers": domain.reviewers(since),
    }
    return render(request, "admin/review/metrics.html", context)


def _points(known: domain.ReviewMetrics, name: str) -> str:
    values = ((point.threshold, getattr(point, name)) for point in known.curve)
    return " ".join(f"{WIDTH * x:.1f},{HEIGHT * (1 - y):.1f}" for x, y in values if y is not None)


def _marks(known: domain.ReviewMetrics, changed: domain.Change) -> list[tuple[float, str]]:
    marks = [] if known.threshold is None else [(known.threshold, "now")]
    return marks if marks and marks[0][0] == changed.threshold else [*marks, (changed.threshold, "tried")]


def _share(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return min(max(0.0, number), 1.0) if math.isfinite(number) else None
