"""The usage page: a chart by day, tables by token and model, and meters of the limits."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.defaultfilters import filesizeformat
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
_LABELS = {"requests": "Requests", "images": "Pictures", "cost": "Cost"}
_UNITS = {"requests": "request", "images": "picture"}
_MAX_DATES = 6
"""Most dates below the chart."""
_MIN_BAR_HEIGHT = 1.0
"""The height of the smallest bar, so that it is visible."""


@dataclass(frozen=True)
class Bar:
    """A day of the chart. In the chart's units, a day is 1 wide and the highest value 100 high; y points down."""

    label: str
    value: str
    x: float
    y: float
    height: float


@dataclass(frozen=True)
class Line:
    """A horizontal line across the chart with its value as label."""

    label: str
    y: float


@dataclass(frozen=True)
class Row:
    """A row of a table; `percent` is relative to the largest row."""

    name: str
    value: str
    percent: int


@dataclass(frozen=True)
class Meter:
    """A limit and how much of it is used, as text and in percent."""

    name: str
    text: str
    percent: int
    has_limit: bool


@revalidated
@login_required
@require_safe
def show(request: HttpRequest) -> HttpResponse:
    """Show the usage of the last `days`, one of `DAYS`, by a measure: `by`, one of `MEASURES`."""
    user = current_user(request)
    by, days_text = request.GET.get("by", ""), request.GET.get("days", "")
    measure = by if by in MEASURES else MEASURES[0]
    days = next((number for number in DAYS if str(number) == days_text), DAYS[1])
    user_usage = usage.of(user, days)
    amounts = user_usage.amounts[measure]
    top = _round_up(max(amounts.days.values()))
    return render(
        request,
        "generation/usage.html",
        {
            "measure": measure,
            "days": days,
            "measure_label": _LABELS[measure],
            "measures": [(name, _LABELS[name]) for name in MEASURES],
            "ranges": DAYS,
            "total": _amount(amounts.total, measure),
            "bars": _bars(amounts, measure, top),
            "lines": _lines(amounts, measure, top),
            "dates": _dates(amounts),
            "tokens": _rows(_by_name(amounts, user_usage.tokens), measure),
            "models": _rows(amounts.models, measure),
            "meters": _meters(usage.now(user, list(user_usage.amounts["cost"].days.values())[-1])),
        },
    )


def _by_name(amounts: Amounts, names: Mapping[int | None, str]) -> dict[str, float]:
    """Return the amounts by the token's name; requests without a token came from the studio. Tokens may share a name."""
    by_name: dict[str, float] = {}
    for key, value in amounts.tokens.items():
        name = names.get(key, "the studio")
        by_name[name] = by_name.get(name, 0) + value
    return by_name


def _bars(amounts: Amounts, measure: str, top: float) -> list[Bar]:
    bars = []
    for number, (day, value) in enumerate(amounts.days.items()):
        height = max(_MIN_BAR_HEIGHT, 100 * value / top) if value else 0.0
        bars.append(Bar(format_date(day, "j M Y"), _amount(value, measure), number, 100 - height, height))
    return bars


def _dates(amounts: Amounts) -> list[tuple[str, float]]:
    """Return some of the days as text, with the middle of their bar in percent of the chart's width."""
    days = list(amounts.days)
    step = max(1, math.ceil(len(days) / _MAX_DATES))
    # Backwards from today, so that today is always labeled.
    indices = range(len(days) - 1, -1, -step)
    return [(format_date(days[index], "j M"), 100 * (index + 0.5) / len(days)) for index in reversed(indices)]


def _rows(amounts: dict[str, float] | dict[str, int], measure: str) -> list[Row]:
    largest = max(amounts.values(), default=0) or 1
    largest_first = sorted(amounts.items(), key=lambda item: (-item[1], item[0]))
    return [Row(name, _amount(value, measure), round(100 * value / largest)) for name, value in largest_first if value]


def _meters(gauges: Gauges) -> list[Meter]:
    return [
        _meter("Cost today", gauges.cost, _number),
        _meter("Requests in the last minute", gauges.per_minute, _number),
        _meter("Queued", gauges.queued, _number),
        _meter("Running", gauges.running, _number),
        _meter("Stored", gauges.stored_bytes, filesizeformat),
    ]


def _meter(name: str, gauge: Gauge, write: Callable[[float], str]) -> Meter:
    used = write(gauge.used)
    text = used if gauge.limit is None else f"{used} of {write(gauge.limit)}"
    return Meter(name, text, gauge.percent, gauge.limit is not None)


def _round_up(value: float) -> float:
    """Return the smallest round number that is at least `value` and whose half is round, too."""
    if value <= 0:
        return 1
    power = 10.0 ** math.floor(math.log10(value))
    steps = (1, 2, 4, 6, 8, 10) if power == 1 else (1, 2, 3, 4, 5, 6, 8, 10)
    return next(power * step for step in steps if power * step >= value * (1 - 1e-9))


def _lines(amounts: Amounts, measure: str, top: float) -> list[Line]:
    """Return lines at the top and half way up. Counts below 2 have no whole half, so only the top."""
    if not amounts.total:
        return []
    shares = (1, 0.5) if measure == "cost" or top >= 2 else (1,)
    return [Line(_number(top * share), 100 - 100 * share) for share in shares]


def _amount(value: float, measure: str) -> str:
    """Format an amount with its unit: `31 requests`, `1 picture`; a cost has none: `12.5`."""
    if measure == "cost":
        return _number(value)
    return f"{_number(value)} {_UNITS[measure]}{'' if value == 1 else 's'}"


def _number(value: float) -> str:
    """Format a number: whole numbers and those from 100 with separators, others with three significant digits."""
    if value >= 100 or value == int(value):
        return f"{value:,.0f}"
    return f"{value:.3g}"
