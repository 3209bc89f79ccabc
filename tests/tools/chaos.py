"""`make chaos`: inject faults into a real service, then check that nothing is lost, duplicated or left over.

Three users send small requests while workers, their parent and the web process are killed, workers drained and paused,
Redis killed, stopped and flushed, and the database locked. Equal requests must give the same files as a reference run
without faults.
"""

import json
import os
import random
import signal
import sqlite3
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from itertools import product
from pathlib import Path
from typing import Any

import httpx
from redis import Redis, RedisError

from generation.images import encoding
from tests.support import pictures
from tests.support.service import (
    WAIT_SECONDS,
    Service,
    paused,
    wait_until,
    wait_while_progress,
)

USERS = ("alice", "bob", "charlie")
LEASE_SECONDS = 2.0
CANCELED_SHARE = 0.1

TOKENS = f"""
from accounts.models import ApiToken, User
for name in {USERS}:
    print(ApiToken.objects.issue(User.objects.create_user(name), "chaos")[1])
"""
SNAPSHOT = """
import json
from datetime import timedelta
from generation.maintenance import reaper
from generation.models import FileDeletion, Generation, StagedFiles
reaper.reap(abandoned=timedelta(0))
print(json.dumps({
    "rows": [{
        "id": str(row.pk), "state": row.state, "error_code": row.error_code,
        "attempt": row.attempt, "crash_count": row.crash_count,
        "image_count": row.image_count, "images": [image.file.name for image in row.images.all()],
        "other_files": [row.input.name, row.input_thumbnail.name, *(image.thumbnail.name for image in row.images.all())],
    } for row in Generation.objects.prefetch_related("images")],
    "file_records": [str(row) for model in (StagedFiles, FileDeletion) for row in model.objects.values()],
}))
"""


@dataclass(frozen=True)
class ChaosRequest:
    """A request that runs in a fraction of a second. Equal requests must give equal files."""

    seed: int
    steps: int
    images: int

    @property
    def form(self) -> dict[str, str]:
        return {
            "prompt": "make it night",
            "seed": str(self.seed),
            "num_inference_steps": str(self.steps),
            "num_images_per_prompt": str(self.images),
        }


@dataclass(frozen=True)
class AcceptedRequest:
    """A request that the service accepted as the generation `id`; `can_be_canceled` if its cancellation was requested."""

    id: str
    request: ChaosRequest
    token: str
    can_be_canceled: bool = False


@dataclass
class Report:
    """The result of a run, which has passed if `problems` is empty."""

    seed: int
    accepted_requests: list[AcceptedRequest] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    measurements: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    log: str = ""

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {len(self.accepted_requests)} accepted requests, {len(self.faults)} faults"]
        lines += self.measurements
        if self.problems:
            lines += ["faults:", *self.faults, "the end of the log:", *self.log.splitlines()[-150:], "PROBLEMS:"]
            lines += self.problems
        return "\n".join(lines)


REQUESTS = [ChaosRequest(*values) for values in product((1, 2), (1, 4), (1, 2))]
UPLOAD = pictures.photo(128, 128)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long to inject faults")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        report = run(options.seed, 60 * options.minutes, Path(folder))
    print(report)  # noqa: T201
    raise SystemExit(bool(report.problems))


def run(seed: int, seconds: float, folder: Path, clients_per_user: int = 3) -> Report:
    """Inject faults for about `seconds`, each kind at least once, and check the rows and files afterwards."""
    report = Report(seed)
    service = Service(
        folder, WORKERS="2", LEASE_SECONDS=str(LEASE_SECONDS), WAIT_SECONDS="2", DRAIN_SECONDS="0.1", MAX_QUEUE="0"
    )
    with service:
        try:
            tokens = service.manage("shell", "-v", "0", "-c", TOKENS).split()
            with service.client(tokens[0]) as client:
                reference = [_send(client, request) for request in REQUESTS]
            wait_until(lambda: not _unfinished(service, "queued", "running"), "the end of the reference run")
            _inject_faults(service, tokens * clients_per_user, seconds, report)
            _wait_until_idle(service, report)
        except AssertionError as error:
            report.problems.append(str(error))
    report.log = service.output
    if processes := _processes(folder):
        report.problems.append(f"processes that still run: {processes}")
    if not report.problems:
        snapshot = json.loads(service.manage("shell", "-v", "0", "-c", SNAPSHOT))
        report.problems += audit(snapshot, [*reference, *report.accepted_requests], folder / "media")
        report.measurements.append(_summary(snapshot["rows"]))
    return report


