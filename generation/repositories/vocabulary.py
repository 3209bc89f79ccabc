"""The words that say something to a bundled model, which knows no others: `vocabulary.txt` beside its weights."""

import re
from functools import cache

from generation.recipes import BUNDLED_OWNER
from generation.repositories.files import BUNDLED


def knows_none(model_id: str, prompt: str) -> bool:
    """Return whether the model has a fixed vocabulary and the prompt is without any of its words, or their plurals."""
    known = _vocabulary(model_id)
    words = re.findall(r"[^\W\d_]+", prompt.lower())
    return bool(known) and not any(word in known or word.removesuffix("s") in known for word in words)


@cache
def _vocabulary(model_id: str) -> frozenset[str]:
    """Return the words that the model knows, in lower case; empty if it has no fixed vocabulary."""
    owner, _, name = model_id.partition("/")
    path = BUNDLED / name / "vocabulary.txt"
    return frozenset(path.read_text().split()) if owner == BUNDLED_OWNER and path.is_file() else frozenset()
