"""Compare the service with LitServe and with a plain FastAPI server: the same pipeline, files, numbers, threads, requests.

Rounds of all are interleaved and compared within a round, so that other load on the machine strikes all alike. The others have
an environment of their own in `build/peers`, with torch and diffusers of the project's.
"""

import math
import os
import signal
import statistics
import subprocess
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import httpx
from PIL import Image, ImageChops, ImageStat

from tests.support import pictures, servers
from tests.support.environment import ROOT
from tests.support.service import children_of, wait_until
from tests.tools import bare_pipeline
from tests.tools.bench_queue import Measurement, busiest, temporary_service

ROUNDS = 5
REQUESTS_OF_EACH = {1: 8, 4: 4, 16: 3}
"""Requests of each client in a round, by the number of clients at a time."""

WIDTH, HEIGHT = 448, 304
WORKERS = 2
DTYPE = "float32"
LEAST_DECIBELS = 40.0
LOST_OF = 8
LOST_AFTER_SECONDS = 120.0
_TIMEOUT_SECONDS = 600.0
_PROBE_SECONDS = 0.1
_ENVIRONMENT = ROOT / "build" / "peers"
_PACKAGES = ("litserve==0.2.19", "fastapi==0.165.0", "python-multipart==0.0.34")


@dataclass
class Candidate:
    """A running server: how a picture is asked for, its processes, and what was measured."""

    name: str
    url: str
    process: int
    ask: Callable[[httpx.Client, bytes], bytes]
    workers: Callable[[], list[int]]
    headers: dict[str, str] = field(default_factory=dict)
    rates: dict[int, list[float]] = field(default_factory=lambda: {clients: [] for clients in REQUESTS_OF_EACH})
    seconds: dict[int, list[float]] = field(default_factory=lambda: {clients: [] for clients in REQUESTS_OF_EACH})
    health: list[float] = field(default_factory=list)

    def client(self, timeout: float = _TIMEOUT_SECONDS) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers=self.headers, timeout=timeout)

    def processes(self) -> list[int]:
        """Return the ids of the process and of all below it."""
        found = [self.process]
        for process in found:
            found += children_of(process)
        return found


def measure_peers() -> Iterator[Measurement]:
    _install()
    upload = pictures.photo(WIDTH, HEIGHT)
    bare = bare_pipeline.load(DTYPE)
    expected = bare(upload)
    with ExitStack() as running:
        candidates = [running.enter_context(_service()), *(running.enter_context(_peer(name)) for name in _PEERS)]
        for candidate in candidates:
            yield f"{candidate.name}: likeness to the bare pipeline's picture", _likeness(candidate, upload, expected)
        bare_seconds: list[float] = []
        for _ in range(ROUNDS):
            bare_seconds.append(statistics.mean(_seconds(lambda: bare(upload)) for _ in range(REQUESTS_OF_EACH[1])))
            for candidate in candidates:
                for clients, requests in REQUESTS_OF_EACH.items():
                    _run_round(candidate, upload, clients, requests)
        yield "the bare pipeline, requests/s", f"{1 / statistics.median(bare_seconds):.2f}"
        for candidate in candidates:
            yield from _results(candidate, bare_seconds)
            yield f"{candidate.name}: memory", f"{_memory(candidate) / 1e6:.0f} MB"
        best = [max(rates) for rates in zip(*(peer.rates[16] for peer in candidates[1:]), strict=True)]
        ratios = [ours / theirs for ours, theirs in zip(candidates[0].rates[16], best, strict=True)]
        yield "requests/s at 16, to the best other of each round", f"{statistics.median(ratios):.2f}"
        for candidate in candidates:
            yield (
                f"{candidate.name}: requests lost of {LOST_OF} after kill -9 of a worker",
                str(_lost(candidate, upload)),
            )


def _install() -> None:
    """Make the environment of the other servers, unless it is there. What it lacks is found in the project's."""
    if all((_ENVIRONMENT / "done").exists() and name in (_ENVIRONMENT / "done").read_text() for name in _PACKAGES):
        return
    subprocess.run([sys.executable, "-m", "venv", "--clear", _ENVIRONMENT], check=True)
    library = f"python{sys.version_info.major}.{sys.version_info.minor}"
    packages = _ENVIRONMENT / "lib" / library / "site-packages"
    (packages / "project.pth").write_text(sysconfig.get_path("purelib") + "\n")
    pip = [str(_ENVIRONMENT / "bin" / "pip"), "install", "--quiet", "--only-binary", ":all:"]
    subprocess.run([*pip, *_PACKAGES], check=True)
    (_ENVIRONMENT / "done").write_text("\n".join(_PACKAGES))


@contextmanager
def _service() -> Iterator[Candidate]:
    settings = {"WORKERS": str(WORKERS), "THREADS": "1", "DTYPE": DTYPE, "WAIT_SECONDS": str(int(_TIMEOUT_SECONDS))}
    with temporary_service(**settings) as service:
        headers = {"Authorization": f"Bearer {service.token}"}
        wait_until(lambda: len(service.workers()) == WORKERS, "the start of the workers")
        yield Candidate("Dreamsite", service.url, service.process.pid, _ask_service, service.workers, headers)


