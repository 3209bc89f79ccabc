"""Charts of metrics as coordinates for a template that draws them as SVG, in pixels of a WIDTH by HEIGHT view box."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from generation import display
from generation.staff.operations.metrics import Metrics, Spread

WIDTH, HEIGHT = 640, 180
SMALL_WIDTH, SMALL_HEIGHT = 300, 110
_LEFT, _RIGHT, _TOP, _BOTTOM = 46, 8, 10, 22


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
    width: int
    height: int
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
        return self.width - _RIGHT

    @property
    def bottom(self) -> int:
        return self.height - _BOTTOM


def throughput(metrics: Metrics) -> Chart:
    """Return a chart of requests by final state: stacked bars for each slot."""
    slots = metrics.slots
    kinds = ("succeeded", "canceled", "failed")
    top = _nice(max(sum(getattr(slot, kind) for kind in kinds) for slot in slots) or 1)
    plot_height = HEIGHT - _TOP - _BOTTOM
    step = (WIDTH - _LEFT - _RIGHT) / len(slots)
    bars = []
    for number, slot in enumerate(slots):
        y = float(HEIGHT - _BOTTOM)
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
        width=WIDTH,
        height=HEIGHT,
        x_ticks=_time_ticks(metrics, WIDTH, 6),
        y_ticks=[Tick(_round(HEIGHT - _BOTTOM - share * plot_height), f"{top * share:g}") for share in (0, 1)],
        columns=["From", *(kind.capitalize() for kind in kinds)],
        rows=rows,
        bars=bars,
        lines=[],
    )


def durations(metrics: Metrics) -> list[Chart]:
    """Return charts of p50 and p95 of the total duration, and of each phase that was measured."""
    measured = [("total", "From acceptance to end", [slot.total for slot in metrics.slots])]
    phases = dict.fromkeys(phase for slot in metrics.slots for phase in slot.phases)
    measured += [
        (phase, "Queue" if phase == "queue" else phase.capitalize(), [slot.phases.get(phase) for slot in metrics.slots])
        for phase in phases
    ]
    return [_duration(metrics, name, title, spreads) for name, title, spreads in measured if any(spreads)]


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
        result.append(_line_chart(metrics, label, [_Series("depth", "Most", depths)], axis))
        label = _Label(f"oldest-{number}", f"Oldest wait in {pool}", f"at most {display.seconds(oldest)}")
        result.append(_line_chart(metrics, label, [_Series("oldest", "Longest", waits)], _seconds_axis(max(1, oldest))))
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


def _duration(metrics: Metrics, name: str, title: str, spreads: Sequence[Spread | None]) -> Chart:
    measured = [spread for spread in spreads if spread]
    last = measured[-1]
    summary = f"lately half within {display.seconds(last.p50)}, 95 % within {display.seconds(last.p95)}"
    series = [
        _Series("p50", "p50", [spread.p50 if spread else None for spread in spreads]),
        _Series("p95", "p95", [spread.p95 if spread else None for spread in spreads]),
    ]
    axis = _seconds_axis(max(0.1, *(spread.p95 for spread in measured)))
    return _line_chart(metrics, _Label(name, title, summary), series, axis)


def _line_chart(metrics: Metrics, label: _Label, series: Sequence[_Series], axis: _Axis) -> Chart:
    """Draw values by slot from 0 to the top of the axis; all series have values for the same slots."""
    values_by_slot = zip(*(line.values for line in series), strict=True)
    rows = [
        [_when(slot.start), *(axis.write(value) for value in values if value is not None)]
        for slot, values in zip(metrics.slots, values_by_slot, strict=True)
        if values[0] is not None
    ]
    plot_height = SMALL_HEIGHT - _TOP - _BOTTOM
    return Chart(
        name=label.name,
        title=label.title,
        summary=label.summary,
        width=SMALL_WIDTH,
        height=SMALL_HEIGHT,
        x_ticks=_time_ticks(metrics, SMALL_WIDTH, 3),
        y_ticks=[
            Tick(_round(SMALL_HEIGHT - _BOTTOM - share * plot_height), f"{axis.top * share:g}{axis.unit}")
            for share in (0, 1)
        ],
        columns=["From", *(line.column for line in series)],
        rows=rows,
        bars=[],
        lines=[(line.name, _path(line.values, axis.top)) for line in series],
    )


def _path(values: Sequence[float | None], top: float) -> str:
    """Return an SVG path through the middles of the slots, with gaps at None; a lone value is a dash as wide as its slot."""
    plot_height = SMALL_HEIGHT - _TOP - _BOTTOM
    step = (SMALL_WIDTH - _LEFT - _RIGHT) / len(values)
    parts, is_open = [], False
    for number, value in enumerate(values):
        if value is None:
            is_open = False
            continue
        x, y = _LEFT + step * (number + 0.5), SMALL_HEIGHT - _BOTTOM - value / top * plot_height
        is_lone = not is_open and (number + 1 == len(values) or values[number + 1] is None)
        if is_lone:
            parts.append(f"M{_round(x - step / 2)} {_round(y)}h{_round(step)}")
        else:
            parts.append(f"{'L' if is_open else 'M'}{_round(x)} {_round(y)}")
        is_open = True
    return "".join(parts)


def _time_ticks(metrics: Metrics, width: int, count: int) -> list[Tick]:
    slots = metrics.slots
    step = (width - _LEFT - _RIGHT) / len(slots)
    interval = math.ceil(len(slots) / count)
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
