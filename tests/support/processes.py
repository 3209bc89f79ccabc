"""Processes of a service that tests pause and stop, and what a run leaves behind."""

import io
import json
import os
import signal
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import httpx
from PIL import Image
from redis import Redis

from tests.support.service import WAIT_SECONDS, Service, record, wait_until


def signal_paused(worker: int, number: signal.Signals) -> None:
    """Send a signal to a paused process, and continue it."""
    os.kill(worker, number)
    # SIGKILL may have ended it.
    with suppress(ProcessLookupError):
        os.kill(worker, signal.SIGCONT)


def registered_workers(service: Service) -> list[dict[str, Any]]:
    """Return the entries of the registry, those of dead workers too."""
    with closing(Redis(unix_socket_path=str(service.data_dir / "redis.sock"))) as redis:
        return [json.loads(redis.get(key) or "{}") for key in redis.keys("dreamsite:worker:*")]


def wait_for_worker(service: Service) -> None:
    """Wait until the worker that replaces a killed or stopped one has loaded its model and is registered."""
    wait_until(
        lambda: {entry.get("pid") for entry in registered_workers(service)} & set(service.workers()),
        "the start of another worker",
    )


def is_alive(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def pixels(service: Service, generation_id: str) -> bytes:
    """Wait for the only picture of a generation, and return its decoded pixels."""
    wait_until(lambda: service.state(generation_id) == "succeeded", "the end of the run")
    # Redis and the web process may still be starting again.
    images = record(service, generation_id)["images"]
    assert isinstance(images, list)
    (image,) = images
    return Image.open(io.BytesIO(httpx.get(image["url"], timeout=WAIT_SECONDS).content)).tobytes()


def expire_lease(service: Service, generation_id: str) -> None:
    """Let the lease of a run end now, instead of waiting for its end, whose moment a busy machine would not keep."""
    sql = "UPDATE generation_generation SET lease_expires = '2026-01-01 00:00:00' WHERE id = ? AND state = 'running'"
    service.query(sql, generation_id.replace("-", ""))


def outputs(service: Service, generation_id: str) -> list[str]:
    """Return the names of the stored files of a generation's pictures."""
    return sorted(path.name for path in (service.data_dir / "media" / "outputs").rglob(f"{generation_id}/*"))