def _inject_faults(service: Service, tokens: Sequence[str], seconds: float, report: Report) -> None:
    """Inject the scheduled faults while a client for each of the `tokens` sends requests."""
    stop = threading.Event()
    rng = random.Random(report.seed)
    with ThreadPoolExecutor(len(tokens)) as pool:
        clients = [
            pool.submit(_keep_sending, service, token, random.Random(rng.random()), stop, report.accepted_requests)
            for token in tokens
        ]
        try:
            for fault, pause in _schedule(rng, seconds):
                report.faults.append(f"{datetime.now(UTC):%H:%M:%S,%f} {fault.__name__}")
                # The process may just have ended by itself.
                with suppress(ProcessLookupError):
                    fault(service, rng)
                time.sleep(pause)
        finally:
            stop.set()
    report.problems += [str(error) for client in clients if (error := client.exception()) is not None]


def _schedule(rng: random.Random, seconds: float) -> "Iterator[tuple[Fault, float]]":
    """Yield each fault in rounds of random order, with a pause in seconds that follows it.

    The first round is always complete. The long pauses let all processes start again.
    """
    until = time.monotonic() + seconds
    for fault in rng.sample(FAULTS, len(FAULTS)):
        yield fault, rng.choice((0.0, 0.3, 1.0))
    while True:
        for fault in rng.sample(FAULTS, len(FAULTS)):
            if time.monotonic() >= until:
                return
            yield fault, rng.choice((0.0, 0.3, 1.0, 5.0, 15.0))


def _keep_sending(
    service: Service, token: str, rng: random.Random, stop: threading.Event, accepted_requests: list[AcceptedRequest]
) -> None:
    """Send random requests, one after another, until `stop` is set. Request the cancellation of some."""
    with service.client(token) as client:
        while not stop.is_set():
            accepted_requests.append(_send(client, rng.choice(REQUESTS), rng.random() < CANCELED_SHARE))


def _send(client: httpx.Client, request: ChaosRequest, should_cancel: bool = False) -> AcceptedRequest:
    """Send a request, and send it again while there is no connection or the response is a 503 with `Retry-After`.

    Raises `AssertionError` if it is not accepted within `WAIT_SECONDS`, or if there is any other response.
    """
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            response = client.post(
                "/image-to-image",
                data=request.form,
                files={"image": ("a.png", UPLOAD)},
                headers={"Cache-Control": "no-cache"},
            )
        except httpx.TransportError as error:
            answer = repr(error)
        else:
            answer = f"{response.status_code}: {response.text}"
            if generation_id := response.headers.get("x-generation-id"):
                break
            assert response.status_code == 503, answer
            assert int(response.headers["retry-after"]) > 0
        assert time.monotonic() < until, f"not accepted; the last response was {answer}"
        time.sleep(0.2)
    assert response.status_code != 200 or len(response.json()["images"]) == request.images, answer
    can_be_canceled = should_cancel and response.status_code == 202 and _cancel(client, generation_id)
    return AcceptedRequest(generation_id, request, client.headers["authorization"].split()[1], can_be_canceled)


def _cancel(client: httpx.Client, generation_id: str) -> bool:
    """Request the cancellation. Return whether the generation may be canceled now, also if the response was lost."""
    try:
        response = client.post(f"/generations/{generation_id}/cancel")
    except httpx.TransportError:
        return True
    assert response.status_code in (200, 202, 409, 503), f"{response.status_code}: {response.text}"
    return response.status_code != 409


def _kill_worker(service: Service, rng: random.Random) -> None:
    os.kill(_busy_worker(service, rng), signal.SIGKILL)


