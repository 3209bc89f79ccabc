"""Where a model or LoRA comes from, as staff name it: `owner/name`, a link to the hub, a directory or a file."""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from generation.weight_files import CHECKPOINT_SUFFIXES

COMMIT = re.compile(r"[0-9a-f]{40}")

_HUB = "huggingface.co"
_HUBS = (_HUB, f"www.{_HUB}", "hf.co")
_REPOSITORY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_FILE = re.compile(r"(?=.{1,200}\Z)[\w-][\w .+-]*(/[\w-][\w .+-]*)*")
_NOT_MODELS = {"datasets": "a data set", "spaces": "a space", "collections": "a collection", "papers": "a paper"}


class InvalidSource(Exception):
    """Raised for texts that name no model; the message says what to enter instead."""


@dataclass(frozen=True)
class Source:
    """A repository `owner/name`, a branch, tag or commit of it ("" if none was named), and one file of it or ""."""

    repository: str
    revision: str = ""
    file: str = ""


def parse_source(text: str, models_dir: Path) -> Source:
    """Return what this text names. Raises `InvalidSource`."""
    text = text.strip()
    if "://" in text:
        return _parse_link(text)
    if text.lower().startswith(tuple(f"{host}/" for host in _HUBS)):
        return _parse_link(f"https://{text}")
    path = Path(text)
    if path.is_absolute():
        if not path.is_relative_to(models_dir):
            raise InvalidSource(f"Only what is in MODELS_DIR can be loaded: move it to {models_dir}/owner/name.")
        text = path.relative_to(models_dir).as_posix()
    owner, _, rest = text.strip("/").partition("/")
    name, _, file = rest.partition("/")
    return _source(f"{owner}/{name}", "", file)


def _parse_link(link: str) -> Source:
    try:
        url = urlsplit(link)
    except ValueError as error:
        raise InvalidSource(f"This is no valid link: {error}. Enter owner/name, or a link to {_HUB}.") from error
    if url.netloc.lower() not in {*_HUBS, urlsplit(os.environ.get("HF_ENDPOINT", "")).netloc.lower()}:
        raise InvalidSource(
            f"Only links to {_HUB} are read. Download the file into MODELS_DIR/owner/name, and enter "
            "owner/name/file.safetensors."
        )
    parts = [unquote(part) for part in url.path.split("/") if part]
    if parts and parts[0] in _NOT_MODELS:
        raise InvalidSource(f"This is a link to {_NOT_MODELS[parts[0]]}, not to a model.")
    repository, kind, revision = "/".join(parts[:2]), "".join(parts[2:3]), "".join(parts[3:4])
    # A link to a folder names the repository: models are loaded as a whole.
    return _source(repository, revision, "/".join(parts[4:]) if kind in ("blob", "resolve") else "")


def _source(repository: str, revision: str, file: str) -> Source:
    if not _REPOSITORY.fullmatch(repository) or ".." in repository:
        raise InvalidSource(
            f"Enter owner/name, a link to {_HUB}, or a directory or file in MODELS_DIR such as owner/name/file.safetensors."
        )
    if file and not file.endswith(CHECKPOINT_SUFFIXES):
        raise InvalidSource("Only .safetensors and .gguf files are loaded, since others can contain code.")
    if file and not _FILE.fullmatch(file):
        raise InvalidSource("The name of the file may have letters, digits, spaces, dots, dashes and underscores.")
    return Source(repository, revision, file)
