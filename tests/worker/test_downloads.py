"""Downloads by a worker, from the hub on loopback: progress, cancelling, continuing, and what requests are told."""

import json
import os
import re
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from accounts.models import ApiToken, User
from generation.broker import workers
from generation.engine.engine import Engine, EngineSettings
from generation.jobs import control, downloads
from generation.models import DiffusionModel, Generation, Lora, WorkerCommand
from generation.worker.drain import DrainState
from generation.worker.process import WorkerSession
from tests.support.hub import Hold, ModelHub, Repository
from tests.support.jobs import submit
from tests.support.pictures import photo
from tests.support.service import WAIT_SECONDS, wait_until
from tests.support.tiny_models import save_sdxl_lora
from tests.support.workers import keep_fresh

pytestmark = [pytest.mark.usefixtures("redis", "tiny_edit"), pytest.mark.django_db(transaction=True)]

WEIGHTS = "unet/diffusion_pytorch_model.safetensors"
INDEX = json.dumps({"unet": ["diffusers", "UNet2DConditionModel"]})
SIZE, HALF = 2_000_000, 1_000_000


@pytest.fixture
def repository(hub: ModelHub, tmp_path: Path) -> Repository:
    directory = tmp_path / "repository"
    (directory / "unet").mkdir(parents=True)
    (directory / "model_index.json").write_text(INDEX)
    (directory / WEIGHTS).write_bytes(os.urandom(SIZE))
    return hub.add("worker/model", directory)


@pytest.fixture
def model(repository: Repository) -> DiffusionModel:
    return DiffusionModel.objects.create(
        id=repository.name, revision=repository.commit, family="stable-diffusion", enabled=True
    )


@pytest.fixture
def new_session(settings: Settings, tmp_path: Path) -> Callable[[], WorkerSession]:
    """Return a function that registers another worker of this host."""
    settings.MODELS_DIR = tmp_path / "models"
    settings.MODELS_OFFLINE = False
    engine = Engine(EngineSettings(models_dir=settings.MODELS_DIR, dtype="float32"))

    def register() -> WorkerSession:
        session = WorkerSession("default", engine, DrainState(), time.time(), "")
        session.send_heartbeat()
        keep_fresh(session.name)
        return session

    return register


def send(session: WorkerSession, model: DiffusionModel) -> WorkerCommand:
    command = control.send(session.name, WorkerCommand.Action.DOWNLOAD, model.pk, "charlie")
    session.commands.run_pending(session)
    return command


def send_and_hold(session: WorkerSession, model: DiffusionModel, hold: Hold) -> WorkerCommand:
    """Let a worker download until its transfer is held, and has reported how far it is."""
    command = send(session, model)
    assert hold.reached.wait(WAIT_SECONDS)
    wait_until(
        lambda: WorkerCommand.objects.get(pk=command.pk).done_bytes == len(INDEX) + HALF, "the report of the progress"
    )
    return command


def wait_for(command: WorkerCommand, state: WorkerCommand.State) -> WorkerCommand:
    wait_until(lambda: WorkerCommand.objects.get(pk=command.pk).state == state, f"the state {state}")
    wait_for_threads()
    return WorkerCommand.objects.get(pk=command.pk)


def wait_for_threads() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("command "):
            thread.join(WAIT_SECONDS)


def test_a_download_is_shown_canceled_and_continued(
    hub: ModelHub,
    model: DiffusionModel,
    new_session: Callable[[], WorkerSession],
    client: Client,
    charlie: User,
    alices_token: str,
) -> None:
    session = new_session()
    client.force_login(charlie)

    def generate() -> tuple[int, str, str]:
        answer = client.post(
            "/image-to-image",
            {"prompt": "x", "model_id": model.pk, "image": SimpleUploadedFile("a.png", photo(64, 64))},
            headers={"Authorization": f"Bearer {alices_token}"},
        )
        assert answer.json()["detail"]["code"] == "model_not_downloaded"
        return answer.status_code, answer.json()["detail"]["msg"], answer["Retry-After"]

    advice = "Use another model, or ask the staff to download it."
    assert generate() == (503, f"worker/model is not downloaded yet. {advice}", "60")
    with hub.held("worker/model", WEIGHTS, after=HALF) as hold:
        command = send_and_hold(session, model, hold)
        assert WorkerCommand.objects.get().progress.startswith("1 of 2 MB")
        status, message, _ = generate()
        assert status == 503
        assert message.startswith("worker/model is being downloaded: 1 of 2 MB")
        for page in ("/admin/operations/", "/admin/generation/diffusionmodel/"):
            html = client.get(page).content.decode()
            assert re.search(rf'<progress max="{len(INDEX) + SIZE}" value="{len(INDEX) + HALF}"', html), page
            assert "Cancel the download of worker/model" in html
        answer = client.post(f"/admin/operations/commands/{command.pk}/cancel", headers={"HX-Request": "true"})
        assert "Canceled by charlie. What was fetched is kept" in answer.content.decode()
        assert WorkerCommand.objects.get().state == WorkerCommand.State.CANCELED
        hold.cut()
        wait_for_threads()
    assert client.post(f"/admin/operations/commands/{command.pk}/cancel", follow=True).status_code == 200
    assert Generation.objects.count() == 0

    finished = wait_for(send(session, model), WorkerCommand.State.DONE)
    assert finished.message == "Downloaded."
    assert finished.done_bytes == finished.total_bytes
    assert hub.begins[-1] == HALF
    session.send_heartbeat()
    downloads.check(model)


