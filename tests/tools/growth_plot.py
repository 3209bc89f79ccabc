"""Fits of costs against sizes, and drawings of them as SVG with logarithmic axes."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_WIDTH, _HEIGHT = 650, 400
_LEFT, _RIGHT, _TOP = 60, 30, 40
_BOTTOM = 60
_LINE = 18
_MARKERS = (
    "M-4 0a4 4 0 1 0 8 0a4 4 0 1 0-8 0",
    "M-4-4h8v8h-8z",
    "M0-5l5 9h-10z",
    "M0-6l5 6l-5 6l-5-6z",
    "M-5-4h10l-5 9z",
)

BACKGROUNDS = ("#ffffff", "#0d1117")
"""Of light and dark screens; so are the pairs below."""
TEXTS = ("#1f2328", "#e6edf3")
GRIDS = ("#d1d9e0", "#3d444d")
COLOURS = (
    ("#0969da", "#58a6ff"),
    ("#b35900", "#ffa657"),
    ("#1a7f37", "#3fb950"),
    ("#8250df", "#d2a8ff"),
    ("#cf222e", "#ff7b72"),
    ("#57606a", "#9aa4af"),
)

_CLOSE = 0.12
"""A fit whose mean relative error is at most this is good enough for a busy machine; a simpler one is preferred then."""


@dataclass(frozen=True)
class Series:
    """Costs by size, both above 0, by rising size, of what `label` names."""

    label: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Fit:
    """How a cost grows: `base` and `slope` of the named curve, over 1, log10(size), size or its square."""

    curve: str
    base: float
    slope: float

    def text(self, unit: str) -> str:
        """Write the fit, with the size at which a cost that is not flat is twice its base."""
        match self.curve:
            case "constant":
                return f"constant, {self.base:.3g} {unit}"
            case "logarithmic":
                return f"logarithmic, {self.slope:.3g} {unit} more for ten times the size"
        doubled = f", doubled at {self.doubled_at:,.0f}" if self.doubled_at >= 1 else ""
        return f"{self.curve}, {self.base:.3g} {unit} at first{doubled}"

    def cost(self, size: float) -> float:
        """Return the cost at a size, also beyond what was measured."""
        return self.base + self.slope * float(_CURVES[self.curve](size))

    @property
    def doubled_at(self) -> float:
        return (self.base / self.slope) ** (1 if self.curve == "linear" else 0.5) if self.slope else math.inf


_CURVES: dict[str, Callable[[Any], Any]] = {
    "constant": lambda sizes: 0 * sizes,
    "logarithmic": np.log10,
    "linear": lambda sizes: sizes,
    "quadratic": np.square,
}


def fit(points: Sequence[tuple[float, float]]) -> Fit:
    """Return the simplest curve that is close to these points, else the closest. Errors are relative to each cost."""
    sizes, costs = np.array(points, dtype=float).T
    fits: list[tuple[float, Fit]] = []
    for name, curve in _CURVES.items():
        columns = np.stack([np.ones_like(sizes), curve(sizes)], axis=1) / costs[:, None]
        base, slope = np.linalg.lstsq(columns, np.ones_like(costs), rcond=None)[0]
        if slope < 0 or base < 0:
            continue
        error = float(np.abs(columns @ np.array([base, slope]) - 1).mean())
        fits.append((error, Fit(name, float(base), float(slope))))
    return next((found for error, found in fits if error <= _CLOSE), min(fits, key=lambda pair: pair[0])[1])


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Return the power of the size by which costs grow over the three largest sizes: 0 if constant, 1 if linear."""
    sizes, costs = np.log(np.array(points[-3:], dtype=float)).T
    return float(np.polyfit(sizes, costs, 1)[0])


def draw(title: str, size: str, cost: str, lines: Sequence[Series]) -> str:
    """Return an SVG of these series. `size` and `cost` are the names of the axes, with their units."""
    xs = _decades([x for line in lines for x, _ in line.points])
    ys = _decades([y for line in lines for _, y in line.points])

    def place(x: float, y: float) -> tuple[float, float]:
        across = (math.log10(x) - xs[0]) / (xs[-1] - xs[0])
        up = (math.log10(y) - ys[0]) / (ys[-1] - ys[0])
        return _LEFT + across * (_WIDTH - _LEFT - _RIGHT), _HEIGHT - _BOTTOM - up * (_HEIGHT - _BOTTOM - _TOP)

    height = _HEIGHT + _LINE * math.ceil(len(lines) / 2)
    view = f'viewBox="0 0 {_WIDTH} {height}" role="img" font-family="sans-serif" font-size="12"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {view}><title>{title}</title>',
        f"<style>{_style()}</style>",
        '<rect class="ground" width="100%" height="100%"/>',
        f'<text x="{_LEFT}" y="22" font-size="14">{title}</text>',
        f'<text x="{_WIDTH - _RIGHT}" y="{_HEIGHT - _BOTTOM + 36}" text-anchor="end">{size}</text>',
        f'<text x="{_WIDTH - _RIGHT}" y="22" text-anchor="end">{cost}</text>',
    ]
    for power in xs:
        at, bottom = place(10**power, 10 ** ys[0])
        parts.append(f'<path class="grid" d="M{at:.0f} {bottom:.0f}V{_TOP}"/>')
        parts.append(f'<text x="{at:.0f}" y="{bottom + 18:.0f}" text-anchor="middle">{_number(power)}</text>')
    for power in ys:
        left, at = place(10 ** xs[0], 10**power)
        parts.append(f'<path class="grid" d="M{left:.0f} {at:.0f}H{_WIDTH - _RIGHT}"/>')
        parts.append(f'<text x="{left - 8:.0f}" y="{at + 4:.0f}" text-anchor="end">{_number(power)}</text>')
    for number, line in enumerate(lines):
        colour, marker = f"c{number % len(COLOURS)}", _MARKERS[number % len(_MARKERS)]
        places = [place(*point) for point in line.points]
        corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
        parts.append(f'<polyline class="line {colour}" points="{corners}"/>')
        legend = (_LEFT + number % 2 * 290, _HEIGHT - 4 + number // 2 * _LINE)
        for x, y in (*places, legend):
            parts.append(f'<path class="{colour}" transform="translate({x:.1f} {y:.1f})" d="{marker}"/>')
        parts.append(f'<text x="{legend[0] + 12}" y="{legend[1] + 4}">{line.label}</text>')
    return "\n".join(parts) + "\n</svg>\n"


def _style() -> str:
    light, dark = ("".join(_rules(screen)) for screen in (0, 1))
    return f"{light}@media (prefers-color-scheme: dark) {{{dark}}}"


def _rules(screen: int) -> Iterator[str]:
    yield f".ground {{fill: {BACKGROUNDS[screen]}}} text {{fill: {TEXTS[screen]}}} .grid {{stroke: {GRIDS[screen]}}} "
    for number, pair in enumerate(COLOURS):
        yield f".c{number} {{fill: {pair[screen]}; stroke: {pair[screen]}}} "
    yield ".line {fill: none; stroke-width: 2} "


def _decades(values: Sequence[float]) -> list[int]:
    """Return the powers of ten that enclose these values, at least two."""
    low, high = math.floor(math.log10(min(values))), math.ceil(math.log10(max(values)))
    return list(range(low, max(high, low + 1) + 1))


def _number(power: int) -> str:
    return f"{10**power:,}" if power >= 0 else f"{10.0**power:.{-power}f}"