def _kill_parent_of_workers(service: Service, rng: random.Random) -> None:
    _busy_worker(service, rng)
    os.kill(_child(service, "manage.py workers"), signal.SIGKILL)


def _drain_worker(service: Service, rng: random.Random) -> None:
    worker = _busy_worker(service, rng)
    os.kill(worker, signal.SIGTERM)
    wait_until(lambda: worker not in service.workers(), f"the end of worker {worker} after SIGTERM")


def _pause_worker(service: Service, rng: random.Random) -> None:
    """Pause a worker until its lease has expired, so another one can claim its generation."""
    worker = _busy_worker(service, rng)
    with paused(worker):
        time.sleep(2 * LEASE_SECONDS)


def _kill_redis(service: Service, rng: random.Random) -> None:
    os.kill(_child(service, "redis.sock"), signal.SIGKILL)


def _stop_redis(service: Service, rng: random.Random) -> None:
    os.kill(_child(service, "redis.sock"), signal.SIGTERM)


def _flush_redis(service: Service, rng: random.Random) -> None:
    _child(service, "redis.sock")
    with closing(Redis(unix_socket_path=str(service.data_dir / "redis.sock"))) as redis:
        wait_until(lambda: _is_ready(redis), "the return of Redis")
        redis.flushall()


def _kill_web(service: Service, rng: random.Random) -> None:
    os.kill(_child(service, "manage.py web"), signal.SIGKILL)


def _lock_database(service: Service, rng: random.Random) -> None:
    """Hold the write lock for longer than a lease."""
    with closing(sqlite3.connect(service.data_dir / "db.sqlite3", timeout=20)) as database:
        database.execute("BEGIN IMMEDIATE")
        time.sleep(1.5 * LEASE_SECONDS)


Fault = Callable[[Service, random.Random], None]
FAULTS: Sequence[Fault] = (
    _kill_worker,
    _kill_parent_of_workers,
    _drain_worker,
    _pause_worker,
    _kill_redis,
    _stop_redis,
    _flush_redis,
    _kill_web,
    _lock_database,
)


def _busy_worker(service: Service, rng: random.Random) -> int:
    """Wait until all warm workers are running generations, and return a random one."""

    def busy_workers() -> list[int]:
        workers = warm_workers(service)
        return workers if len(workers) <= len(_unfinished(service, "running")) else []

    return rng.choice(_wait_for(busy_workers, "a busy worker"))


def _child(service: Service, name: str) -> int:
    """Return the first process of the service whose command line contains `name`, once there is one."""
    return _wait_for(lambda: service.children(name), name)[0]


def _wait_for(find_processes: Callable[[], list[int]], name: str) -> list[int]:
    """Poll `find_processes` until it returns any, and return them. Raises `AssertionError` with `name`."""
    processes: list[int] = []

    def has_processes() -> bool:
        processes[:] = find_processes()
        return bool(processes)

    wait_until(has_processes, f"the return of {name}")
    return processes


def warm_workers(service: Service) -> list[int]:
    """Return the workers that have loaded their engine: only then do they open their first socket, to Redis."""
    return [worker for worker in service.workers() if _has_socket(worker)]


