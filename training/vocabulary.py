"""The words that say something to a bundled model, for the studio: it warns of prompts without any of them.

`python -m training.vocabulary` writes `vocabulary.txt` into the directories of the bundled models.
"""

import re
import tomllib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from generation.repositories.files import BUNDLED
from training.emoji import CALLED

# Words in the wordings of more edits than this, such as "make" or "photo", name none.
_MAX_EDITS = 5
_SHORTEST = 3
_PARTICLES = {"and", "the", "with", "without", "for", "from", "that"}


def edit_words() -> list[str]:
    """Return the words that name an edit of tiny-edit, and how they are misspelt, sorted."""
    words = tomllib.loads((Path(__file__).parent / "instructions.toml").read_text())
    edits = [
        {word for kind in ("styles", "imperatives", "phrases") for word in _split(wordings[kind])}
        for wordings in words["edits"].values()
    ]
    counts = Counter(word for edit in edits for word in edit)
    general = set(_split([*words["neutral"], *words["things"], *words["subjects"], *words["sentences"]]))
    names = {word for word, count in counts.items() if count <= _MAX_EDITS and word not in general}
    names |= set(_split(name.replace("_", " ") for name in words["edits"]))
    misspelt = {word for name in names for word in _split(words["misspellings"].get(name, []))}
    return _sorted(names | misspelt)


def emoji_words() -> list[str]:
    """Return the words in the names of the emoji that tiny-redraw draws, sorted."""
    return _sorted({word for names in CALLED.values() for word in _split(names)})


def _sorted(words: Iterable[str]) -> list[str]:
    return sorted(word for word in words if len(word) >= _SHORTEST and word not in _PARTICLES)


def _split(texts: Iterable[str]) -> list[str]:
    return [word for text in texts for word in re.findall(r"[^\W\d_]+", text.lower())]


if __name__ == "__main__":
    for name, known in (("tiny-edit", edit_words()), ("tiny-redraw", emoji_words())):
        (BUNDLED / name / "vocabulary.txt").write_text("\n".join(known) + "\n")
