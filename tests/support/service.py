"""A real service for tests: `manage.py serve` in a DATA_DIR of its own, driven over HTTP."""

import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import httpx

from tests.support import pictures
from tests.support.environment import ROOT

READY_SECONDS = 120


class Service:
    """`serve` as a process. `url`, `token` (the administrator's) and `password` are known once it is ready."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
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

    def __enter__(self) -> "Service":
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start and wait until it says it is ready."""
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "serve"],
            cwd=ROOT,
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
        if not ready.wait(READY_SECONDS) or not self.url:
            self.process.kill()
            raise AssertionError(f"serve did not become ready:\n{self.output}")

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)
        self._reader.join(10)
        self._output.close()

    def children(self, name: str = "") -> list[int]:
        """Process ids below `serve` whose command line holds `name`."""
        found = []
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                parent = int(stat.read_text().rpartition(")")[2].split()[1])
                command = (stat.parent / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            if parent == self.process.pid and name in command:
                found.append(int(stat.parent.name))
        return found

    def manage(self, *arguments: str) -> str:
        """What a `manage.py` command on the same DATA_DIR prints."""
        finished = subprocess.run(
            [sys.executable, "manage.py", *arguments],
            cwd=ROOT,
            env=self.environment,
            capture_output=True,
            text=True,
            check=True,
        )
        return finished.stdout.strip()

    def client(self, token: str | None = None) -> httpx.Client:
        """An HTTP client with this token, the administrator's when none is given."""
        return httpx.Client(base_url=self.url, headers={"Authorization": f"Bearer {token or self.token}"}, timeout=120)

    def files_of(self, generation_id: str) -> list[Path]:
        """The files of a generation that are there: its input, its pictures, their thumbnails."""
        return [path for path in (self.data_dir / "media").rglob("*") if generation_id in str(path) and path.is_file()]

    def _read(self, output: IO[str], ready: threading.Event) -> None:
        for line in output:
            self.output += line
            if match := re.match(r"\s+API token\s+(\S+)", line):
                self.token = match[1]
            elif match := re.match(r"\s+password\s+(\S+)", line):
                self.password = match[1]
            elif match := re.match(r"ready (http\S+)", line):
                self.url = match[1]
                ready.set()
        ready.set()


def wait_until(condition: Callable[[], object], seconds: float = 30.0, what: str = "it") -> None:
    """Poll a condition until it holds. Raises `AssertionError` naming what did not happen."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not happen within {seconds} s")
        time.sleep(0.05)


@contextmanager
def frozen(process: int) -> Iterator[None]:
    """Within this the process stands still."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def make_two(client: httpx.Client) -> str:
    """A generation of the real service, with two pictures; its id."""
    fields = {"prompt": "make it night", "num_inference_steps": "1", "num_images_per_prompt": "2"}
    response = client.post("/image-to-image", data=fields, files={"image": pictures.photo(128, 128)})
    assert response.status_code == 200
    return str(response.json()["id"])


def post(service: Service, steps: str, seed: str = "7", timeout: float = 60) -> httpx.Response:
    with service.client() as client:
        return client.post(
            "/image-to-image",
            data={"prompt": "make it night", "num_inference_steps": steps, "seed": seed},
            files={"image": ("a.png", pictures.photo(256, 256))},
            timeout=timeout,
        )


def record(service: Service, generation_id: str) -> dict[str, object]:
    with service.client() as client:
        found: dict[str, object] = client.get(f"/generations/{generation_id}").json()
    return found
