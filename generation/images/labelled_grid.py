"""Draw pictures as a grid, with the names of its columns and rows."""

import math
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from unicodedata import bidirectional

from PIL import Image, ImageDraw, ImageFont, features

MAX_CELL_SIDE = 512
MAX_PIXELS = 16_000_000
"""The most pixels of all cells together; larger pictures are drawn smaller."""

_GAP = 8
_MARGIN = 24
_ROW_LABEL_WIDTH = 160
_FONT = Path(__file__).parent / "fonts" / "DejaVuSans.ttf"
_CAN_SHAPE = features.check("raqm")
_RIGHT_TO_LEFT = ("R", "AL")
_TEXT_SIZE = 16
_LINE_HEIGHT = 24
_MAX_LINES = 4
_NO_CHARACTER = "\uffff"
_GROUND, _EMPTY, _TEXT, _MUTED = "#ffffff", "#ededeb", "#1b1b1d", "#5f5f5c"


def cell_size(width: int, height: int, cells: int) -> tuple[int, int]:
    """Return the size of a cell for pictures of this size in pixels, at most `MAX_CELL_SIDE` and its share of `MAX_PIXELS`."""
    scale = min(1.0, MAX_CELL_SIDE / max(width, height), math.sqrt(MAX_PIXELS / (width * height * cells)))
    return max(1, round(width * scale)), max(1, round(height * scale))


def can_write(text: str) -> bool:
    """Return whether labels can show a text: the font has Latin, Greek, Cyrillic and Arabic scripts, among others.

    Scripts from right to left need a library that not all builds of Pillow have.
    """
    missing = _shape(_NO_CHARACTER)
    return all(
        character.isspace()
        or (_shape(character) != missing and (_CAN_SHAPE or bidirectional(character) not in _RIGHT_TO_LEFT))
        for character in set(text)
    )


@cache
def _font() -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(_FONT, _TEXT_SIZE)


def _shape(character: str) -> tuple[tuple[int, int], bytes]:
    """Return size and pixels of a character; all that the font lacks look the same."""
    mask = _font().getmask(character)
    return mask.size, bytes(mask)


def draw(
    heading: str,
    columns: Sequence[str],
    rows: Sequence[str],
    size: tuple[int, int],
    cells: Iterable[Image.Image | str],
) -> Image.Image:
    """Return a picture of `heading` above a grid whose cells have this size.

    `cells` are pictures, or words in place of one, row by row; they are taken one at a time. A row whose name is empty
    has no label. Long names are wrapped and cut.
    """
    font = _font()
    width, height = size
    left = _MARGIN + (_ROW_LABEL_WIDTH if any(rows) else 0)
    total_width = left + len(columns) * (width + _GAP) - _GAP + _MARGIN
    above = _wrapped(heading, font, total_width - 2 * _MARGIN)
    names = [_wrapped(name, font, width) for name in columns]
    grid_top = _MARGIN + (len(above) + max(map(len, names))) * _LINE_HEIGHT + 2 * _GAP
    sheet = Image.new("RGB", (total_width, grid_top + len(rows) * (height + _GAP) - _GAP + _MARGIN), _GROUND)
    pen = ImageDraw.Draw(sheet)

    def write(lines: Sequence[str], x: int, y: int, colour: str = _TEXT) -> None:
        for number, line in enumerate(lines):
            pen.text((x, y + number * _LINE_HEIGHT), line, font=font, fill=colour)

    write(above, _MARGIN, _MARGIN)
    for number, lines in enumerate(names):
        write(lines, left + number * (width + _GAP), grid_top - len(lines) * _LINE_HEIGHT - _GAP)
    for number, name in enumerate(rows):
        write(_wrapped(name, font, _ROW_LABEL_WIDTH - 2 * _GAP), _MARGIN, grid_top + number * (height + _GAP))
    for number, cell in enumerate(cells):
        row, column = divmod(number, len(columns))
        place = left + column * (width + _GAP), grid_top + row * (height + _GAP)
        if isinstance(cell, Image.Image):
            sheet.paste(cell.resize(size, Image.Resampling.LANCZOS), place)
        else:
            pen.rectangle((*place, place[0] + width - 1, place[1] + height - 1), fill=_EMPTY)
            write(_wrapped(cell, font, width - 2 * _GAP), place[0] + _GAP, place[1] + _GAP, _MUTED)
    return sheet


def _wrapped(text: str, font: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Return the text in at most `_MAX_LINES` lines of this width in pixels, cut with an ellipsis."""
    lines: list[str] = []
    line = ""
    # No name needs more characters than fit, and measuring costs time.
    for word in text[:400].split():
        longer = f"{line} {word}".strip()
        if line and font.getlength(longer) > width:
            lines.append(line)
            line = word
        else:
            line = longer
    lines.append(line)
    if len(lines) > _MAX_LINES:
        lines[_MAX_LINES - 1 :] = [f"{lines[_MAX_LINES - 1]} …"]
    return [_cut(line, font, width) for line in lines if line]


def _cut(line: str, font: ImageFont.FreeTypeFont, width: int) -> str:
    if font.getlength(line) <= width:
        return line
    while line and font.getlength(f"{line}…") > width:
        line = line[:-1]
    return f"{line}…"
