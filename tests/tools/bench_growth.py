"""Measure how costs grow with sizes, on both databases. `docs/performance.md` and its drawings are written anew.

Nothing here runs a model: workers are simulated, and what is measured is what the service adds. Each value is a median.
"""

import asyncio
import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from itertools import chain, product
from pathlib import Path

from tests.support import servers
from tests.support.environment import ROOT
from tests.support.service import migrated_database
from tests.tools import bench_pages, growth_clients, growth_page, growth_plot
from tests.tools.bench_queue import Measurement
from tests.tools.growth_clients import Held, web_processes
from tests.tools.growth_plot import Series

WAITING = (10, 100, 1_000, 10_000, 100_000)
USERS = (1, 10, 100, 1_000, 10_000)
USUAL_USERS = 100
CLAIMING = 8
CLAIMS_OF_EACH = 500
ROWS = (10_000, 100_000, 1_000_000)
EXTRAPOLATED = 10_000_000
CLIENTS = (50, 500, 5_000)
WEB_PROCESSES = (1, 2)
WORKERS = (1, 10, 50, 200)
WORKER_SECONDS = 20
STREAMS = 20
DATABASES = ("SQLite", "PostgreSQL")
CPU = "ms of CPU"

_HIGH_LIMITS = {
    # They are checked and never reached.
    "USER_MAX_RUNNING": "1000000",
    "USER_MAX_QUEUED": "1000000",
    "USER_MAX_PER_MINUTE": "1000000",
    "USER_MAX_DAILY_COST": "1e12",
    "USER_MAX_BYTES": str(2**60),
    "MAX_QUEUE": "1000000",
    "CONNECTIONS_PER_ADDRESS": "0",
    "WAIT_SECONDS": "3600",
    "LOG_LEVEL": "ERROR",
}

_ONE_USER = {"LIMITS": "off"}
"""All clients are one user, who may have 200 streams of a process otherwise."""

Lines = defaultdict[str, list[tuple[float, float]]]
"""Points by the label of their line."""


def measure_growth() -> Iterator[Measurement]:
    """Measure everything, and then write the drawings and the values into `docs/performance.md`."""
    before = os.getloadavg()[0]
    measured: list[Measurement] = []
    for measurement in chain(_measure_queue(), _measure_pages(), _measure_clients(), _measure_workers()):
        measured.append(measurement)
        yield measurement
    growth_page.write(measured, (before, os.getloadavg()[0]))


def _measure_queue() -> Iterator[Measurement]:
    by_waiting, by_users, others = Lines(list), Lines(list), Lines(list)
    for database in DATABASES:
        with _installation(database) as environment:
            for waiting in WAITING:
                for call, cpu in _calls(environment, waiting, min(USUAL_USERS, waiting)).items():
                    lines = by_waiting if call == "claim" else others
                    lines[f"{call}, {database}"].append((waiting, cpu))
            for users in USERS:
                costs = _calls(environment, WAITING[-1], users)
                for call in ("claim", "submit"):
                    by_users[f"{call}, {database}"].append((users, costs[call]))
            yield from _claim_at_once(environment, database)
    yield from _drawn("claims", "A claim, by waiting requests", "waiting requests", by_waiting, CPU)
    yield from _drawn("users", f"By users, {WAITING[-1]:,} requests waiting", "users", by_users, CPU)
    yield from _drawn("queue", "By waiting requests", "waiting requests", others, CPU)


def _calls(environment: Mapping[str, str], waiting: int, users: int) -> dict[str, float]:
    """Return the median CPU milliseconds of each call on a queue of this size."""
    result = json.loads(_shell(environment, f"measure_calls({waiting}, {users})").splitlines()[-1])
    return {call: 1000 * statistics.median(cpu for _, cpu in costs) for call, costs in result.items()}


def _claim_at_once(environment: Mapping[str, str], database: str) -> Iterator[Measurement]:
    """Claim with several processes. The queue is that of the last call, with the most users."""
    claimers = [_start(environment, f"claim_at_once({CLAIMS_OF_EACH})") for _ in range(CLAIMING)]
    for claimer in claimers:
        assert _line(claimer) == "ready"
    for claimer in claimers:
        _send(claimer, "go")
    results = [json.loads(claimer.communicate()[0]) for claimer in claimers]
    ids = [generation_id for result in results for generation_id in result["ids"]]
    duration = max(result["end"] for result in results) - min(result["begin"] for result in results)
    seconds = [second for result in results for second in result["seconds"]]
    p95 = statistics.quantiles(seconds, n=20)[-1]
    yield (
        f"{database}: claims a second, {CLAIMING} processes, {WAITING[-1]:,} waiting (aim: 300, p95 under 25 ms)",
        f"{len(ids) / duration:.0f}, p95 {1000 * p95:.0f} ms, {len(ids) - len(set(ids))} claimed twice",
    )


def _measure_pages() -> Iterator[Measurement]:
    """Add rows to a database, and request every page of `bench_pages` at each size."""
    lines = Lines(list)
    for database in DATABASES:
        with _installation(database) as environment:
            added = [size - before for before, size in zip((0, *ROWS), ROWS, strict=False)]
            for size, new in zip(ROWS, added, strict=True):
                bench_pages.add_generations(environment, new)
                for kind in ("history", "admin"):
                    medians = [
                        1000 * statistics.median(cpu for _, cpu in page.times)
                        for page in bench_pages.page_results(environment, kind)
                    ]
                    lines[f"{kind}, median page, {database}"].append((size, statistics.median(medians)))
                    lines[f"{kind}, slowest page, {database}"].append((size, max(medians)))
    yield from _drawn("pages", "History and admin, by generations", "generations", lines, CPU)
    for label, points in lines.items():
        cost = growth_plot.fit(points).cost(EXTRAPOLATED)
        yield f"{label}, {EXTRAPOLATED:,} generations by the fit", f"{cost:.3g} {CPU}"