def test_a_download_goes_on_in_another_worker_of_the_host(
    hub: ModelHub, model: DiffusionModel, new_session: Callable[[], WorkerSession]
) -> None:
    first, second = new_session(), new_session()
    with hub.held("worker/model", WEIGHTS, after=HALF) as hold:
        command = send_and_hold(first, model, hold)
        assert send(second, model) == command
        workers.remove(first.name)
        control.abandon(first.name)
        control.expire()
        second.commands.run_pending(second)
        running = WorkerCommand.objects.get()
        assert (running.worker, running.state) == (second.name, WorkerCommand.State.RUNNING)
        hold.cut()
    assert wait_for(command, WorkerCommand.State.DONE).crash_count == 0
    assert HALF <= hub.begins[-1] < SIZE


def test_a_download_whose_workers_are_lost_is_given_up(
    model: DiffusionModel, new_session: Callable[[], WorkerSession]
) -> None:
    session = new_session()
    control.send(session.name, WorkerCommand.Action.DOWNLOAD, model.pk, "charlie")
    states = []
    for _ in range(3):
        assert control.claim(session.name)
        WorkerCommand.objects.update(expires=timezone.now())
        control.expire()
        states.append(WorkerCommand.objects.get().state)
    assert states == ["waiting", "waiting", "failed"]
    assert WorkerCommand.objects.get().message == "3 workers were lost during this download; see their logs."


def test_a_request_that_meets_a_worker_without_the_model_fails(
    model: DiffusionModel, new_session: Callable[[], WorkerSession], alices: ApiToken
) -> None:
    # No worker is registered yet, so nobody knows.
    generation = submit(alices, model_id=model.pk, num_inference_steps="2")
    session = new_session()
    session.run_pending()
    session.finisher.wait()
    generation.refresh_from_db()
    assert (generation.state, generation.error_code) == ("failed", "model_not_downloaded")


def test_a_lora_that_does_not_fit_is_told(
    hub: ModelHub, new_session: Callable[[], WorkerSession], tiny_edit: DiffusionModel, tmp_path: Path
) -> None:
    (tmp_path / "lora").mkdir()
    save_sdxl_lora(tmp_path / "lora/style.safetensors")
    commit = hub.add("worker/style", tmp_path / "lora").commit
    lora = Lora.objects.create(id="worker/style", revision=commit, weight_name="style.safetensors")
    session = new_session()

    def download() -> WorkerCommand:
        command = control.send(session.name, WorkerCommand.Action.DOWNLOAD_LORA, lora.pk, "charlie")
        session.commands.run_pending(session)
        wait_until(lambda: not WorkerCommand.objects.get(pk=command.pk).is_open, "the end of the download")
        return WorkerCommand.objects.get(pk=command.pk)

    lora.base_models.set([tiny_edit])
    failed = download()
    assert failed.state == "failed"
    assert failed.message == (
        "It was trained for SDXL; dreamsite/tiny-edit is Stable Diffusion 1 or Stable Diffusion 2. "
        "Take these models out of its base models."
    )
    lora.base_models.set([])
    assert download().state == "done"


def test_nothing_is_fetched_offline(
    model: DiffusionModel, new_session: Callable[[], WorkerSession], settings: Settings, hub: ModelHub
) -> None:
    session = new_session()
    settings.MODELS_OFFLINE = True
    before = len(hub.requests)
    failed = wait_for(send(session, model), WorkerCommand.State.FAILED)
    assert failed.message.startswith("MODELS_OFFLINE is on, so nothing is downloaded.")
    assert len(hub.requests) == before