def _has_socket(process: int) -> bool:
    try:
        return any(os.readlink(file).startswith("socket:") for file in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return False


def _is_ready(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False


def _wait_until_idle(service: Service, report: Report) -> None:
    """Wait until every generation has ended and every process runs, then get every accepted request by its id.

    Generations whose client got no response must end as well. Raises `AssertionError`.
    """
    start = time.monotonic()
    wait_while_progress(
        lambda: not _unfinished(service, "queued", "running"),
        lambda: _unfinished(service, "queued", "running"),
        "the end of all accepted requests",
    )
    wait_until(lambda: (len(service.children()), len(service.workers())) == (4, 2), "the return of every process")
    report.measurements.append(f"idle after {time.monotonic() - start:.1f} s")
    for accepted in report.accepted_requests:
        with service.client(accepted.token) as client:
            response = client.get(f"/generations/{accepted.id}")
        assert response.status_code == 200, f"{accepted} is missing: {response.text}"
        state = response.json()["state"]
        assert state in ("succeeded", "failed", "canceled"), f"{accepted} is not final: {response.text}"


def _unfinished(service: Service, *states: str) -> list[tuple[Any, ...]]:
    """Return id, state, attempt, crash count and worker of the generations in one or two states."""
    query = "SELECT id, state, attempt, crash_count, worker FROM generation_generation WHERE state IN (?, ?)"
    return service.query(query, states[0], states[-1])


def audit(
    snapshot: dict[str, Any],
    accepted_requests: Sequence[AcceptedRequest],
    media: Path,
    explained_errors: Collection[str] = (),
) -> list[str]:
    """Return the problems in the rows and files of an idle service.

    The first of equal `accepted_requests` is the reference run's, whose files the others must have. `explained_errors` are
    the codes of failures that the faults explain, beside three lost workers.
    """
    rows = {row["id"]: row for row in snapshot["rows"]}
    accepted_by_id = {accepted.id: accepted for accepted in accepted_requests}
    problems = [f"{accepted} was lost" for accepted in accepted_requests if accepted.id not in rows]
    reference_digests: dict[ChaosRequest, list[str]] = {}
    for accepted in accepted_requests:
        if accepted.id in rows:
            reference_digests.setdefault(accepted.request, _digests(rows[accepted.id], media))
    for row in rows.values():
        if row["error_code"] in explained_errors and not row["images"]:
            continue
        row_problems = _row_problems(row, accepted_by_id.get(row["id"]), reference_digests, media)
        problems += [f"{problem}: {row}" for problem in row_problems]
    row_files = {name for row in rows.values() for name in (*row["images"], *row["other_files"])}
    media_files = {str(path.relative_to(media)) for path in media.rglob("*") if path.is_file()}
    problems += [f"file without a row: {name}" for name in sorted(media_files - row_files)]
    problems += [f"missing file: {name}" for name in sorted(row_files - media_files)]
    return problems + [f"record of files to delete: {record}" for record in snapshot["file_records"]]


def _row_problems(
    row: dict[str, Any],
    accepted: AcceptedRequest | None,
    reference_digests: dict[ChaosRequest, list[str]],
    media: Path,
) -> Iterator[str]:
    """Yield the problems of one row. `accepted` is None if the client lost its connection before the response."""
    attempts = {Path(name).name.partition("-")[0] for name in row["images"]}
    if row["state"] == "succeeded":
        if len(row["images"]) != row["image_count"]:
            yield "wrong number of pictures"
        if attempts != {str(row["attempt"])}:
            yield "pictures of another attempt"
        if accepted is not None and _digests(row, media) != reference_digests[accepted.request]:
            yield f"pictures differ from the reference run's of {accepted.request}"
    elif row["images"]:
        yield "pictures without success"
    elif row["state"] == "failed" and (row["error_code"], row["crash_count"]) != ("worker_lost", 3):
        yield "failed without three lost workers"
    elif row["state"] == "canceled" and (accepted is None or not accepted.can_be_canceled):
        yield "canceled without a request"
    elif row["state"] in ("queued", "running"):
        yield "not final"


def _digests(row: dict[str, Any], media: Path) -> list[str]:
    """Return the SHA-256 of the pixels of each picture of a row that is in the storage: files have a time, too."""
    paths = [media / name for name in row["images"] if (media / name).exists()]
    return [sha256(encoding.decode(path.read_bytes()).tobytes()).hexdigest() for path in paths]


def _summary(rows: Sequence[dict[str, Any]]) -> str:
    states = Counter(row["state"] for row in rows)
    counts = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    restarts, losses = sum(row["attempt"] > 1 for row in rows), sum(row["crash_count"] for row in rows)
    return f"{counts}; {restarts} needed more than one attempt, {losses} leases were lost"


def _processes(data_dir: Path) -> dict[int, str]:
    """Return the command lines, by process id, of the processes that run with this DATA_DIR."""
    commands = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"DATA_DIR={data_dir}\0".encode() in (process / "environ").read_bytes():
                commands[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return commands


if __name__ == "__main__":
    main()
