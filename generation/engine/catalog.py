"""Find or download the weights of a model, and describe how to load them. Imports no torch: a download needs none."""

import glob
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import snapshot_download

from generation.engine.errors import LoraFailed, ModelFailed
from generation.families import Family
from generation.recipes import LoraReference, ModelReference, traits_of
from generation.repositories.files import REDUCED_COPIES, file_patterns, local_directories
from generation.repositories.lightning import SDXL_BASE, repository_of, unet_file

DEFAULT_LORA_FILE = "pytorch_lora_weights.safetensors"

# The checker's own repository has a pickle only; this one has the same weights as safetensors.
_CHECKER = "CompVis/stable-diffusion-safety-checker"
_CHECKER_ON_HUB = ("stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14")

# Their model cards record the measurements.
_MEASURED_IN_BFLOAT16 = {"dreamsite/tiny-edit", "dreamsite/tiny-redraw"}

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")


@dataclass(frozen=True)
class LoadSpec:
    """How to load a model; `pipeline` and `scheduler` are class names of diffusers.

    `scheduler` replaces the model's scheduler, with `scheduler_changes` to its configuration. With a `base`, all parts
    except the UNet come from that model, and the UNet from `unet_file` in the model's repository. `bfloat16` is true if
    the model was measured to make the same pictures in bfloat16.
    """

    pipeline: str
    scheduler: str = ""
    scheduler_changes: Mapping[str, Any] = field(default_factory=dict)
    base: ModelReference | None = None
    unet_file: str = ""
    bfloat16: bool = False


@dataclass(frozen=True)
class Weights:
    """The paths of a model: a directory in diffusers format, and optionally the file of another UNet."""

    pipeline: Path
    unet: Path | None = None


def load_spec(model: ModelReference) -> LoadSpec:
    """Return how to load this model: as the model requires, else as its family does."""
    traits = traits_of(model)
    if model.id == "timbrooks/instruct-pix2pix":
        return LoadSpec(traits.pipeline, scheduler="EulerAncestralDiscreteScheduler")
    if model.family is Family.LIGHTNING:
        return LoadSpec(
            traits.pipeline,
            scheduler="EulerDiscreteScheduler",
            scheduler_changes={"timestep_spacing": "trailing"},
            base=SDXL_BASE,
            unet_file=unet_file(model),
        )
    return LoadSpec(traits.pipeline, bfloat16=model.id in _MEASURED_IN_BFLOAT16)


def find_model(model: ModelReference, models_dir: Path, offline: bool) -> Weights:
    """Return the weights on disk: bundled, else in `models_dir/<id>`, else the pinned revision from the hub.

    Download missing files unless `offline`. Raises `ModelFailed` if the weights are not available.
    """
    spec = load_spec(model)
    try:
        if spec.base is None:
            return Weights(_find_pipeline(model, models_dir, offline))
        return Weights(
            _find_pipeline(spec.base, models_dir, offline, without="unet"),
            _find_file(repository_of(model.id), model.revision, spec.unet_file, models_dir, offline),
        )
    except _Missing as error:
        raise ModelFailed(f"Model '{model.id}' is not available on this server.") from error


def find_lora(lora: LoraReference, models_dir: Path, offline: bool) -> Path:
    """Return the file of a LoRA, looked up like the weights of a model. Raises `LoraFailed`."""
    name = lora.weight_name or DEFAULT_LORA_FILE
    path = PurePosixPath(name)
    try:
        if path.suffix != ".safetensors" or path.is_absolute() or ".." in path.parts or "\\" in name:
            raise _Missing(f"not a safetensors file of a repository: {name!r}")
        return _find_file(lora.id, lora.revision, name, models_dir, offline)
    except _Missing as error:
        raise LoraFailed(f"LoRA repository '{lora.id}' not found") from error


def find_safety_checker(models_dir: Path, offline: bool) -> Path:
    """Return the directory of Stable Diffusion's safety checker, looked up like a model. Raises `ModelFailed`."""
    directory = models_dir / _CHECKER
    if (directory / "config.json").is_file():
        return directory
    files = ["safety_checker/config.json", "safety_checker/model.safetensors"]
    try:
        return _fetch(*_CHECKER_ON_HUB, files, models_dir, offline) / "safety_checker"
    except _Missing as error:
        raise ModelFailed("The safety checker is not available on this server.") from error


def download(model: ModelReference, models_dir: Path) -> Path:
    """Download the missing files of this model and return the directory of its weights. Raises `ModelFailed`."""
    return find_model(model, models_dir, offline=False).pipeline


class _Missing(Exception):
    """Weights that are neither on disk nor downloadable; the message says which."""


def _find_pipeline(model: ModelReference, models_dir: Path, offline: bool, without: str = "") -> Path:
    for directory in _local_directories(model.id, models_dir):
        if (directory / "model_index.json").is_file():
            return directory
    file = _fetch_file(model.id, model.revision, "model_index.json", models_dir, offline)
    patterns = ["model_index.json", *file_patterns(json.loads(file.read_text()), without)]
    return _fetch(model.id, model.revision, patterns, models_dir, offline)


def _find_file(repository: str, revision: str, name: str, models_dir: Path, offline: bool) -> Path:
    for directory in _local_directories(repository, models_dir):
        if (directory / name).is_file():
            return directory / name
    return _fetch_file(repository, revision, name, models_dir, offline)


def _local_directories(repository: str, models_dir: Path) -> list[Path]:
    if not _ID.fullmatch(repository) or ".." in repository:
        raise _Missing(f"not an owner and a name: {repository!r}")
    return local_directories(repository, models_dir)


def _fetch_file(repository: str, revision: str, name: str, models_dir: Path, offline: bool) -> Path:
    file = _fetch(repository, revision, [glob.escape(name)], models_dir, offline) / name
    if not file.is_file():
        raise _Missing(f"{repository} at {revision} has no {name}")
    return file


def _fetch(repository: str, revision: str, patterns: Sequence[str], models_dir: Path, offline: bool) -> Path:
    if not revision:
        raise _Missing(f"{repository} is not on disk, and cannot be downloaded from the hub without a pinned revision")
    try:
        return Path(
            snapshot_download(
                repository,
                revision=revision,
                cache_dir=models_dir / "hub",
                allow_patterns=list(patterns),
                ignore_patterns=list(REDUCED_COPIES),
                local_files_only=offline,
            )
        )
    except Exception as error:  # the hub's client raises exceptions of many unrelated types
        raise _Missing(f"{repository} at {revision} could not be downloaded") from error
