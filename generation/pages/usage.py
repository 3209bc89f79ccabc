"""What one has used: a chart by day, tables by token and model, today against the limits."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.dateformat import format as format_date
from django.views.decorators.http import require_safe

from accounts.requests import current_user
from generation.jobs import usage
from generation.jobs.usage import (
    MEASURES,
    Amounts,
    Gauge,
    Gauges,
)
from generation.pages.caching import revalidated

DAYS = (7, 30, 90)
_UNITS = {"requests": "request", "images": "image", "cost": "cost"}
_LABELS = 6
"""Days that are named below the chart, at most one more."""


@dataclass(frozen=True)
class Bar:
    """A day of the chart. Heights and widths are in the chart's own units: a day is 1 wide, and the top is 100."""

    label: str
    value: str
    x: float
    y: float
    height: float


@dataclass(frozen=True)
class Line:
    """A line across the chart, and what it stands for."""

    label: str
    y: float


@dataclass(frozen=True)
class Row:
    """A line of a table: its share, 0 to 100, is of the largest."""

    name: str
    value: str
    percent: int


@dataclass(frozen=True)
class Meter:
    """A limit and how much of it is used."""

    name: str
    words: str
    percent: int
    limited: bool


@revalidated
@login_required
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """One's own usage; `by` is the measure, `days` how far back. What it does not know is the first of each."""
    user = current_user(request)
    by = request.GET.get("by", "")
    measure = by if by in MEASURES else MEASURES[0]
    wanted = request.GET.get("days", "")
    days = next((number for number in DAYS if str(number) == wanted), DAYS[1])
    used = usage.of(user, days)
    amounts = used.amounts[measure]
    top = _round_up(max(amounts.days.values()))
    return render(
        request,
        "generation/usage.html",
        {
            "measure": measure,
            "days": days,
            "measures": MEASURES,
            "ranges": DAYS,
            "total": _said(amounts.total, measure),
            "bars": _bars(amounts, measure, top),
            "lines": _lines(amounts, measure, top),
            "dates": _dates(amounts),
            "tokens": _rows(_by_name(amounts, used.tokens), measure),
            "models": _rows(amounts.models, measure),
            "meters": _meters(usage.now(user, list(used.amounts["cost"].days.values())[-1])),
        },
    )


def _by_name(amounts: Amounts, names: Mapping[int | None, str]) -> dict[str, float]:
    """What goes by a token's name; several of one name are one line. What came without a token came from the studio."""
    named: dict[str, float] = {}
    for key, value in amounts.tokens.items():
        name = names.get(key, "the studio")
        named[name] = named.get(name, 0) + value
    return named


def _bars(amounts: Amounts, measure: str, top: float) -> list[Bar]:
    bars = []
    for number, (day, value) in enumerate(amounts.days.items()):
        # What is little is still to be seen.
        height = max(1.0, 100 * value / top) if value else 0.0
        bars.append(Bar(format_date(day, "j M Y"), _said(value, measure), number, 100 - height, height))
    return bars


def _dates(amounts: Amounts) -> list[tuple[str, float]]:
    """Some of the days, with the middle of their bar in percent of the width."""
    days = list(amounts.days)
    step = max(1, math.ceil(len(days) / _LABELS))
    # Counted from today, which is always named.
    chosen = range(len(days) - 1, -1, -step)
    return [(format_date(days[at], "j M"), 100 * (at + 0.5) / len(days)) for at in reversed(chosen)]


def _rows(amounts: dict[str, float] | dict[str, int], measure: str) -> list[Row]:
    most = max(amounts.values(), default=0) or 1
    largest_first = sorted(amounts.items(), key=lambda item: (-item[1], item[0]))
    return [Row(name, _said(value, measure), round(100 * value / most)) for name, value in largest_first if value]


def _meters(gauges: Gauges) -> list[Meter]:
    named: tuple[tuple[str, Gauge], ...] = (
        ("Cost today", gauges.cost),
        ("Requests in the last minute", gauges.per_minute),
        ("Waiting", gauges.queued),
        ("Running", gauges.running),
    )
    return [
        Meter(
            name,
            _number(gauge.used) if gauge.limit is None else f"{_number(gauge.used)} of {_number(gauge.limit)}",
            gauge.percent,
            gauge.limit is not None,
        )
        for name, gauge in named
    ]


def _round_up(value: float) -> float:
    """The least round number that is not below the value, and of which half is easily written, too."""
    if value <= 0:
        return 1
    power = 10.0 ** math.floor(math.log10(value))
    steps = (1, 2, 4, 6, 8, 10) if power == 1 else (1, 2, 3, 4, 5, 6, 8, 10)
    return next(power * step for step in steps if power * step >= value * (1 - 1e-9))


def _lines(amounts: Amounts, measure: str, top: float) -> list[Line]:
    """At the top and half way, where half is a number of what is counted."""
    if not amounts.total:
        return []
    shares = (1, 0.5) if measure == "cost" or top >= 2 else (1,)
    return [Line(_number(top * share), 100 - 100 * share) for share in shares]


def _said(value: float, measure: str) -> str:
    """`31 requests`, `1 image`, `cost 12.5`."""
    if measure == "cost":
        return _number(value)
    return f"{_number(value)} {_UNITS[measure]}{'' if value == 1 else 's'}"


def _number(value: float) -> str:
    """As few digits as say it: whole numbers with separators, small ones with three significant digits."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
