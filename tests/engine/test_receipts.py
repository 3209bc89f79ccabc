"""A result says what it was made with: software, device, files and its place in a call."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from generation.engine.batches import BatchItem, Result
from generation.engine.catalog import DEFAULT_LORA_FILE
from generation.engine.digests import DIGESTS
from generation.engine.engine import Engine, EngineSettings
from generation.engine.receipts import sha256_of
from generation.families import Family
from generation.parameters import ImageToImageParameters
from generation.recipes import LoraReference, ModelReference, plan
from tests.support.pictures import scene
from tests.support.tiny_models import TINY_EDIT, diffusers, local, save_lora, save_sdxl, save_stable_diffusion


def item(model: ModelReference, loras: tuple[LoraReference, ...] = (), **fields: object) -> BatchItem:
    picture = Image.new("RGB", (128, 128)) if model != TINY_EDIT else scene(128, 128)
    values = {"prompt": "make it night", "num_inference_steps": 2, "strength": 1, "safety_check": False, "seed": 1}
    recipe, _ = plan(ImageToImageParameters(**values | fields), model, loras, picture.size)
    return BatchItem(recipe, picture)


def run(engine: Engine, *items: BatchItem) -> list[Result]:
    results = engine.run_batch(items, lambda done, of, phase: None)
    return [result for result in results if isinstance(result, Result)]


def test_it_has_the_software_the_device_and_every_file(engine: Engine) -> None:
    (result,) = run(engine, item(TINY_EDIT))
    made_with = result.receipt.environment
    released = [line.split("  tiny-edit/") for line in DIGESTS.read_text().splitlines() if "tiny-edit/" in line]
    assert made_with["files"] == {name: digest for digest, name in released}
    assert made_with["packages"]["torch"] == torch.__version__
    assert made_with["packages"]["diffusers"] == diffusers.__version__
    assert made_with["pipeline"] == "StableDiffusionInstructPix2PixPipeline"
    assert made_with["scheduler"].endswith("Scheduler")
    assert made_with["dtype"] in ("float32", "bfloat16")
    assert made_with["threads"] == torch.get_num_threads()
    assert made_with["memory_plan"] == "whole"
    assert made_with["loras"] == {}


def test_each_picture_knows_its_call(engine: Engine) -> None:
    first, second = run(engine, item(TINY_EDIT, num_images_per_prompt=2), item(TINY_EDIT, seed=9))
    assert first.receipt.calls == [(3, 0), (3, 1)]
    assert second.receipt.calls == [(3, 2)]


def test_the_digests_are_of_the_files_that_are_loaded(tmp_path: Path) -> None:
    model = save_stable_diffusion(tmp_path, "tests/changing")
    weights = tmp_path / model.id / "unet/diffusion_pytorch_model.safetensors"
    (tmp_path / model.id / "README.md").write_text("not read")
    engine = Engine(EngineSettings(models_dir=tmp_path, dtype="float32", offline=True))
    (before,) = run(engine, item(model))
    digest = sha256_of(weights)
    assert before.receipt.environment["files"]["unet/diffusion_pytorch_model.safetensors"] == digest
    assert "README.md" not in before.receipt.environment["files"]
    save_stable_diffusion(tmp_path, "tests/changing", seed=1)
    (after,) = run(engine, item(model))
    changed = {
        name
        for name, found in after.receipt.environment["files"].items()
        if found != before.receipt.environment["files"][name]
    }
    assert changed >= {"unet/diffusion_pytorch_model.safetensors"}
    assert sha256_of(weights) in after.receipt.environment["files"].values()


def test_the_digests_of_loras_are_of_those_in_use(tmp_path: Path) -> None:
    model = local("tests/sdxl", Family.SDXL)
    save_sdxl(tmp_path, model.id)
    pipe = diffusers.StableDiffusionXLPipeline.from_pretrained(tmp_path / model.id, add_watermarker=False)
    loras = [save_lora(tmp_path, f"tests/{name}", pipe, seed) for seed, name in enumerate(("one", "two"))]
    engine = Engine(EngineSettings(models_dir=tmp_path, dtype="float32", offline=True))
    for used in (loras, loras[:1], []):
        (result,) = run(engine, item(model, tuple(used)))
        assert result.receipt.environment["loras"] == {
            lora.id: sha256_of(tmp_path / lora.id / DEFAULT_LORA_FILE) for lora in used
        }


@pytest.mark.parametrize("name", ["0" * 64, "1" * 40])
def test_a_file_of_the_hub_is_read_only_if_its_name_is_no_digest(tmp_path: Path, name: str) -> None:
    blob = tmp_path / "models--tests--sd" / "blobs" / name
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"weights")
    link = tmp_path / "model.safetensors"
    link.symlink_to(blob)
    assert (sha256_of(link) == name) is (len(name) == 64)
