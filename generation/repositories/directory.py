"""A repository on disk: bundled, or a directory of MODELS_DIR."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import parse_local_safetensors_file_metadata

from generation.family_detection import Configs, read_configuration
from generation.repositories.cards import base_models_of, licence_of, read_card


class Directory:
    """The directory of a repository. `files` are its files with their bytes."""

    commit = ""
    is_gated = False

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: Mapping[str, int] = {
            file.relative_to(path).as_posix(): file.stat().st_size for file in sorted(path.rglob("*")) if file.is_file()
        }
        card = read_card(path / "README.md")
        self.licence = licence_of(card)
        self.base_models = base_models_of(card)

    def configuration(self) -> tuple[Mapping[str, Any], Configs]:
        """Return `model_index.json` and the configurations of the parts. Raises OSError and ValueError."""
        return read_configuration(self.path)

    def header(self, name: str) -> Any:
        """Return huggingface_hub's `SafetensorsFileMetadata` of a file. Raises OSError and `SafetensorsParsingError`."""
        return parse_local_safetensors_file_metadata(self.path / name)
