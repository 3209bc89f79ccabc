"""Inspect a repository before it is used: its commit, family, licence, files and parameters, without any weights."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from huggingface_hub.errors import HfHubHTTPError, SafetensorsParsingError
from pydantic import BaseModel, ConfigDict

from generation.families import FAMILY_TRAITS, Family
from generation.family_detection import Configs, UnsupportedModel, detect_family, detect_single_file
from generation.recipes import ModelReference
from generation.repositories import hub_errors, lightning, lora_fit
from generation.repositories.directory import Directory
from generation.repositories.files import FLOAT16, components_of, files_to_read, find_directory
from generation.repositories.hub import PARALLEL_REQUESTS, HubRepository
from generation.repositories.hub_errors import HubFailed
from generation.repositories.sources import COMMIT, Source
from generation.weight_files import CHECKPOINT_SUFFIXES, count_checkpoint, read_header

_PICKLES = (".bin", ".ckpt", ".pt", ".pth")


class InspectionFailed(Exception):
    """Raised if nothing can be said of a repository; the message says in a sentence why, and what to do."""


class Inspection(BaseModel):
    """What was found in the repository of a model or LoRA.

    `revision` is the commit on the hub, "" on disk. `file` is the only file that is used of it, "" for a directory in
    diffusers format. `family` is None if no file tells it; `problem` says why none could be read. `download_bytes` are those
    of the files that are fetched, or lie on disk; `float16_bytes` those for workers that compute in float16, if the hub has
    smaller weights for them. `parameters` are counts by component. Of LoRAs, `weights` are the files to choose from, with
    their bytes, `base_models` the repositories that its card names, and `trained_for` what its tensors tell.
    """

    model_config = ConfigDict(frozen=True)

    repository: str
    revision: str = ""
    file: str = ""
    family: Family | None = None
    problem: str = ""
    licence: str = ""
    is_gated: bool = False
    download_bytes: int | None = None
    float16_bytes: int | None = None
    parameters: dict[str, int] = {}
    weights: dict[str, int] = {}
    base_models: tuple[str, ...] = ()
    trained_for: str = ""


class Repository(Protocol):
    """What `Directory` and `HubRepository` have in common."""

    @property
    def commit(self) -> str: ...
    @property
    def is_gated(self) -> bool: ...
    @property
    def licence(self) -> str: ...
    @property
    def base_models(self) -> tuple[str, ...]: ...
    @property
    def files(self) -> Mapping[str, int]: ...
    def configuration(self) -> tuple[Mapping[str, Any], Configs]: ...
    def header(self, name: str) -> Any: ...


def inspect_model(source: Source, models_dir: Path, offline: bool) -> Inspection:
    """Inspect a model on disk, else on the hub unless `offline`.

    Raises `InspectionFailed`, and `UnsupportedModel` if it cannot be run.
    """
    repository, found = _open(source, models_dir, offline)
    if repository is None:
        return found
    try:
        if lightning.is_lightning(source.repository):
            base, of_base = _open(lightning.base_source(models_dir), models_dir, offline)
            if base is None:
                raise HubFailed(of_base.problem)
            return _inspect_lightning(repository, base, found)
        if source.file or "model_index.json" not in repository.files:
            return _inspect_single_file(source.file, repository, found)
        return _inspect_pipeline(repository, found)
    except HubFailed as failure:
        return found.model_copy(update={"problem": str(failure)})
    except (SafetensorsParsingError, OSError, ValueError) as error:
        raise UnsupportedModel(
            "One of its files is damaged, so nothing can be told from it: fetch it again."
        ) from error


def inspect_lora(source: Source, models_dir: Path, offline: bool) -> Inspection:
    """Inspect a LoRA as `inspect_model` does a model. Its `file` is "" as long as one of `weights` must be chosen."""
    repository, found = _open(source, models_dir, offline)
    if repository is None:
        return found
    if "model_index.json" in repository.files:
        raise UnsupportedModel("It is a whole model: add it to the models.")
    weights = {name: size for name, size in repository.files.items() if name.endswith(".safetensors")}
    if not weights:
        raise UnsupportedModel("It has no .safetensors file; others are never loaded.")
    if source.file and source.file not in weights:
        raise UnsupportedModel(f"It has no file {source.file}; it has {_listed(weights)}.")
    file = source.file or (next(iter(weights)) if len(weights) == 1 else "")
    told = {
        "file": file,
        "weights": weights,
        "base_models": repository.base_models,
        "download_bytes": weights.get(file),
    }
    try:
        architecture = lora_fit.trained_for(lora_fit.shapes_of(repository.header(file))) if file else None
    except HubFailed as failure:
        return found.model_copy(update={**told, "problem": str(failure)})
    except (lora_fit.NotALora, SafetensorsParsingError, OSError, ValueError) as error:
        reason = str(error) if isinstance(error, lora_fit.NotALora) else "It is damaged: fetch it again."
        raise UnsupportedModel(f"{file}: {reason}") from error
    return found.model_copy(update={**told, "trained_for": architecture or ""})


def _open(source: Source, models_dir: Path, offline: bool) -> tuple[Repository | None, Inspection]:
    """Return the repository, and what is known of it so far: None if only its commit is."""
    repository: Repository
    name = lightning.repository_of(source.repository)
    directory = find_directory(name, models_dir)
    if directory is not None and source.revision:
        raise InspectionFailed(
            f"MODELS_DIR/{name} is used in place of the hub: enter {name}, or move that directory away."
        )
    try:
        if directory is not None:
            repository = Directory(directory)
        elif offline:
            raise hub_errors.offline(name, models_dir)
        else:
            repository = HubRepository(name, source.revision, models_dir)
    except HubFailed as failure:
        is_answer = isinstance(failure.__cause__, HfHubHTTPError)
        if is_answer or not COMMIT.fullmatch(source.revision):
            raise InspectionFailed(str(failure)) from failure
        # Workers may have another network than this process, and a commit is all that they need.
        return None, Inspection(
            repository=source.repository, revision=source.revision, file=source.file, problem=str(failure)
        )
    return repository, Inspection(
        repository=source.repository,
        revision=repository.commit,
        licence=repository.licence,
        is_gated=repository.is_gated,
    )


def _inspect_pipeline(repository: Repository, found: Inspection) -> Inspection:
    index, configs = repository.configuration()
    if not all(isinstance(part, dict) for part in (index, *configs.values())):
        raise ValueError("a configuration is no object")
    if not isinstance(index.get("_class_name"), str):
        raise UnsupportedModel("Its model_index.json names no pipeline of diffusers.")
    family = detect_family(found.repository, index, configs)
    names, copies = (files_to_read(repository.files, index, variant=variant) for variant in ("", FLOAT16))
    _check_files(repository.files, copies, components_of(index))
    _check_packages(family)
    sizes = [sum(repository.files[name] for name in read) for read in (names, copies)]
    return found.model_copy(
        update={
            "family": family,
            "download_bytes": max(sizes),
            "float16_bytes": sizes[1] if repository.commit and sizes[1] < sizes[0] else None,
            "parameters": _count_parameters(repository, copies),
        }
    )


def _count_parameters(repository: Repository, names: Iterable[str]) -> dict[str, int]:
    """Return the parameters in these files' safetensors by component."""
    weights = [name for name in names if name.endswith(".safetensors")]
    with ThreadPoolExecutor(PARALLEL_REQUESTS) as threads:
        headers = threads.map(repository.header, weights)
        counts = Counter[str]()
        for name, header in zip(weights, headers, strict=True):
            counts[name.partition("/")[0]] += sum(header.parameter_count.values())
    return dict(counts)


