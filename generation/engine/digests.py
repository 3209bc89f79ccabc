"""The digests of the bundled weights: what is loaded is what was released."""

import hashlib
from functools import cache
from pathlib import Path

from generation.engine.errors import ModelFailed
from generation.repositories.files import BUNDLED

DIGESTS = BUNDLED / "SHA256SUMS"
"""Lines as `sha256sum` writes them: the digest and the path of each file that is loaded."""

_LOADED = (".json", ".safetensors")


def check_digests(path: Path) -> None:
    """Compare a bundled file, or all loaded files of a bundled directory, with `DIGESTS`; others are not compared.

    Raises `ModelFailed` if a file differs, is missing or is one too many.
    """
    if not path.is_relative_to(BUNDLED):
        return
    released = {name: digest for name, digest in _released().items() if (BUNDLED / name).is_relative_to(path)}
    if compute_digests(path) != released:
        raise ModelFailed(
            f"The files of the bundled {path.relative_to(BUNDLED).parts[0]} are not those that were released. Restore "
            "generation/engine/bundled from the repository."
        )


def compute_digests(path: Path) -> dict[str, str]:
    """Return the digests of the files that are loaded, by their path in the directory of all bundled weights."""
    files = sorted(file for file in path.rglob("*") if file.suffix in _LOADED) if path.is_dir() else [path]
    return {str(file.relative_to(BUNDLED)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


@cache
def _released() -> dict[str, str]:
    lines = [line.split("  ", 1) for line in DIGESTS.read_text().splitlines()]
    return {name: digest for digest, name in lines}
