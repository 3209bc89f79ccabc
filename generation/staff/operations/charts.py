"""Charts of metrics as coordinates for a template that draws them as SVG, in pixels of its view box."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from generation import display
from generation.staff.operations.metrics import Metrics, Spread

_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 10, 22


@dataclass(frozen=True)
class Size:
    """The view box of a chart, and how many times its axis names at most."""

    width: int
    height: int
    times: int


_WIDE, _SMALL = Size(640, 180, 6), Size(300, 110, 3)


@dataclass(frozen=True)
class Tick:
    """A mark on an axis, at this coordinate."""

    at: float
    label: str


@dataclass(frozen=True)
class Bar:
    """A rectangle; `kind` is its CSS class."""

    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Chart:
    """A chart. `lines` are CSS classes and SVG paths; `columns` and `rows` are the same values as a table."""

    name: str
    title: str
    summary: str
    size: Size
    x_ticks: list[Tick]
    y_ticks: list[Tick]
    columns: list[str]
    rows: list[list[str]]
    bars: list[Bar]
    lines: list[tuple[str, str]]

    @property
    def left(self) -> int:
        return _LEFT

    @property
    def right(self) -> int:
        return self.size.width - _RIGHT

    @property
    def bottom(self) -> int:
        return self.size.height - _BOTTOM


def throughput(metrics: Metrics) -> Chart:
    """Return a chart of requests by final state: stacked bars for each slot."""
    slots = metrics.slots
    kinds = ("succeeded", "canceled", "failed")
    top = _nice(max(sum(getattr(slot, kind) for kind in kinds) for slot in slots) or 1)
    plot_height = _WIDE.height - _TOP - _BOTTOM
    step = (_WIDE.width - _LEFT - _RIGHT) / len(slots)
    bars = []
    for number, slot in enumerate(slots):
        y = float(_WIDE.height - _BOTTOM)
        for kind in kinds:
            height = getattr(slot, kind) / top * plot_height
            if height:
                y -= height
                bars.append(
                    Bar(kind, _round(_LEFT + step * number + step * 0.1), _round(y), _round(step * 0.8), _round(height))
                )
    sums = {kind: sum(getattr(slot, kind) for slot in slots) for kind in kinds}
    rows = [
        [_when(slot.start), *(str(getattr(slot, kind)) for kind in kinds)]
        for slot in slots
        if any(getattr(slot, kind) for kind in kinds)
    ]
    return Chart(
        name="throughput",
        title=f"Requests of {metrics.window.title}",
        summary=", ".join(f"{sums[kind]:,} {kind}" for kind in kinds),
        size=_WIDE,
        x_ticks=_time_ticks(metrics, _WIDE),
        y_ticks=[Tick(_round(_WIDE.height - _BOTTOM - share * plot_height), f"{top * share:g}") for share in (0, 1)],
        columns=["From", *(kind.capitalize() for kind in kinds)],
        rows=rows,
        bars=bars,
        lines=[],
    )


def latency(metrics: Metrics) -> Chart | None:
    """Return a wide chart of p50 and p95 of the total duration, None without one."""
    return _duration(metrics, "total", "From acceptance to end", [slot.total for slot in metrics.slots], _WIDE)


def phases(metrics: Metrics) -> list[Chart]:
    """Return a small chart of p50 and p95 of each phase that was measured."""
    names = dict.fromkeys(phase for slot in metrics.slots for phase in slot.phases)
    charts = [
        _duration(metrics, name, name.capitalize(), [slot.phases.get(name) for slot in metrics.slots], _SMALL)
        for name in names
    ]
    return [chart for chart in charts if chart]


def waiting(metrics: Metrics) -> list[Chart]:
    """Return two charts for each pool: the peaks of its backlog, and of the wait of its oldest request."""
    result = []
    for number, (pool, peaks) in enumerate(metrics.backlogs.items()):
        sampled = [peak for peak in peaks if peak]
        depth, oldest = max(peak.depth for peak in sampled), max(peak.oldest_seconds for peak in sampled)
        depths = [float(peak.depth) if peak else None for peak in peaks]
        waits = [peak.oldest_seconds if peak else None for peak in peaks]
        label = _Label(f"depth-{number}", f"Queued in {pool}", f"at most {depth:,}")
        axis = _Axis(_nice(max(1, depth)), "", lambda value: f"{value:,.0f}")
        result.append(_line_chart(metrics, label, [_Series("depth", "Most", depths)], axis, _SMALL))
        label = _Label(f"oldest-{number}", f"Oldest wait in {pool}", f"at most {display.seconds(oldest)}")
        axis = _seconds_axis(max(1, oldest))
        result.append(_line_chart(metrics, label, [_Series("oldest", "Longest", waits)], axis, _SMALL))
    return result


@dataclass(frozen=True)
class _Label:
    """A chart's name in the page, its title, and its summary in words."""

    name: str
    title: str
    summary: str