def _check_files(files: Iterable[str], names: Sequence[str], components: Iterable[str]) -> None:
    """Check that the weights of each component can be read. Raises `UnsupportedModel`."""
    for component in components:
        own = [name for name in files if name.startswith(f"{component}/")]
        if not own:
            raise UnsupportedModel(f"It is not complete: it has no files of its {component}.")
        others = [name for name in own if name.endswith((*_PICKLES, ".safetensors"))]
        if others and not any(name in own and name.endswith(".safetensors") for name in names):
            raise UnsupportedModel(
                f"Its {component} comes only as {_listed(others)}; weights are read from .safetensors files alone, of "
                "full or half precision."
            )


def _check_packages(family: Family) -> None:
    missing = [package for package in FAMILY_TRAITS[family].packages if find_spec(package) is None]
    if missing:
        raise UnsupportedModel(
            f"Models of the family {family} need the package {', '.join(missing)}: install it first."
        )


def _inspect_single_file(named: str, repository: Repository, found: Inspection) -> Inspection:
    """Inspect the one file of a directory. Raises `UnsupportedModel`."""
    file = _only_file(repository.files, named)
    if not isinstance(repository, Directory):
        if _is_lora(repository, file):
            raise UnsupportedModel("It is a LoRA; add it under LoRAs.")
        raise UnsupportedModel(
            f"Single files are not fetched from the hub: download {file} into a directory MODELS_DIR/owner/name of its "
            "own, and add owner/name."
        )
    try:
        family = detect_single_file(found.repository, read_header(repository.path / file))
        parameters = count_checkpoint(repository.path / file)
    except ModuleNotFoundError as error:
        raise UnsupportedModel(f"{file} needs the package {error.name}: install it first.") from error
    return found.model_copy(
        update={
            "file": file,
            "family": family,
            "download_bytes": repository.files[file],
            "parameters": parameters,
        }
    )


