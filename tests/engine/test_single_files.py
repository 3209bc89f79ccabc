"""Models as one file, as other user interfaces share them."""

import json
import shutil
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from safetensors.torch import save_file

from generation.engine.engine import Engine, EngineSettings
from generation.engine.errors import EngineError, ModelFailed
from generation.families import Family
from generation.family_detection import UnsupportedModel, detect_single_file
from generation.parameters import ImageToImageParameters
from generation.recipes import Limits, ModelReference, plan
from generation.weight_files import Header, count_checkpoint, count_parameters, find_single_file, read_header
from tests.support.pictures import scene
from tests.support.single_files import Tensors, save_checkpoint, sd3_tensors
from tests.support.tiny_models import diffusers, local, save_stable_diffusion
from tests.support.twins import save_twin

Pixels = NDArray[np.int16]

SD_BASE = "stable-diffusion-v1-5/stable-diffusion-v1-5"
SD35_BASE = "stabilityai/stable-diffusion-3.5-medium"


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def pixels(models_dir: Path, model: ModelReference) -> Pixels:
    engine = Engine(EngineSettings(models_dir=models_dir, dtype="float32", offline=True))
    request = ImageToImageParameters(prompt="a cat", num_inference_steps=4, seed=1, safety_check=False)
    recipe, _ = plan(request, model, [], (128, 128), Limits(side=128))
    return np.asarray(engine.run(recipe, scene(128, 128), lambda *_: None).pictures[0].image, np.int16)


def remove_weights(directory: Path, part: str = "*") -> None:
    """Leave the configuration of this part, as it is fetched for a single file."""
    for file in directory.glob(f"{part}/*.safetensors"):
        file.unlink()


def test_a_checkpoint_makes_the_pictures_of_its_directory(models_dir: Path) -> None:
    directory = save_stable_diffusion(models_dir, SD_BASE)
    file = models_dir / "owner/checkpoint/v1.safetensors"
    save_checkpoint(models_dir / SD_BASE, file)
    parameters, expected = count_parameters(models_dir / SD_BASE), pixels(models_dir, directory)
    remove_weights(models_dir / SD_BASE)
    assert detect_single_file("owner/checkpoint", read_header(file)) is Family.STABLE_DIFFUSION
    assert count_checkpoint(file) == parameters
    assert np.array_equal(pixels(models_dir, local("owner/checkpoint", Family.STABLE_DIFFUSION)), expected)


def test_weights_are_counted_once_in_whatever_types_they_lie_there(tmp_path: Path) -> None:
    directory = tmp_path / save_stable_diffusion(tmp_path, SD_BASE).id
    parameters = count_parameters(directory)
    shutil.copy(
        directory / "unet/diffusion_pytorch_model.safetensors",
        directory / "unet/diffusion_pytorch_model.fp16.safetensors",
    )
    (directory / "vae/diffusion_pytorch_model.safetensors").rename(
        directory / "vae/diffusion_pytorch_model.fp16.safetensors"
    )
    assert count_parameters(directory) == parameters


@pytest.fixture(scope="module")
def sd35(models_dir: Path) -> tuple[Tensors, Pixels]:
    """The transformer of a Stable Diffusion 3.5 medium as tensors, and a picture of it; its base lacks it on disk."""
    twin = models_dir / save_twin(models_dir, "sd35")
    configuration = json.loads((twin / "transformer/config.json").read_text()) | {"dual_attention_layers": [0]}
    transformer = diffusers.SD3Transformer2DModel.from_config(configuration)
    transformer.save_pretrained(twin / "transformer")
    expected = pixels(models_dir, local("twins/sd35", Family.SD3))
    (models_dir / SD35_BASE).parent.mkdir(parents=True)
    twin.rename(models_dir / SD35_BASE)
    remove_weights(models_dir / SD35_BASE, "transformer")
    return sd3_tensors(transformer), expected


def test_a_file_of_the_transformer_takes_the_rest_from_the_base(models_dir: Path, sd35: tuple[Tensors, Pixels]) -> None:
    tensors, expected = sd35
    file = models_dir / "owner/sd35/sd3.5_medium.safetensors"
    file.parent.mkdir(parents=True)
    save_file(tensors, file)
    assert detect_single_file("owner/sd35", read_header(file)) is Family.SD3
    assert np.array_equal(pixels(models_dir, local("owner/sd35", Family.SD3)), expected)


