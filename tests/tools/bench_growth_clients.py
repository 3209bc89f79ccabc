"""Measure what held clients cost: event streams and waiting requests, in one web process and in two."""

import asyncio
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from tests.tools.bench_queue import Measurement
from tests.tools.growth_clients import Held, WebProcesses, health, web_processes
from tests.tools.growth_installation import installation, read_line, result, send_line, start
from tests.tools.growth_page import Lines, draw

STREAMS = {1: (100, 500, 1_000, 2_000, 5_000), 2: (500, 2_000)}
"""How many event streams are open, by the number of web processes."""
REQUESTS = {1: (100, 500, 1_000, 2_000)}
"""How many requests wait, which take longer to send."""
FOLLOWED = 100
"""Generations that streams follow, as many as one user may have waiting by default."""

HELD_SECONDS = 12.0
"""At least two polls of the database."""

_ONE_USER = {"LIMITS": "off"}
"""All clients are one user, who may have 200 streams of a process otherwise."""


DRAWN = ("memory", "CPU", "events")

Values = defaultdict[str, list[tuple[float, float]]]
"""Points by what was measured."""


def measure_clients() -> Iterator[Measurement]:
    """Let the clients of web processes become more and more, and measure at each number, on SQLite."""
    lines: defaultdict[str, Lines] = defaultdict(lambda: Lines(list))
    for kind, hold, sizes in (("streams", _hold_streams, STREAMS), ("requests", _hold_requests, REQUESTS)):
        for processes, clients in sizes.items():
            with installation("SQLite", **_ONE_USER) as environment:
                waiting = FOLLOWED if kind == "streams" else 1
                prepared = result(environment, "growth_waiting", f"prepare({waiting})")
                with web_processes(environment, processes) as web:
                    values = asyncio.run(hold(environment, web, prepared, clients))
            label = f"{kind}, {processes} web process{'es' if processes > 1 else ''}"
            for name, points in values.items():
                if name in DRAWN:
                    lines[name][label] = points
                else:
                    yield f"{name}: {label}", ", ".join(f"{size:,.0f}: {cost:,.0f}" for size, cost in points) + " ms"
    size = "clients"
    yield from draw("memory", "Memory of web processes, by held clients", size, lines["memory"], "MB more")
    yield from draw("idle", "CPU of web processes while clients wait", size, lines["CPU"], "% of a core")
    yield from draw("events", "An event for each of all streams", size, lines["events"], "ms of CPU of web processes")


async def _hold_streams(
    environment: Mapping[str, str], web: WebProcesses, prepared: Mapping[str, Any], clients: Sequence[int]
) -> Values:
    values, held, memory = Values(list), Held(web), web.memory()
    events = start(environment, "growth_workers", "publish_events()")
    try:
        for before, count in pairwise((0, *clients)):
            ids = [prepared["ids"][number % FOLLOWED] for number in range(before, count)]
            await held.open_streams(prepared["token"], ids)
            await _measure(web, count, memory, values)
            cpu = web.cpu_seconds()
            ends = await held.send_each_an_event(events)
            values["events"].append((count, 1000 * (web.cpu_seconds() - cpu)))
            values["an event for each stream, until the last has it"].append((count, 1000 * ends[-1]))
        return values
    finally:
        held.close()
        events.communicate()


async def _hold_requests(
    environment: Mapping[str, str], web: WebProcesses, prepared: Mapping[str, Any], clients: Sequence[int]
) -> Values:
    values, held, memory = Values(list), Held(web), web.memory()
    counter = start(environment, "growth_waiting", "count_queued()")

    def is_queued(count: int) -> bool:
        send_line(counter, "count")
        # The queue has had one before.
        return int(read_line(counter)) > count

    try:
        for before, count in pairwise((0, *clients)):
            await held.open_requests(prepared["token"], count - before, is_queued)
            await _measure(web, count, memory, values)
        answers = asyncio.create_task(held.read_answers())
        stop = asyncio.Event()
        probes = asyncio.create_task(health(web.port, stop))
        began = await asyncio.to_thread(result, environment, "growth_waiting", "end_all()")
        values["answers to all that end at once, until the last"].append((count, 1000 * ((await answers)[-1] - began)))
        stop.set()
        values["the longest answer of /health while all are answered"].append((count, 1000 * max(await probes)))
        return values
    finally:
        held.close()
        counter.communicate()


async def _measure(web: WebProcesses, count: int, memory: int, values: Values) -> None:
    """Measure for some seconds in which nothing happens to the clients. `memory` is what the processes had without any."""
    values["memory"].append((count, max(0.1, (web.memory() - memory) / 1e6)))
    stop = asyncio.Event()
    cpu, begin = web.cpu_seconds(), time.monotonic()
    probes = asyncio.create_task(health(web.port, stop))
    await asyncio.sleep(HELD_SECONDS)
    share = (web.cpu_seconds() - cpu) / (time.monotonic() - begin)
    stop.set()
    latencies = await probes
    values["CPU"].append((count, max(0.01, 100 * share)))
    values["the median answer of /health meanwhile"].append((count, 1000 * statistics.median(latencies)))
    values["the longest answer of /health meanwhile"].append((count, 1000 * max(latencies)))
