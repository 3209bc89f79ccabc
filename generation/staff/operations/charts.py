"""Plots as numbers for a template: where lines, bars and ticks go in an SVG of WIDTH by HEIGHT. No HTML."""

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
    at: float
    label: str


@dataclass(frozen=True)
class Bar:
    kind: str
    x: float
    y: float
    width: float
    height: float


@dataclass(frozen=True)
class Chart:
    """`lines` are names and paths, `rows` the same values as a table under `columns`; `summary` says the gist in words."""

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


def throughput(figures: Metrics) -> Chart:
    """Requests by how they ended, a stack of bars a slot."""
    slots = figures.slots
    kinds = ("succeeded", "canceled", "failed")
    top = _nice(max(sum(getattr(slot, kind) for kind in kinds) for slot in slots) or 1)
    room = HEIGHT - _TOP - _BOTTOM
    step = (WIDTH - _LEFT - _RIGHT) / len(slots)
    bars = []
    for number, slot in enumerate(slots):
        y = float(HEIGHT - _BOTTOM)
        for kind in kinds:
            height = getattr(slot, kind) / top * room
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
        title=f"Requests of {figures.window.title}",
        summary=", ".join(f"{sums[kind]:,} {kind}" for kind in kinds),
        width=WIDTH,
        height=HEIGHT,
        x_ticks=_times(figures, WIDTH, 6),
        y_ticks=[Tick(_round(HEIGHT - _BOTTOM - share * room), f"{top * share:g}") for share in (0, 1)],
        columns=["From", *(kind.capitalize() for kind in kinds)],
        rows=rows,
        bars=bars,
        lines=[],
    )


def durations(figures: Metrics) -> list[Chart]:
    """The whole time and that of each phase that took any: the lines of p50 and p95."""
    measured = [("whole", "From acceptance to end", [slot.whole for slot in figures.slots])]
    phases = dict.fromkeys(phase for slot in figures.slots for phase in slot.phases)
    measured += [
        (phase, "Queue" if phase == "queue" else phase.capitalize(), [slot.phases.get(phase) for slot in figures.slots])
        for phase in phases
    ]
    return [_duration(figures, *one) for one in measured if any(one[2])]


def waiting(figures: Metrics) -> list[Chart]:
    """What waited in each pool, and how long the first of it: the peaks of each slot."""
    found = []
    for number, (pool, peaks) in enumerate(figures.lines.items()):
        known = [peak for peak in peaks if peak]
        most, longest = max(peak.depth for peak in known), max(peak.oldest_seconds for peak in known)
        depths = [float(peak.depth) if peak else None for peak in peaks]
        waits = [peak.oldest_seconds if peak else None for peak in peaks]
        found += [
            _small(
                figures,
                f"depth-{number}",
                f"Waiting in {pool}",
                f"at most {most:,}",
                {"depth": depths},
                ["Most"],
                lambda value: f"{value:,.0f}",
                _nice(max(1, most)),
                "",
            ),
            _small(
                figures,
                f"oldest-{number}",
                f"Oldest wait in {pool}",
                f"at most {display.seconds(longest)}",
                {"oldest": waits},
                ["Longest"],
                display.seconds,
                _nice(max(1, longest)),
                " s",
            ),
        ]
    return found


def _duration(figures: Metrics, name: str, title: str, spreads: Sequence[Spread | None]) -> Chart:
    known = [spread for spread in spreads if spread]
    last = known[-1]
    series = {
        "p50": [spread.p50 if spread else None for spread in spreads],
        "p95": [spread.p95 if spread else None for spread in spreads],
    }
    summary = f"lately half within {display.seconds(last.p50)}, 95 % within {display.seconds(last.p95)}"
    top = _nice(max(0.1, *(spread.p95 for spread in known)))
    return _small(figures, name, title, summary, series, ["p50", "p95"], display.seconds, top, " s")


def _small(
    figures: Metrics,
    name: str,
    title: str,
    summary: str,
    series: dict[str, list[float | None]],
    columns: list[str],
    written: Callable[[float], str],
    top: float,
    unit: str,
) -> Chart:
    """Lines of values by slot, from 0 to `top`; all are known of the same slots."""
    rows = [
        [_when(slot.start), *(written(value) for value in values if value is not None)]
        for slot, values in zip(figures.slots, zip(*series.values(), strict=True), strict=True)
        if values[0] is not None
    ]
    room = SMALL_HEIGHT - _TOP - _BOTTOM
    return Chart(
        name=name,
        title=title,
        summary=summary,
        width=SMALL_WIDTH,
        height=SMALL_HEIGHT,
        x_ticks=_times(figures, SMALL_WIDTH, 3),
        y_ticks=[Tick(_round(SMALL_HEIGHT - _BOTTOM - share * room), f"{top * share:g}{unit}") for share in (0, 1)],
        columns=["From", *columns],
        rows=rows,
        bars=[],
        lines=[(kind, _path(values, top)) for kind, values in series.items()],
    )


def _path(values: Sequence[float | None], top: float) -> str:
    """A line through the middles of the slots, with a gap where nothing is known; one alone is a dash of its slot's width."""
    room = SMALL_HEIGHT - _TOP - _BOTTOM
    step = (SMALL_WIDTH - _LEFT - _RIGHT) / len(values)
    parts, is_open = [], False
    for number, value in enumerate(values):
        if value is None:
            is_open = False
            continue
        x, y = _LEFT + step * (number + 0.5), SMALL_HEIGHT - _BOTTOM - value / top * room
        is_alone = not is_open and (number + 1 == len(values) or values[number + 1] is None)
        if is_alone:
            parts.append(f"M{_round(x - step / 2)} {_round(y)}h{_round(step)}")
        else:
            parts.append(f"{'L' if is_open else 'M'}{_round(x)} {_round(y)}")
        is_open = True
    return "".join(parts)


def _times(figures: Metrics, width: int, count: int) -> list[Tick]:
    slots = figures.slots
    step = (width - _LEFT - _RIGHT) / len(slots)
    every = math.ceil(len(slots) / count)
    pattern = "%a %d" if figures.window.name == "week" else "%H:%M"
    return [
        Tick(_round(_LEFT + step * number), f"{timezone.localtime(slots[number].start):{pattern}}")
        for number in range(0, len(slots), every)
    ]


def _when(start: datetime) -> str:
    return f"{timezone.localtime(start):%a %H:%M}"


def _nice(value: float) -> float:
    """The least of 1, 2, 5, 10, ... that is not below this."""
    power = 10.0 ** math.floor(math.log10(value))
    return next(power * digit for digit in (1, 2, 5, 10) if power * digit >= value * 0.9999)


def _round(value: float) -> float:
    return round(value, 1)
