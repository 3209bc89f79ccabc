"""The catalog finds each family's models on disk or on the hub, and says how to load them."""

import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from safetensors.torch import load_file

from generation.engine.batches import Result
from generation.engine.catalog import find_model
from generation.engine.engine import Engine, EngineSettings
from generation.engine.errors import ModelFailed, ModelNotDownloaded
from generation.engine.loading import load
from generation.engine.pipelines import WarmPipeline, expected_warnings_ignored
from generation.families import Family
from generation.family_traits import Traits
from generation.recipes import ModelReference, Recipe, traits_of
from generation.repositories.files import BUNDLED
from generation.repositories.lightning import SDXL_BASE
from tests.support.pictures import scene
from tests.support.tiny_models import (
    TINY_EDIT,
    local,
    save_instruct_pix2pix,
    save_lightning_unet,
    save_sdxl,
    save_stable_diffusion,
    save_turbo,
)

CPU = torch.device("cpu")
REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    save_stable_diffusion(directory, "tests/sd")
    save_turbo(directory, "tests/turbo")
    save_instruct_pix2pix(directory, "timbrooks/instruct-pix2pix")
    save_sdxl(directory, SDXL_BASE.id)
    for steps in (2, 4, 8):
        save_lightning_unet(directory, steps, seed=steps)
    return directory


@pytest.fixture(scope="module")
def engine(models_dir: Path) -> Engine:
    return Engine(EngineSettings(models_dir=models_dir, dtype="float32", offline=True))


def loaded(model: ModelReference, models_dir: Path, dtype: torch.dtype = torch.float32) -> Any:
    with expected_warnings_ignored():
        return load(model, find_model(model, models_dir), CPU, dtype)


def run(engine: Engine, model: ModelReference, picture: Image.Image, **changes: Any) -> Result:
    values: dict[str, Any] = {
        "model": model,
        "loras": (),
        "prompt": "make it night",
        "negative_prompt": "",
        "strength": 0.5,
        "guidance_scale": 2.5,
        "image_guidance_scale": 1.5,
        "num_inference_steps": 2,
        "seeds": (7,),
        "safety_check": False,
        "width": 256,
        "height": 256,
    }
    return engine.run(Recipe(**values | traits_of(model).forced | changes), picture, lambda done, of, phase: None)


def pixels(result: Result) -> "np.ndarray[Any, np.dtype[np.int16]]":
    return np.asarray(result.pictures[0].image, dtype=np.int16)


@pytest.mark.parametrize(
    "model",
    [
        local("tests/sd", Family.STABLE_DIFFUSION),
        local("tests/turbo", Family.TURBO),
        local("timbrooks/instruct-pix2pix", Family.INSTRUCT_PIX2PIX),
        SDXL_BASE,
        local("ByteDance/SDXL-Lightning", Family.LIGHTNING),
        local("ByteDance/SDXL-Lightning-2step", Family.LIGHTNING),
        local("ByteDance/SDXL-Lightning-4step", Family.LIGHTNING),
        local("ByteDance/SDXL-Lightning-8step", Family.LIGHTNING),
    ],
    ids=lambda model: model.id,
)
def test_the_uploaded_picture_matters_to_every_family(engine: Engine, model: ModelReference) -> None:
    plain, inverted = (pixels(run(engine, model, picture)) for picture in (scene(), ImageOps.invert(scene())))
    assert not np.array_equal(plain, inverted)


def test_lightning_is_sdxl_with_another_unet_and_trailing_steps(models_dir: Path) -> None:
    for id_, steps in {"": 8, "-2step": 2, "-4step": 4, "-8step": 8}.items():
        pipe = loaded(local(f"ByteDance/SDXL-Lightning{id_}", Family.LIGHTNING), models_dir)
        assert type(pipe).__name__ == "StableDiffusionXLImg2ImgPipeline"
        assert type(pipe.scheduler).__name__ == "EulerDiscreteScheduler"
        assert pipe.scheduler.config.timestep_spacing == "trailing"
        file = load_file(models_dir / f"ByteDance/SDXL-Lightning/sdxl_lightning_{steps}step_unet.safetensors")
        assert all(torch.equal(tensor, file[name].float()) for name, tensor in pipe.unet.state_dict().items())
        assert not pipe.unet.training


