"""Downloads from the hub: what is fetched, how they stop and go on, and what their errors say."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import Thread

import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from generation.engine.catalog import download_lora, download_model, find_model
from generation.engine.engine import Engine, EngineSettings
from generation.engine.errors import ModelNotDownloaded
from generation.engine.loading import load
from generation.engine.pipelines import expected_warnings_ignored
from generation.families import Family
from generation.recipes import LoraReference, ModelReference
from generation.repositories.hub_errors import HubFailed
from generation.repositories.single_files import STABLE_DIFFUSION
from tests.support.hub import ModelHub, Repository
from tests.support.servers import free_port
from tests.support.service import WAIT_SECONDS
from tests.support.single_files import save_checkpoint
from tests.support.tiny_models import local, save_stable_diffusion

UNET = "unet/diffusion_pytorch_model.safetensors"
HALF_UNET = "unet/diffusion_pytorch_model.fp16.safetensors"
SIZE = 400_000
HALF = 150_000


def reference(repository: Repository) -> ModelReference:
    return ModelReference(id=repository.name, revision=repository.commit, family=Family.STABLE_DIFFUSION)


def no_progress(done: int, total: int) -> None:
    pass


class Stopped(Exception):
    pass


def stop_at(position: int) -> Callable[[int, int], None]:
    def on_progress(done: int, total: int) -> None:
        if done >= position:
            raise Stopped

    return on_progress


@pytest.fixture(scope="module")
def pipeline(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in diffusers format, with all the other files that repositories hold."""
    models_dir = tmp_path_factory.mktemp("models")
    directory = models_dir / save_stable_diffusion(models_dir, "tests/sd").id
    index = json.loads((directory / "model_index.json").read_text())
    index["safety_checker"] = ["stable_diffusion", "StableDiffusionSafetyChecker"]
    (directory / "model_index.json").write_text(json.dumps(index))
    for unwanted in (
        "v1-5-pruned.safetensors",
        "README.md",
        "pipeline.py",
        "unet/diffusion_pytorch_model.bin",
        "unet/diffusion_pytorch_model.non_ema.safetensors",
        "unet/own.py",
        "safety_checker/config.json",
        "safety_checker/model.safetensors",
    ):
        (directory / unwanted).parent.mkdir(exist_ok=True)
        (directory / unwanted).write_text("unwanted")
    weights = {name: tensor.half() for name, tensor in load_file(directory / UNET).items()}
    save_file(weights, directory / HALF_UNET)
    return directory


@pytest.fixture
def small(hub: ModelHub, tmp_path: Path) -> Repository:
    """A repository with two large files; the second is `UNET`."""
    directory = tmp_path / "small"
    (directory / "unet").mkdir(parents=True)
    (directory / "model_index.json").write_text(json.dumps({"unet": ["diffusers", "UNet2DConditionModel"]}))
    (directory / "unet/a.safetensors").write_bytes(os.urandom(1000))
    (directory / UNET).write_bytes(os.urandom(SIZE))
    return hub.add("downloads/small", directory, is_in_xet=True)


def test_a_model_is_fetched_once_and_without_what_it_does_not_need(
    hub: ModelHub, pipeline: Path, tmp_path: Path
) -> None:
    repository = hub.add("downloads/sd", pipeline)
    model = reference(repository)
    with pytest.raises(ModelNotDownloaded):
        find_model(model, tmp_path)
    reports: list[tuple[int, int]] = []
    weights = download_model(model, tmp_path, lambda done, total: reports.append((done, total)))
    fetched = {name.removeprefix("downloads/sd/") for name in hub.served if name.startswith("downloads/sd/")}
    assert fetched == {
        "model_index.json",
        "scheduler/scheduler_config.json",
        "text_encoder/config.json",
        "text_encoder/model.safetensors",
        "tokenizer/tokenizer.json",
        "tokenizer/tokenizer_config.json",
        "unet/config.json",
        UNET,
        "vae/config.json",
        "vae/diffusion_pytorch_model.safetensors",
    }
    total = sum(repository.files[name].size for name in fetched)
    assert {of for _, of in reports} == {total}
    positions = [done for done, _ in reports]
    assert positions == sorted(positions)
    assert positions[-1] == total

    before = len(hub.requests)
    assert download_model(model, tmp_path, no_progress) == find_model(model, tmp_path) == weights
    assert len(hub.requests) == before
    pipe = loaded(model, tmp_path)
    assert all(torch.equal(tensor, load_file(pipeline / UNET)[name]) for name, tensor in pipe.unet.state_dict().items())