def _measure_clients() -> Iterator[Measurement]:
    times, shares, memory = Lines(list), Lines(list), Lines(list)
    with _installation("SQLite", **_ONE_USER) as environment:
        for processes, clients in product(WEB_PROCESSES, CLIENTS):
            prepared = json.loads(_shell(environment, f"prepare_clients({clients})").splitlines()[-1])
            held = {"streams": _hold_streams(environment, processes, prepared)}
            held["requests"] = _hold_requests(environment, processes, clients, prepared["token"])
            for kind, result in held.items():
                label = f"{kind}, {processes} web process{'es' if processes > 1 else ''}"
                times[f"health, {label}"].append((clients, 1000 * statistics.median(result.health)))
                if result.events:
                    times[f"an event's way, {label}"].append((clients, 1000 * statistics.median(result.events)))
                shares[label].append((clients, max(0.01, 100 * result.cpu)))
                memory[label].append((clients, max(0.1, result.memory / 1000)))
    yield from _drawn("clients", "Health and events, by held clients", "clients", times)
    yield from _drawn("idle", "Web processes while clients wait, by clients", "clients", shares, "% of a core")
    for label, points in memory.items():
        yield f"memory of a client, {label}", ", ".join(f"{size:,.0f}: {cost:.1f} kB" for size, cost in points)


def _hold_streams(environment: Mapping[str, str], processes: int, prepared: Mapping[str, str]) -> Held:
    with web_processes(environment, processes) as web, _events(environment) as events:
        return asyncio.run(growth_clients.hold_streams(web, prepared["token"], prepared["ids"], events))


def _hold_requests(environment: Mapping[str, str], processes: int, clients: int, token: str) -> Held:
    def count_rows() -> int:
        with closing(sqlite3.connect(Path(environment["DATA_DIR"]) / "db.sqlite3")) as database:
            ((count,),) = database.execute("SELECT COUNT(*) FROM generation_generation").fetchall()
        return int(count)

    with web_processes(environment, processes) as web:
        return asyncio.run(growth_clients.hold_requests(web, token, clients, count_rows))


def _measure_workers() -> Iterator[Measurement]:
    """Let simulated workers report steps, while a web process reads their events for some clients with streams."""
    times, shares = Lines(list), Lines(list)
    with _installation("SQLite", **_ONE_USER) as environment:
        prepared = json.loads(_shell(environment, f"prepare_clients({STREAMS})").splitlines()[-1])
        for workers in WORKERS:
            with web_processes(environment, 1) as web, _events(environment) as events:
                crowd = _start(environment, f"simulate_workers({workers}, {WORKER_SECONDS})")
                assert _line(crowd) == "ready"
                held = asyncio.run(growth_clients.hold_streams(web, prepared["token"], prepared["ids"], events))
                result = json.loads(crowd.communicate()[0])
            for name, seconds in result.items():
                times[name].append((workers, 1000 * statistics.median(seconds)))
            times["an event's way to its client"].append((workers, 1000 * statistics.median(held.events)))
            shares["a web process"].append((workers, max(0.01, 100 * held.cpu)))
    yield from _drawn("workers", "Events and the registry, by workers with a step a second", "workers", times)
    yield from _drawn("reading", "A web process that reads all events", "workers", shares, "% of a core")


def _drawn(name: str, title: str, size: str, lines: Lines, unit: str = "ms") -> Iterator[Measurement]:
    """Write a drawing, and yield each line with its fit."""
    series = [Series(label, points) for label, points in lines.items()]
    (ROOT / "docs" / f"growth-{name}.svg").write_text(growth_plot.draw(title, size, unit, series))
    for line in series:
        costs = ", ".join(f"{at:,.0f}: {cost:.3g}" for at, cost in line.points)
        yield f"{title}: {line.label}", f"{costs} {unit}; {growth_plot.fit(line.points).text(unit)}"


@contextmanager
def _installation(database: str, **settings: str) -> Iterator[Mapping[str, str]]:
    """Yield the environment of processes with an empty database and a Redis. `settings` come in addition."""
    with ExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory(prefix="growth"))
        redis = servers.EmbeddedRedis(Path(folder))
        redis.start()
        running.callback(redis.stop)
        environment = {**os.environ, **_HIGH_LIMITS, "DATA_DIR": folder, "DATABASE_URL": "", **settings}
        if database == "PostgreSQL":
            environment["DATABASE_URL"] = running.enter_context(servers.postgresql()).url
            subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], cwd=ROOT, env=environment, check=True)
        else:
            shutil.copy(migrated_database(), folder)
        yield environment


@contextmanager
def _events(environment: Mapping[str, str]) -> Iterator["subprocess.Popen[str]"]:
    process = _start(environment, "publish_events()")
    try:
        yield process
    finally:
        process.communicate()


def _command(call: str) -> Sequence[str]:
    code = f"from tests.tools import growth_queue; growth_queue.{call}"
    return [sys.executable, "manage.py", "shell", "--no-imports", "-v", "0", "-c", code]


def _shell(environment: Mapping[str, str], call: str) -> str:
    return subprocess.run(
        _command(call), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout


def _start(environment: Mapping[str, str], call: str) -> "subprocess.Popen[str]":
    pipe = subprocess.PIPE
    return subprocess.Popen(_command(call), cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True)


def _line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def _send(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
