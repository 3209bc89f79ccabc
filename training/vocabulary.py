"""The words that say something to a bundled model, for the studio: it warns of prompts without any of them.

`python -m training.vocabulary` writes `vocabulary.txt` into the directories of the bundled models.
"""

import re

from generation.repositories.files import BUNDLED
from training.emoji import CALLED
from training.instructions import naming_words

_SHORTEST = 3
_PARTICLES = {"and", "the", "with", "without", "for", "from", "that"}


def edit_words() -> list[str]:
    """Return the words that name an edit of tiny-edit in any language, and how the English ones are misspelt, sorted."""
    return sorted(naming_words())


def emoji_words() -> list[str]:
    """Return the words in the names of the emoji that tiny-redraw draws, sorted."""
    words = {word for names in CALLED.values() for name in names for word in re.findall(r"[^\W\d_]+", name.lower())}
    return sorted(word for word in words if len(word) >= _SHORTEST and word not in _PARTICLES)


if __name__ == "__main__":
    for name, known in (("tiny-edit", edit_words()), ("tiny-redraw", emoji_words())):
        (BUNDLED / name / "vocabulary.txt").write_text("\n".join(known) + "\n", encoding="utf-8")
