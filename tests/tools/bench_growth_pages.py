"""Measure what pages, records and a round of the reaper cost by the number of generations, on both databases.

A tenth of the generations is of one user, whose history and API are measured, and there are a tenth as many users.
"""

from collections.abc import Iterator, Mapping
from itertools import pairwise

from tests.tools import bench_pages, growth_plot
from tests.tools.bench_queue import Measurement
from tests.tools.growth_installation import DATABASES, installation, result
from tests.tools.growth_page import Lines, draw, growth

ROWS = (10_000, 100_000, 1_000_000)
EXTRAPOLATED = 10_000_000
UNIT = "ms of CPU"
EXPLAINED = {
    "history": ("the newest", "failed", "a word in a tenth of the rows"),
    "admin": ("the newest", "of an error"),
    "api": ("the newest", "a text in no prompt"),
}
"""The pages whose plans are told, by kind."""
GROWING = 0.5
"""A page whose exponent is above this is told of."""


def measure_pages() -> Iterator[Measurement]:
    """Add rows to a database, and request every page of `bench_pages` at each size."""
    lines, pages, rounds = Lines(list), Lines(list), Lines(list)
    for database in DATABASES:
        with installation(database) as environment:
            for before, size in pairwise((0, *ROWS)):
                bench_pages.add_generations(environment, size - before)
                least = result(environment, "growth_rows", f"measure_rounds({size // 10})")
                rounds[f"a round of the reaper that removes old uploads, {database}"].append((size, least))
                for name, cpu in _pages(environment):
                    pages[f"{name}, {database}"].append((size, cpu))
            yield from _plans(environment, database)
        for kind in bench_pages.PAGE_SETS:
            of_kind = [points for name, points in pages.items() if name.startswith(kind) and name.endswith(database)]
            middle = sorted(of_kind, key=lambda points: points[-1][1])[len(of_kind) // 2]
            lines[f"{kind}: the median page, {database}"] = middle
    yield from draw("pages", "Pages and the API, by generations", "generations", lines, UNIT)
    for label, points in rounds.items():
        yield label, growth(points, UNIT)
    flat = []
    for name, points in sorted(pages.items(), key=lambda item: -growth_plot.exponent(item[1])):
        if growth_plot.exponent(points) > GROWING:
            beyond = growth_plot.fit(points).cost(EXTRAPOLATED)
            yield name, f"{growth(points, UNIT)}; at {EXTRAPOLATED:,} at most {beyond:.0f}"
        else:
            flat.append(points[-1][1])
    yield (
        f"the other {len(flat)} pages",
        f"exponent at most {GROWING}; at {ROWS[-1]:,} at most {max(flat):.0f} {UNIT}",
    )


def _pages(environment: Mapping[str, str]) -> Iterator[tuple[str, float]]:
    """Yield the name of each page and the CPU milliseconds of the request that took the least."""
    for kind in bench_pages.PAGE_SETS:
        for page in bench_pages.page_results(environment, kind):
            yield f"{kind}: {page.name}", 1000 * min(cpu for _, cpu in page.times)


def _plans(environment: Mapping[str, str], database: str) -> Iterator[Measurement]:
    for kind, names in EXPLAINED.items():
        page_set = bench_pages.PAGE_SETS[kind]()
        page_set["addresses"] = {name: page_set["addresses"][name] for name in names}
        for name, plan in result(environment, "page_requests", f"explain({page_set!r})"):
            yield f"how {database} reads {kind}: {name}", f"`{plan}`"
