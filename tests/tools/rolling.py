"""`make rolling`: restart all processes of several hosts in turn, then kill them, while clients send requests.

Two web hosts, three worker hosts and one with the reaper are network namespaces of Linux, each with an address of its own.
nginx, with the site of deploy/nginx.conf, PostgreSQL, Redis and S3 are on the bridge that connects them. It needs root.

While processes restart in turn, no client may get an error, and each request must run once. When they are killed, a client that
sends its request again with the same Idempotency-Key must get it made once, with the same pictures as without faults.
"""

import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import psycopg
from redis import Redis

from tests.support.environment import ROOT
from tests.support.nginx import nginx
from tests.support.servers import PostgreSQLServer, RedisServer, S3Server, postgresql, redis_server, s3_server
from tests.support.service import WAIT_SECONDS, wait_until, wait_while_progress
from tests.tools.chaos import REQUESTS, SNAPSHOT, TOKENS, UPLOAD, AcceptedRequest, audit

BRIDGE = "dreamsite0"
NETWORK = "10.77.0"
GATEWAY = f"{NETWORK}.1"
PORT = 8000
LEASE_SECONDS = 2.0
DRAIN_SECONDS = 60.0

HOSTS = {
    "web-1": ("web",),
    "web-2": ("web",),
    "worker-1": ("worker",),
    "worker-2": ("worker",),
    "worker-3": ("worker",),
    "reaper": ("reaper",),
}
"""The command that each host runs."""

UNFINISHED = "SELECT id::text FROM generation_generation WHERE state IN ('queued', 'running')"
BUSY = "SELECT worker FROM generation_generation WHERE state = 'running'"


@dataclass
class Report:
    """What happened, by phase; the run has passed if `problems` is empty."""

    seed: int
    accepted_requests: list[AcceptedRequest] = field(default_factory=list)
    events: list[str] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)

    def note(self, event: str) -> None:
        self.events.append(f"{datetime.now(UTC):%H:%M:%S} {event}")
        print(self.events[-1], flush=True)  # noqa: T201


class Hosts:
    """The processes, each in the network namespace of its host, with a DATA_DIR of its own."""

    def __init__(self, folder: Path, database: PostgreSQLServer, redis: RedisServer, s3: S3Server) -> None:
        self._folder = folder
        self.database = database
        self.redis = redis
        self.s3 = s3
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._environment = {
            **os.environ,
            "ALLOWED_HOSTS": "127.0.0.1",
            "TRUSTED_PROXIES": GATEWAY,
            "PORT": str(PORT),
            "LIMITS": "off",
            "DATABASE_URL": database.url,
            "REDIS_URL": redis.url,
            "S3_BUCKET": s3.bucket,
            "S3_ENDPOINT_URL": s3.url,
            "S3_ACCESS_KEY": s3.access_key,
            "S3_SECRET_KEY": s3.secret_key,
            "SECRET_KEY": "the same on every host, or nobody stays signed in",
            "WATERMARK_KEY": "the same on every host, or each marks in its own way",
            "WAIT_SECONDS": "5",
            "LEASE_SECONDS": str(LEASE_SECONDS),
            "DRAIN_SECONDS": str(DRAIN_SECONDS),
            "THREADS": "1",
            "MODELS_OFFLINE": "on",
        }

    @staticmethod
    def address(host: str) -> str:
        return f"{NETWORK}.{10 + list(HOSTS).index(host)}"

    def names(self, command: str) -> list[str]:
        return [host for host, (name, *_) in HOSTS.items() if name == command]

    def manage(self, *arguments: str) -> str:
        """Return what a `manage.py` command prints, outside of all hosts."""
        environment = {**self._environment, "DATA_DIR": str(self._folder / "shell")}
        command = [sys.executable, "manage.py", *arguments]
        return subprocess.run(
            command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
        ).stdout.strip()

    def start(self, host: str) -> None:
        """Start the process of a host, and wait until it takes requests."""
        environment = {**self._environment, "DATA_DIR": str(self._folder / host), "HOST": self.address(host)}
        with (self._folder / f"{host}.log").open("ab") as log:
            self._processes[host] = subprocess.Popen(
                ["ip", "netns", "exec", host, sys.executable, "manage.py", *HOSTS[host]],
                cwd=ROOT,
                env=environment,
                stdout=log,
                stderr=log,
            )
        if HOSTS[host][0] != "reaper":
            wait_until(lambda: self._serves(host), f"the start of {host}")

    def terminate(self, host: str) -> None:
        """Stop a process as a supervisor does, and wait for its end."""
        self._signal(host, signal.SIGTERM)

    def kill(self, host: str) -> None:
        self._signal(host, signal.SIGKILL)

    def stop(self) -> None:
        """Stop all processes at once."""
        for process in self._processes.values():
            process.terminate()
        for host in list(self._processes):
            try:
                self._processes[host].wait(DRAIN_SECONDS)
            except subprocess.TimeoutExpired:
                self.kill(host)

    def unfinished(self) -> list[str]:
        """Return the ids of the generations that have not ended."""
        return self._query(UNFINISHED)

    def busy_worker(self) -> str:
        """Wait until a worker runs a generation, and return its host."""
        hosts: list[str] = []

        def is_busy() -> bool:
            with closing(Redis.from_url(self.redis.url)) as redis:
                values = [redis.get(f"dreamsite:worker:{name}") for name in self._query(BUSY)]
            busy = {json.loads(value)["pid"] for value in values if value}
            hosts[:] = [host for host, process in self._processes.items() if process.pid in busy]
            return bool(hosts)

        wait_until(is_busy, "a busy worker")
        return hosts[0]

    def log(self) -> str:
        """Return the last lines that each process has logged."""
        return "".join(
            f"{path.stem}: {line}\n"
            for path in sorted(self._folder.glob("*.log"))
            for line in path.read_text().splitlines()[-20:]
        )

    def _query(self, sql: str) -> list[str]:
        """Return the first column of the rows that the database returns."""
        with psycopg.connect(self.database.url, autocommit=True) as connection:
            return [row[0] for row in connection.execute(sql.encode())]

    def _signal(self, host: str, number: signal.Signals) -> None:
        process = self._processes.pop(host)
        process.send_signal(number)
        process.wait(WAIT_SECONDS)

    def _serves(self, host: str) -> bool:
        process = self._processes[host]
        assert process.poll() is None, f"{host} has ended"
        if HOSTS[host][0] == "web":
            try:
                url = f"http://{self.address(host)}:{PORT}/health"
                return httpx.get(url, timeout=WAIT_SECONDS).status_code == 200
            except httpx.TransportError:
                return False
        with closing(Redis.from_url(self.redis.url)) as redis:
            values = [redis.get(key) for key in redis.scan_iter("dreamsite:worker:*")]
        return process.pid in [json.loads(value).get("pid") for value in values if value]


@contextmanager
def network() -> Iterator[None]:
    """Connect a network namespace for each host to a bridge."""
    _ip("link add", BRIDGE, "type bridge")
    try:
        _ip("addr add", f"{GATEWAY}/24", "dev", BRIDGE)
        _ip("link set", BRIDGE, "up")
        for host in HOSTS:
            _ip("netns add", host)
            _ip("link add", host, "type veth peer name eth0 netns", host)
            _ip("link set", host, "master", BRIDGE, "up")
            _ip("-n", host, "addr add", f"{Hosts.address(host)}/24", "dev eth0")
            _ip("-n", host, "link set eth0 up")
            _ip("-n", host, "link set lo up")
        yield
    finally:
        # The links too, since a namespace stays while a process is in it.
        for words in (*(f"link delete {host}" for host in HOSTS), *(f"netns delete {host}" for host in HOSTS)):
            subprocess.run(["ip", *words.split()], stderr=subprocess.DEVNULL)
        _ip("link delete", BRIDGE)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *" ".join(words).split()], check=True)


def main() -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--rounds", type=int, default=1, help="how often each kind of fault is injected")
    parser.add_argument("--clients", type=int, default=6)
    options = parser.parse_args()
    report = Report(options.seed)
    with tempfile.TemporaryDirectory(prefix="rolling-") as folder, ExitStack() as stack:
        stack.enter_context(network())
        database = stack.enter_context(postgresql(GATEWAY))
        redis = stack.enter_context(redis_server(GATEWAY))
        s3 = stack.enter_context(s3_server(GATEWAY))
        hosts = Hosts(Path(folder), database, redis, s3)
        stack.callback(hosts.stop)
        hosts.manage("migrate")
        for host in HOSTS:
            hosts.start(host)
        site = Path(folder) / "nginx"
        site.mkdir()
        webs = [f"{hosts.address(host)}:{PORT}" for host in hosts.names("web")]
        url = stack.enter_context(nginx(site, *webs))
        _run(hosts, url, options.rounds, options.clients, report)
        if report.problems:
            print(hosts.log(), (site / "dreamsite-error.log").read_text()[-4000:])  # noqa: T201
    print(*report.problems or ["no problems"], sep="\n")  # noqa: T201
    raise SystemExit(bool(report.problems))


def _run(hosts: Hosts, url: str, rounds: int, clients: int, report: Report) -> None:
    tokens = hosts.manage("shell", "-v", "0", "-c", TOKENS).split()
    with httpx.Client(base_url=url, headers=_headers(tokens[0]), timeout=WAIT_SECONDS) as client:
        report.accepted_requests += [_send(client, request, Counter()) for request in REQUESTS]
    rng = random.Random(report.seed)

    with _load(url, tokens, clients, report):
        for host in HOSTS:
            report.note(f"restart {host}")
            hosts.terminate(host)
            hosts.start(host)
    if report.refusals:
        report.problems.append(f"errors while hosts restarted in turn: {dict(report.refusals)}")
    _check(hosts, report, runs_once=True)

    with _load(url, tokens, clients, report):
        for fault in (fault for _ in range(rounds) for fault in rng.sample(FAULTS, len(FAULTS))):
            report.note(fault.__name__.strip("_").replace("_", " "))
            fault(hosts, rng)
            time.sleep(rng.choice((0.0, 1.0, 3.0)))
    if unexplained := set(report.refusals) - {"connection", "500 storage_failed", "502", "503 unavailable", "504"}:
        report.problems.append(f"errors that no fault explains: {unexplained}")
    _check(hosts, report, runs_once=False)


@contextmanager
def _load(url: str, tokens: Sequence[str], clients: int, report: Report) -> Iterator[None]:
    """Let clients send random requests, one after another, within this context. Their errors are counted anew."""
    report.refusals.clear()
    accepted_before = len(report.accepted_requests)
    stop = threading.Event()

    def keep_sending(number: int) -> None:
        rng = random.Random(f"{report.seed} {accepted_before} {number}")
        headers = _headers(tokens[number % len(tokens)])
        with httpx.Client(base_url=url, headers=headers, timeout=WAIT_SECONDS) as client:
            while not stop.is_set():
                report.accepted_requests.append(_send(client, rng.choice(REQUESTS), report.refusals))

    with ThreadPoolExecutor(clients) as pool:
        futures = [pool.submit(keep_sending, number) for number in range(clients)]
        try:
            yield
        finally:
            stop.set()
    report.problems += [str(error) for future in futures if (error := future.exception()) is not None]
    report.note(f"{len(report.accepted_requests) - accepted_before} requests, errors: {dict(report.refusals)}")


def _send(client: httpx.Client, request: Any, refusals: Counter[str]) -> AcceptedRequest:
    """Send a request until it is accepted, always with the same key, and return it. Count what was no acceptance.

    Raises `AssertionError` if it is not accepted within `WAIT_SECONDS`.
    """
    headers = {"Idempotency-Key": str(uuid4())}
    until = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            response = client.post(
                "/image-to-image", data=request.form, files={"image": ("a.png", UPLOAD)}, headers=headers
            )
        except httpx.TransportError:
            answer = "connection"
        else:
            if response.status_code in (200, 202):
                token = client.headers["authorization"].split()[1]
                return AcceptedRequest(response.headers["x-generation-id"], request, token)
            answer = str(response.status_code)
            if response.headers["content-type"] == "application/json":
                answer += f" {response.json()['detail']['code']}"
        refusals[answer] += 1
        if answer == "500 storage_failed":
            # The same key would get the same answer.
            headers = {"Idempotency-Key": str(uuid4())}
        assert time.monotonic() < until, f"not accepted; the last answer was {answer}"
        time.sleep(0.2)


def _headers(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}", "Cache-Control": "no-cache"}


def _check(hosts: Hosts, report: Report, runs_once: bool) -> None:
    """Wait until every generation has ended, and check rows and files; with `runs_once`, that no run began twice."""
    wait_while_progress(lambda: not hosts.unfinished(), hosts.unfinished, "the end of all accepted requests")
    snapshot = json.loads(hosts.manage("shell", "-v", "0", "-c", SNAPSHOT))
    rows = snapshot["rows"]
    report.problems += audit(snapshot, report.accepted_requests, hosts.s3.objects, {"storage_failed"})
    accepted = {request.id for request in report.accepted_requests}
    again = [row["id"] for row in rows if row["attempt"] != 1]
    if runs_once and again:
        report.problems.append(f"began more than once: {again}")
    if runs_once and len(rows) != len(accepted):
        report.problems.append(f"{len(rows)} generations for {len(accepted)} requests")
    # A client that had no answer asks again and gets the same generation, so there is none that nobody knows.
    unknown = [row["id"] for row in rows if row["id"] not in accepted and row["error_code"] != "storage_failed"]
    if unknown:
        report.problems.append(f"made for no client, or twice: {unknown}")
    states = Counter(row["state"] for row in rows)
    report.note(f"{dict(states)}, {len(again)} needed more than one attempt")


def _kill_web(hosts: Hosts, rng: random.Random) -> None:
    _kill_and_start(hosts, rng.choice(hosts.names("web")))


def _kill_worker(hosts: Hosts, rng: random.Random) -> None:
    _kill_and_start(hosts, hosts.busy_worker())


def _kill_reaper(hosts: Hosts, rng: random.Random) -> None:
    _kill_and_start(hosts, "reaper")


def _kill_and_start(hosts: Hosts, host: str) -> None:
    hosts.kill(host)
    hosts.start(host)


def _unplug_worker(hosts: Hosts, rng: random.Random) -> None:
    """Cut a worker off until its lease has expired, so that another one runs its generation."""
    _unplug(hosts.busy_worker(), 3 * LEASE_SECONDS)


def _unplug_web(hosts: Hosts, rng: random.Random) -> None:
    _unplug(rng.choice(hosts.names("web")), LEASE_SECONDS)


def _unplug(host: str, seconds: float) -> None:
    _ip("link set", host, "down")
    time.sleep(seconds)
    _ip("link set", host, "up")


def _restart_database(hosts: Hosts, rng: random.Random) -> None:
    hosts.database.stop()
    time.sleep(1.0)
    hosts.database.start()


def _kill_redis(hosts: Hosts, rng: random.Random) -> None:
    hosts.redis.kill()
    hosts.redis.start()


def _kill_s3(hosts: Hosts, rng: random.Random) -> None:
    hosts.s3.kill()
    time.sleep(1.0)
    hosts.s3.start()


FAULTS: Sequence[Callable[[Hosts, random.Random], None]] = (
    _kill_web,
    _kill_worker,
    _kill_reaper,
    _unplug_worker,
    _unplug_web,
    _restart_database,
    _kill_redis,
    _kill_s3,
)

if __name__ == "__main__":
    main()
