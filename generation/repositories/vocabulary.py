"""The words that say something to a bundled model, which knows no others: `vocabulary.txt` beside its weights."""

import re
import unicodedata
from functools import cache

from generation.recipes import BUNDLED_OWNER
from generation.repositories.files import BUNDLED

# Japanese and Chinese are written without spaces, so a word may be anywhere in a prompt.
_UNSPACED = re.compile(r"[\u3040-\u30ff\u4e00-\u9fff]")


def knows_none(model_id: str, prompt: str) -> bool:
    """Return whether the model has a fixed vocabulary and the prompt is without any of its words, or their plurals."""
    known = _vocabulary(model_id)
    text = unicodedata.normalize("NFC", prompt.lower())
    words = re.findall(r"[^\W\d_]+", text)
    return (
        bool(known)
        and not any(word in known or word.removesuffix("s") in known for word in words)
        and not (_UNSPACED.search(text) and any(_UNSPACED.match(word) and word in text for word in known))
    )


@cache
def _vocabulary(model_id: str) -> frozenset[str]:
    """Return the words that the model knows, in lower case; empty if it has no fixed vocabulary."""
    owner, _, name = model_id.partition("/")
    path = BUNDLED / name / "vocabulary.txt"
    if owner != BUNDLED_OWNER or not path.is_file():
        return frozenset()
    return frozenset(path.read_text(encoding="utf-8").split())
