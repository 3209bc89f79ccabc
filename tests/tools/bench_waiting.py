"""What waiting clients cost: health, threads and memory of the web process while all of them are held."""

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
    Line,
    request_form,
    temporary_service,
)

QUIET_SECONDS = 3.0
SUBMITTED_WITHIN_SECONDS = 180.0


@dataclass(frozen=True)
class Held:
    """Answers by status, seconds until all waited, and the web process until then: most threads, and KB in the end."""

    answers: Counter[str]
    seconds: float
    threads: int
    memory: int


def measure_waiting() -> Iterator[Line]:
    """200 clients, the service as it is started."""
    yield from _measure(200, hold_seconds=15, threads=30, memory="60 MB")


def measure_crowd() -> Iterator[Line]:
    """1,000 clients. The queue may be a little longer than usual, so that none of them is turned away."""
    yield from _measure(1000, hold_seconds=120, threads=40, memory="60 KB each")


def _measure(clients: int, hold_seconds: int, threads: int, memory: str) -> Iterator[Line]:
    with temporary_service(WAIT_SECONDS=str(hold_seconds), MAX_QUEUE="0") as service:
        (web,) = service.children("manage.py web")
        # Every thread that Django may use has been used once: what is measured is what waiting adds.
        asyncio.run(_hold(service, web, 32, steps=1))
        before, memory_before = _status(web, "Threads"), _status(web, "VmRSS")
        with _health(service.url) as quiet:
            time.sleep(QUIET_SECONDS)
        with _health(service.url) as latencies:
            held = asyncio.run(_hold(service, web, clients, steps=200))
    added = held.memory - memory_before
    yield f"{clients} clients: seconds until all of them wait", f"{held.seconds:.1f} s"
    yield f"{clients} clients: threads of the web process (aim: under {threads})", f"{held.threads}, at rest {before}"
    yield f"{clients} clients: memory (aim: under {memory})", f"{added / 1000:.0f} MB, {added / clients:.0f} KB each"
    yield "health at rest, median and worst", f"{statistics.median(quiet):.1f} / {max(quiet):.1f} ms"
    yield (
        f"{clients} clients: health, median and worst (aim: under 250 ms)",
        f"{statistics.median(latencies):.1f} / {max(latencies):.1f} ms",
    )
    errors = sum(count for status, count in held.answers.items() if status not in ("200", "202"))
    counted = ", ".join(f"{count} x {status}" for status, count in sorted(held.answers.items()))
    yield f"{clients} clients: errors (aim: 0)", f"{errors} of {counted}"


async def _hold(service: Service, web: int, clients: int, steps: int) -> Held:
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
        before, threads = _submitted(service), 0
        held = [asyncio.create_task(wait()) for _ in range(clients)]
        while _submitted(service) < before + clients and time.monotonic() - start < SUBMITTED_WITHIN_SECONDS:
            threads = max(threads, _status(web, "Threads"))
            await asyncio.sleep(0.2)
        seconds = time.monotonic() - start
        await asyncio.sleep(QUIET_SECONDS)
        memory = _status(web, "VmRSS")
        return Held(Counter(await asyncio.gather(*held)), seconds, threads, memory)


def _submitted(service: Service) -> int:
    ((count,),) = service.query("SELECT COUNT(*) FROM generation_generation")
    return int(count)


@contextmanager
def _health(url: str) -> Iterator[list[float]]:
    """Ask for health meanwhile, in a process of its own; afterwards the list holds the latencies in milliseconds."""
    command = [sys.executable, "-m", "tests.tools.bench_waiting", url]
    asking = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    latencies: list[float] = []
    try:
        yield latencies
    finally:
        latencies += json.loads(asking.communicate()[0])


def _ask_health(url: str) -> list[float]:
    """Latencies until standard input ends."""
    latencies = []
    with httpx.Client(base_url=url, timeout=60) as client:
        while not select.select([sys.stdin], [], [], 0.02)[0]:
            start = time.perf_counter()
            client.get("/health").raise_for_status()
            latencies.append(1000 * (time.perf_counter() - start))
    return latencies


def _status(process: int, field: str) -> int:
    """A number of the kernel's: `Threads`, or `VmRSS`, resident memory in KB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:")))


if __name__ == "__main__":
    print(json.dumps(_ask_health(sys.argv[1])))  # noqa: T201