@dataclass(frozen=True)
class _Series:
    """One line of a chart: its CSS class, its column in the table, and a value or None for each slot."""

    name: str
    column: str
    values: Sequence[float | None]


@dataclass(frozen=True)
class _Axis:
    """The value axis of a chart: its upper end, the unit on its ticks, and how the table writes a value."""

    top: float
    unit: str
    write: Callable[[float], str]


def _seconds_axis(longest: float) -> _Axis:
    return _Axis(_nice(longest), " s", display.seconds)


def _duration(metrics: Metrics, name: str, title: str, spreads: Sequence[Spread | None], size: Size) -> Chart | None:
    measured = [spread for spread in spreads if spread]
    if not measured:
        return None
    last = measured[-1]
    summary = f"lately half within {display.seconds(last.p50)}, 95 % within {display.seconds(last.p95)}"
    series = [
        _Series("p50", "Median", [spread.p50 if spread else None for spread in spreads]),
        _Series("p95", "95th percentile", [spread.p95 if spread else None for spread in spreads]),
    ]
    axis = _seconds_axis(max(0.1, *(spread.p95 for spread in measured)))
    return _line_chart(metrics, _Label(name, title, summary), series, axis, size)


def _line_chart(metrics: Metrics, label: _Label, series: Sequence[_Series], axis: _Axis, size: Size) -> Chart:
    """Draw values by slot from 0 to the top of the axis; all series have values for the same slots."""
    values_by_slot = zip(*(line.values for line in series), strict=True)
    rows = [
        [_when(slot.start), *(axis.write(value) for value in values if value is not None)]
        for slot, values in zip(metrics.slots, values_by_slot, strict=True)
        if values[0] is not None
    ]
    plot_height = size.height - _TOP - _BOTTOM
    return Chart(
        name=label.name,
        title=label.title,
        summary=label.summary,
        size=size,
        x_ticks=_time_ticks(metrics, size),
        y_ticks=[
            Tick(_round(size.height - _BOTTOM - share * plot_height), f"{axis.top * share:g}{axis.unit}")
            for share in (0, 1)
        ],
        columns=["From", *(line.column for line in series)],
        rows=rows,
        bars=[],
        lines=[(line.name, _path(line.values, axis.top, size)) for line in series],
    )


def _path(values: Sequence[float | None], top: float, size: Size) -> str:
    """Return an SVG path through the middles of the slots, with gaps at None; a lone value is a dash as wide as its slot."""
    plot_height = size.height - _TOP - _BOTTOM
    step = (size.width - _LEFT - _RIGHT) / len(values)
    parts, is_open = [], False
    for number, value in enumerate(values):
        if value is None:
            is_open = False
            continue
        x, y = _LEFT + step * (number + 0.5), size.height - _BOTTOM - value / top * plot_height
        is_lone = not is_open and (number + 1 == len(values) or values[number + 1] is None)
        if is_lone:
            parts.append(f"M{_round(x - step / 2)} {_round(y)}h{_round(step)}")
        else:
            parts.append(f"{'L' if is_open else 'M'}{_round(x)} {_round(y)}")
        is_open = True
    return "".join(parts)


def _time_ticks(metrics: Metrics, size: Size) -> list[Tick]:
    slots = metrics.slots
    step = (size.width - _LEFT - _RIGHT) / len(slots)
    interval = math.ceil(len(slots) / size.times)
    pattern = "%a %d" if metrics.window.name == "week" else "%H:%M"
    return [
        Tick(_round(_LEFT + step * number), f"{timezone.localtime(slots[number].start):{pattern}}")
        for number in range(0, len(slots), interval)
    ]


def _when(start: datetime) -> str:
    return f"{timezone.localtime(start):%a %H:%M}"


def _nice(value: float) -> float:
    """Return the smallest number of the form 1, 2 or 5 times a power of ten that is at least `value` (above 0)."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= value * 0.9999)


def _round(value: float) -> float:
    return round(value, 1)
