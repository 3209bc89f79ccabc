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
from generation.recipes import BUNDLED_OWNER, LoraReference, ModelReference, traits_of

BUNDLED = Path(__file__).parent / "bundled"
DEFAULT_LORA_FILE = "pytorch_lora_weights.safetensors"

SDXL_BASE = ModelReference(
    id="stabilityai/stable-diffusion-xl-base-1.0",
    revision="462165984030d82259a11f4367a4eed129e94a7b",
    family=Family.SDXL,
)

# The checker's own repository has a pickle only; this one has the same weights as safetensors.
_CHECKER = "CompVis/stable-diffusion-safety-checker"
_CHECKER_ON_HUB = ("stable-diffusion-v1-5/stable-diffusion-v1-5", "451f4fe16113bff5a5d2269ed5ad43b0592e9a14")

# Their model cards record the measurements.
_MEASURED_IN_BFLOAT16 = {"dreamsite/tiny-edit", "dreamsite/tiny-redraw"}

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9][A-Za-z0-9._-]*")
_REDUCED_COPIES = ["*.fp16*", "*.bf16*", "*.non_ema*", "*.ema_only*"]


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
        steps = int(traits.forced["num_inference_steps"])
        return LoadSpec(
            traits.pipeline,
            scheduler="EulerDiscreteScheduler",
            scheduler_changes={"timestep_spacing": "trailing"},
            base=SDXL_BASE,
            unet_file=f"sdxl_lightning_{steps}step_unet.safetensors",
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
        # The number of steps is part of the model id here; on the hub, all variants are files of one repository.
        repository = re.sub(r"-\d+step$", "", model.id)
        return Weights(
            _find_pipeline(spec.base, models_dir, offline, without="unet"),
            _find_file(repository, model.revision, spec.unet_file, models_dir, offline),
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
    index = _fetch_file(model.id, model.revision, "model_index.json", models_dir, offline)
    return _fetch(model.id, model.revision, ["model_index.json", *_file_patterns(index, without)], models_dir, offline)


def _file_patterns(index: Path, without: str) -> list[str]:
    """Return patterns of the files that a pipeline reads: no pickles, code, single-file checkpoints or safety checker.

    `index` is the pipeline's `model_index.json`; the weights of the component `without` are left out.
    """
    parts = json.loads(index.read_text())
    # Only the safety checker of Stable Diffusion reads its feature extractor; depth models have one of their own.
    unused = {"safety_checker", "feature_extractor"} if "safety_checker" in parts else set()
    components = [
        name for name, part in parts.items() if isinstance(part, list) and part[0] is not None and name not in unused
    ]
    patterns = [f"{name}/{kind}" for name in components for kind in ("*.json", "*.txt", "*.model", "*.jinja")]
    return patterns + [f"{name}/*.safetensors" for name in components if name != without]


def _find_file(repository: str, revision: str, name: str, models_dir: Path, offline: bool) -> Path:
    for directory in _local_directories(repository, models_dir):
        if (directory / name).is_file():
            return directory / name
    return _fetch_file(repository, revision, name, models_dir, offline)


def _local_directories(repository: str, models_dir: Path) -> list[Path]:
    if not _ID.fullmatch(repository) or ".." in repository:
        raise _Missing(f"not an owner and a name: {repository!r}")
    owner, name = repository.split("/")
    return [*([BUNDLED / name] if owner == BUNDLED_OWNER else []), models_dir / owner / name]


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
                ignore_patterns=_REDUCED_COPIES,
                local_files_only=offline,
            )
        )
    except Exception as error:  # the hub's client raises exceptions of many unrelated types
        raise _Missing(f"{repository} at {revision} could not be downloaded") from error
