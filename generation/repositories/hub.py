"""A repository on the hub. `HF_ENDPOINT` and `HF_TOKEN` are heeded."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from huggingface_hub import HfApi, get_session, get_token, hf_hub_url, hf_raise_for_status
from huggingface_hub.hf_api import ModelInfo

from generation.family_detection import Configs
from generation.repositories.cards import base_models_of, licence_of
from generation.repositories.hub_errors import explained

TIMEOUT_SECONDS = 10.0
"""How long one answer of the hub may take. Whoever inspects a model waits for some of them."""

PARALLEL_REQUESTS = 8


class HubRepository:
    """A repository of the hub at a commit. `files` are its files with their bytes."""

    def __init__(self, name: str, revision: str, models_dir: Path) -> None:
        """Resolve a branch, tag or commit; "" is main. Raises `HubFailed`."""
        self.name = name
        self._models_dir = models_dir
        with explained(name, revision or "main", models_dir):
            info: ModelInfo = HfApi().model_info(
                name, revision=revision or None, files_metadata=True, timeout=TIMEOUT_SECONDS
            )
        self.commit = str(info.sha)
        self.is_gated = bool(info.gated)
        self.licence = licence_of(info.card_data)
        self.base_models = base_models_of(info.card_data)
        self.files: Mapping[str, int] = {file.rfilename: file.size or 0 for file in info.siblings or ()}

    def configuration(self) -> tuple[Mapping[str, Any], Configs]:
        """Return `model_index.json` and the configurations of the parts. Raises `HubFailed` and ValueError."""
        names = [name for name in self.files if name.endswith(("/config.json", "/scheduler_config.json"))]
        names = ["model_index.json", *(name for name in names if name.count("/") == 1)]
        with ThreadPoolExecutor(PARALLEL_REQUESTS) as threads:
            index, *configs = threads.map(self._read_json, names)
        return index, {name.partition("/")[0]: config for name, config in zip(names[1:], configs, strict=True)}

    def header(self, name: str) -> Any:
        """Return huggingface_hub's `SafetensorsFileMetadata` of a file, without its weights.

        Raises `HubFailed` and `SafetensorsParsingError`.
        """
        with explained(self.name, self.commit, self._models_dir):
            return HfApi().parse_safetensors_file_metadata(
                self.name, name, revision=self.commit, timeout=TIMEOUT_SECONDS
            )

    def _read_json(self, name: str) -> Any:
        with explained(self.name, self.commit, self._models_dir):
            url = hf_hub_url(self.name, name, revision=self.commit)
            headers = {"Authorization": f"Bearer {token}"} if (token := get_token()) else {}
            response = get_session().get(url, headers=headers, timeout=TIMEOUT_SECONDS)
            hf_raise_for_status(response)
        return response.json()
