"""Load the pipeline of a model: from a directory in diffusers format, with or without a single file."""

import json
from pathlib import Path
from typing import Any

import diffusers
import torch

from generation.engine.catalog import Weights, load_spec
from generation.engine.placement import place, quantization_config
from generation.engine.processors import load_processors, load_text_processors
from generation.family_detection import detect_family, detect_single_file, read_configuration
from generation.memory import PACKAGES, WHOLE, MemoryPlan
from generation.recipes import ModelReference
from generation.repositories.files import EVERY_COMPONENT, files_to_read
from generation.weight_files import count_checkpoint, count_parameters, read_header


def check_support(model: ModelReference, weights: Weights) -> None:
    """Raise `UnsupportedModel` if the files are of a model that cannot be run, and OSError or ValueError if damaged."""
    if weights.checkpoint is None:
        detect_family(model.id, *read_configuration(weights.pipeline))
    if weights.single_file is not None and load_spec(model).base is None:
        detect_single_file(model.id, read_header(weights.single_file))


def count_weights(weights: Weights, parameter_bytes: int) -> dict[str, int]:
    """Return the number of parameters of each part; of weights in GGUF, that of as many bytes in the number type."""
    if weights.checkpoint is not None:
        return count_checkpoint(weights.checkpoint)
    parameters = count_parameters(weights.pipeline)
    parameters.pop("safety_checker", None)
    if weights.denoiser is not None:
        name = denoiser_name(_index(weights))
        parameters[name] = (
            weights.denoiser.stat().st_size // parameter_bytes
            if weights.denoiser.suffix == ".gguf"
            else sum(count_checkpoint(weights.denoiser).values())
        )
    return parameters


def files_loaded(weights: Weights) -> dict[str, Path]:
    """Return the files that `load` reads, weights and configuration, by their paths in the model."""
    directory, index = weights.pipeline, _index(weights)
    without = denoiser_name(index) if weights.denoiser else EVERY_COMPONENT if weights.checkpoint else ""
    names = [str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()]
    files = {name: directory / name for name in files_to_read(names, index, without, weights.variant)}
    if weights.single_file is not None:
        files[weights.single_file.name] = weights.single_file
    return files


def load(
    model: ModelReference, weights: Weights, device: torch.device, dtype: torch.dtype, plan: MemoryPlan = WHOLE
) -> Any:
    """Load the pipeline of this model with all networks in `dtype`, and place it. Raises what diffusers raises."""
    spec = load_spec(model)
    index = _index(weights)
    parts: dict[str, Any] = {}
    if "safety_checker" in index:
        # `safety` checks the results; the pipeline's own checker would blacken them.
        parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    parts |= load_processors(weights.pipeline)
    if weights.denoiser is not None:
        parts[denoiser_name(index)] = _load_denoiser(weights, index, dtype)
    pipeline = getattr(diffusers, spec.pipeline)
    if weights.checkpoint is not None:
        pipe = pipeline.from_single_file(
            str(weights.checkpoint), config=str(weights.pipeline), dtype=dtype, local_files_only=True, **parts
        )
    else:
        quantized = [name for name, part in index.items() if isinstance(part, list) and part[0] and name not in parts]
        pipe = pipeline.from_pretrained(
            weights.pipeline,
            dtype=dtype,
            variant=weights.variant or None,
            quantization_config=quantization_config(plan, quantized, index, dtype),
            use_safetensors=True,
            local_files_only=True,
            trust_remote_code=False,
            **parts,
        )
    pipe.register_modules(**load_text_processors(weights.pipeline))
    if spec.scheduler:
        scheduler = getattr(diffusers, spec.scheduler)
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config, **spec.scheduler_changes)
    pipe.set_progress_bar_config(disable=True)
    is_quantized = plan.quantization in PACKAGES
    for part in (None if is_quantized else getattr(pipe, "unet", None), getattr(pipe, "vae", None)):
        if part is not None and all(parameter.dim() < 5 for parameter in part.parameters()):
            part.to(memory_format=torch.channels_last)
    place(pipe, plan, model.memory, device, dtype)
    return pipe


def _index(weights: Weights) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((weights.pipeline / "model_index.json").read_text())
    return index


def denoiser_name(index: dict[str, Any]) -> str:
    return "unet" if "unet" in index else "transformer"


def _load_denoiser(weights: Weights, index: dict[str, Any], dtype: torch.dtype) -> Any:
    name = denoiser_name(index)
    is_gguf = weights.denoiser is not None and weights.denoiser.suffix == ".gguf"
    return getattr(diffusers, index[name][1]).from_single_file(
        str(weights.denoiser),
        config=str(weights.pipeline),
        subfolder=name,
        dtype=dtype,
        quantization_config=diffusers.GGUFQuantizationConfig(compute_dtype=dtype) if is_gguf else None,
        local_files_only=True,
    )
