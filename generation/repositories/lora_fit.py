"""Whether a LoRA fits a model, told by the names and shapes of its tensors: of diffusers, peft and kohya's scripts."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from huggingface_hub import parse_local_safetensors_file_metadata

from generation.families import Family

Shapes = Mapping[str, Sequence[int]]
"""The shape of each tensor of a file by its name."""

_TENSOR = re.compile(r"(?P<path>.+?)[._](?:processor[._])?lora[._](?P<side>A|B|down|up)(?:\.default)?\.weight")
_PREFIX = re.compile(r"(?:base_model\.model\.|lora_unet_|lora_transformer_|unet\.|transformer\.|diffusion_model\.)+")
_TEXT_ENCODER = re.compile(r"(?:lora_te|text_encoder|te[12]?_|cond_stage_model)")
# LoHa, LoKr and OFT, some of which diffusers converts: nothing is told of them.
_RELATED = ("hada_w1", "lokr_w1", "oft_blocks")


class NotALora(Exception):
    """Raised for files that are no LoRA; the message says so."""


class Architecture(StrEnum):
    """What LoRAs are trained for. A value is the name that people know."""

    SD1 = "Stable Diffusion 1"
    SD2 = "Stable Diffusion 2"
    SDXL = "SDXL"
    SDXL_REFINER = "the refiner of SDXL"
    SD3 = "Stable Diffusion 3"
    FLUX1 = "FLUX.1"
    FLUX2 = "FLUX.2 dev"
    KLEIN = "FLUX.2 klein"
    QWEN_IMAGE = "Qwen-Image"
    Z_IMAGE = "Z-Image"


_OF_FAMILY = {
    Family.STABLE_DIFFUSION: {Architecture.SD1, Architecture.SD2},
    Family.DEPTH: {Architecture.SD2},
    Family.TURBO: {Architecture.SD1, Architecture.SD2},
    Family.LCM: {Architecture.SD1},
    Family.INSTRUCT_PIX2PIX: {Architecture.SD1, Architecture.SD2},
    Family.SDXL: {Architecture.SDXL, Architecture.SDXL_REFINER},
    Family.SDXL_TURBO: {Architecture.SDXL},
    Family.LIGHTNING: {Architecture.SDXL},
    Family.SDXL_PIX2PIX: {Architecture.SDXL},
    Family.SD3: {Architecture.SD3},
    Family.FLUX: {Architecture.FLUX1},
    Family.FLUX_SCHNELL: {Architecture.FLUX1},
    Family.FLUX_KONTEXT: {Architecture.FLUX1},
    Family.FLUX2: {Architecture.FLUX2},
    Family.FLUX2_KLEIN: {Architecture.KLEIN},
    Family.FLUX2_KLEIN_BASE: {Architecture.KLEIN},
    Family.FLUX2_KLEIN_KV: {Architecture.KLEIN},
    Family.QWEN_IMAGE: {Architecture.QWEN_IMAGE},
    Family.QWEN_IMAGE_EDIT: {Architecture.QWEN_IMAGE},
    Family.QWEN_IMAGE_EDIT_PLUS: {Architecture.QWEN_IMAGE},
    Family.Z_IMAGE: {Architecture.Z_IMAGE},
    Family.Z_IMAGE_TURBO: {Architecture.Z_IMAGE},
    Family.Z_IMAGE_OMNI: {Architecture.Z_IMAGE},
}
"""The architectures of the models of a family. Of the others nothing is told."""

# Which width the text has that a UNet of Stable Diffusion reads, after its configurations.
_UNET_BY_TEXT_WIDTH = {
    768: Architecture.SD1,
    1024: Architecture.SD2,
    2048: Architecture.SDXL,
    1280: Architecture.SDXL_REFINER,
}
_SD3_WIDTHS = {1536, 2432}
_FLUX2_WIDTH = 6144
_KLEIN_9B_WIDTH = 4096
# FLUX.1 and klein 4B have the same width of 3072.
_FLUX1_DOUBLE_BLOCKS = 19
_KLEIN_4B_DOUBLE_BLOCKS, _KLEIN_4B_SINGLE_BLOCKS = 5, 20


@dataclass(frozen=True)
class Layer:
    """What a LoRA adds to: a layer of the model, by its path with underscores, and the numbers that go in and come out."""

    path: str
    inputs: int
    outputs: int


def shapes_of(header: Any) -> Shapes:
    """Return the shapes in huggingface_hub's `SafetensorsFileMetadata`."""
    return {name: tensor.shape for name, tensor in header.tensors.items()}


