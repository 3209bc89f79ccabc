"""Weights that are read into memory before their model is loaded."""

import json
import os
from pathlib import Path

import pytest

from generation.engine.catalog import Weights
from generation.engine.devices import available_memory
from generation.engine.engine import Engine, EngineSettings
from generation.engine.read_ahead import read_ahead, weight_files
from generation.families import Family
from generation.recipes import ModelReference
from tests.support.page_cache import PAGE, forget, is_in_memory


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A directory in diffusers format with weights of the full type and of a variant, and others."""
    folder = tmp_path / "tests" / "model"
    names = ("unet/model.safetensors", "unet/model.fp16.safetensors", "vae/model.safetensors", "vae/other.bin")
    for name in (*names, "safety_checker/model.safetensors"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(os.urandom(40 * PAGE))
    parts = {name: ["diffusers", "Part"] for name in ("unet", "vae", "safety_checker")}
    (folder / "model_index.json").write_text(json.dumps({"_class_name": "Pipeline", **parts}))
    return folder


def test_the_files_that_loading_reads_are_read_and_no_others(model: Path) -> None:
    files = list(model.rglob("*/*"))
    for file in files:
        forget(file)
    assert read_ahead(Weights(model, variant="fp16"))
    read = {str(file.relative_to(model)) for file in files if is_in_memory(file)}
    assert read == {"unet/model.fp16.safetensors", "vae/model.safetensors"}


def test_a_file_of_its_own_replaces_the_denoiser_or_everything(model: Path, tmp_path: Path) -> None:
    single = tmp_path / "single.safetensors"
    assert weight_files(Weights(model, denoiser=single)) == [model / "vae" / "model.safetensors", single]
    assert weight_files(Weights(model, checkpoint=single)) == [single]


def test_weights_for_which_there_is_no_room_are_not_read(model: Path) -> None:
    weights = model / "vae" / "model.safetensors"
    forget(weights)
    with weights.open("r+b") as file:
        file.truncate(2 * available_memory())
    assert not read_ahead(Weights(model))


def test_a_model_that_is_not_on_disk_is_no_error(tmp_path: Path) -> None:
    engine = Engine(EngineSettings(models_dir=tmp_path, offline=True))
    engine.read_ahead(ModelReference(id="tests/missing", revision="", family=Family.STABLE_DIFFUSION))