def test_a_gguf_file_is_loaded_or_refused_for_want_of_its_package(
    models_dir: Path, sd35: tuple[Tensors, Pixels]
) -> None:
    tensors, expected = sd35
    file = models_dir / "owner/gguf/sd3.5_medium-Q8_0.gguf"
    file.parent.mkdir(parents=True)
    if not find_spec("gguf"):
        file.touch()
        with pytest.raises(ModelFailed, match="needs the package gguf, which is not installed"):
            pixels(models_dir, local("owner/gguf", Family.SD3))
        return
    import gguf

    writer = gguf.GGUFWriter(file, "sd3")
    for name, tensor in tensors.items():
        # Quantized in blocks of 32 numbers, as far as they can be.
        kind = gguf.GGMLQuantizationType.Q8_0 if tensor.ndim == 2 else gguf.GGMLQuantizationType.F32
        values = gguf.quantize(tensor.detach().numpy(), kind) if tensor.ndim == 2 else tensor.detach().numpy()
        writer.add_tensor(name.removeprefix("model.diffusion_model."), values, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert detect_single_file("owner/gguf", read_header(file)) is Family.SD3
    difference = np.abs(pixels(models_dir, local("owner/gguf", Family.SD3)) - expected)
    assert 0 < difference.mean() < 5


FLUX = {"double_blocks.0.img_attn.norm.key_norm.scale": (128,), "img_in.weight": (3072, 64)}
GUIDED_FLUX = FLUX | {"guidance_in.in_layer.bias": (3072,)}
SD35_BLOCK = "model.diffusion_model.joint_blocks.{}.context_block.adaLN_modulation.1.bias"
SDXL_TEXT = "conditioner.embedders.1.model.positional_embedding"
CLIP = "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight"


def with_unet(channels: int, *names: str) -> Header:
    names = ("first_stage_model.encoder.conv_in.weight", *names)
    shape = (320, channels, 3, 3)
    return {"model.diffusion_model.input_blocks.0.0.weight": shape, **dict.fromkeys(names, (1,))}


@pytest.mark.parametrize(
    ("header", "id_", "family"),
    [
        (FLUX, "owner/schnell", Family.FLUX_SCHNELL),
        (GUIDED_FLUX, "owner/flux1-dev", Family.FLUX),
        ({f"model.diffusion_model.{name}": shape for name, shape in GUIDED_FLUX.items()}, "o/m", Family.FLUX),
        (GUIDED_FLUX, "owner/Flux1-Kontext-Q4", Family.FLUX_KONTEXT),
        ({SD35_BLOCK.format(0): (1,), SD35_BLOCK.format(37): (1,)}, "owner/large", Family.SD3),
        (with_unet(4, SDXL_TEXT), "owner/sdxl", Family.SDXL),
        (with_unet(8, CLIP), "owner/edit", Family.INSTRUCT_PIX2PIX),
    ],
)
def test_the_header_tells_the_family(header: Header, id_: str, family: Family) -> None:
    assert detect_single_file(id_, header) is family


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"transformer.blocks.0.lora_A.weight": (4, 8)}, "add it under LoRAs"),
        (GUIDED_FLUX | {"scaled_fp8": (0,)}, "scaled fp8"),
        (GUIDED_FLUX | {"img_in.weight": (3072, 384)}, "Fill, Depth or Canny"),
        (GUIDED_FLUX | {"distilled_guidance_layer.in_proj.bias": (1,)}, "Chroma"),
        ({SD35_BLOCK.format(0): (1,)}, "Stable Diffusion 3 medium"),
        (with_unet(9, CLIP), "an inpainting model"),
        (with_unet(5, CLIP), "5 channels"),
        (with_unet(4), "Stable Diffusion 2"),
        (with_unet(8, SDXL_TEXT), "for editing"),
        (with_unet(4, "conditioner.embedders.0.model.text_projection"), "refiner"),
        ({"model.diffusion_model.input_blocks.0.0.weight": (320, 4, 3, 3)}, "no autoencoder"),
        ({"encoder.conv_in.weight": (1,)}, "no single file of"),
    ],
)
def test_what_cannot_be_run_is_refused_with_its_reason(header: Header, reason: str) -> None:
    with pytest.raises(UnsupportedModel, match=reason):
        detect_single_file("owner/name", header)


def test_a_directory_is_a_single_file_only_if_it_has_one(tmp_path: Path) -> None:
    assert find_single_file(tmp_path / "missing") is None
    (tmp_path / "a.safetensors").touch()
    (tmp_path / "readme.md").touch()
    assert find_single_file(tmp_path) == tmp_path / "a.safetensors"
    (tmp_path / "b.gguf").touch()
    assert find_single_file(tmp_path) is None


@pytest.mark.parametrize(
    ("family", "reason"),
    [
        (Family.SDXL, "is not downloaded yet"),
        (
            Family.QWEN_IMAGE,
            "so its family must be one of stable-diffusion, instruct-pix2pix, sdxl, stable-diffusion-3,",
        ),
    ],
)
def test_a_single_file_without_a_base_is_refused(tmp_path: Path, family: Family, reason: str) -> None:
    write(tmp_path / "owner/name/model.safetensors", GUIDED_FLUX)
    with pytest.raises(EngineError, match=reason):
        pixels(tmp_path, local("owner/name", family))


def test_a_gguf_file_of_a_whole_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "owner/name").mkdir(parents=True)
    (tmp_path / "owner/name/sdxl-Q4_0.gguf").touch()
    with pytest.raises(
        ModelFailed, match="is a GGUF file, which can be loaded of stable-diffusion-3, flux, flux-kontext"
    ):
        pixels(tmp_path, local("owner/name", Family.SDXL))


def test_a_file_of_another_model_is_refused_with_its_reason(models_dir: Path) -> None:
    save_stable_diffusion(models_dir, SD_BASE)
    write(models_dir / "owner/lora/model.safetensors", {"lora_unet_mid.lora_down.weight": (1, 1)})
    with pytest.raises(ModelFailed, match=r"cannot be run\. It is a LoRA; add it under LoRAs"):
        pixels(models_dir, local("owner/lora", Family.STABLE_DIFFUSION))


def write(file: Path, header: dict[str, Any]) -> None:
    """Write a safetensors file that has this header, and no tensors."""
    text = json.dumps(
        {name: {"dtype": "F16", "shape": shape, "data_offsets": [0, 0]} for name, shape in header.items()}
    )
    file.parent.mkdir(parents=True)
    file.write_bytes(len(text).to_bytes(8, "little") + text.encode())
