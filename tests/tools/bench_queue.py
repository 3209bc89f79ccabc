"""Measure the queue: claims, lost workers, cancellations, starts, and the error of its forecasts."""

import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import httpx

from tests.support import pictures, servers
from tests.support.environment import ROOT
from tests.support.service import Service, model_for, wait_until, wait_while_progress
from tests.tools.chaos import warm_workers

Measurement = tuple[str, str]
"""A label, and the value with its unit."""

PROCESSES = 4
CLAIMS = 1000
USERS = 10
LOSSES = 3
STARTS = 30
CANCELS = 10
LONG_STEPS = 200
ESTIMATED = 40
MIXED_SIDES = (128, 192, 256)

FILL = f"""
import copy
from accounts.models import User
from generation.jobs import user_queues
from generation.models import Generation, State
from tests.support.generations import make_generation
users = [User.objects.create_user(f"user {{number}}") for number in range({USERS})]
first = make_generation(users[0], State.QUEUED)
rows = [copy.copy(first) for _ in range({CLAIMS} - 1)]
for number, row in enumerate(rows):
    row.pk, row.user = Generation._meta.pk.get_default(), users[number % {USERS}]
Generation.objects.bulk_create(rows)
user_queues.repair()
"""
CLAIM = """
import json, os, sys, time
from generation.jobs import queue
print("ready", flush=True)
sys.stdin.readline()
times, ids = [time.time()], []
while batch := queue.claim("default", str(os.getpid()), {"dreamsite/tiny-edit": ""}):
    ids += [str(generation.pk) for generation in batch]
    times.append(time.time())
print(json.dumps([times, ids]))
"""


@contextmanager
def temporary_service(**environment: str) -> Iterator[Service]:
    with (
        tempfile.TemporaryDirectory(prefix="bench") as folder,
        Service(Path(folder), CONNECTIONS_PER_ADDRESS="0", REUSE_RESULTS="off", **environment) as service,
    ):
        yield service


def request_form(steps: int, seed: int = 7, images: int = 1) -> dict[str, str]:
    return {
        "prompt": "make it night",
        "model_id": model_for(steps),
        "seed": str(seed),
        "num_inference_steps": str(steps),
        "num_images_per_prompt": str(images),
    }


def measure_claims() -> Iterator[Measurement]:
    """Let several processes do nothing but claim until the queue is empty."""
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        yield _claims("SQLite", {"DATA_DIR": folder, "DATABASE_URL": ""})
    with tempfile.TemporaryDirectory(prefix="bench") as folder, servers.postgresql() as server:
        yield _claims("PostgreSQL", {"DATA_DIR": folder, "DATABASE_URL": server.url})


def _claims(database: str, place: dict[str, str]) -> Measurement:
    environment = {**os.environ, **place, "LIMITS": "off"}
    manage = [sys.executable, "manage.py"]
    subprocess.run([*manage, "migrate", "-v", "0"], cwd=ROOT, env=environment, check=True)
    subprocess.run([*manage, "shell", "-v", "0", "-c", FILL], cwd=ROOT, env=environment, check=True)
    command, pipe = [*manage, "shell", "-v", "0", "-c", CLAIM], subprocess.PIPE
    claimers = [
        subprocess.Popen(command, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True)
        for _ in range(PROCESSES)
    ]
    for claimer in claimers:
        assert claimer.stdout is not None
        assert claimer.stdout.readline() == "ready\n"
    for claimer in claimers:
        assert claimer.stdin is not None
        claimer.stdin.write("go\n")
        claimer.stdin.flush()
    results = [json.loads(claimer.communicate()[0]) for claimer in claimers]
    ids = [generation_id for _, batch in results for generation_id in batch]
    seconds = max(times[-1] for times, _ in results) - min(times[0] for times, _ in results)
    longest = max(after - before for times, _ in results for before, after in pairwise(times))
    return (
        f"claims per second, {PROCESSES} processes, {database}, {CLAIMS} waiting at first",
        f"{len(ids) / seconds:.0f} ({len(ids)} claimed, {len(ids) - len(set(ids))} twice, longest {longest:.2f} s)",
    )


def measure_loss() -> Iterator[Measurement]:
    """Kill the worker that runs a request, and wait until another worker runs it."""
    times = []
    with temporary_service(WORKERS="2", WAIT_SECONDS="0") as service, service.client() as client:
        for _ in range(LOSSES):
            wait_until(lambda: len(warm_workers(service)) == 2, "the return of the workers")
            generation_id = _submit(client, request_form(LONG_STEPS), 256)
            _wait_for(service, generation_id, "running", attempt=1)
            time.sleep(1)
            os.kill(busiest(warm_workers(service)), signal.SIGKILL)
            start = time.monotonic()
            _wait_for(service, generation_id, "running", attempt=2)
            times.append(time.monotonic() - start)
            client.post(f"/generations/{generation_id}/cancel").raise_for_status()
            _wait_for(service, generation_id, "canceled", attempt=2)
    yield (
        "from kill -9 of a worker to its request running again, median and worst",
        f"{statistics.median(times):.1f} / {max(times):.1f} s (leases of 15 s)",
    )