def loaded(model: ModelReference, models_dir: Path):  # type: ignore[no-untyped-def]
    with expected_warnings_ignored():
        return load(model, find_model(model, models_dir), torch.device("cpu"), torch.float32)


def test_weights_in_float16_are_fetched_in_place_of_the_full_ones(
    hub: ModelHub, pipeline: Path, tmp_path: Path
) -> None:
    model = reference(hub.add("downloads/half", pipeline))
    assert Engine(EngineSettings(tmp_path, dtype="float16")).variant_of(model) == "fp16"
    assert Engine(EngineSettings(tmp_path, dtype="float32")).variant_of(model) == ""
    weights = download_model(model, tmp_path, no_progress, "fp16")
    assert f"downloads/half/{UNET}" not in hub.served
    # Its other parts have no such variant.
    assert "downloads/half/vae/diffusion_pytorch_model.safetensors" in hub.served
    assert weights.variant == "fp16"
    half = load_file(pipeline / HALF_UNET)
    pipe = loaded(model, tmp_path)
    assert all(torch.equal(tensor, half[name].float()) for name, tensor in pipe.unet.state_dict().items())
    shutil.copytree(weights.pipeline, tmp_path / "someone/copy")
    assert find_model(local("someone/copy", Family.STABLE_DIFFUSION), tmp_path).variant == "fp16"


def test_a_stopped_download_goes_on_from_the_same_byte(hub: ModelHub, small: Repository, tmp_path: Path) -> None:
    model = reference(small)
    before = sum(file.size for name, file in small.files.items() if name != UNET)
    start = len(hub.served)
    with hub.held(small.name, UNET, after=HALF), pytest.raises(Stopped):
        download_model(model, tmp_path, stop_at(before + HALF))
    assert hub.begins[-1] == 0
    with pytest.raises(ModelNotDownloaded):
        find_model(model, tmp_path)
    reports: list[int] = []
    weights = download_model(model, tmp_path, lambda done, total: reports.append(done))
    assert hub.begins[-1] == HALF
    assert hub.served[start:].count(f"{small.name}/unet/a.safetensors") == 1
    assert reports[0] == before
    assert (weights.pipeline / UNET).read_bytes() == (small.directory / UNET).read_bytes()
    assert reports[-1] == sum(file.size for file in small.files.values())


def test_a_lost_connection_is_opened_again(hub: ModelHub, small: Repository, tmp_path: Path) -> None:
    thread = Thread(target=download_model, args=(reference(small), tmp_path, no_progress))
    with hub.held(small.name, UNET, after=HALF) as hold:
        thread.start()
        assert hold.reached.wait(WAIT_SECONDS)
        hold.cut()
    thread.join(WAIT_SECONDS)
    assert hub.begins[-1] == HALF
    content = (find_model(reference(small), tmp_path).pipeline / UNET).read_bytes()
    assert content == (small.directory / UNET).read_bytes()


def test_a_damaged_file_is_refused_and_fetched_again(hub: ModelHub, small: Repository, tmp_path: Path) -> None:
    model = reference(small)
    with hub.held(small.name, UNET, after=HALF), pytest.raises(Stopped):
        download_model(model, tmp_path, stop_at(HALF))
    (part,) = (tmp_path / "hub").glob("*/blobs/*.incomplete")
    part.write_bytes(os.urandom(HALF))
    with pytest.raises(HubFailed, match="was damaged on the way"):
        download_model(model, tmp_path, no_progress)
    assert download_model(model, tmp_path, no_progress).pipeline.is_dir()


