"""The files of a repository: where they are on disk, and which of them a pipeline reads."""

import re
from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from generation.recipes import BUNDLED_OWNER

BUNDLED = Path(__file__).parents[1] / "engine" / "bundled"

REDUCED_COPIES = ("*.fp16*", "*.bf16*", "*.non_ema*", "*.ema_only*")
"""Patterns of copies of the weights that are not read, unless a variant is asked for."""

FLOAT16 = "fp16"
"""The variant of the weights for models that are computed in float16."""

EVERY_COMPONENT = "*"
"""Stands for a component's name where the weights of all are left out."""

_WEIGHTS = (".safetensors", ".safetensors.index.json")


def local_directories(repository: str, models_dir: Path) -> list[Path]:
    """Return the directories that may hold `owner/name`, the first before the others: bundled, in `models_dir`."""
    owner, name = repository.split("/")
    return [*([BUNDLED / name] if owner == BUNDLED_OWNER else []), models_dir / owner / name]


def find_directory(repository: str, models_dir: Path) -> Path | None:
    """Return the directory that holds `owner/name`; None if there is none."""
    return next((path for path in local_directories(repository, models_dir) if path.is_dir()), None)


def components_of(index: Mapping[str, Any]) -> list[str]:
    """Return the parts of a pipeline that are loaded, by its `model_index.json`: no safety checker."""
    # Only the safety checker of Stable Diffusion reads its feature extractor; depth models have one of their own.
    unused = {"safety_checker", "feature_extractor"} if "safety_checker" in index else set()
    return [
        name
        for name, part in index.items()
        if isinstance(part, list) and part[:1] not in ([], [None]) and name not in unused
    ]


def file_patterns(index: Mapping[str, Any], without: str = "") -> list[str]:
    """Return patterns of the files that a pipeline reads: no pickles, code, single-file checkpoints or safety checker.

    `index` is the pipeline's `model_index.json`; the weights of the component `without` are left out.
    """
    components = components_of(index)
    patterns = [f"{name}/{kind}" for name in components for kind in ("*.json", "*.txt", "*.model", "*.jinja")]
    return patterns + [f"{name}/*.safetensors" for name in components if without not in (name, EVERY_COMPONENT)]


def files_to_read(names: Iterable[str], index: Mapping[str, Any], without: str = "", variant: str = "") -> list[str]:
    """Return those of the files `names` that a pipeline reads. `index` and `without` are as for `file_patterns`.

    With a `variant`, the weights of each component are of this variant where it has one.
    """
    patterns = ["model_index.json", *file_patterns(index, without)]
    read = [name for name in names if _matches(name, patterns)]
    full = [name for name in read if not _matches(name, REDUCED_COPIES)]
    copies = [name for name in read if variant and re.search(rf"\.{variant}[.-]", name)]
    components = {PurePosixPath(name).parent for name in copies if name.endswith(".safetensors")}
    return copies + [
        name for name in full if not (PurePosixPath(name).parent in components and name.endswith(_WEIGHTS))
    ]


def variant_of(directory: Path) -> str:
    """Return `FLOAT16` if a component of this directory has its weights in this variant alone, else ""."""
    names = [file.relative_to(directory) for file in directory.glob("*/*.safetensors")]
    full = {name.parent for name in names if not _matches(name.name, REDUCED_COPIES)}
    copies = {name.parent for name in names if _matches(name.name, [f"*.{FLOAT16}*"])}
    return FLOAT16 if copies - full else ""


def _matches(name: str, patterns: Sequence[str]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)
