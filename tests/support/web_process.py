"""One `manage.py web` with a Redis and a database of its own and no worker: what is attacked, and how it is measured."""

import json
import os
import resource
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx

from tests.support.environment import ROOT
from tests.support.servers import EmbeddedRedis
from tests.support.service import WAIT_SECONDS, migrated_database, wait_until

PASSWORDS = {name: f"the password of {name}" for name in ("alice", "bob", "charlie")}
OTHERS_ADDRESS = "127.0.0.2"
"""The address from which the others come, since what is counted by address is not counted for them."""

DESCRIPTORS = 1024
"""How many files it may have open: few, as on many systems, so that an attack need not be large."""

_MAX_WAIT_SECONDS = 30.0
"""How long the others may wait for one answer. Alone they wait some milliseconds; the rest is for a busy machine."""

_PAUSE_SECONDS = 0.05

_CREATE_USERS = """
import json, sys
from accounts.models import ApiToken, User
tokens = {}
for name, password in json.loads(sys.stdin.read()).items():
    create = User.objects.create_superuser if name == "charlie" else User.objects.create_user
    tokens[name] = ApiToken.objects.issue(create(name, password=password), "tests")[1]
print(json.dumps(tokens))
"""


class WebProcess:
    """A running `manage.py web`, with the users alice and bob, and charlie, who is staff. `tokens` has a token of each."""

    def __init__(self, data_dir: Path, **environment: str) -> None:
        self.data_dir = data_dir
        self.environment = {
            **os.environ,
            "DATA_DIR": str(data_dir),
            "MODELS_OFFLINE": "on",
            "TMPDIR": str(data_dir / "temporary"),
            **environment,
        }
        self.tokens: dict[str, str] = {}
        self._redis = EmbeddedRedis(data_dir)

    def __enter__(self) -> "WebProcess":
        shutil.copy(migrated_database(), self.data_dir)
        self.temporary.mkdir()
        self._redis.start()
        self.tokens = self._create_users()
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
            self.address: tuple[str, int] = listener.getsockname()
            self.url = f"http://127.0.0.1:{self.address[1]}"
            self.process = subprocess.Popen(
                [sys.executable, "manage.py", "web", "--fd", str(listener.fileno())],
                cwd=ROOT,
                env=self.environment,
                pass_fds=[listener.fileno()],
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (256, DESCRIPTORS)),
            )
        # The first page loads templates and what they need.
        wait_until(
            lambda: self._answers("/health") and self._answers("/accounts/sign-in"), "the start of the web process"
        )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(WAIT_SECONDS)
        self._redis.stop()

    @property
    def temporary(self) -> Path:
        """The directory of its temporary files."""
        return self.data_dir / "temporary"

    def client(self, name: str | None = None, address: str = "127.0.0.1") -> httpx.Client:
        """Return an HTTP client with the token of this user, or without one, that connects from `address`."""
        headers = {"Authorization": f"Bearer {self.tokens[name]}"} if name else {}
        transport = httpx.HTTPTransport(local_address=address)
        return httpx.Client(base_url=self.url, headers=headers, timeout=WAIT_SECONDS, transport=transport)

    def browser(self, name: str) -> httpx.Client:
        """Return the browser of this user, signed in."""
        client = self.client()
        client.get("/accounts/sign-in")
        form = {
            "username": name,
            "password": PASSWORDS[name],
            "csrfmiddlewaretoken": client.cookies["csrftoken"],
        }
        assert client.post("/accounts/sign-in", data=form, headers={"Referer": self.url}).status_code == 302
        return client

    def connect(self, address: str = "127.0.0.1") -> socket.socket:
        """Return a connection from `address` on which nothing has been sent."""
        return socket.create_connection(self.address, WAIT_SECONDS, source_address=(address, 0))

    def processor_seconds(self) -> float:
        """Return the processor time that it has taken, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        """Return the resident memory in bytes."""
        return self._memory("VmRSS")

    def peak_memory(self) -> int:
        """Return the largest resident memory since `reset_peak_memory`, in bytes."""
        return self._memory("VmHWM")

    def reset_peak_memory(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def descriptors(self) -> list[str]:
        """Return what the open file descriptors lead to, such as `socket:[4711]` or the path of a file."""
        paths = []
        for link in Path(f"/proc/{self.process.pid}/fd").iterdir():
            try:
                paths.append(os.readlink(link))
            except FileNotFoundError:
                continue
        return paths

    def threads(self) -> int:
        """Return the number of threads."""
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))

    @contextmanager
    def serving_others(self) -> Iterator[None]:
        """Request `/health` and bob's generations again and again within this context, each on a new connection.

        Raises `AssertionError` at its end if an answer was not 200, or did not come within some seconds.
        """
        waits: dict[str, list[float]] = {"/health": [], "/generations": []}
        problems: list[str] = []
        is_over = threading.Event()

        def request(path: str) -> None:
            while not (is_over.wait(_PAUSE_SECONDS) and waits[path]):
                begin = time.monotonic()
                try:
                    with self.client("bob", OTHERS_ADDRESS) as client:
                        status = client.get(path).status_code
                except httpx.HTTPError as error:
                    problems.append(f"{path}: {error!r}")
                    return
                waits[path].append(time.monotonic() - begin)
                if status != 200:
                    problems.append(f"{path}: {status}")
                    return

        threads = [threading.Thread(target=request, args=[path]) for path in waits]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
        assert problems == []
        longest = {path: max(seconds) for path, seconds in waits.items()}
        assert max(longest.values()) < _MAX_WAIT_SECONDS, longest

    def _answers(self, path: str) -> bool:
        assert self.process.poll() is None, "the web process has ended"
        try:
            # With HTTPS=on, only what comes through a proxy that says so is answered.
            headers = {"X-Forwarded-Proto": "https"}
            return httpx.get(self.url + path, headers=headers, timeout=WAIT_SECONDS).status_code == 200
        except httpx.TransportError:
            return False

    def _create_users(self) -> dict[str, str]:
        """Create the users, and return the token of each."""
        finished = subprocess.run(
            [sys.executable, "manage.py", "shell", "--no-imports", "--command", _CREATE_USERS],
            cwd=ROOT,
            env=self.environment,
            input=json.dumps(PASSWORDS),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        tokens: dict[str, str] = json.loads(finished.stdout)
        return tokens

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        ((kilobytes, _),) = [line.split()[1:] for line in status.splitlines() if line.startswith(f"{name}:")]
        return int(kilobytes) * 1024
