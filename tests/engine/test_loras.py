"""LoRAs change the pictures of the request that names them, and of no other."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from generation.engine.batches import Result
from generation.engine.catalog import DEFAULT_LORA_FILE, find_lora
from generation.engine.engine import Engine, EngineSettings
from generation.engine.errors import LoraFailed
from generation.engine.loras import MAX_LOADED, Loras
from generation.engine.pipelines import expected_warnings_ignored
from generation.parameters import ErrorCode
from generation.recipes import LoraReference, Recipe
from generation.repositories.files import BUNDLED
from tests.support.pictures import scene
from tests.support.tiny_models import (
    TINY_EDIT,
    diffusers,
    save_lora,
    save_lora_weights,
)


@pytest.fixture(scope="module")
def pipe() -> Any:
    """The bundled model, as diffusers loads it."""
    pipe = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained(BUNDLED / "tiny-edit", safety_checker=None)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory, pipe: Any) -> Path:
    directory = tmp_path_factory.mktemp("models")
    save_lora(directory, "tests/swirl", pipe, seed=1, text=True)
    save_lora(directory, "tests/dots", pipe, seed=2)
    return directory


@pytest.fixture(scope="module")
def engine(models_dir: Path) -> Engine:
    return Engine(EngineSettings(models_dir=models_dir, dtype="float32", offline=True))


def lora(id_: str, weight: float = 1.0) -> LoraReference:
    return LoraReference(id=id_, revision="", weight_name="", weight=weight)


def recipe(*loras: LoraReference) -> Recipe:
    return Recipe(
        model=TINY_EDIT,
        loras=loras,
        prompt="make it night",
        negative_prompt="",
        strength=1,
        guidance_scale=2.5,
        image_guidance_scale=1.5,
        num_inference_steps=1,
        seeds=(7,),
        safety_check=False,
        width=128,
        height=128,
    )


def run(engine: Engine, *loras: LoraReference) -> Result:
    return engine.run(recipe(*loras), scene(), lambda done, of, phase: None)


def pixels(result: Result) -> "np.ndarray[Any, np.dtype[np.int16]]":
    return np.asarray(result.pictures[0].image, dtype=np.int16)


def test_a_lora_changes_the_picture_and_its_weight_says_how_much(engine: Engine) -> None:
    plain, half, full = (pixels(run(engine, lora("tests/swirl", weight))) for weight in (0, 0.5, 1))
    assert 1 < np.abs(half - plain).mean() < np.abs(full - plain).mean()


def test_weight_zero_is_no_lora_pixel_for_pixel(engine: Engine) -> None:
    assert np.array_equal(pixels(run(engine, lora("tests/swirl", 0))), pixels(run(engine)))


def test_loras_never_leak_into_another_request(engine: Engine) -> None:
    requests = [[], [lora("tests/swirl")], [lora("tests/dots")], [lora("tests/swirl", 0.5), lora("tests/dots", 2)]]
    first = [pixels(run(engine, *loras)) for loras in requests]
    again = [pixels(run(engine, *loras)) for loras in reversed(requests)]
    for index, made in enumerate(reversed(again)):
        assert np.array_equal(first[index], made)
    for one in range(4):
        for other in range(one):
            assert not np.array_equal(first[one], first[other])


def test_a_run_that_was_stopped_leaves_no_lora_behind(engine: Engine) -> None:
    class StopError(Exception):
        pass

    def stop(done: int, of: int, phase: str) -> None:
        if phase == "denoising":
            raise StopError

    plain = pixels(run(engine))
    with pytest.raises(StopError):
        engine.run(recipe(lora("tests/swirl")), scene(), stop)
    assert np.array_equal(plain, pixels(run(engine)))


def test_a_missing_lora_is_named_and_leaves_nothing_behind(engine: Engine) -> None:
    plain = pixels(run(engine))
    with pytest.raises(LoraFailed) as caught:
        run(engine, lora("tests/swirl"), lora("tests/nothing"))
    assert caught.value.code == ErrorCode.LORA_FAILED
    assert caught.value.message == "LoRA repository 'tests/nothing' not found"
    assert np.array_equal(plain, pixels(run(engine)))


@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_a_lora_of_another_size_is_incompatible_and_leaves_nothing_behind(
    engine: Engine, models_dir: Path, part: str
) -> None:
    plain, swirled = pixels(run(engine)), pixels(run(engine, lora("tests/swirl")))
    weights = load_file(models_dir / "tests/swirl" / DEFAULT_LORA_FILE)
    for name, tensor in weights.items():
        if name.startswith(part) and "lora_A" in name:
            weights[name] = torch.randn(tensor.shape[0], 768)
    save_lora_weights(models_dir, f"tests/large-{part}", weights)
    with pytest.raises(LoraFailed) as caught:
        run(engine, lora(f"tests/large-{part}"))
    assert caught.value.message == f"LoRA incompatible with base model: 'tests/large-{part}'"
    assert np.array_equal(plain, pixels(run(engine)))
    assert np.array_equal(swirled, pixels(run(engine, lora("tests/swirl"))))


@pytest.mark.parametrize("prefix", ["transformer", "text_encoder_2"])
def test_a_lora_that_fits_nothing_is_incompatible(engine: Engine, models_dir: Path, prefix: str) -> None:
    weights = load_file(models_dir / "tests/dots" / DEFAULT_LORA_FILE)
    renamed = {name.replace("unet", prefix, 1): tensor for name, tensor in weights.items()}
    save_lora_weights(models_dir, f"tests/for-{prefix}", renamed)
    with pytest.raises(LoraFailed, match="incompatible with base model"):
        run(engine, lora(f"tests/for-{prefix}"))


def test_a_lora_that_fits_in_part_says_so_every_time(engine: Engine, models_dir: Path) -> None:
    weights = load_file(models_dir / "tests/dots" / DEFAULT_LORA_FILE)
    strangers = {name.replace("unet", "text_encoder_2", 1): tensor for name, tensor in weights.items()}
    save_lora_weights(models_dir, "tests/partly", weights | strangers)
    for _ in range(2):
        assert run(engine, lora("tests/partly")).warnings == [
            f"LoRA 'tests/partly' fits the model only in part: {len(weights)} of {2 * len(weights)} tensors were used."
        ]
    assert run(engine, lora("tests/dots")).warnings == []


def test_a_file_that_is_no_safetensors_file_cannot_be_loaded(engine: Engine, models_dir: Path) -> None:
    (models_dir / "tests/broken").mkdir()
    (models_dir / "tests/broken" / DEFAULT_LORA_FILE).write_bytes(b"PK\x03\x04 not safetensors")
    with pytest.raises(LoraFailed) as caught:
        run(engine, lora("tests/broken"))
    assert caught.value.message == "Unable to load LoRA 'tests/broken'"


@pytest.mark.parametrize(
    "changes",
    [
        {"weight_name": "pytorch_lora_weights.bin"},
        {"weight_name": "../swirl/pytorch_lora_weights.safetensors"},
        {"weight_name": "/etc/passwd.safetensors"},
        {"id": "../tests/swirl"},
        {"id": "tests/.."},
        {"id": "tests/swirl/.."},
        {"id": "swirl"},
    ],
    ids=str,
)
def test_only_safetensors_files_inside_a_repository_are_found(models_dir: Path, changes: dict[str, str]) -> None:
    with pytest.raises(LoraFailed, match="not found"):
        find_lora(lora("tests/swirl").model_copy(update=changes), models_dir)


def test_the_least_recently_used_lora_is_dropped(models_dir: Path, pipe: Any) -> None:
    loras = Loras(pipe, lambda reference: find_lora(reference, models_dir))
    copies = [
        LoraReference(id="tests/dots", revision=str(number), weight_name="", weight=1) for number in range(MAX_LOADED)
    ]
    with expected_warnings_ignored():
        for reference in [lora("tests/swirl"), *copies[1:], lora("tests/swirl"), copies[0]]:
            with loras.applied([reference]):
                pass
        assert loras.loaded == ["tests/dots"] * (MAX_LOADED - 2) + ["tests/swirl", "tests/dots"]
        assert len(pipe.get_list_adapters()["unet"]) == MAX_LOADED
        with loras.applied([copies[1]]):
            pass
        assert len(pipe.get_list_adapters()["unet"]) == MAX_LOADED
        pipe.unload_lora_weights()


@pytest.mark.parametrize("name", ["dreamsite/banknote", "dreamsite/knitted"])
def test_a_bundled_lora_is_small_gives_its_style_and_leaves_nothing_behind(engine: Engine, name: str) -> None:
    plain = pixels(run(engine))
    half, full = (pixels(run(engine, lora(name, weight))) for weight in (0.5, 1))
    assert 1 < np.abs(half - plain).mean() < np.abs(full - plain).mean()
    assert np.array_equal(plain, pixels(run(engine, lora(name, 0))))
    assert np.array_equal(plain, pixels(run(engine)))
    assert (BUNDLED / name.partition("/")[2] / DEFAULT_LORA_FILE).stat().st_size <= 300_000