def _is_lora(repository: Repository, file: str) -> bool:
    """Return whether a file is a LoRA, as far as it can be read."""
    try:
        lora_fit.layers_of(lora_fit.shapes_of(repository.header(file)))
    except (lora_fit.NotALora, HubFailed, SafetensorsParsingError):
        return False
    return True


def _only_file(files: Mapping[str, int], named: str) -> str:
    """Return the only checkpoint of a repository. Raises `UnsupportedModel`, also if another one was `named`."""
    found = [name for name in files if name.endswith(CHECKPOINT_SUFFIXES) and "/" not in name]
    if named and named not in files:
        raise UnsupportedModel(f"It has no file {named}.")
    if "model_index.json" in files:
        raise UnsupportedModel("It is in the format of diffusers, which is loaded as a whole: enter owner/name alone.")
    if len(found) == 1:
        return found[0]
    if found:
        raise UnsupportedModel(f"It has several models, {_listed(found)}: put one into a directory of its own.")
    if "modular_model_index.json" in files:
        raise UnsupportedModel("It is a modular pipeline; these cannot be run here.")
    raise UnsupportedModel("It has neither model_index.json nor a .safetensors or .gguf file, so it is no model.")


def _inspect_lightning(repository: Repository, base: Repository, found: Inspection) -> Inspection:
    """Inspect a UNet of SDXL-Lightning, and the other parts, which are those of SDXL."""
    model = ModelReference(id=found.repository, revision=found.revision, family=Family.LIGHTNING)
    file = lightning.unet_file(model)
    if file not in repository.files:
        raise UnsupportedModel(f"It has no file {file}.")
    index, _ = base.configuration()
    names = files_to_read(base.files, index, without="unet")
    unet = sum(repository.header(file).parameter_count.values())
    return found.model_copy(
        update={
            "family": Family.LIGHTNING,
            "download_bytes": repository.files[file] + sum(base.files[name] for name in names),
            "parameters": {"unet": unet, **_count_parameters(base, names)},
        }
    )


def _listed(names: Iterable[str], limit: int = 8) -> str:
    names = sorted(names)
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