def measure_cancel() -> Iterator[Measurement]:
    """Cancel a long request while another is queued. Measure, in steps of the first, when the other starts."""
    times = []
    with temporary_service(WAIT_SECONDS="0") as service, service.client() as client:
        generation_id = _submit(client, request_form(50), 256)
        _wait_for(service, generation_id, "succeeded")
        step = client.get(f"/generations/{generation_id}").json()["timings"]["phases"]["denoising"] / 50
        rng = random.Random(4)
        for _ in range(CANCELS):
            generation_id = _submit(client, request_form(LONG_STEPS), 256)
            _wait_for(service, generation_id, "running")
            next_id = _submit(client, request_form(1), 128)
            time.sleep(1 + step * rng.random())
            start = time.time()
            client.post(f"/generations/{generation_id}/cancel").raise_for_status()
            _wait_for(service, next_id, "succeeded")
            times.append(_time(service, "started", next_id) - start)
    yield (
        "from cancel to the worker being free, median and worst (aim: under 1.5 steps)",
        f"{statistics.median(times) / step:.1f} / {max(times) / step:.1f} steps of {1000 * step:.0f} ms",
    )


def measure_start() -> Iterator[Measurement]:
    """Send one request after another to an idle worker, and measure when each starts."""
    queue_times, total_times = [], []
    with temporary_service(WAIT_SECONDS="60") as service, service.client() as client:
        for _ in range(STARTS):
            time.sleep(0.3)
            start = time.time()
            generation_id = _submit(client, request_form(1), 128)
            started = _time(service, "started", generation_id)
            queue_times.append(1000 * (started - _time(service, "created", generation_id)))
            total_times.append(1000 * (started - start))
    quantiles = statistics.quantiles(queue_times, n=10)
    yield (
        "from submit to start on an idle worker, p50 and p90 (aim: p50 under 25 ms)",
        f"{statistics.median(queue_times):.1f} / {quantiles[8]:.1f} ms",
    )
    yield "the same from the client's first byte, p50", f"{statistics.median(total_times):.1f} ms"


def measure_estimates() -> Iterator[Measurement]:
    """Compare estimated with real finishes of two users' mixed requests, once all are queued and again halfway."""
    errors, unknown = [], 0
    with temporary_service(WORKERS="2", WAIT_SECONDS="0") as service:
        bob = service.manage("createtoken", "bob", "--name", "bench", "--create")
        with service.client() as first, service.client(bob) as second:
            for side in MIXED_SIDES:
                _wait_for(service, _submit(first, request_form(10), side), "succeeded")
            rng = random.Random(4)
            requests = [
                (client, _submit(client, _random_form(rng), rng.choice(MIXED_SIDES)))
                for _ in range(ESTIMATED // 2)
                for client in (first, second)
            ]
            estimates = [*_estimates(requests)]
            wait_while_progress(
                lambda: _count_final(service) >= ESTIMATED // 2,
                lambda: _count_final(service),
                "the end of the first half",
            )
            estimates += _estimates(requests)
            wait_while_progress(
                lambda: _count_final(service) >= ESTIMATED + len(MIXED_SIDES),
                lambda: _count_final(service),
                "the end of all",
            )
        for generation_id, estimate_time, finish in estimates:
            if finish is None:
                unknown += 1
            else:
                real = _time(service, "finished", generation_id) - estimate_time
                errors.append(abs(finish - estimate_time - real) / real)
    figures = f"{statistics.median(errors):.0%} / {statistics.quantiles(errors, n=10)[8]:.0%}"
    yield (
        "|estimated - real| / real of finishes, median and p90 (aim: median under 20 %)",
        f"{figures} of {len(errors)} estimates, {unknown} without an estimate",
    )


def _random_form(rng: random.Random) -> dict[str, str]:
    return request_form(rng.choice((5, 10, 20, 40)), rng.randrange(1000), rng.choice((1, 1, 2)))


def _estimates(requests: Sequence[tuple[httpx.Client, str]]) -> Iterator[tuple[str, float, float | None]]:
    """Yield the id of each request that has not ended, the time of the estimate, and the estimated finish if known."""
    for client, generation_id in requests:
        estimate_time = time.time()
        record = client.get(f"/generations/{generation_id}").raise_for_status().json()
        if forecast := record["waiting"] or record["progress"]:
            finish = forecast["estimated_finish"]
            yield generation_id, estimate_time, datetime.fromisoformat(finish).timestamp() if finish else None


def _count_final(service: Service) -> int:
    ((count,),) = service.query("SELECT COUNT(*) FROM generation_generation WHERE finished IS NOT NULL")
    return int(count)


def _submit(client: httpx.Client, form: dict[str, str], side: int) -> str:
    upload = pictures.photo(side, side)
    response = client.post("/image-to-image", data=form, files={"image": ("a.png", upload)}).raise_for_status()
    generation_id: str = response.json()["id"]
    return generation_id


def _wait_for(service: Service, generation_id: str, state: str, attempt: int = 1) -> None:
    query = "SELECT 1 FROM generation_generation WHERE id = ? AND state = ? AND attempt = ?"
    values = (generation_id.replace("-", ""), state, attempt)
    wait_until(lambda: service.query(query, *values), f"the state {state} of {generation_id}")


def _time(service: Service, column: str, generation_id: str) -> float:
    query = f"SELECT {column} FROM generation_generation WHERE id = ?"  # noqa: S608  the column is not user input
    ((text,),) = service.query(query, generation_id.replace("-", ""))
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def busiest(processes: Sequence[int]) -> int:
    """Return the process that uses the most CPU time now."""
    before = {process: _ticks(process) for process in processes}
    time.sleep(0.3)
    return max(processes, key=lambda process: _ticks(process) - before[process])


def _ticks(process: int) -> int:
    """Return the CPU time of a process, in clock ticks."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
