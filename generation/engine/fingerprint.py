"""The fingerprint of a loaded model, by which a proof about it is known to be about the same files."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import diffusers
import torch

from generation.engine.catalog import Weights
from generation.memory import WHOLE, MemoryPlan


def fingerprint(weights: Weights, dtype: torch.dtype, device: torch.device, plan: MemoryPlan = WHOLE) -> str:
    """Return 40 hexadecimal digits that change with a model's files, number type, device, memory plan, and the libraries.

    The files are not read: those of the hub are known by the names of their blobs, and all others by size and time of change.
    """
    computed_with = (str(dtype), weights.variant, device.type, str(plan), diffusers.__version__, torch.__version__)
    digest = hashlib.sha256(repr(computed_with).encode())
    for path in _files(weights):
        status = path.stat()
        known_by = path.resolve().name if path.is_symlink() else (status.st_size, status.st_mtime_ns)
        digest.update(repr((path.name, path.parent.name, known_by)).encode())
    return digest.hexdigest()[:40]


def _files(weights: Weights) -> Iterator[Path]:
    for path in vars(weights).values():
        if isinstance(path, Path):
            yield from sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