@contextmanager
def _peer(name: str) -> Iterator[Candidate]:
    port = servers.free_port()
    process = subprocess.Popen(
        [_ENVIRONMENT / "bin" / "python", "-m", "tests.tools.peer_servers", name.lower(), str(port)],
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    candidate = Candidate(name, f"http://127.0.0.1:{port}", process.pid, _ask_peer, lambda: children_of(process.pid))
    try:
        with candidate.client() as client:
            wait_until(lambda: _is_healthy(client), f"{name}'s start")
        yield candidate
    finally:
        below = candidate.processes()
        process.terminate()
        process.wait()
        # Some leave their workers behind.
        for other in below[1:]:
            with suppress(ProcessLookupError):
                os.kill(other, signal.SIGKILL)


_PEERS = ("LitServe", "FastAPI")


def _is_healthy(client: httpx.Client) -> bool:
    try:
        return client.get("/health").status_code == 200
    except httpx.TransportError:
        return False


def _ask_service(client: httpx.Client, upload: bytes) -> bytes:
    form = {
        "prompt": bare_pipeline.PROMPT,
        "seed": str(bare_pipeline.SEED),
        "num_inference_steps": str(bare_pipeline.STEPS),
    }
    response = client.post("/image-to-image", data=form, files={"image": ("a.png", upload)}).raise_for_status()
    (image,) = response.json()["images"]
    return client.get(image["url"]).raise_for_status().content


def _ask_peer(client: httpx.Client, upload: bytes) -> bytes:
    return client.post("/edit", files={"image": ("a.png", upload)}).raise_for_status().content


def _likeness(candidate: Candidate, upload: bytes, expected: Image.Image) -> str:
    """Return the PSNR in dB. It also warms up each worker. Raises `AssertionError` if the picture is another one."""
    with ThreadPoolExecutor(8) as pool, candidate.client() as client:
        (png, *_) = pool.map(lambda _: candidate.ask(client, upload), range(16))
    difference = ImageChops.difference(Image.open(BytesIO(png)).convert("RGB"), expected)
    error = statistics.mean(total / difference.width / difference.height for total in ImageStat.Stat(difference).sum2)
    decibels = 10 * math.log10(255**2 / error) if error else math.inf
    assert decibels >= LEAST_DECIBELS, f"{candidate.name} makes another picture: {decibels:.1f} dB"
    return f"{decibels:.1f} dB"


def _run_round(candidate: Candidate, upload: bytes, clients: int, requests: int) -> None:
    """Let each of the clients send one request after the other, while another one asks for the health."""

    def send(_: int) -> list[float]:
        with candidate.client() as client:
            return [_seconds(lambda: candidate.ask(client, upload)) for _ in range(requests)]

    ended = threading.Event()
    probe = threading.Thread(target=_probe, args=(candidate, ended))
    probe.start()
    begin = time.perf_counter()
    with ThreadPoolExecutor(clients) as pool:
        seconds = [second for of_client in pool.map(send, range(clients)) for second in of_client]
    candidate.rates[clients].append(len(seconds) / (time.perf_counter() - begin))
    candidate.seconds[clients] += seconds
    ended.set()
    probe.join()


def _probe(candidate: Candidate, ended: threading.Event) -> None:
    with candidate.client() as client:
        while not ended.wait(_PROBE_SECONDS):
            candidate.health.append(_seconds(lambda: client.get("/health").raise_for_status()))


def _results(candidate: Candidate, bare_seconds: list[float]) -> Iterator[Measurement]:
    for clients, rates in candidate.rates.items():
        seconds = candidate.seconds[clients]
        quantiles = statistics.quantiles(seconds, n=20)
        yield (
            f"{candidate.name}, {clients} at once: requests/s, p50 and p95",
            f"{statistics.median(rates):.2f}, {statistics.median(seconds):.2f} / {quantiles[-1]:.2f} s",
        )
    ratios = [rate * bare for rate, bare in zip(candidate.rates[1], bare_seconds, strict=True)]
    yield f"{candidate.name}, 1 at once: requests/s to the bare pipeline's", f"{statistics.median(ratios):.2f}"
    yield f"{candidate.name}: longest answer of /health", f"{1000 * max(candidate.health):.0f} ms"


def _memory(candidate: Candidate) -> int:
    """Return the bytes of all processes, what they share divided among them."""
    total = 0
    for process in candidate.processes():
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
        total += sum(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total


def _lost(candidate: Candidate, upload: bytes) -> int:
    """Kill the busiest worker while requests wait. Return how many of them get no picture in time."""

    def send(_: int) -> bool:
        try:
            with candidate.client(LOST_AFTER_SECONDS) as client:
                return not candidate.ask(client, upload)
        except httpx.HTTPError:
            return True

    with ThreadPoolExecutor(LOST_OF) as pool:
        lost = [pool.submit(send, number) for number in range(LOST_OF)]
        os.kill(busiest(candidate.workers()), signal.SIGKILL)
        return sum(future.result() for future in lost)


def _seconds(call: Callable[[], object]) -> float:
    begin = time.perf_counter()
    call()
    return time.perf_counter() - begin
