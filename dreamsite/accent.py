"""The accent colour of the pages in light and dark, from the one that SITE_ACCENT names.

It is the colour of links, borders and buttons, so it needs a contrast to everything that it can stand on: WCAG 2.2, 1.4.3.
Where the chosen one has too little, it is mixed with black or white until it has enough.
"""

import re
from collections.abc import Sequence

FORM = re.compile(r"#[0-9A-Fa-f]{6}")

CONTRAST = 5.0
"""More than the 4.5 of WCAG, since some text in the accent colour stands on a tint of it."""

LIGHT_GROUNDS = ("#ffffff", "#f6f6f5", "#ededeb")
DARK_GROUNDS = ("#1c1c1f", "#141416", "#0f0f11")
"""The backgrounds in `theme.css`."""

_BLACK, _WHITE = (0, 0, 0), (255, 255, 255)
_STEPS = 100

_Colour = tuple[int, int, int]


def light_and_dark(accent: str) -> tuple[str, str]:
    """Return the accent colour for light and for dark pages. All three are written `#rrggbb`."""
    return _with_contrast(accent, _BLACK, LIGHT_GROUNDS), _with_contrast(accent, _WHITE, DARK_GROUNDS)


def contrast(one: str, other: str) -> float:
    """Return the contrast ratio of two colours, 1 to 21: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    darker, lighter = sorted((_luminance(_parsed(one)), _luminance(_parsed(other))))
    return (lighter + 0.05) / (darker + 0.05)


def _with_contrast(accent: str, extreme: _Colour, grounds: Sequence[str]) -> str:
    """Return the accent with as little of black or white in it as gives the contrast to all of these backgrounds."""
    mixtures = (_written(_mixed(_parsed(accent), extreme, step / _STEPS)) for step in range(_STEPS + 1))
    return next(colour for colour in mixtures if all(contrast(colour, ground) >= CONTRAST for ground in grounds))


def _parsed(colour: str) -> _Colour:
    red, green, blue = bytes.fromhex(colour.removeprefix("#"))
    return red, green, blue


def _written(colour: _Colour) -> str:
    return f"#{bytes(colour).hex()}"


def _mixed(colour: _Colour, extreme: _Colour, share: float) -> _Colour:
    red, green, blue = (round(part + (end - part) * share) for part, end in zip(colour, extreme, strict=True))
    return red, green, blue


def _luminance(colour: _Colour) -> float:
    """Return the relative luminance, 0 to 1: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    red, green, blue = (
        part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in (byte / 255 for byte in colour)
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue
