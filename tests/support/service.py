"""A real service for tests: `manage.py serve` in a DATA_DIR of its own, driven over HTTP."""

import atexit
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from typing import IO, Any

import httpx

from generation.recipes import MODEL_TRAITS
from tests.support import pictures
from tests.support.environment import ROOT

WAIT_SECONDS = 180.0
"""The bound of every wait. It is so long that only what never happens reaches it."""

METRICS_TOKEN = "a token that reads the metrics of the tests"

_POLL_SECONDS = 0.05


class Service:
    """A process of `serve`. `url`, `token` and `password` (of the administrator) are set once it is ready.

    It starts with a migrated database, or with an empty DATA_DIR if `empty`. `program` runs Dreamsite's commands, in
    `directory`.
    """

    program: Sequence[str | Path] = (sys.executable, "manage.py")
    directory = ROOT

    def __init__(self, data_dir: Path, empty: bool = False, /, **environment: str) -> None:
        self.data_dir = data_dir
        self.environment = {
            **os.environ,
            "DATA_DIR": str(data_dir),
            "PORT": "0",
            "WORKERS": "1",
            "THREADS": "1",
            "MODELS_OFFLINE": "on",
            "LIMITS": "off",
            "DRAIN_SECONDS": "0",
            "PYTHONUNBUFFERED": "1",
            **environment,
        }
        self.output = ""
        self.url = ""
        self.token = ""
        self.password = ""
        if not empty:
            shutil.copy(migrated_database(), data_dir)

    def __enter__(self) -> "Service":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process, and wait until it is ready."""
        self.process = subprocess.Popen(
            [*self.program, "serve"],
            cwd=self.directory,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        ready = threading.Event()
        assert self.process.stdout is not None
        self._output = self.process.stdout
        self._reader = threading.Thread(target=self._read, args=(self._output, ready), daemon=True)
        self._reader.start()
        if not ready.wait(WAIT_SECONDS) or not self.url:
            self.process.kill()
            raise AssertionError(f"serve did not become ready:\n{self.output}")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(WAIT_SECONDS)
        self._reader.join(WAIT_SECONDS)
        self._output.close()

    def children(self, name: str = "") -> list[int]:
        """Return the ids of the processes below `serve` whose command line contains `name`."""
        return children_of(self.process.pid, name)

    def workers(self) -> list[int]:
        """Return the ids of the workers: below `serve` on GPUs, on the CPU below the process that forks them."""
        forked = [fork for parent in self.children("manage.py workers") for fork in children_of(parent)]
        return [*self.children("manage.py worker "), *forked]

    def worker(self) -> int:
        """Return the id of the only worker, once there is one."""
        return only(self.workers, "the only worker")

    def child(self, name: str) -> int:
        """Return the id of the only process below `serve` whose command line contains `name`, once there is one."""
        return only(lambda: self.children(name), f"the only {name}")

    def manage(self, *arguments: str) -> str:
        """Return what a `manage.py` command on the same DATA_DIR prints."""
        finished = subprocess.run(
            [*self.program, *arguments],
            cwd=self.directory,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return finished.stdout.strip()

    def pause(self, worker: int) -> None:
        """Stop a worker at a moment when it does not hold the write lock, which would block the whole service."""

        def is_paused() -> bool:
            os.kill(worker, signal.SIGSTOP)
            if self.is_writable():
                return True
            os.kill(worker, signal.SIGCONT)
            return False

        wait_until(is_paused, "a pause without the write lock")

    @contextmanager
    def paused_worker(self) -> Iterator[None]:
        """Pause the only worker within this context."""
        worker = self.worker()
        try:
            self.pause(worker)
            yield
        finally:
            os.kill(worker, signal.SIGCONT)

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """Return the rows that the service's database answers; changes are committed."""
        with closing(sqlite3.connect(self.data_dir / "db.sqlite3", timeout=WAIT_SECONDS)) as database, database:
            return database.execute(sql, values).fetchall()

    def is_writable(self) -> bool:
        """Return whether the database's write lock becomes free within a second."""
        with closing(sqlite3.connect(self.data_dir / "db.sqlite3", timeout=1, isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
            except sqlite3.OperationalError:
                return False
            return True

    def state(self, generation_id: str) -> str:
        """Return the state of this generation as the database has it."""
        ((state,),) = self.query("SELECT state FROM generation_generation WHERE id = ?", generation_id.replace("-", ""))
        return str(state)

    def client(self, token: str | None = None) -> httpx.Client:
        """Return an HTTP client with this token, the administrator's if there is none."""
        headers = {"Authorization": f"Bearer {token or self.token}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=WAIT_SECONDS)

    def files_of(self, generation_id: str) -> list[Path]:
        """Return the stored files of a generation: its input, its pictures, their thumbnails."""
        return [path for path in (self.data_dir / "media").rglob("*") if generation_id in str(path) and path.is_file()]

    def _read(self, output: IO[str], ready: threading.Event) -> None:
        for line in output:
            self.output += line
            if match := re.match(r"ready (http\S+)", line):
                self.url = match[1]
                self._read_first_sign_in()
                ready.set()
        ready.set()

    def _read_first_sign_in(self) -> None:
        """Read the administrator's password and token, which are in a file after the first start."""
        path = self.data_dir / "first_sign_in"
        if path.exists():
            words = dict(re.findall(r"^  (password|API token) +(\S+)$", path.read_text(), re.M))
            self.password, self.token = words["password"], words["API token"]


def children_of(parent: int, name: str = "") -> list[int]:
    """Return the ids of the processes below this one whose command line contains `name`, without those that ended."""
    ids = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, found = stat.read_text().rpartition(")")[2].split()[:2]
            command = (stat.parent / "cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
        if int(found) == parent and state != "Z" and name in command:
            ids.append(int(stat.parent.name))
    return ids


@cache
def migrated_database() -> Path:
    """Return a new service's database to copy: migrating takes about as long as the rest of a start of `serve`."""
    folder = Path(tempfile.mkdtemp(prefix="dreamsite-database-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    command = [sys.executable, "manage.py", "migrate", "--skip-checks", "-v", "0"]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "DATA_DIR": str(folder)}, check=True)
    return folder / "db.sqlite3"


def wait_until(condition: Callable[[], object], what: str = "it") -> None:
    """Poll a condition until it holds. Raises `AssertionError` naming what did not happen."""
    wait_while_progress(condition, lambda: None, what)


def wait_while_progress(condition: Callable[[], object], progress: Callable[[], object], what: str) -> None:
    """Poll a condition until it holds. The bound starts again whenever the value of `progress` changes."""
    last, since = progress(), time.monotonic()
    while not condition():
        if (current := progress()) != last:
            last, since = current, time.monotonic()
        if time.monotonic() - since > WAIT_SECONDS:
            raise AssertionError(f"{what} did not happen")
        time.sleep(_POLL_SECONDS)


def only(process_ids: Callable[[], list[int]], what: str) -> int:
    """Return the id of the only process of a list that changes, once there is exactly one."""
    found: list[int] = []

    def is_one() -> bool:
        found[:] = process_ids()
        return len(found) == 1

    wait_until(is_one, what)
    return found[0]


@contextmanager
def paused(process_id: int) -> Iterator[None]:
    """Stop a process within this context."""
    os.kill(process_id, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process_id, signal.SIGCONT)


@contextmanager
def signed_in(service: Service) -> Iterator[httpx.Client]:
    """Yield the administrator's browser, signed in."""
    with httpx.Client(base_url=service.url, follow_redirects=True, timeout=WAIT_SECONDS) as client:
        client.get("/admin/login/")
        send_form(client, "/admin/login/", {"username": "admin", "password": service.password})
        yield client


def send_form(client: httpx.Client, address: str, form: dict[str, str]) -> str:
    """Send a form from this browser, and return the page that follows."""
    form = {**form, "csrfmiddlewaretoken": client.cookies["csrftoken"]}
    return client.post(address, data=form, headers={"Referer": str(client.base_url)}).raise_for_status().text


def model_for(steps: int) -> str:
    """Return a bundled model that runs so many steps: the default one has no use for many."""
    most = MODEL_TRAITS["dreamsite/tiny-edit"].max_steps
    return "dreamsite/tiny-edit" if most and steps <= most else "dreamsite/tiny-redraw"


def post(service: Service, steps: int = 1, side: int = 128, images: int = 1, **headers: str) -> httpx.Response:
    """Send a request of the administrator for pictures of `side` x `side` pixels. Keyword `cancel_after` is Cancel-After.

    They are made, although the same ones may be kept.
    """
    fields: dict[str, Any] = {
        "prompt": "make it night",
        "model_id": model_for(steps),
        "seed": "7",
        "num_inference_steps": steps,
        "num_images_per_prompt": images,
    }
    with service.client() as client:
        return client.post(
            "/image-to-image",
            data=fields,
            files={"image": ("a.png", pictures.photo(side, side))},
            headers={"cache-control": "no-cache"} | {name.replace("_", "-"): value for name, value in headers.items()},
        )


def submit(service: Service, steps: int = 1, side: int = 128, images: int = 1, **headers: str) -> str:
    """Send a request without waiting for its pictures, and return its id."""
    response = post(service, steps, side, images, prefer="respond-async", **headers)
    assert response.status_code == 202, response.text
    return str(response.json()["id"])


def record(service: Service, generation_id: str) -> dict[str, object]:
    with service.client() as client:
        answer: dict[str, object] = client.get(f"/generations/{generation_id}").json()
    return answer


def submit_and_pause(service: Service, worker: int, steps: int = 10, **options: Any) -> str:
    """Submit a request and pause the worker just after it has started the run. `SIGCONT` continues it.

    If the machine was so busy that the run had ended before the pause, another request is submitted.
    """
    while not _is_paused_in_run(service, worker, generation_id := submit(service, steps, **options)):
        os.kill(worker, signal.SIGCONT)
    return generation_id


def _is_paused_in_run(service: Service, worker: int, generation_id: str) -> bool:
    """Pause the worker once it has started the run of this generation. Return whether that has not ended."""
    wait_until(lambda: service.state(generation_id) != "queued", "the start of the run")
    service.pause(worker)
    return service.state(generation_id) == "running"


def generate_two(client: httpx.Client) -> str:
    """Generate two pictures with the real service, and return the id of their generation."""
    fields = {"prompt": "make it night", "num_inference_steps": "1", "num_images_per_prompt": "2"}
    response = client.post("/image-to-image", data=fields, files={"image": pictures.photo(128, 128)})
    assert response.status_code == 200
    return str(response.json()["id"])
