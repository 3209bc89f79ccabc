"""What pictures are made with: software, device, number type and the digests of all files, for receipts."""

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from dreamsite import __version__
from generation.engine.catalog import Weights
from generation.engine.loading import files_loaded
from generation.memory import MemoryPlan

_PACKAGES = ("torch", "diffusers", "transformers", "peft", "pillow")
_HUB_BLOBS = "blobs"
_SHA256_DIGITS = 64


def environment(
    pipe: Any, dtype: torch.dtype, device: torch.device, plan: MemoryPlan, files: dict[str, str], threads: int
) -> dict[str, Any]:
    """Return what a loaded pipeline computes with, without LoRAs, as JSON types. `files` are the digests of its files."""
    return {
        **computed_with(dtype, device, threads),
        "pipeline": type(pipe).__name__,
        "scheduler": type(pipe.scheduler).__name__,
        "memory_plan": str(plan),
        "files": files,
        "loras": {},
    }


def computed_with(dtype: torch.dtype, device: torch.device, threads: int) -> dict[str, Any]:
    """Return the part of an environment that is known before a model is loaded."""
    return {
        "packages": _versions(),
        "dtype": str(dtype).removeprefix("torch."),
        "device": _hardware(device),
        "threads": threads,
    }


def digests_of_model(weights: Weights) -> dict[str, str]:
    """Return the SHA-256 of each file of a model that is read, weights and configuration, by its path in the model."""
    return {name: sha256_of(path) for name, path in sorted(files_loaded(weights).items())}


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal; a weight file of the hub's cache has it as its name."""
    blob = path.resolve()
    if blob.parent.name == _HUB_BLOBS and len(blob.name) == _SHA256_DIGITS:
        return blob.name
    status = blob.stat()
    return _read_sha256(blob, status.st_size, status.st_mtime_ns)


@cache
def _read_sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _versions() -> dict[str, str]:
    return {"dreamsite": __version__, **{name: metadata.version(name) for name in _PACKAGES}}


@cache
def _hardware(device: torch.device) -> str:
    """Return what a device is, without the number that tells it from others of its kind."""
    if device.type == "cuda":
        return str(torch.cuda.get_device_properties(device).name)
    if device.type == "mps":
        return f"{platform.machine()} with MPS"
    return f"{_processor()}, {torch.backends.cpu.get_cpu_capability()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()
