"""The part of `docs/performance.md` that `tests.tools.bench_growth` writes: the machine, the drawings, all values."""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.support.environment import ROOT
from tests.tools import growth_plot
from tests.tools.bench_queue import Measurement
from tests.tools.growth_plot import Series

_HEADING = "## Measured\n"
_DOCS = ROOT / "docs"

Lines = defaultdict[str, list[tuple[float, float]]]
"""Points by the label of their line."""


def draw(name: str, title: str, size: str, lines: Lines, unit: str) -> Iterator[Measurement]:
    """Write a drawing, and yield each line with its fit and its exponent. `size` and `unit` name the axes."""
    series = [Series(label, points) for label, points in lines.items()]
    (_DOCS / f"growth-{name}.svg").write_text(growth_plot.draw(title, size, unit, series))
    for line in series:
        yield f"{title}: {line.label}", growth(line.points, unit)


def growth(points: Sequence[tuple[float, float]], unit: str) -> str:
    """Write costs by size, their fit and their exponent."""
    costs = ", ".join(f"{size:,.0f}: {cost:.3g}" for size, cost in points)
    exponent = growth_plot.exponent(points)
    return f"{costs} {unit}; {growth_plot.fit(points).text(unit)}; exponent {exponent:.2f}"


def written(title: str, drawings: Sequence[str], measure: Callable[[], Iterator[Measurement]]) -> Iterator[Measurement]:
    """Yield what `measure` does, and then write it below this title, with the drawings of these names."""
    before = os.getloadavg()[0]
    measured: list[Measurement] = []
    for measurement in measure():
        measured.append(measurement)
        yield measurement
    page = _DOCS / "performance.md"
    page.write_text(with_part(page.read_text(), title, _part(drawings, measured, before)))


def _part(drawings: Sequence[str], measured: Sequence[Measurement], load_before: float) -> str:
    (processor,) = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)[:1]
    lines = [
        f"On {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores of {processor}.",
        f"The load of the machine was {load_before:.1f} before and {os.getloadavg()[0]:.1f} after.",
        "",
    ]
    for name in drawings:
        drawing = f"growth-{name}.svg"
        (title,) = re.findall("<title>(.*)</title>", (_DOCS / drawing).read_text())
        lines += [f"![{title}]({drawing})", ""]
    lines += ["| what | by size, and the fit |", "|---|---|", *(f"| {label} | {value} |" for label, value in measured)]
    return "\n".join(lines) + "\n"


def with_part(page: str, title: str, part: str) -> str:
    """Return the page with this part under its title, in place of the earlier one."""
    before, heading, parts = page.partition(_HEADING)
    by_title = {
        name: text.strip("\n") for name, text in re.findall(r"^### (.*?)\n(.*?)(?=^### |\Z)", parts, re.M | re.S)
    }
    by_title[title] = part.strip("\n")
    texts = [f"### {name}\n\n{text}\n" for name, text in by_title.items()]
    introduction = parts.partition("### ")[0].strip("\n")
    return before + heading + "\n" + "\n".join(filter(None, [f"{introduction}\n" if introduction else "", *texts]))
