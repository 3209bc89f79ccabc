"""The card of a repository, the front matter of its README: licence, and the models that it was made for."""

from pathlib import Path
from typing import Any

from huggingface_hub.repocard import RepoCard
from yaml import YAMLError


def read_card(readme: Path) -> Any:
    """Return huggingface_hub's `CardData` of a README; None if there is none, or it is not in order."""
    try:
        return RepoCard.load(readme, ignore_metadata_errors=True).data if readme.is_file() else None
    except (YAMLError, ValueError, TypeError):
        return None


def licence_of(card: Any) -> str:
    """Return the licence that a card states, "" if none. `card` is huggingface_hub's `CardData` or None."""
    licence = getattr(card, "license", None)
    if licence == "other":
        licence = getattr(card, "license_name", None) or licence
    return ", ".join(map(str, licence)) if isinstance(licence, list) else str(licence or "")


def base_models_of(card: Any) -> tuple[str, ...]:
    """Return the repositories that a card names as base, such as those of the model a LoRA was trained for."""
    named = getattr(card, "base_model", None)
    names = named if isinstance(named, list) else [named]
    return tuple(name for name in names if isinstance(name, str))