def test_errors_say_what_to_do(
    hub: ModelHub, small: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def failure(model: ModelReference) -> str:
        with pytest.raises(HubFailed) as caught:
            download_model(model, tmp_path / "models", no_progress)
        return caught.value.message

    gated = reference(hub.add("downloads/gated", small.directory, gated="manual"))
    missing = gated.model_copy(update={"id": "downloads/none"})
    assert failure(gated) == (
        f"downloads/gated is gated. Accept its licence at {hub.url}/downloads/gated, make a token at "
        f"{hub.url}/settings/tokens, and set HF_TOKEN, which is missing."
    )
    assert failure(missing) == (
        "The hub has no repository downloads/none, or it is private and HF_TOKEN is missing. Check the name."
    )
    monkeypatch.setenv("HF_TOKEN", hub.other_token)
    assert failure(gated).endswith("with the account of HF_TOKEN: the hub refused this token's access.")
    assert failure(missing).endswith("or the token in HF_TOKEN may not read it. Check the name.")
    monkeypatch.setenv("HF_TOKEN", "hf_expired")
    assert failure(gated).startswith("The hub refused HF_TOKEN as invalid or expired. Make another at ")
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert download_model(gated, tmp_path / "others", no_progress).pipeline.is_dir()

    other = reference(small).model_copy(update={"revision": "0" * 40})
    assert failure(other).startswith(f"downloads/small has no commit {'0' * 40}. Choose one of ")
    assert failure(reference(small).model_copy(update={"revision": ""})).endswith("enter one in the admin.")

    huge = hub.add("downloads/huge", small.directory)
    huge.files[UNET] = replace(huge.files[UNET], size=10**18)
    message = failure(reference(huge))
    assert message.startswith(
        f"downloads/huge does not fit on the disk of {tmp_path / 'models'}: 1000000000.00 GB are "
    )
    assert f"downloads/huge/{UNET}" not in hub.served

    nowhere = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setattr(constants, "ENDPOINT", nowhere)
    message = failure(gated.model_copy(update={"id": "downloads/far"}))
    assert message.startswith(f"The hub at {nowhere} cannot be reached (")
    assert message.endswith("). Check the network, a proxy, and HF_ENDPOINT; what was fetched is kept.")


def test_a_lora_is_its_file_alone(hub: ModelHub, tmp_path: Path) -> None:
    directory = tmp_path / "lora"
    directory.mkdir()
    for name in ("style.safetensors", "other.safetensors"):
        (directory / name).write_bytes(os.urandom(1000))
    repository = hub.add("downloads/lora", directory)
    lora = LoraReference(id="downloads/lora", revision=repository.commit, weight_name="style.safetensors", weight=1)
    assert download_lora(lora, tmp_path, no_progress).read_bytes() == (directory / "style.safetensors").read_bytes()
    assert "downloads/lora/other.safetensors" not in hub.served
    with pytest.raises(HubFailed) as caught:
        download_lora(lora.model_copy(update={"weight_name": ""}), tmp_path, no_progress)
    assert caught.value.message == (
        "downloads/lora has no file pytorch_lora_weights.safetensors. Choose one of other.safetensors, style.safetensors."
    )


def test_of_the_base_of_a_checkpoint_the_configuration_alone_is_fetched(
    hub: ModelHub, pipeline: Path, tmp_path: Path
) -> None:
    hub.add(STABLE_DIFFUSION.id, pipeline).commit = STABLE_DIFFUSION.revision
    save_checkpoint(pipeline, tmp_path / "owner/name/v1.safetensors")
    model = local("owner/name", Family.STABLE_DIFFUSION)
    with pytest.raises(ModelNotDownloaded):
        find_model(model, tmp_path)
    weights = download_model(model, tmp_path, no_progress)
    assert weights == find_model(model, tmp_path)
    assert weights.checkpoint == tmp_path / "owner/name/v1.safetensors"
    fetched = {path.relative_to(weights.pipeline).as_posix() for path in weights.pipeline.rglob("*") if path.is_file()}
    assert {"model_index.json", "unet/config.json", "tokenizer/tokenizer.json"} <= fetched
    assert not [name for name in fetched if name.endswith(".safetensors")]
    with expected_warnings_ignored():
        pipe = load(model, weights, torch.device("cpu"), torch.float32)
    assert torch.equal(pipe.unet.state_dict()["conv_in.weight"], load_file(pipeline / UNET)["conv_in.weight"])
