"""Processes that die: whatever is killed, an accepted request ends once, and `serve` leaves nothing behind."""

import io
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tests.support import pictures
from tests.support.environment import ROOT
from tests.support.service import Service, post, record, wait_until

LONG_SECONDS = 4.0
"""Time enough to kill somebody in the middle."""
PHOTO = pictures.photo(256, 256)
"""Large enough for 200 steps to take longer than that wherever this runs."""

STATES = "from generation.models import Generation; print([row.state for row in Generation.objects.all()])"


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service with short leases, whose clients are told at once where to look."""
    with Service(tmp_path_factory.mktemp("d"), LEASE_SECONDS="2", WAIT_SECONDS="0") as service:
        yield service


@pytest.fixture(scope="module")
def long(frail: Service) -> str:
    """As many steps as take this machine `LONG_SECONDS`."""
    first = post(frail, "10").json()["id"]
    wait_until(lambda: record(frail, first)["state"] == "succeeded", 60, "the end of the first run")
    timings = record(frail, first)["timings"]
    assert isinstance(timings, dict)
    return str(min(200, math.ceil(LONG_SECONDS * 10 / timings["phases"]["denoising"])))


def running(service: Service, long: str) -> str:
    """The id of a long request, just when it is being made."""
    response = post(service, long)
    assert response.status_code == 202
    generation_id = response.json()["id"]
    wait_until(lambda: record(service, generation_id)["state"] == "running", what="the run's start")
    return str(generation_id)


def pixels(service: Service, generation_id: str) -> bytes:
    wait_until(lambda: record(service, generation_id)["state"] == "succeeded", 90, "the end of the run")
    images = record(service, generation_id)["images"]
    assert isinstance(images, list)
    (image,) = images
    return Image.open(io.BytesIO(httpx.get(image["url"]).content)).tobytes()


def outputs(service: Service, generation_id: str) -> list[str]:
    return sorted(path.name for path in (service.data_dir / "media" / "outputs").rglob(f"{generation_id}/*"))


def test_what_takes_longer_than_the_wait_is_not_lost(frail: Service, long: str) -> None:
    response = post(frail, long)
    assert response.status_code == 202
    generation_id = response.json()["id"]
    assert response.headers["location"] == f"{frail.url}/generations/{generation_id}"
    assert response.headers["x-generation-id"] == generation_id
    assert response.json()["state"] in ("queued", "running")
    assert pixels(frail, generation_id)


def test_a_killed_worker_loses_nothing(frail: Service, long: str) -> None:
    undisturbed = pixels(frail, post(frail, long).json()["id"])
    generation_id = running(frail, long)
    (worker,) = frail.children("manage.py worker")
    os.kill(worker, signal.SIGKILL)
    assert pixels(frail, generation_id) == undisturbed
    assert outputs(frail, generation_id) == ["2-0-small.webp", "2-0.png"]


def test_a_stopped_worker_hands_back_what_it_was_making(frail: Service, long: str) -> None:
    generation_id = running(frail, long)
    (worker,) = frail.children("manage.py worker")
    os.kill(worker, signal.SIGTERM)
    wait_until(lambda: record(frail, generation_id)["state"] == "queued", 10, "the handing back")
    assert pixels(frail, generation_id)


def test_a_worker_that_is_told_to_end_finishes_what_it_has_begun(tmp_path: Path, long: str) -> None:
    with Service(tmp_path, DRAIN_SECONDS="60", WAIT_SECONDS="0") as patient:
        generation_id = running(patient, long)
        (worker,) = patient.children("manage.py worker")
        os.kill(worker, signal.SIGTERM)
        assert pixels(patient, generation_id)
        assert outputs(patient, generation_id) == ["1-0-small.webp", "1-0.png"]

        generation_id = running(patient, "200")
        (worker,) = patient.children("manage.py worker")
        os.kill(worker, signal.SIGTERM)
        time.sleep(1.2)
        assert record(patient, generation_id)["state"] == "running"
        os.kill(worker, signal.SIGTERM)
        wait_until(lambda: record(patient, generation_id)["state"] == "queued", 10, "the handing back")
        code = "from generation.models import Generation; row = Generation.objects.last(); print(row.attempt, row.crash_count)"
        assert patient.manage("shell", "-v", "0", "-c", code) == "1 0"


def test_ready_means_that_a_worker_of_this_start_is_warm(frail: Service) -> None:
    """Redis keeps the announcements of workers that are dead."""
    children = frail.children()
    frail.process.kill()
    for child in children:
        os.kill(child, signal.SIGKILL)
    frail.process.wait()
    frail.stop()
    frail.start()
    started = time.monotonic()
    assert pixels(frail, post(frail, "1").json()["id"])
    assert time.monotonic() - started < 8


def test_a_killed_redis_loses_nothing(frail: Service, long: str) -> None:
    generation_id = running(frail, long)
    (server,) = frail.children("redis-server")
    os.kill(server, signal.SIGKILL)
    assert pixels(frail, generation_id)
    wait_until(lambda: httpx.get(f"{frail.url}/ready").status_code == 200, 60, "readiness")
    assert pixels(frail, post(frail, "1").json()["id"])


def test_a_worker_ends_though_redis_is_away(frail: Service, long: str) -> None:
    generation_id = running(frail, long)
    (worker,) = frail.children("manage.py worker")
    (server,) = frail.children("redis-server")
    os.kill(server, signal.SIGKILL)
    os.kill(worker, signal.SIGTERM)
    wait_until(lambda: not alive(worker), 20, "the worker's end")
    assert pixels(frail, generation_id)


def test_clients_wait_while_the_web_process_is_replaced(frail: Service) -> None:
    (web,) = frail.children("manage.py web")
    os.kill(web, signal.SIGKILL)
    assert httpx.get(f"{frail.url}/health", timeout=60).status_code == 200


def test_a_stopping_web_process_tells_held_clients_where_to_look(service: Service, long: str) -> None:
    """The service of the other tests: its clients are held for longer than this takes."""
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(post, service, long)
        wait_until(lambda: "running" in service.manage("shell", "-v", "0", "-c", STATES), what="the run's start")
        (web,) = service.children("manage.py web")
        os.kill(web, signal.SIGTERM)
        assert answer.result().status_code == 202
    assert pixels(service, answer.result().json()["id"])


def test_a_second_serve_and_a_taken_port_are_one_clear_line(frail: Service, tmp_path: Path) -> None:
    second = refusal(DATA_DIR=str(frail.data_dir), PORT="0")
    assert second.startswith(f"CommandError: Another serve is running on DATA_DIR {frail.data_dir}; stop it, or")
    port = frail.url.rpartition(":")[2]
    taken = refusal(DATA_DIR=str(tmp_path), PORT=port)
    assert taken.startswith(f"CommandError: Cannot listen on 127.0.0.1 port {port}")
    assert "set HOST and PORT to free ones" in taken


def test_a_data_dir_that_cannot_be_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is not writable" in refusal(DATA_DIR=str(tmp_path / "file" / "data"))
    long = tmp_path / ("x" * 100)
    assert "is too long" in refusal(DATA_DIR=str(long))


def test_stopping_leaves_no_orphan(frail: Service, long: str) -> None:
    """Last of this module: it ends the service, in the middle of a run, and starts it again."""
    generation_id = running(frail, long)
    children = frail.children()
    assert len(children) == 4
    frail.process.send_signal(signal.SIGINT)
    frail.process.wait(40)
    frail.stop()
    assert not [child for child in children if alive(child)]

    frail.start()
    assert pixels(frail, generation_id)
    children = frail.children()
    frail.process.kill()
    wait_until(lambda: not [child for child in children if alive(child)], 40, "the end of the children")


def refusal(**environment: str) -> str:
    """The one line that a `serve` which cannot start prints."""
    finished = subprocess.run(
        [sys.executable, "manage.py", "serve"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert finished.returncode == 1
    assert finished.stdout == ""
    (line,) = finished.stderr.strip().splitlines()
    return line


def alive(process_id: int) -> bool:
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
