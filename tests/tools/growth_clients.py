"""Clients that `tests.tools.bench_growth_clients` and `bench_growth_workers` hold: event streams, and requests that wait.

They are bare connections: a client library of their own number would take more of the machine than the service.
"""

import asyncio
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx

from tests.support import pictures
from tests.support.environment import ROOT
from tests.support.service import WAIT_SECONDS, wait_until

_PAUSE = 0.1
_CONNECTING = 50
"""How many clients connect at a time."""
_OF_ADDRESS = 1_000
"""How many clients an address has before more connect from the next one, all on loopback."""


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


class Held:
    """The clients that are held, each with the id of its generation if that is known."""

    def __init__(self, web: WebProcesses) -> None:
        self._web = web
        self._readers: list[asyncio.StreamReader] = []
        self._writers: list[asyncio.StreamWriter] = []
        self._ids: list[str] = []

    def __len__(self) -> int:
        return len(self._readers)

    async def open_streams(self, token: str, ids: Sequence[str]) -> None:
        """Open an event stream of each of these generations, and wait for its first event."""
        head = f"HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n"
        requests = [f"GET /generations/{pk}/events?previews=0 {head}".encode() for pk in ids]
        await self._open(requests, b"event: queued")
        self._ids += ids

    async def open_requests(self, token: str, count: int, is_queued: Callable[[int], bool]) -> None:
        """Send so many requests for pictures, which no worker makes. `is_queued` says whether so many in all are."""
        request = httpx.Request(
            "POST",
            f"http://localhost:{self._web.port}/image-to-image",
            data={"prompt": "make it night", "num_inference_steps": "1"},
            files={"image": ("a.png", pictures.photo(64, 64))},
        )
        body = request.read()
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        text = f"POST /image-to-image HTTP/1.1\r\n{head}Authorization: Bearer {token}\r\n\r\n".encode()
        # A part at a time: the service refuses what would wait for Django for too long.
        for begin in range(0, count, _CONNECTING):
            await self._open([text + body] * min(_CONNECTING, count - begin), b"")
            while not is_queued(len(self)):
                await asyncio.sleep(_PAUSE)

    async def _open(self, requests: Sequence[bytes], first: bytes) -> None:
        gate = asyncio.Semaphore(_CONNECTING)

        # An address may have half of a process's connections.
        address = f"127.0.0.{2 + len(self) // _OF_ADDRESS}"

        async def connect(request: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            async with gate:
                reader, writer = await asyncio.open_connection("127.0.0.1", self._web.port, local_addr=(address, 0))
                writer.write(request)
                await writer.drain()
                if first:
                    await asyncio.wait_for(reader.readuntil(first), WAIT_SECONDS)
                return reader, writer

        for reader, writer in await asyncio.gather(*map(connect, requests)):
            self._readers.append(reader)
            self._writers.append(writer)

    async def send_each_an_event(self, events: "subprocess.Popen[str]") -> list[float]:
        """Return the seconds from the first publication until each client has its event, in order.

        `events` is a process of `growth_workers.publish_events`.
        """
        assert events.stdin is not None
        assert events.stdout is not None
        # A stream begins with the last events of before.
        mark = uuid4().hex
        events.stdin.write(f"{mark} {' '.join(dict.fromkeys(self._ids))}\n")
        events.stdin.flush()
        ends = await self._read_all(mark.encode())
        begin = float(await asyncio.to_thread(events.stdout.readline))
        return [end - begin for end in ends]

    async def read_answers(self) -> list[float]:
        """Return when each held request has its answer, in order, as Unix times."""
        return await self._read_all(b"\r\n\r\n")

    async def _read_all(self, text: bytes) -> list[float]:
        async def read(reader: asyncio.StreamReader) -> float:
            await asyncio.wait_for(reader.readuntil(text), 10 * WAIT_SECONDS)
            return time.time()

        return sorted(await asyncio.gather(*map(read, self._readers)))

    def close(self) -> None:
        for writer in self._writers:
            with suppress(OSError):
                writer.close()


async def health(port: int, stop: asyncio.Event) -> list[float]:
    """Return the seconds of requests of `/health` on new connections, one after another until `stop`, one at least."""
    seconds: list[float] = []
    while not seconds or not stop.is_set():
        begin = time.perf_counter()
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert b" 200 " in await reader.readline()
        writer.close()
        seconds.append(time.perf_counter() - begin)
        await asyncio.sleep(_PAUSE)
    return seconds


def _answers(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=WAIT_SECONDS).status_code == 200
    except httpx.TransportError:
        return False
