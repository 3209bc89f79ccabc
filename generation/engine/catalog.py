"""Find or download the weights of a model, and describe how to load them. Imports no torch: a download needs none.

Only the functions whose names begin with `download` ask the hub.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from huggingface_hub import hf_hub_download

from generation.engine.errors import LoraFailed, ModelFailed, ModelNotDownloaded
from generation.families import Family
from generation.family_detection import UnsupportedModel
from generation.recipes import LoraReference, ModelReference, traits_of
from generation.repositories import downloads
from generation.repositories.downloads import OnProgress, Selection
from generation.repositories.files import FLOAT16, files_to_read, local_directories, variant_of
from generation.repositories.hub_errors import HubFailed, explained
from generation.repositories.lightning import SDXL_BASE, repository_of, unet_file
from generation.repositories.single_files import STABLE_DIFFUSION, SingleFile, single_file_of

DEFAULT_LORA_FILE = "pytorch_lora_weights.safetensors"

# The checker's own repository has a pickle only; this one has the same weights as safetensors.
_CHECKER = "CompVis/stable-diffusion-safety-checker"
_CHECKER_ON_HUB = (STABLE_DIFFUSION.id, STABLE_DIFFUSION.revision)

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
    """The paths of a model: a directory in diffusers format, and optionally a file.

    `variant` is diffusers' name of the variant of the directory's weights, "" for the full ones. `denoiser` replaces the UNet
    or transformer of the directory; `checkpoint` has the weights of all parts, and the directory has their configuration alone.
    """

    pipeline: Path
    denoiser: Path | None = None
    variant: str = ""
    checkpoint: Path | None = None

    @property
    def single_file(self) -> Path | None:
        return self.checkpoint or self.denoiser


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


def find_model(model: ModelReference, models_dir: Path) -> Weights:
    """Return the weights on disk: bundled, else in `models_dir/<id>`, else the pinned revision as it was downloaded.

    Raises `ModelNotDownloaded` if any is missing, or `ModelFailed` for a single file that cannot be loaded.
    """
    if (single := _single_file(model, models_dir)) is not None:
        directory, variant = _find_pipeline(single.base, models_dir, single.without)
        if directory is None:
            raise ModelNotDownloaded(model.id)
        if single.is_checkpoint:
            return Weights(directory, checkpoint=single.file)
        return Weights(directory, single.file, variant)
    spec = load_spec(model)
    directory, variant = _find_pipeline(spec.base or model, models_dir, _left_out(spec))
    unet = _find_file(repository_of(model.id), model.revision, spec.unet_file, models_dir) if spec.base else None
    if directory is None or (spec.base and unet is None):
        raise ModelNotDownloaded(model.id)
    return Weights(directory, unet, variant)


def find_lora(lora: LoraReference, models_dir: Path) -> Path:
    """Return the file of a LoRA, looked up like the weights of a model. Raises `LoraFailed` if it is missing."""
    file = _find_file(lora.id, lora.revision, _lora_file(lora), models_dir)
    if file is None:
        raise LoraFailed(f"LoRA repository '{lora.id}' not found")
    return file


def find_safety_checker(models_dir: Path) -> Path:
    """Return the directory of Stable Diffusion's safety checker. Raises `ModelFailed` if it is missing."""
    directory = models_dir / _CHECKER
    downloaded = downloads.snapshot_directory(*_CHECKER_ON_HUB, models_dir)
    for found in (directory, downloaded / "safety_checker"):
        if (found / "model.safetensors").is_file() and (found / "config.json").is_file():
            return found
    raise ModelFailed("The safety checker is not available on this server.")


def download_model(model: ModelReference, models_dir: Path, on_progress: OnProgress, variant: str = "") -> Weights:
    """Download the missing files of this model, weights of this variant if there are such, and return the weights.

    Raises what `on_progress` raises, or `HubFailed`.
    """
    try:
        return find_model(model, models_dir)
    except ModelNotDownloaded:
        pass
    spec, single = load_spec(model), _single_file(model, models_dir)
    base, without = (single.base, single.without) if single else (spec.base or model, _left_out(spec))
    selections = []
    if _find_pipeline(base, models_dir, without)[0] is None:
        with explained(base.id, base.revision, models_dir):
            selections.append(_select_pipeline(base, models_dir, without, variant))
    if spec.base:
        selections += _select_file(repository_of(model.id), model.revision, spec.unet_file, models_dir)
    with explained(model.id, model.revision, models_dir):
        downloads.download(selections, models_dir, on_progress)
    return find_model(model, models_dir)


def download_lora(lora: LoraReference, models_dir: Path, on_progress: OnProgress) -> Path:
    """Download the file of a LoRA if it is missing. Raises what `on_progress` raises, `LoraFailed` or `HubFailed`."""
    selections = _select_file(lora.id, lora.revision, _lora_file(lora), models_dir)
    with explained(lora.id, lora.revision, models_dir):
        downloads.download(selections, models_dir, on_progress)
    return find_lora(lora, models_dir)


