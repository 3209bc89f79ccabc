"""What `tests.tools.bench_growth` measures of web processes: clients that are held, and event streams.

The clients are bare connections: a client library of their own number would take more of the machine than the service.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx

from tests.support import pictures
from tests.support.environment import ROOT
from tests.support.service import WAIT_SECONDS, wait_until

HELD_SECONDS = 10.0
PROBES = 40
_CONNECTING = 100
"""How many clients connect at a time."""


@dataclass(frozen=True)
class WebProcesses:
    """Running web processes behind one address."""

    port: int
    ids: Sequence[int]

    def cpu_seconds(self) -> float:
        """Return the CPU time of all of them so far."""
        fields = [Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split() for process in self.ids]
        return sum(int(times[11]) + int(times[12]) for times in fields) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Return the resident memory of all of them, in bytes."""
        pages = sum(int(Path(f"/proc/{process}/statm").read_text().split()[1]) for process in self.ids)
        return pages * os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class Held:
    """What was measured while clients were held: seconds of `/health` and of the way of an event, and shares for each client.

    `cpu` is the share of one core that the web processes take for all of them, `memory` the bytes of one client.
    """

    health: list[float]
    events: list[float]
    cpu: float
    memory: float


@contextmanager
def web_processes(environment: Mapping[str, str], count: int) -> Iterator[WebProcesses]:
    """Run `count` web processes on one address; the database is migrated, and Redis runs."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        port = listener.getsockname()[1]
        command = [sys.executable, "manage.py", "web", "--fd", str(listener.fileno())]
        processes = [
            subprocess.Popen(command, cwd=ROOT, env=dict(environment), pass_fds=[listener.fileno()])
            for _ in range(count)
        ]
    try:
        wait_until(lambda: _answers(port), "the start of the web processes")
        yield WebProcesses(port, [process.pid for process in processes])
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(WAIT_SECONDS)


async def hold_streams(web: WebProcesses, token: str, ids: Sequence[str], events: "subprocess.Popen[str]") -> Held:
    """Hold an event stream of each of these generations. `events` is a process of `growth_queue.publish_events`."""
    requests = [
        f"GET /generations/{pk}/events?previews=0 HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode()
        for pk in ids
    ]
    return await _hold(web, requests, b"event: queued", list(zip(ids, range(len(ids)), strict=True)), events)


async def hold_requests(web: WebProcesses, token: str, clients: int, count_rows: Callable[[], int]) -> Held:
    """Hold so many requests for pictures, which no worker makes. `count_rows` returns how many there are."""
    form = {"prompt": "make it night", "num_inference_steps": "1"}
    request = httpx.Request(
        "POST",
        f"http://localhost:{web.port}/image-to-image",
        data=form,
        files={"image": ("a.png", pictures.photo(64, 64))},
    )
    body = request.read()
    head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
    text = f"POST /image-to-image HTTP/1.1\r\n{head}Authorization: Bearer {token}\r\n\r\n"
    before = count_rows()
    return await _hold(web, [text.encode() + body] * clients, b"", [], None, lambda: count_rows() >= before + clients)


async def _hold(
    web: WebProcesses,
    requests: Sequence[bytes],
    first: bytes,
    watched: Sequence[tuple[str, int]],
    events: "subprocess.Popen[str] | None",
    are_held: Callable[[], bool] = lambda: True,
) -> Held:
    """Send each request on a connection, wait for `first` in its response, and measure while all of them are held."""
    memory = web.memory()
    gate = asyncio.Semaphore(_CONNECTING)

    async def connect(request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        async with gate:
            reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
            writer.write(request)
            await writer.drain()
            if first:
                await asyncio.wait_for(reader.readuntil(first), WAIT_SECONDS)
            return reader, writer

    clients = await asyncio.gather(*map(connect, requests))
    try:
        while not are_held():
            await asyncio.sleep(0.2)
        grown = web.memory() - memory
        cpu, begin = web.cpu_seconds(), time.monotonic()
        await asyncio.sleep(HELD_SECONDS)
        share = (web.cpu_seconds() - cpu) / (time.monotonic() - begin)
        health = await _health(web.port)
        ways = [await _way(clients[at][0], pk, events) for pk, at in watched[:PROBES]] if events else []
        return Held(health, ways, share, max(0.0, grown / len(requests)))
    finally:
        for _, writer in clients:
            writer.close()


async def _health(port: int) -> list[float]:
    """Return the seconds of requests of `/health` on new connections, one after another."""
    seconds = []
    for _ in range(PROBES):
        begin = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b" 200 " in await reader.readline()
        writer.close()
        seconds.append(time.perf_counter() - begin)
        await asyncio.sleep(0.05)
    return seconds


async def _way(reader: asyncio.StreamReader, generation_id: str, events: "subprocess.Popen[str]") -> float:
    """Return the seconds from an event's publication until its client has it."""
    assert events.stdin is not None
    assert events.stdout is not None
    # A stream begins with the last events of before.
    mark = uuid4().hex
    events.stdin.write(f"{generation_id} {mark}\n")
    events.stdin.flush()
    await asyncio.wait_for(reader.readuntil(mark.encode()), WAIT_SECONDS)
    end = time.time()
    return end - float(events.stdout.readline())


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=WAIT_SECONDS).status_code == 200
    except httpx.TransportError:
        return False
