"""Measure what workers cost that run: the list of them, the reaper, the operations page, and reading their events."""

import json
import time
from collections.abc import Iterator, Mapping

from tests.tools.bench_queue import Measurement
from tests.tools.growth_clients import web_processes
from tests.tools.growth_installation import DATABASES, installation, read_line, result, start
from tests.tools.growth_page import Lines, draw, growth

WORKERS = (1, 10, 50, 200)
UNDRAWN = ("the list of workers", "a round of a worker's reaper, just after another")
REPORTING_SECONDS = 15


def measure_workers() -> Iterator[Measurement]:
    """Simulate workers that each run a generation and report a step a second, whose events a web process reads."""
    costs, others, shares = Lines(list), Lines(list), Lines(list)
    for database in DATABASES:
        with installation(database, LIMITS="off") as environment:
            for workers in WORKERS:
                least = result(environment, "growth_workers", f"register({workers})")
                for name, milliseconds in least.items():
                    lines = others if name in UNDRAWN else costs
                    lines[f"{name}, {database}"].append((workers, milliseconds))
                # The events are in Redis, whichever the database is.
                if database == DATABASES[0]:
                    share, report = _report_steps(environment)
                    others["a worker's report of a step"].append((workers, report))
                    shares["a web process that reads the events of a step a second of each"].append((workers, share))
    yield from draw("workers", "By running workers", "workers", costs, "ms of CPU")
    for lines, unit in ((others, "ms of CPU"), (shares, "% of a core")):
        for label, points in lines.items():
            yield f"By running workers: {label}", growth(points, unit)


def _report_steps(environment: Mapping[str, str]) -> tuple[float, float]:
    """Let the workers report for some seconds. Return the web process's percent of a core, and the cost of a report."""
    with web_processes(environment, 1) as web:
        crowd = start(environment, "growth_workers", f"report_steps({REPORTING_SECONDS})")
        assert read_line(crowd) == "ready"
        cpu, begin = web.cpu_seconds(), time.monotonic()
        report = json.loads(crowd.communicate()[0])
        return max(0.01, 100 * (web.cpu_seconds() - cpu) / (time.monotonic() - begin)), report