def download_safety_checker(models_dir: Path) -> Path:
    """Download Stable Diffusion's safety checker if it is missing. Raises `ModelFailed`."""
    try:
        return find_safety_checker(models_dir)
    except ModelFailed:
        pass
    repository, revision = _CHECKER_ON_HUB
    names = ["safety_checker/config.json", "safety_checker/model.safetensors"]
    try:
        with explained(repository, revision, models_dir):
            files = downloads.list_files(repository, revision, models_dir)
            selection = downloads.select(repository, revision, files, names)
            downloads.download([selection], models_dir, lambda done, total: None)
    except HubFailed as error:
        raise ModelFailed("The safety checker is not available on this server.") from error
    return find_safety_checker(models_dir)


def _is_repository(name: str) -> bool:
    """Return whether a name is `owner/name`, and so no path out of the directories of models."""
    return _ID.fullmatch(name) is not None and ".." not in name


def _single_file(model: ModelReference, models_dir: Path) -> SingleFile | None:
    """Return the single file of a model; None if it has none. Raises `ModelFailed`."""
    if not _is_repository(model.id):
        return None
    try:
        return single_file_of(model, models_dir)
    except UnsupportedModel as error:
        raise ModelFailed(f"Model '{model.id}' cannot be loaded. {error}") from error
    except (OSError, ValueError) as error:
        raise ModelFailed(f"Model '{model.id}' could not be loaded.") from error


def _left_out(spec: LoadSpec) -> str:
    """Return the component whose weights are not those of the pipeline."""
    return "unet" if spec.base else ""


def _lora_file(lora: LoraReference) -> str:
    name = lora.weight_name or DEFAULT_LORA_FILE
    path = PurePosixPath(name)
    if path.suffix != ".safetensors" or path.is_absolute() or ".." in path.parts or "\\" in name:
        raise LoraFailed(f"LoRA repository '{lora.id}' not found")
    return name


def _find_pipeline(model: ModelReference, models_dir: Path, without: str) -> tuple[Path | None, str]:
    """Return the directory of a pipeline's files and their variant; None if any is missing."""
    if not _is_repository(model.id):
        return None, ""
    for directory in local_directories(model.id, models_dir):
        if (directory / "model_index.json").is_file():
            return directory, variant_of(directory)
    directory = downloads.snapshot_directory(model.id, model.revision, models_dir)
    if not model.revision or not (directory / "model_index.json").is_file():
        return None, ""
    index = json.loads((directory / "model_index.json").read_text())
    names = [file.path for file in downloads.cached_files(model.id, model.revision, models_dir)]
    for variant in ("", FLOAT16):
        needed = files_to_read(names, index, without, variant)
        if needed and all((directory / name).is_file() for name in needed):
            return directory, variant
    return None, ""


def _find_file(repository: str, revision: str, name: str, models_dir: Path) -> Path | None:
    if not _is_repository(repository):
        return None
    directories = local_directories(repository, models_dir)
    if revision:
        directories.append(downloads.snapshot_directory(repository, revision, models_dir))
    return next((directory / name for directory in directories if (directory / name).is_file()), None)


def _select_pipeline(model: ModelReference, models_dir: Path, without: str, variant: str) -> Selection:
    """Return the files of a pipeline on the hub. Raises what the hub's client raises, or `HubFailed`."""
    _check_pinned(model.id, model.revision)
    files = downloads.list_files(model.id, model.revision, models_dir)
    names = [file.path for file in files]
    if "model_index.json" not in names:
        raise HubFailed(f"{model.id} has no model_index.json: it is not a pipeline in the format of diffusers.")
    cache = downloads.cache_directory(models_dir)
    index = hf_hub_download(model.id, "model_index.json", revision=model.revision, cache_dir=cache)
    needed = files_to_read(names, json.loads(Path(index).read_text()), without, variant)
    return downloads.select(model.id, model.revision, files, needed)


def _select_file(repository: str, revision: str, name: str, models_dir: Path) -> list[Selection]:
    """Return the selection of a file on the hub; none if it is on disk. Raises `HubFailed`."""
    if _find_file(repository, revision, name, models_dir):
        return []
    _check_pinned(repository, revision)
    with explained(repository, revision, models_dir):
        files = downloads.list_files(repository, revision, models_dir)
    selection = downloads.select(repository, revision, files, [name])
    if not selection.files:
        raise HubFailed(f"{repository} has no file {name}. {_others(file.path for file in files)}")
    return [selection]


def _others(names: Iterable[str]) -> str:
    others = sorted(name for name in names if name.endswith(".safetensors"))
    return f"Choose one of {', '.join(others)}." if others else "It has no .safetensors files."


def _check_pinned(repository: str, revision: str) -> None:
    if not _is_repository(repository):
        raise HubFailed(f"{repository!r} is no repository: use the form owner/name.")
    if not revision:
        raise HubFailed(f"{repository} is not on disk, and has no commit to download: enter one in the admin.")
