"""`make chaos`: a real service under a seeded schedule of faults. At the end nothing is lost, doubled or left behind.

Three users send small requests while workers, Redis and the web process are killed, drained, paused and locked out. Equal
requests must give the very files that an undisturbed run gave.
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
from collections.abc import Callable, Iterator, Sequence
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

from tests.support import pictures
from tests.support.service import (
    WAIT_SECONDS,
    Service,
    paused,
    wait_until,
    wait_while_progress,
)

USERS = ("alice", "bob", "charlie")
CLIENTS_OF_A_USER = 3
LEASE_SECONDS = 2.0
CANCELED_SHARE = 0.1

TOKENS = f"""
from accounts.models import ApiToken, User
for name in {USERS}:
    print(ApiToken.objects.issue(User.objects.create_user(name), "chaos")[1])
"""
LEDGER = """
import json
from datetime import timedelta
from generation.maintenance import reaper
from generation.models import FileDeletion, Generation, StagedFiles
reaper.reap(abandoned=timedelta(0))
print(json.dumps({
    "rows": [{
        "id": str(row.pk), "state": row.state, "code": row.error_code, "attempt": row.attempt, "crash_count": row.crash_count,
        "wanted": row.image_count, "images": [image.file.name for image in row.images.all()],
        "others": [row.input.name, row.input_thumbnail.name, *(image.thumbnail.name for image in row.images.all())],
    } for row in Generation.objects.prefetch_related("images")],
    "unnamed": [str(row) for model in (StagedFiles, FileDeletion) for row in model.objects.values()],
}))
"""


@dataclass(frozen=True)
class Wish:
    """A request that takes an instant to make. Equal ones must give equal files."""

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
class Accepted:
    """A wish that the service took, and whether its user then asked to cancel it."""

    id: str
    wish: Wish
    token: str
    was_canceled: bool = False


@dataclass
class Report:
    """What happened, and what must not have happened: `troubles`."""

    seed: int
    accepted: list[Accepted] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)
    troubles: list[str] = field(default_factory=list)
    log: str = ""

    def __str__(self) -> str:
        lines = [f"seed {self.seed}: {len(self.accepted)} accepted requests, {len(self.faults)} faults"]
        lines += self.figures
        if self.troubles:
            lines += ["faults:", *self.faults, "the end of the log:", *self.log.splitlines()[-150:], "TROUBLES:"]
            lines += self.troubles
        return "\n".join(lines)


WISHES = [Wish(*values) for values in product((1, 2), (1, 4), (1, 2))]
UPLOAD = pictures.photo(128, 128)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--minutes", type=float, default=5.0, help="how long faults go on")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)  # noqa: T201
    with tempfile.TemporaryDirectory(prefix="chaos") as folder:
        report = run(options.seed, 60 * options.minutes, Path(folder))
    print(report)  # noqa: T201
    raise SystemExit(bool(report.troubles))


def run(seed: int, seconds: float, folder: Path) -> Report:
    """Faults for so many seconds, but each kind at least once."""
    report = Report(seed)
    service = Service(
        folder, WORKERS="2", LEASE_SECONDS=str(LEASE_SECONDS), WAIT_SECONDS="2", DRAIN_SECONDS="0.1", MAX_QUEUE="0"
    )
    with service:
        try:
            tokens = service.manage("shell", "-v", "0", "-c", TOKENS).split()
            with service.client(tokens[0]) as client:
                undisturbed = [_make(client, wish) for wish in WISHES]
            wait_until(lambda: not _unfinished(service, "queued", "running"), "the end of the undisturbed run")
            _torment(service, tokens, seconds, report)
            _wait_for_quiet(service, report)
        except AssertionError as error:
            report.troubles.append(str(error))
    report.log = service.output
    if left := _processes(folder):
        report.troubles.append(f"processes left: {left}")
    if not report.troubles:
        ledger = json.loads(service.manage("shell", "-v", "0", "-c", LEDGER))
        report.troubles += audit(ledger, [*undisturbed, *report.accepted], folder / "media")
        report.figures.append(_figures(ledger["rows"]))
    return report


def _torment(service: Service, tokens: Sequence[str], seconds: float, report: Report) -> None:
    """The users send until the schedule of faults is through."""
    ended = threading.Event()
    dice = random.Random(report.seed)
    with ThreadPoolExecutor(len(tokens) * CLIENTS_OF_A_USER) as pool:
        clients = [
            pool.submit(_keep_sending, service, token, random.Random(dice.random()), ended, report.accepted)
            for token in tokens
            for _ in range(CLIENTS_OF_A_USER)
        ]
        try:
            for fault, pause in _schedule(dice, seconds):
                report.faults.append(f"{datetime.now(UTC):%H:%M:%S,%f} {fault.__name__}")
                # It may have ended by itself just now.
                with suppress(ProcessLookupError):
                    fault(service, dice)
                time.sleep(pause)
        finally:
            ended.set()
    report.troubles += [str(error) for client in clients if (error := client.exception()) is not None]


def _schedule(dice: random.Random, seconds: float) -> "Iterator[tuple[Fault, float]]":
    """Rounds of all faults, each in an order of its own, with pauses; some are long enough for all to come back."""
    until = time.monotonic() + seconds
    for fault in dice.sample(FAULTS, len(FAULTS)):
        yield fault, dice.choice((0.0, 0.3, 1.0))
    while True:
        for fault in dice.sample(FAULTS, len(FAULTS)):
            if time.monotonic() >= until:
                return
            yield fault, dice.choice((0.0, 0.3, 1.0, 5.0, 15.0))


def _keep_sending(
    service: Service, token: str, dice: random.Random, ended: threading.Event, accepted: list[Accepted]
) -> None:
    with service.client(token) as client:
        while not ended.is_set():
            accepted.append(_make(client, dice.choice(WISHES), dice.random() < CANCELED_SHARE))


def _make(client: httpx.Client, wish: Wish, cancel: bool = False) -> Accepted:
    """Send until it is accepted: while the service is away, and only then, it may say no.

    Raises `AssertionError` for any other answer, and when it stays away.
    """
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            response = client.post("/image-to-image", data=wish.form, files={"image": ("a.png", UPLOAD)})
        except httpx.TransportError as error:
            answer = repr(error)
        else:
            answer = f"{response.status_code}: {response.text}"
            if generation_id := response.headers.get("x-generation-id"):
                break
            assert response.status_code == 503, answer
            assert int(response.headers["retry-after"]) > 0
        assert time.monotonic() < until, f"not accepted; at last {answer}"
        time.sleep(0.2)
    assert response.status_code != 200 or len(response.json()["images"]) == wish.images, answer
    is_canceled = cancel and response.status_code == 202 and _cancel(client, generation_id)
    return Accepted(generation_id, wish, client.headers["authorization"].split()[1], is_canceled)


def _cancel(client: httpx.Client, generation_id: str) -> bool:
    """Whether it may be canceled now: a lost answer leaves that open."""
    try:
        response = client.post(f"/generations/{generation_id}/cancel")
    except httpx.TransportError:
        return True
    assert response.status_code in (200, 202, 409, 503), f"{response.status_code}: {response.text}"
    return response.status_code != 409


def _kill_worker(service: Service, dice: random.Random) -> None:
    os.kill(_busy_worker(service, dice), signal.SIGKILL)


def _drain_worker(service: Service, dice: random.Random) -> None:
    worker = _busy_worker(service, dice)
    os.kill(worker, signal.SIGTERM)
    wait_until(lambda: worker not in service.children(), f"the end of worker {worker}, which was told to end")


def _pause_worker(service: Service, dice: random.Random) -> None:
    """It goes on when its lease has expired, and another worker has its work."""
    worker = _busy_worker(service, dice)
    with paused(worker):
        time.sleep(2 * LEASE_SECONDS)


def _kill_redis(service: Service, dice: random.Random) -> None:
    os.kill(_child(service, "redis-server"), signal.SIGKILL)


def _stop_redis(service: Service, dice: random.Random) -> None:
    os.kill(_child(service, "redis-server"), signal.SIGTERM)


def _flush_redis(service: Service, dice: random.Random) -> None:
    _child(service, "redis-server")
    with closing(Redis(unix_socket_path=str(service.data_dir / "redis.sock"))) as redis:
        wait_until(lambda: _answers(redis), "the return of Redis")
        redis.flushall()


def _kill_web(service: Service, dice: random.Random) -> None:
    os.kill(_child(service, "manage.py web"), signal.SIGKILL)


def _lock_database(service: Service, dice: random.Random) -> None:
    """Nothing can be written for longer than a lease."""
    with closing(sqlite3.connect(service.data_dir / "db.sqlite3", timeout=20)) as database:
        database.execute("BEGIN IMMEDIATE")
        time.sleep(1.5 * LEASE_SECONDS)


Fault = Callable[[Service, random.Random], None]
FAULTS: Sequence[Fault] = (
    _kill_worker,
    _drain_worker,
    _pause_worker,
    _kill_redis,
    _stop_redis,
    _flush_redis,
    _kill_web,
    _lock_database,
)


def _busy_worker(service: Service, dice: random.Random) -> int:
    """A warm one, at a moment when all of those work."""

    def busy() -> list[int]:
        warm = warm_workers(service)
        return warm if len(warm) <= len(_unfinished(service, "running")) else []

    return dice.choice(_found(busy, "a worker at work"))


def _child(service: Service, name: str) -> int:
    return _found(lambda: service.children(name), name)[0]


def _found(find: Callable[[], list[int]], what: str) -> list[int]:
    found: list[int] = []

    def look() -> bool:
        found[:] = find()
        return bool(found)

    wait_until(look, f"the return of {what}")
    return found


def warm_workers(service: Service) -> list[int]:
    """Those that have loaded their engine: only then do they open their first socket, to Redis."""
    return [worker for worker in service.children("manage.py worker") if _has_socket(worker)]


def _has_socket(process: int) -> bool:
    try:
        return any(os.readlink(file).startswith("socket:") for file in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return False


def _answers(redis: Redis) -> bool:
    try:
        return bool(redis.ping())
    except RedisError:
        return False


def _wait_for_quiet(service: Service, report: Report) -> None:
    """Until all is done, those requests too whose client got no answer; then every accepted one can be asked for."""
    start = time.monotonic()
    wait_while_progress(
        lambda: not _unfinished(service, "queued", "running"),
        lambda: _unfinished(service, "queued", "running"),
        "the end of all accepted requests",
    )
    wait_until(lambda: len(service.children()) == 5, "the return of every process")
    report.figures.append(f"quiet after {time.monotonic() - start:.1f} s")
    for one in report.accepted:
        with service.client(one.token) as client:
            response = client.get(f"/generations/{one.id}")
        assert response.status_code == 200, f"{one} is gone: {response.text}"
        assert response.json()["state"] in ("succeeded", "failed", "canceled"), f"{one} is not final: {response.text}"


def _unfinished(service: Service, *states: str) -> list[tuple[Any, ...]]:
    query = "SELECT id, state, attempt, crash_count, worker FROM generation_generation WHERE state IN (?, ?)"
    return service.query(query, states[0], states[-1])


def audit(ledger: dict[str, Any], accepted: Sequence[Accepted], media: Path) -> list[str]:
    """What is wrong with the rows and files of a service at rest. The first of each wish were made undisturbed."""
    by_id = {row["id"]: row for row in ledger["rows"]}
    known = {one.id: one for one in accepted}
    troubles = [f"{one} was lost" for one in accepted if one.id not in by_id]
    wanted_files: dict[Wish, list[str]] = {}
    for one in (one for one in accepted if one.id in by_id):
        wanted_files.setdefault(one.wish, _digests(by_id[one.id], media))
    for row in by_id.values():
        troubles += [f"{trouble}: {row}" for trouble in _faults_of(row, known.get(row["id"]), wanted_files, media)]
    named = {name for row in by_id.values() for name in (*row["images"], *row["others"])}
    stored = {str(path.relative_to(media)) for path in media.rglob("*") if path.is_file()}
    troubles += [f"no row speaks of the file {name}" for name in sorted(stored - named)]
    troubles += [f"a row speaks of {name}, which is not there" for name in sorted(named - stored)]
    return troubles + [f"left as files without a row: {row}" for row in ledger["unnamed"]]


def _faults_of(
    row: dict[str, Any], one: Accepted | None, wanted_files: dict[Wish, list[str]], media: Path
) -> Iterator[str]:
    """What is wrong with one row. One that no client knows of lost its client before the answer."""
    attempts = {Path(name).name.partition("-")[0] for name in row["images"]}
    if row["state"] == "succeeded":
        if len(row["images"]) != row["wanted"]:
            yield "not as many pictures as wanted"
        if attempts != {str(row["attempt"])}:
            yield "pictures of another attempt"
        if one is not None and _digests(row, media) != wanted_files[one.wish]:
            yield f"other pictures than the undisturbed ones of {one.wish}"
    elif row["images"]:
        yield "pictures without success"
    elif row["state"] == "failed" and (row["code"], row["crash_count"]) != ("worker_lost", 3):
        yield "failed for no good reason"
    elif row["state"] == "canceled" and (one is None or not one.was_canceled):
        yield "canceled by nobody"
    elif row["state"] in ("queued", "running"):
        yield "not final"


def _digests(row: dict[str, Any], media: Path) -> list[str]:
    return [sha256((media / name).read_bytes()).hexdigest() for name in row["images"] if (media / name).exists()]


def _figures(ledger: Sequence[dict[str, Any]]) -> str:
    states = Counter(row["state"] for row in ledger)
    counted = ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
    again, lost = sum(row["attempt"] > 1 for row in ledger), sum(row["crash_count"] for row in ledger)
    return f"{counted}; {again} were begun again, {lost} leases were lost"


def _processes(data_dir: Path) -> dict[int, str]:
    """Those that run with this DATA_DIR."""
    found = {}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if f"DATA_DIR={data_dir}\0".encode() in (process / "environ").read_bytes():
                found[int(process.name)] = (process / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


if __name__ == "__main__":
    main()
