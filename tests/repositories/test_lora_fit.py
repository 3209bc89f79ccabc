"""Whether a LoRA fits a model, for the layers of diffusers' real classes in the names of several trainers."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from generation.families import Family
from generation.repositories.lora_fit import Architecture, NotALora, Shapes, misfit, trained_for
from tests.support.tiny_parts import diffusers

_RANK = 16

Naming = tuple[str, str, str]
"""What a trainer puts before the path of a layer, and the ends of its two tensors."""

PEFT: Naming = ("transformer.", ".lora_A.weight", ".lora_B.weight")
DIFFUSERS: Naming = ("unet.", ".lora.down.weight", ".lora.up.weight")
KOHYA: Naming = ("lora_unet_", ".lora_down.weight", ".lora_up.weight")
COMFY: Naming = ("diffusion_model.", ".lora_A.default.weight", ".lora_B.default.weight")


def shapes_of(name: str, **configuration: Any) -> Shapes:
    """Return the shapes of a network of diffusers, by default of the configuration that it was published with."""
    with torch.device("meta"):
        return {key: list(value.shape) for key, value in getattr(diffusers, name)(**configuration).state_dict().items()}


def lora_for(network: Shapes, naming: Naming, is_part: Callable[[str], bool] = lambda path: True) -> Shapes:
    """Return the shapes of a LoRA for the attention of a network."""
    prefix, down, up = naming
    lora: dict[str, list[int]] = {"lora_te_text_model_encoder_layers_0_mlp_fc1.lora_down.weight": [_RANK, 768]}
    for name, shape in network.items():
        path = name.removesuffix(".weight")
        if len(shape) == 2 and path != name and "att" in path and is_part(path):
            written = path.replace(".", "_") if naming is KOHYA else path
            lora[prefix + written + down] = [_RANK, shape[1]]
            lora[prefix + written + up] = [shape[0], _RANK]
            lora[f"{prefix}{written}.alpha"] = []
    return lora


def unet(text_width: int) -> Shapes:
    return shapes_of("UNet2DConditionModel", cross_attention_dim=text_width, layers_per_block=1)


@pytest.fixture(scope="module")
def flux() -> Shapes:
    return shapes_of("FluxTransformer2DModel")


def test_it_tells_what_it_was_trained_for(flux: Shapes) -> None:
    for naming in (DIFFUSERS, KOHYA):
        for text_width, architecture in ((768, Architecture.SD1), (1024, Architecture.SD2), (2048, Architecture.SDXL)):
            assert trained_for(lora_for(unet(text_width), naming)) is architecture
    for naming in (PEFT, KOHYA, COMFY):
        assert trained_for(lora_for(flux, naming)) is Architecture.FLUX1
    # Of a few double blocks, it may be for another model.
    assert trained_for(lora_for(flux, PEFT, lambda path: path.startswith("transformer_blocks.0."))) is None
    others = {
        Architecture.FLUX2: shapes_of("Flux2Transformer2DModel"),
        Architecture.KLEIN: shapes_of(
            "Flux2Transformer2DModel", num_layers=5, num_single_layers=20, num_attention_heads=24
        ),
        Architecture.QWEN_IMAGE: shapes_of("QwenImageTransformer2DModel", num_layers=20),
        Architecture.Z_IMAGE: shapes_of("ZImageTransformer2DModel", n_layers=2),
        Architecture.SD3: shapes_of(
            "SD3Transformer2DModel", num_layers=2, num_attention_heads=24, attention_head_dim=64
        ),
    }
    assert {architecture: trained_for(lora_for(network, COMFY)) for architecture, network in others.items()} == {
        architecture: architecture for architecture in others
    }


def test_it_fits_models_of_its_architecture(flux: Shapes) -> None:
    sdxl = lora_for(unet(2048), KOHYA)
    assert misfit(sdxl, "own/sdxl", Family.LIGHTNING, None) == ""
    assert misfit(sdxl, "own/other", Family.KANDINSKY_3, None) == ""
    assert misfit(sdxl, "own/sd", Family.STABLE_DIFFUSION, None) == (
        "It was trained for SDXL; own/sd is Stable Diffusion 1 or Stable Diffusion 2."
    )
    assert misfit(lora_for(flux, PEFT), "own/edit", Family.FLUX_KONTEXT, flux) == ""
    assert (
        misfit(lora_for(flux, PEFT), "own/qwen", Family.QWEN_IMAGE, None)
        == "It was trained for FLUX.1; own/qwen is Qwen-Image."
    )


def test_the_layers_of_a_model_on_disk_are_compared() -> None:
    first, second = unet(768), unet(1024)
    lora = lora_for(first, DIFFUSERS)
    assert misfit(lora, "own/first", Family.STABLE_DIFFUSION, first) == ""
    reason = misfit(lora, "own/second", Family.STABLE_DIFFUSION, second)
    assert reason.startswith(
        "It does not fit own/second: its down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k "
    )
    assert reason.endswith(" has 768 inputs and 320 outputs, the model's 1024 and 320.")


def test_what_is_no_lora_is_told() -> None:
    with pytest.raises(NotALora, match="no LoRA"):
        trained_for({"unet.conv_in.weight": [320, 4, 3, 3]})
    assert trained_for({"lora_unet_down_blocks_0.hada_w1_a": [4, 8]}) is None