def layers_of(lora: Shapes) -> list[Layer]:
    """Return the layers of the denoiser, UNet or transformer, that a LoRA adds to. Raises `NotALora`."""
    inputs, outputs = {}, {}
    for name, shape in lora.items():
        found = _TENSOR.fullmatch(name)
        if found is None:
            continue
        if found["side"] in ("A", "down"):
            inputs[found["path"]] = shape[1]
        else:
            outputs[found["path"]] = shape[0]
    if not inputs and not any(mark in name for name in lora for mark in _RELATED):
        raise NotALora("It is no LoRA: none of its tensors has the name of one.")
    paths = [path for path in inputs if path in outputs and not _TEXT_ENCODER.match(path)]
    return [Layer(_PREFIX.sub("", path, count=1).replace(".", "_"), inputs[path], outputs[path]) for path in paths]


def trained_for(lora: Shapes) -> Architecture | None:
    """Return what a LoRA was trained for; None if its tensors do not tell. Raises `NotALora`."""
    layers = layers_of(lora)
    paths = " ".join(layer.path for layer in layers)
    if re.search(r"(?:down|up|input|output|mid|middle)_blocks?_", paths):
        texts = {layer.inputs for layer in layers if re.search(r"attn2_to_[kv]", layer.path)}
        return _UNET_BY_TEXT_WIDTH.get(next(iter(texts))) if len(texts) == 1 else None
    if re.search(r"(?:noise|context)_refiner_|(?:^| )layers_\d+_attention_", paths):
        return Architecture.Z_IMAGE
    widths = {layer.inputs for layer in layers if re.search(r"attn|attention|linear1", layer.path)}
    if re.search(r"single_(?:transformer_)?blocks_|double_blocks_", paths):
        return _flux(paths, widths)
    if re.search(r"joint_blocks_|transformer_blocks_\d+_attn", paths) and widths & _SD3_WIDTHS:
        return Architecture.SD3
    is_qwen = re.search(r"transformer_blocks_\d+_img_m(?:lp|od)_", paths)
    return Architecture.QWEN_IMAGE if is_qwen or _max_number("transformer_", paths) >= _FLUX1_DOUBLE_BLOCKS else None


def _flux(paths: str, widths: set[int]) -> Architecture | None:
    if _FLUX2_WIDTH in widths:
        return Architecture.FLUX2
    if _KLEIN_9B_WIDTH in widths or "to_qkv_mlp_proj" in paths:
        return Architecture.KLEIN
    is_flux1 = (
        _max_number("single_(?:transformer_)?", paths) >= _KLEIN_4B_SINGLE_BLOCKS
        or _max_number("(?:double_|(?<!single_)transformer_)", paths) >= _KLEIN_4B_DOUBLE_BLOCKS
    )
    return Architecture.FLUX1 if is_flux1 else None


def _max_number(prefix: str, paths: str) -> int:
    """Return the largest number of a block whose name begins with this pattern, 0 without any."""
    return max((int(number) for number in re.findall(rf"{prefix}blocks_(\d+)_", paths)), default=0)


def other_architecture(architecture: Architecture | None, model_id: str, family: Family) -> str:
    """Return in a sentence why a LoRA for this architecture does not fit a model of this family, "" if it may."""
    fitting = _OF_FAMILY.get(family)
    if architecture is None or fitting is None or architecture in fitting:
        return ""
    return f"It was trained for {architecture}; {model_id} is {' or '.join(sorted(fitting))}."


def misfit(lora: Shapes, model_id: str, family: Family, model: Shapes | None) -> str:
    """Return in a sentence why a LoRA does not fit a model, "" if it may.

    `model` are the shapes of the model's UNet or transformer, if it is on disk. Raises `NotALora`.
    """
    if reason := other_architecture(trained_for(lora), model_id, family):
        return reason
    shapes = {name.removesuffix(".weight").replace(".", "_"): tuple(shape[:2]) for name, shape in (model or {}).items()}
    for layer in layers_of(lora):
        outputs, inputs = shapes.get(layer.path, (layer.outputs, layer.inputs))
        if (outputs, inputs) != (layer.outputs, layer.inputs):
            return (
                f"It does not fit {model_id}: its {layer.path} has {layer.inputs} inputs and {layer.outputs} outputs, "
                f"the model's {inputs} and {outputs}."
            )
    return ""


def denoiser_shapes(directory: Path) -> Shapes | None:
    """Return the shapes of the UNet or transformer in a directory in diffusers format; None if there is none.

    Raises what huggingface_hub raises for damaged files.
    """
    files = [file for part in ("unet", "transformer") for file in sorted((directory / part).glob("*.safetensors"))]
    shapes: dict[str, Sequence[int]] = {}
    for file in files:
        shapes |= shapes_of(parse_local_safetensors_file_metadata(file))
    return shapes or None
