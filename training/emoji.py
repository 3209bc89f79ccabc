"""The emoji that tiny-redraw learns to draw, and their names. `python -m training.emoji --work DIR` fetches and draws them.

The pictures are those of Noto Color Emoji (Google), in the Debian package fonts-noto-color-emoji: the project is under
Apache-2.0, its font under the SIL Open Font License 1.1, which leaves what is made with a font free (clause 5). The names are
Unicode's. Only single code points of things, animals, food, faces and places are taken.
"""

import io
import re
import subprocess
import sys
import tarfile
import tomllib
import unicodedata
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from training.stages import parse_arguments, say

SIDE = 128

_PACKAGE = "fonts-noto-color-emoji"
_FONT = "usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
_BITMAP_SIZE = 109  # the only size in the font

_RANGES = [(0x1F30D, 0x1F320), (0x1F32D, 0x1F37F), (0x1F380, 0x1F393), (0x1F3A0, 0x1F3C6), (0x1F3E0, 0x1F3F0)]
_RANGES += [(0x1F400, 0x1F440), (0x1F451, 0x1F462), (0x1F47B, 0x1F480), (0x1F484, 0x1F4A0), (0x1F4B0, 0x1F4B1)]
_RANGES += [(0x1F4D5, 0x1F4D9), (0x1F526, 0x1F52E), (0x1F600, 0x1F640), (0x1F680, 0x1F695), (0x1F950, 0x1F96F)]
_RANGES += [(0x1F980, 0x1F9AE), (0x1F9C0, 0x1F9CB), (0x1FAD0, 0x1FAD9)]

CALLED: dict[str, list[str]] = {
    name: [name, *others]
    for topic in tomllib.loads((Path(__file__).parent / "emoji.toml").read_text()).values()
    for name, others in topic.items()
}
"""What the emoji that tiny-redraw learns are called: well-known ones, a part of `listed_emoji`."""

_DROPPED = re.compile(r"\b(face|symbol|of food|glyph|emoji|-)\b|\s+(with|without|in|and) .*")


def listed_emoji() -> dict[str, str]:
    """Return the character of each name; names are short and in lower case: `dog`, `slice of pizza`."""
    found: dict[str, str] = {}
    for first, end in _RANGES:
        for code in range(first, end):
            full = unicodedata.name(chr(code), "").lower()
            # A face differs from others by what follows "with"; a thing does not need it.
            smiling = 0x1F600 <= code < 0x1F640
            name = re.sub(r"\s+", " ", full if smiling else _DROPPED.sub(" ", full)).strip()
            if name and "modifier" not in name and name not in found:
                found[name] = chr(code)
    return found


def listed_names() -> list[str]:
    """Return the names of `listed_emoji`."""
    return list(listed_emoji())


def collect(work: Path) -> None:
    """Fetch the font if it is missing, and write every emoji to `work`/emoji.npz: names and pixels (n, 128, 128, 4)."""
    directory = work / "downloads" / _PACKAGE
    directory.mkdir(parents=True, exist_ok=True)
    if not any(directory.iterdir()):
        subprocess.run(["apt-get", "download", "-qq", _PACKAGE], cwd=directory, check=True, stdout=sys.stderr)
    unpacked = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", next(directory.iterdir())], check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(unpacked)) as tarball:
        member = tarball.extractfile(f"./{_FONT}")
        if member is None:
            raise FileNotFoundError(f"{_PACKAGE} has no {_FONT}.")
        font = ImageFont.truetype(io.BytesIO(member.read()), _BITMAP_SIZE)
    pictures = {name: _draw(character, font) for name, character in listed_emoji().items()}
    kept = {name: picture for name, picture in pictures.items() if picture[..., 3].max() > 55}
    np.savez_compressed(work / "emoji.npz", names=np.array(list(kept)), pixels=np.stack(list(kept.values())))
    say(f"{len(kept)} emoji")


def load(work: Path) -> tuple[list[str], NDArray[np.uint8]]:
    """Load names and pixels (n, 128, 128, 4) that `collect` stored; the last channel is opacity."""
    with np.load(work / "emoji.npz") as stored:
        return [str(name) for name in stored["names"]], stored["pixels"]


def load_drawn(work: Path) -> tuple[list[str], NDArray[np.uint8]]:
    """Load those of `load` that tiny-redraw learns."""
    names, pixels = load(work)
    kept = [number for number, name in enumerate(names) if name in CALLED]
    return [names[number] for number in kept], pixels[kept]


def _draw(character: str, font: ImageFont.FreeTypeFont) -> NDArray[np.uint8]:
    """Draw the emoji in the middle of a transparent square of SIDE pixels with a margin of 8."""
    canvas = Image.new("RGBA", (160, 160), (255, 255, 255, 0))
    ImageDraw.Draw(canvas).text((80, 80), character, font=font, embedded_color=True, anchor="mm")
    drawn = canvas.crop(canvas.getchannel("A").getbbox() or (0, 0, 160, 160))
    drawn.thumbnail((SIDE - 16, SIDE - 16), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SIDE, SIDE), (255, 255, 255, 0))
    square.paste(drawn, ((SIDE - drawn.width) // 2, (SIDE - drawn.height) // 2))
    return np.asarray(square)


if __name__ == "__main__":
    collect(parse_arguments(__doc__).work)
