"""Read the weights of a model into the memory that the system keeps files in, so that loading it does not wait for the disk."""

import json
from pathlib import Path

from generation.engine.catalog import Weights
from generation.engine.devices import available_memory
from generation.engine.loading import denoiser_name
from generation.repositories.files import files_to_read

_CHUNK_BYTES = 1 << 20


def read_ahead(weights: Weights) -> bool:
    """Read these weights if the memory has room for their files. Return whether it has. Raises OSError or ValueError."""
    files = weight_files(weights)
    if sum(file.stat().st_size for file in files) > available_memory():
        return False
    buffer = bytearray(_CHUNK_BYTES)
    for path in files:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass
    return True


def weight_files(weights: Weights) -> list[Path]:
    """Return the files that loading these weights reads them from."""
    single_files = [weights.single_file] if weights.single_file else []
    if weights.checkpoint is not None:
        return single_files
    directory = weights.pipeline
    index = json.loads((directory / "model_index.json").read_text())
    names = sorted(path.relative_to(directory).as_posix() for path in directory.glob("*/*.safetensors"))
    without = denoiser_name(index) if weights.denoiser else ""
    return [directory / name for name in files_to_read(names, index, without, weights.variant)] + single_files
