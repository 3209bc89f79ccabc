"""The card of a repository, the front matter of its README: licence, and the models that it was made for."""

from typing import Any


def licence_of(card: Any) -> str:
    """Return the licence that a card states, "" if none. `card` is huggingface_hub's `CardData` or None."""
    licence = getattr(card, "license", None)
    if licence == "other":
        licence = getattr(card, "license_name", None) or licence
    return ", ".join(licence) if isinstance(licence, list) else str(licence or "")


def base_models_of(card: Any) -> tuple[str, ...]:
    """Return the repositories that a card names as base, such as those of the model a LoRA was trained for."""
    named = getattr(card, "base_model", None) or ()
    return (named,) if isinstance(named, str) else tuple(str(name) for name in named)
