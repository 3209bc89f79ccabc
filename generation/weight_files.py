"""Weight files: the headers that say what tensors a file has, read without the tensors. Knows no torch."""

import json
from collections import Counter
from collections.abc import Mapping
from math import prod
from pathlib import Path

CHECKPOINT_SUFFIXES = (".safetensors", ".gguf")

_LENGTH_BYTES = 8
_MAX_HEADER_BYTES = 100_000_000
"""The limit of the format: https://github.com/huggingface/safetensors#format"""

Header = Mapping[str, tuple[int, ...]]
"""The shape of each tensor by its name."""


def read_header(file: Path) -> Header:
    """Return the header of a safetensors or GGUF file.

    Raises OSError, ValueError for a damaged file, or ModuleNotFoundError for GGUF without the package gguf.
    """
    return _gguf_header(file) if file.suffix == ".gguf" else _safetensors_header(file)


def find_single_file(directory: Path) -> Path | None:
    """Return the only weight file of a directory that has no `model_index.json`; None if there is none, or several."""
    if not directory.is_dir() or (directory / "model_index.json").exists():
        return None
    files = [path for path in directory.iterdir() if path.suffix in CHECKPOINT_SUFFIXES and path.is_file()]
    return files[0] if len(files) == 1 else None


def count_parameters(directory: Path) -> dict[str, int]:
    """Return the number of parameters of each part of a pipeline in diffusers format. Raises what `read_header` raises."""
    full, variants = Counter[str](), Counter[str]()
    for file in directory.glob("*/*.safetensors"):
        # Such as `model.fp16.safetensors`: the weights in another type, beside the full ones or in place of them.
        is_variant = "." in file.name.removesuffix(".safetensors").split("-0")[0]
        counts = variants if is_variant else full
        counts[file.parent.name] += sum(prod(shape) for shape in read_header(file).values())
    return {**variants, **full}


def count_checkpoint(file: Path) -> dict[str, int]:
    """Return the number of parameters of each part in a single file. Raises what `read_header` raises."""
    counts: Counter[str] = Counter()
    header = read_header(file)
    denoiser = "unet" if any("input_blocks." in name for name in header) else "transformer"
    for name, shape in header.items():
        part = next((part for prefix, part in _CHECKPOINT_PARTS.items() if name.startswith(prefix)), denoiser)
        counts[part] += prod(shape)
    return dict(counts)


_CHECKPOINT_PARTS = {
    "first_stage_model.": "vae",
    "vae.": "vae",
    "cond_stage_model.": "text_encoder",
    "conditioner.": "text_encoder",
    "text_encoders.": "text_encoder",
}


def _safetensors_header(file: Path) -> Header:
    with file.open("rb") as stream:
        length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
        if length > _MAX_HEADER_BYTES:
            raise ValueError(f"{file.name} is no safetensors file")
        entries = json.loads(stream.read(length))
    return {name: tuple(entry["shape"]) for name, entry in entries.items() if name != "__metadata__"}


def _gguf_header(file: Path) -> Header:
    from gguf import GGUFReader

    # GGUF gives the innermost dimension first.
    return {tensor.name: tuple(int(side) for side in reversed(tensor.shape)) for tensor in GGUFReader(file).tensors}
