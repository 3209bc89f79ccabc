"""Processes that die: an accepted request ends once whichever process is killed, and `serve` leaves no process behind."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.support.environment import ROOT
from tests.support.gpus import FIRST_GPU, ONE_GPU, path_with_nvidia_smi
from tests.support.hub import ModelHub
from tests.support.processes import (
    expire_lease,
    is_alive,
    outputs,
    pixels,
    registered_workers,
    signal_paused,
    wait_for_worker,
)
from tests.support.service import (
    WAIT_SECONDS,
    Service,
    paused,
    post,
    submit,
    submit_and_pause,
    wait_until,
)

WEB, REDIS = "manage.py web", "redis.sock"


@pytest.fixture(scope="module")
def frail(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """A service for tests that kill its processes. It starts from an empty directory, as a new installation does."""
    settings = {"LEASE_SECONDS": "20", "WAIT_SECONDS": "0", "MODELS_OFFLINE": "off"}
    with Service(tmp_path_factory.mktemp("d"), True, **settings) as service:
        yield service


def is_ready(service: Service) -> bool:
    try:
        return httpx.get(f"{service.url}/ready", timeout=WAIT_SECONDS).status_code == 200
    except httpx.TransportError:
        return False


def test_a_request_that_outlasts_the_wait_is_not_lost(frail: Service) -> None:
    response = post(frail, steps=10)
    assert response.status_code == 202
    generation_id = response.json()["id"]
    assert response.headers["location"] == f"{frail.url}/generations/{generation_id}"
    assert response.headers["x-generation-id"] == generation_id
    assert response.json()["state"] in ("queued", "running")
    assert pixels(frail, generation_id)


def test_a_worker_that_loses_its_device_ends_and_another_one_takes_over(frail: Service) -> None:
    """While the worker of `serve` is paused, one runs on a device that fails."""
    expected = pixels(frail, submit(frail, side=256))
    with frail.paused_worker():
        generation_id = submit(frail, side=256)
        command = [sys.executable, "-m", "tests.support.lost_device"]
        failing = subprocess.run(command, cwd=ROOT, env=frail.environment, stderr=subprocess.PIPE, text=True)
        assert failing.returncode == 1
        assert "an illegal memory access was encountered. This worker ends" in failing.stderr
        assert [entry["pid"] for entry in registered_workers(frail)] == [frail.worker()]
    assert pixels(frail, generation_id) == expected
    assert outputs(frail, generation_id) == ["2-0-small.webp", "2-0.png"]


def test_a_killed_worker_loses_no_request(frail: Service) -> None:
    expected = pixels(frail, submit(frail, steps=10))
    worker = frail.worker()
    generation_id = submit_and_pause(frail, worker)
    signal_paused(worker, signal.SIGKILL)
    expire_lease(frail, generation_id)
    assert pixels(frail, generation_id) == expected
    assert outputs(frail, generation_id) == ["2-0-small.webp", "2-0.png"]


def test_a_download_goes_on_after_its_worker_was_killed(frail: Service, hub: ModelHub, tmp_path: Path) -> None:
    name, weights = "stabilityai/sd-turbo", "unet/diffusion_pytorch_model.safetensors"
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    (tmp_path / weights).write_bytes(os.urandom(1_000_000))
    commit = hub.add(name, tmp_path).commit
    frail.query("UPDATE generation_diffusionmodel SET revision = ? WHERE id = ?", commit, name)
    worker = frail.worker()
    (entry,) = (entry for entry in registered_workers(frail) if entry["pid"] == worker)
    command = {
        **{"worker": entry["name"], "host": entry["host"], "pool": "default", "action": "download", "target": name},
        **{"by": "charlie", "state": "waiting", "message": "", "created": "2026-01-01 00:00:00"},
        **{"done_bytes": 0, "total_bytes": 0, "bytes_per_second": 0, "crash_count": 0},
    }
    columns, places = ", ".join(command), ", ".join("?" * len(command))
    frail.query(f"INSERT INTO generation_workercommand ({columns}) VALUES ({places})", *command.values())  # noqa: S608
    with hub.held(name, weights, after=500_000) as hold:
        # The reaper wakes the worker.
        assert hold.reached.wait(WAIT_SECONDS)
        count = "SELECT done_bytes FROM generation_workercommand"
        wait_until(lambda: frail.query(count)[0][0] >= 500_000, "the report of the progress")
        os.kill(worker, signal.SIGKILL)
        # Of the killed worker alone: the next one may have begun, if its start takes long.
        frail.query("UPDATE generation_workercommand SET expires = '2026-01-01 00:00:00' WHERE crash_count = 0")
        wait_for_worker(frail)
    read = "SELECT state, crash_count, done_bytes = total_bytes FROM generation_workercommand"
    wait_until(lambda: frail.query(read) == [("done", 1, 1)], "the end of the download")
    assert 0 < hub.begins[-1] <= 500_000


def test_a_stopped_worker_releases_its_run(frail: Service) -> None:
    worker = frail.worker()
    generation_id = submit_and_pause(frail, worker, steps=60)
    signal_paused(worker, signal.SIGTERM)
    wait_until(lambda: frail.state(generation_id) == "queued", "the release")
    assert pixels(frail, generation_id)


def test_a_killed_redis_loses_no_request(frail: Service) -> None:
    worker = frail.worker()
    generation_id = submit_and_pause(frail, worker)
    os.kill(frail.child(REDIS), signal.SIGKILL)
    os.kill(worker, signal.SIGCONT)
    assert pixels(frail, generation_id)
    wait_until(lambda: is_ready(frail), "readiness")
    assert pixels(frail, submit(frail))


def test_a_worker_that_lost_redis_is_registered_once(frail: Service) -> None:
    worker = frail.worker()

    def names() -> set[str]:
        return {entry["name"] for entry in registered_workers(frail) if entry["pid"] == worker}

    (earlier,) = names()
    message = "generation.worker.process: Redis cannot be reached"
    count = frail.output.count(message)
    generation_id = submit_and_pause(frail, worker)
    redis = frail.child(REDIS)
    # While it is paused, the supervisor does not start another Redis, so that the run ends without one.
    with paused(frail.process.pid):
        os.kill(redis, signal.SIGKILL)
        os.kill(worker, signal.SIGCONT)
        wait_until(lambda: frail.output.count(message) > count, "the loss of Redis")
    assert pixels(frail, generation_id)
    wait_until(lambda: is_ready(frail), "readiness")
    wait_until(lambda: names() - {earlier}, "the next registration")
    assert earlier not in names()


def test_a_worker_that_was_paused_until_its_lease_expired_goes_on_working(frail: Service) -> None:
    worker = frail.worker()
    first = submit_and_pause(frail, worker)
    expire_lease(frail, first)
    try:
        wait_until(lambda: frail.state(first) == "queued", "the end of the lease")
        second = submit(frail)
    finally:
        os.kill(worker, signal.SIGCONT)
    assert pixels(frail, first)
    assert pixels(frail, second)
    # The pictures of the first attempt count if they were stored before the second one began.
    assert len(outputs(frail, first)) == 2
    assert frail.worker() == worker


def test_a_worker_ends_though_redis_is_away(frail: Service) -> None:
    worker = frail.worker()
    generation_id = submit_and_pause(frail, worker)
    os.kill(frail.child(REDIS), signal.SIGKILL)
    signal_paused(worker, signal.SIGTERM)
    wait_until(lambda: not is_alive(worker), "the worker's end")
    assert pixels(frail, generation_id)


def test_clients_wait_while_the_web_process_is_replaced(frail: Service) -> None:
    os.kill(frail.child(WEB), signal.SIGKILL)
    assert httpx.get(f"{frail.url}/health", timeout=WAIT_SECONDS).status_code == 200


def test_a_second_serve_and_a_taken_port_are_one_clear_line(frail: Service, tmp_path: Path) -> None:
    second = refusal(DATA_DIR=str(frail.data_dir), PORT="0")
    assert second.startswith(f"CommandError: Another serve is running on DATA_DIR {frail.data_dir}; stop it, or")
    port = frail.url.rpartition(":")[2]
    port_refusal = refusal(DATA_DIR=str(tmp_path), PORT=port)
    assert port_refusal.startswith(f"CommandError: Cannot listen on 127.0.0.1 port {port}")
    assert "set HOST and PORT to free ones" in port_refusal


def test_an_impossible_data_dir_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "is not writable" in refusal(DATA_DIR=str(tmp_path / "file" / "data"))
    long = tmp_path / ("x" * 100)
    assert "is too long" in refusal(DATA_DIR=str(long))


def test_ready_means_that_a_worker_of_this_start_is_warm(frail: Service, tmp_path: Path) -> None:
    """Redis keeps the entries of workers that are dead.

    From here on the driver lists one GPU, so one worker of its own is started, though torch computes on the CPU.
    """
    frail.environment |= {"WORKERS": "0", "PATH": path_with_nvidia_smi(tmp_path, ONE_GPU)}
    frail.environment.pop("CUDA_VISIBLE_DEVICES", None)
    processes = {*frail.children(), *frail.workers()}
    frail.process.kill()
    for process in processes:
        os.kill(process, signal.SIGKILL)
    frail.process.wait()
    frail.stop()
    frail.start()
    entries = [(entry["pid"], entry["models"]) for entry in registered_workers(frail)]
    assert entries == [(frail.worker(), ["dreamsite/tiny-edit"])]
    assert pixels(frail, submit(frail))


def test_only_the_worker_is_given_the_gpu(frail: Service) -> None:
    def environment(process_id: int) -> list[str]:
        return Path(f"/proc/{process_id}/environ").read_text().split("\0")

    assert f"CUDA_VISIBLE_DEVICES={FIRST_GPU}" in environment(frail.worker())
    assert not any(variable.startswith("CUDA_VISIBLE_DEVICES=") for variable in environment(frail.child(WEB)))


def test_stopping_leaves_no_orphan(frail: Service) -> None:
    """The last of this module: it stops the service during a run, and starts it again."""
    worker = frail.worker()
    generation_id = submit_and_pause(frail, worker)
    children = frail.children()
    assert len(children) == 4
    frail.process.send_signal(signal.SIGINT)
    os.kill(worker, signal.SIGCONT)
    frail.process.wait(WAIT_SECONDS)
    frail.stop()
    assert not [child for child in children if is_alive(child)]

    frail.start()
    assert pixels(frail, generation_id)
    children = frail.children()
    frail.process.kill()
    wait_until(lambda: not [child for child in children if is_alive(child)], "the end of the children")


def refusal(**environment: str) -> str:
    """Return the only line that a `serve` prints that cannot start."""
    finished = subprocess.run(
        [sys.executable, "manage.py", "serve"],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
    )
    assert finished.returncode == 1
    assert finished.stdout == ""
    (line,) = finished.stderr.strip().splitlines()
    return line
