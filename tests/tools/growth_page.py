"""The part of `docs/performance.md` that `tests.tools.bench_growth` writes: the machine, the drawings, all values."""

import os
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from tests.support.environment import ROOT
from tests.tools.bench_queue import Measurement

HEADING = "## Measured\n"
_DOCS = ROOT / "docs"


def write(measured: Sequence[Measurement], loads: tuple[float, float]) -> None:
    """Replace all after the heading. `loads` are those of the machine, of a minute, before and after."""
    page = _DOCS / "performance.md"
    before, heading, _ = page.read_text().partition(HEADING)
    (processor,) = re.findall(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)[:1]
    lines = [
        f"On {datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores of {processor}.",
        f"The load of the machine was {loads[0]:.1f} before and {loads[1]:.1f} after.",
        "",
    ]
    for drawing in sorted(_DOCS.glob("growth-*.svg")):
        (title,) = re.findall("<title>(.*)</title>", drawing.read_text())
        lines += [f"![{title}]({drawing.name})", ""]
    lines += ["| what | by size, and the fit |", "|---|---|", *(f"| {label} | {value} |" for label, value in measured)]
    page.write_text(before + heading + "\n" + "\n".join(lines) + "\n")
