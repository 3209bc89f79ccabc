"""Measure waiting clients: latency of `/health`, threads and memory of the web process while all of them are held."""

import asyncio
import json
import select
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from tests.support import pictures
from tests.support.environment import ROOT
from tests.support.service import Service
from tests.tools.bench_queue import (
    Measurement,
    request_form,
    temporary_service,
)

QUIET_SECONDS = 3.0
SUBMITTED_WITHIN_SECONDS = 180.0


@dataclass(frozen=True)
class HoldResult:
    """The number of responses by status, and what was measured until all clients were held.

    `seconds` is how long that took, `threads` the maximum of the web process, `memory` its resident memory in KB then.
    """

    responses: Counter[str]
    seconds: float
    threads: int
    memory: int


def measure_waiting() -> Iterator[Measurement]:
    """Hold 200 clients."""
    yield from _measure(200, hold_seconds=15, threads=30, memory="60 MB")


def measure_crowd() -> Iterator[Measurement]:
    """Hold 1,000 clients."""
    yield from _measure(1000, hold_seconds=120, threads=40, memory="60 KB each")


def _measure(clients: int, hold_seconds: int, threads: int, memory: str) -> Iterator[Measurement]:
    with temporary_service(WAIT_SECONDS=str(hold_seconds), MAX_QUEUE="0") as service:
        (web,) = service.children("manage.py web")
        # Start every thread that Django may use, so that only what waiting adds is measured.
        asyncio.run(_hold(service, web, 32, steps=1))
        before, memory_before = _status(web, "Threads"), _status(web, "VmRSS")
        with _health(service.url) as quiet:
            time.sleep(QUIET_SECONDS)
        with _health(service.url) as latencies:
            result = asyncio.run(_hold(service, web, clients, steps=200))
    memory_growth = result.memory - memory_before
    yield f"{clients} clients: seconds until all of them wait", f"{result.seconds:.1f} s"
    yield f"{clients} clients: threads of the web process (aim: under {threads})", f"{result.threads}, at rest {before}"
    yield (
        f"{clients} clients: memory (aim: under {memory})",
        f"{memory_growth / 1000:.0f} MB, {memory_growth / clients:.0f} KB each",
    )
    yield "health at rest, median and worst", f"{statistics.median(quiet):.1f} / {max(quiet):.1f} ms"
    yield (
        f"{clients} clients: health, median and worst (aim: under 250 ms)",
        f"{statistics.median(latencies):.1f} / {max(latencies):.1f} ms",
    )
    errors = sum(count for status, count in result.responses.items() if status not in ("200", "202"))
    counts = ", ".join(f"{count} x {status}" for status, count in sorted(result.responses.items()))
    yield f"{clients} clients: errors (aim: 0)", f"{errors} of {counts}"


async def _hold(service: Service, web: int, clients: int, steps: int) -> HoldResult:
    """Send requests of `clients` at once, and measure the web process, `web`, until all of them are held."""
    headers = {"Authorization": f"Bearer {service.token}"}
    limits = httpx.Limits(max_connections=clients)
    upload = pictures.photo(128, 128)
    async with httpx.AsyncClient(base_url=service.url, headers=headers, limits=limits, timeout=600) as client:

        async def wait() -> str:
            try:
                response = await client.post(
                    "/image-to-image", data=request_form(steps), files={"image": ("a.png", upload)}
                )
            except httpx.TransportError as error:
                return type(error).__name__
            return str(response.status_code)

        start = time.monotonic()
        before, threads = _count_rows(service), 0
        tasks = [asyncio.create_task(wait()) for _ in range(clients)]
        while _count_rows(service) < before + clients and time.monotonic() - start < SUBMITTED_WITHIN_SECONDS:
            threads = max(threads, _status(web, "Threads"))
            await asyncio.sleep(0.2)
        seconds = time.monotonic() - start
        await asyncio.sleep(QUIET_SECONDS)
        memory = _status(web, "VmRSS")
        return HoldResult(Counter(await asyncio.gather(*tasks)), seconds, threads, memory)


def _count_rows(service: Service) -> int:
    ((count,),) = service.query("SELECT COUNT(*) FROM generation_generation")
    return int(count)


@contextmanager
def _health(url: str) -> Iterator[list[float]]:
    """Request `/health` from another process within this context. Afterwards the list has the latencies in ms."""
    command = [sys.executable, "-m", "tests.tools.bench_waiting", url]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    latencies: list[float] = []
    try:
        yield latencies
    finally:
        latencies += json.loads(process.communicate()[0])


def _request_health(url: str) -> list[float]:
    """Request `/health` until standard input ends, and return the latencies in milliseconds."""
    latencies = []
    with httpx.Client(base_url=url, timeout=60) as client:
        while not select.select([sys.stdin], [], [], 0.02)[0]:
            start = time.perf_counter()
            client.get("/health").raise_for_status()
            latencies.append(1000 * (time.perf_counter() - start))
    return latencies


def _status(process: int, field: str) -> int:
    """Return a number from the kernel's status of a process: `Threads`, or `VmRSS`, the resident memory in KB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))


if __name__ == "__main__":
    print(json.dumps(_request_health(sys.argv[1])))  # noqa: T201
