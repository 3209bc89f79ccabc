"""Random LoRAs for twins."""

from pathlib import Path

import torch
from safetensors import safe_open

from generation.recipes import LoraReference
from tests.support.tiny_models import save_lora_weights
from tests.support.tiny_parts import fixed_seed


def save_twin_lora(models_dir: Path, model_id: str) -> LoraReference:
    """Save a random LoRA of rank 2 for the queries of this twin's denoising network."""
    # The first shard is enough.
    file, *_ = (
        file
        for network in ("unet", "transformer")
        for file in sorted((models_dir / model_id / network).glob("*.safetensors"))
    )
    network, tensors = file.parent.name, dict[str, torch.Tensor]()
    with safe_open(file, framework="pt") as weights, fixed_seed(0):
        for name in weights.keys():  # noqa: SIM118  not a mapping
            layer, _, kind = name.rpartition(".")
            if layer.endswith(("to_q", "to_query")) and kind == "weight":
                outputs, inputs = weights.get_slice(name).get_shape()
                tensors[f"{network}.{layer}.lora_A.weight"] = torch.randn(2, inputs)
                tensors[f"{network}.{layer}.lora_B.weight"] = torch.randn(outputs, 2)
    return save_lora_weights(models_dir, f"{model_id}-lora", tensors)
