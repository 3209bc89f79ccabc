"""Measure history and admin pages and the API with a million generations, a tenth of them of one user, on both databases."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from tests.support import servers
from tests.support.environment import ROOT
from tests.tools import bench_admin, bench_api, bench_history
from tests.tools.bench_queue import Measurement

GENERATIONS = 1_000_000
USERS = 1000
ROUNDS = 5
PAGE_SETS = {"history": bench_history.page_set, "admin": bench_admin.page_set, "api": bench_api.page_set}
"""What is requested, by kind."""


class PageResult(NamedTuple):
    """Label, wall and CPU seconds of each round, number of queries, number of rows, and the slowest query."""

    name: str
    times: list[tuple[float, float]]
    queries: int
    rows: int
    slowest: dict[str, str]


def measure_pages() -> Iterator[Measurement]:
    """Measure the median wall and CPU time of each page. Other load on the machine adds to the wall time only."""
    yield from _measure("SQLite", {})
    with servers.postgresql() as database:
        yield from _measure("PostgreSQL", {"DATABASE_URL": database.url})


def _measure(database: str, environment: Mapping[str, str]) -> Iterator[Measurement]:
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        host = {**os.environ, "DATA_DIR": folder, "LOG_LEVEL": "ERROR", **environment}
        _manage(host, "migrate", "-v", "0")
        start = time.perf_counter()
        add_generations(host, GENERATIONS)
        yield f"{database}: {GENERATIONS:,} generations seeded", f"{time.perf_counter() - start:.0f} s"
        for kind in PAGE_SETS:
            yield from _measure_pages_of(host, database, kind)


def _measure_pages_of(environment: Mapping[str, str], database: str, kind: str) -> Iterator[Measurement]:
    counts = set()
    for name, times, queries, rows, slowest in page_results(environment, kind):
        counts.add(queries)
        wall, cpu = (statistics.median(column) * 1000 for column in zip(*times, strict=True))
        value = f"{wall:.0f} ms, CPU {cpu:.0f} ms; slowest query {float(slowest['time']) * 1000:.0f} ms"
        yield f"{database}, {kind}: {name}, {rows} rows", value
    yield f"{database}, {kind}: queries of a page", ", ".join(map(str, sorted(counts)))


def page_results(environment: Mapping[str, str], kind: str) -> list[PageResult]:
    """Request every page of `kind`, one of `PAGE_SETS`."""
    code = f"from tests.tools import page_requests; page_requests.measure({PAGE_SETS[kind]()!r}, {ROUNDS})"
    printed = _manage(environment, "shell", "--no-imports", "-v", "0", "-c", code)
    return [PageResult(*result) for result in json.loads(printed.splitlines()[-1])]


def add_generations(environment: Mapping[str, str], count: int) -> None:
    """Add invented generations of the same users."""
    options = ("--generations", str(count), "--users", str(USERS), "--beside-real-users")
    _manage(environment, "demo_data", *options)


def _manage(environment: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
