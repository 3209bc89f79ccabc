"""Words and sentences that ask for nothing, from packages that are installed anyway.

Django has the most frequent passwords, which are names, words and gibberish, and sentences in every language of its own pages;
Python's codecs know the usual characters of Japanese and Chinese.
"""

import gzip
import re
from functools import cache
from gettext import GNUTranslations
from pathlib import Path

import django

_DJANGO = Path(django.__file__).parent
_PASSWORDS = _DJANGO / "contrib" / "auth" / "common-passwords.txt.gz"
_LOCALES = {"de": ["de"], "es": ["es"], "fr": ["fr"], "ja": ["ja"], "zh": ["zh_Hans", "zh_Hant"]}
# The first level of JIS X 0208, and of GB 2312: the rows with the most used characters, after those with kana in Japanese.
_ROWS = {"ja": ("euc_jp", [4, 5, *range(16, 48)]), "zh": ("gb2312", [*range(16, 56)])}
_LONGEST = 60  # letters of a sentence


@cache
def passwords() -> list[str]:
    """Return frequent passwords that are only letters, in lower case."""
    with gzip.open(_PASSWORDS, "rt", encoding="utf-8") as file:
        return [word for word in file.read().split() if re.fullmatch("[a-z]{3,14}", word)]


@cache
def sentences(language: str) -> list[str]:
    """Return words and sentences of Django's pages in this language, in lower case; none in English."""
    texts: set[str] = set()
    for locale in _LOCALES.get(language, []):
        for path in sorted(_DJANGO.glob(f"**/locale/{locale}/LC_MESSAGES/django.mo")):
            with path.open("rb") as file:
                catalog: dict[object, str] = vars(GNUTranslations(file))["_catalog"]
            texts |= {text.lower() for text in catalog.values()}
    return sorted(text for text in texts if 0 < len(text) <= _LONGEST and not re.search(r"[%{}<>\n&:]", text))


@cache
def characters(language: str) -> list[str]:
    """Return the most used characters of Japanese or Chinese; none for other languages."""
    encoding, rows = _ROWS.get(language, ("ascii", []))
    pairs = [bytes([0xA0 + row, 0xA0 + column]) for row in rows for column in range(1, 95)]
    return [pair.decode(encoding) for pair in pairs if pair.decode(encoding, "ignore")]