def test_other_models_are_loaded_as_their_family_needs(models_dir: Path) -> None:
    sd = loaded(local("tests/sd", Family.STABLE_DIFFUSION), models_dir)
    assert (type(sd).__name__, type(sd.scheduler).__name__) == ("StableDiffusionImg2ImgPipeline", "PNDMScheduler")
    turbo = loaded(local("tests/turbo", Family.TURBO), models_dir)
    assert type(turbo).__name__ == "StableDiffusionImg2ImgPipeline"
    assert turbo.scheduler.config.timestep_spacing == "trailing"
    edit = loaded(local("timbrooks/instruct-pix2pix", Family.INSTRUCT_PIX2PIX), models_dir)
    assert type(edit).__name__ == "StableDiffusionInstructPix2PixPipeline"
    assert type(edit.scheduler).__name__ == "EulerAncestralDiscreteScheduler"
    bundled = loaded(TINY_EDIT, models_dir)
    assert type(bundled.scheduler).__name__ == "DDIMScheduler"
    assert bundled.scheduler.config.rescale_betas_zero_snr


def test_networks_are_wholly_in_one_type_and_laid_out_by_pixel(models_dir: Path) -> None:
    pipe = loaded(local("tests/sd", Family.STABLE_DIFFUSION), models_dir, torch.bfloat16)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder):
        assert {parameter.dtype for parameter in part.parameters()} == {torch.bfloat16}
    for part in (pipe.unet, pipe.vae):
        kernels = [parameter for parameter in part.parameters() if parameter.dim() == 4]
        assert all(kernel.is_contiguous(memory_format=torch.channels_last) for kernel in kernels)


def test_a_bundled_model_is_found_before_one_of_its_name_in_the_models_directory(tmp_path: Path) -> None:
    save_stable_diffusion(tmp_path, TINY_EDIT.id)
    assert find_model(TINY_EDIT, tmp_path).pipeline == BUNDLED / "tiny-edit"
    other = save_stable_diffusion(tmp_path, "dreamsite/other")
    assert find_model(other, tmp_path).pipeline == tmp_path / "dreamsite/other"


@pytest.mark.parametrize(
    "id_", ["tests", "../sd", "tests/..", "tests/sd/", "/tests/sd", "tests/s/d", "tests/a..b", "", "a/b\n"]
)
def test_an_invalid_id_finds_nothing(models_dir: Path, id_: str) -> None:
    with pytest.raises(ModelNotDownloaded):
        find_model(ModelReference(id=id_, revision=REVISION, family=Family.STABLE_DIFFUSION), models_dir)


class _TouchFile:
    """A pickle that shows that it was opened."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


def test_pickled_weights_are_refused_unopened(models_dir: Path, tmp_path: Path) -> None:
    shutil.copytree(models_dir / "tests/sd", tmp_path / "tests/pickled")
    (tmp_path / "tests/pickled/unet/diffusion_pytorch_model.safetensors").unlink()
    weights = tmp_path / "tests/pickled/unet/diffusion_pytorch_model.bin"
    weights.write_bytes(pickle.dumps(_TouchFile(tmp_path / "opened")))
    with pytest.raises(ModelFailed, match="could not be loaded"):
        run(Engine(EngineSettings(models_dir=tmp_path)), local("tests/pickled", Family.STABLE_DIFFUSION), scene())
    assert not (tmp_path / "opened").exists()


@pytest.mark.parametrize("place", ["unet", "."])
def test_code_of_a_model_is_not_run(models_dir: Path, tmp_path: Path, place: str) -> None:
    directory = tmp_path / "tests/scripted"
    shutil.copytree(models_dir / "tests/sd", directory)
    (directory / place / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Own: pass\n")
    index = json.loads((directory / "model_index.json").read_text())
    index["unet" if place == "unet" else "_class_name"] = ["own", "Own"]
    (directory / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ModelFailed, match="could not be loaded"):
        run(Engine(EngineSettings(models_dir=tmp_path)), local("tests/scripted", Family.STABLE_DIFFUSION), scene())
    assert not (tmp_path / "ran").exists()


def test_a_pipeline_without_callback_is_refused() -> None:
    class WithoutCallback:
        unet = torch.nn.Identity()

        def __call__(self, prompt: str, image: Image.Image, generator: torch.Generator) -> None: ...

    with pytest.raises(TypeError, match="WithoutCallback is not supported: it has no argument callback_on_step_end"):
        WarmPipeline(WithoutCallback(), torch.float32, Traits(), lambda lora: Path())
