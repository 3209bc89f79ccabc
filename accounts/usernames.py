"""Names that people may choose when they sign up, so that nobody passes for somebody else."""

import unicodedata

import regex
from django.core.exceptions import ValidationError

_SCRIPTS = (
    *(
        "Arabic",
        "Armenian",
        "Bengali",
        "Cyrillic",
        "Devanagari",
        "Ethiopic",
        "Georgian",
        "Greek",
        "Gujarati",
        "Gurmukhi",
    ),
    *("Hebrew", "Kannada", "Khmer", "Lao", "Latin", "Malayalam", "Myanmar", "Oriya", "Sinhala", "Tamil", "Telugu"),
    *("Thaana", "Thai", "Tibetan"),
)
"""Those that Unicode recommends for names: https://www.unicode.org/reports/tr31/#Table_Recommended_Scripts."""
_WRITTEN_TOGETHER = (("Han", "Hiragana", "Katakana"), ("Han", "Bopomofo"), ("Han", "Hangul"))
"""Japanese, Chinese with Bopomofo, and Korean: https://www.unicode.org/reports/tr39/#Mixed_Script_Detection."""


def _only(*scripts: str) -> str:
    """Return a pattern of text in these scripts. Digits and punctuation are common to all."""
    return "[" + "".join(rf"\p{{Script_Extensions={script}}}" for script in (*scripts, "Common", "Inherited")) + "]+"


_ONE_SCRIPT = regex.compile("|".join((*map(_only, _SCRIPTS), *(_only(*scripts) for scripts in _WRITTEN_TOGETHER))))
TAKEN = "Another user has this name, or one that differs only in upper and lower case. Choose another one."

_PUNCTUATION = str.maketrans("", "", "@.+-_")
_RESERVED = frozenset(
    {
        *("abuse", "admin", "administrator", "anonymous", "contact", "dreamsite", "helpdesk", "help", "hostmaster"),
        *("info", "moderation", "moderator", "noreply", "official", "operator", "owner", "postmaster", "reviewer"),
        *("root", "security", "service", "staff", "superuser", "support", "sysadmin", "system", "team", "webmaster"),
    }
)
"""What staff could be called; so are these with an s."""


def fold(name: str) -> str:
    """Return what all names have in common that differ in case, or in width and style of their letters, alone."""
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", name).casefold())


def check_choice(name: str) -> None:
    """Raise Django's `ValidationError` if a name mixes scripts or is reserved. Staff may give such names."""
    if not _ONE_SCRIPT.fullmatch(name):
        raise ValidationError(
            "This name mixes letters of several scripts. Use those of one, such as Latin or Cyrillic.", "mixed_scripts"
        )
    letters = fold(name).translate(_PUNCTUATION)
    if not letters:
        raise ValidationError("Use at least one letter or digit.", "no_letter")
    if letters.removesuffix("s") in _RESERVED:
        raise ValidationError("This name is reserved for the staff of the service. Choose another one.", "reserved")
