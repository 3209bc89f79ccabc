"""Place a pipeline as its memory plan says. What needs CUDA has not run yet; docs/models.md lists it."""

from collections.abc import Iterable
from typing import Any

import diffusers
import torch
import transformers
from diffusers.hooks import FirstBlockCacheConfig, apply_layerwise_casting
from diffusers.hooks.layerwise_casting import DEFAULT_SKIP_MODULES_PATTERN

from generation.memory import MemoryOptions, MemoryPlan, Offload, Quantization, is_quantized

# The type of a text encoder is that of its embeddings, and T5 converts its input to the type of `wo`.
_UNCAST = (*DEFAULT_SKIP_MODULES_PATTERN, "embed", "shared", "wo")


def quantization_config(plan: MemoryPlan, parts: Iterable[str], index: dict[str, Any], dtype: torch.dtype) -> Any:
    """Return how `from_pretrained` is to quantize these parts of a `model_index.json`; None if it is not."""
    config = {Quantization.EIGHT_BIT: _eight_bit, Quantization.FOUR_BIT: _four_bit}.get(plan.quantization)
    if config is None:
        return None
    libraries = {"diffusers": diffusers, "transformers": transformers}
    mapping = {part: config(libraries[index[part][0]], dtype) for part in parts if is_quantized(part)}
    return diffusers.PipelineQuantizationConfig(quant_mapping=mapping)


def _eight_bit(library: Any, dtype: torch.dtype) -> Any:
    from torchao.quantization import Int8WeightOnlyConfig

    return library.TorchAoConfig(Int8WeightOnlyConfig())


def _four_bit(library: Any, dtype: torch.dtype) -> Any:
    return library.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=dtype)


def place(pipe: Any, plan: MemoryPlan, options: MemoryOptions, device: torch.device, dtype: torch.dtype) -> None:
    """Move a loaded pipeline to where the plan wants it, and switch on what was chosen for it."""
    networks: dict[str, Any] = {
        name: part for name, part in pipe.components.items() if isinstance(part, torch.nn.Module)
    }
    if plan.quantization is Quantization.FP8:
        for name, network in networks.items():
            if is_quantized(name):
                _store_in_fp8(network, dtype)
    match plan.offload:
        case Offload.NONE:
            pipe.to(device)
        case Offload.MODEL:
            pipe.enable_model_cpu_offload(device=device)
        case Offload.GROUP:
            pipe.enable_group_offload(
                onload_device=device,
                offload_type="leaf_level",
                use_stream=device.type == "cuda",
                # Pinned as they are needed: all at once would need the model's size of memory that cannot be swapped.
                low_cpu_mem_usage=True,
            )
    vae: Any = networks.get("vae")
    if plan.vae_tiling and hasattr(vae, "enable_tiling"):
        vae.enable_tiling()
        vae.enable_slicing()
    denoiser = networks.get("unet") or networks["transformer"]
    if options.step_cache:
        denoiser.enable_cache(FirstBlockCacheConfig())
    if options.compile_repeated_blocks:
        denoiser.compile_repeated_blocks(dynamic=True)


def _store_in_fp8(network: Any, dtype: torch.dtype) -> None:
    if isinstance(network, diffusers.ModelMixin):
        network.enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=dtype)
    else:
        apply_layerwise_casting(network, torch.float8_e4m3fn, dtype, skip_modules_pattern=_UNCAST)
