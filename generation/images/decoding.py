"""Decode uploads to upright RGB pictures in sRGB, or refuse them with a clear message.

Runs in the processes of `generation.images.decoder_program` alone, since the decoders are large, written in C, and again and
again found unsafe, and since a small file can cost much time and memory in many ways.
"""

import io
import math
import struct
from dataclasses import dataclass
from typing import cast

from PIL import ExifTags, Image, UnidentifiedImageError

from generation.images import heif, jpeg, kinds, png, tiff
from generation.images.colours import to_srgb
from generation.images.sizes import MAX_INPUT_SIDE, check_size, too_large
from generation.parameters import InvalidField

_HALF = 128
"""The least opacity or lightness, of 255, that a mask counts."""

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Decoded:
    """A picture to store, of mode RGB, or 1 for a mask; the upright size of the upload before any reduction; its format, of
    `kinds.FORMATS`; and whether some of it is transparent.
    """

    picture: Image.Image
    size: tuple[int, int]
    format: str
    is_transparent: bool


@dataclass(frozen=True)
class _Options:
    """How to decode: see `decode`."""

    max_pixels: int
    max_side: int
    is_mask: bool


def decode(content: bytes, max_pixels: int, max_side: int = MAX_INPUT_SIDE, *, is_mask: bool = False) -> Decoded:
    """Decode an upload; of an animation the first frame. A picture with a longer side is reduced to `max_side`.

    `max_pixels` limits width times height, and is checked by the header before anything is decoded; Pillow's own limit is 178
    million. With `is_mask`, what is left is which pixels are opaque, or if all are, which are light: at least half. Raises
    `InvalidField` on `image` or `MemoryError`, and nothing else, for any bytes.
    """
    try:
        return _read(_prepared(content, max_pixels), _Options(max_pixels, max_side, is_mask))
    except (InvalidField, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise InvalidField("image", kinds.unidentified(content)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidField("image", too_large("far too many pixels", max_pixels)) from error
    # Decoders raise any kind of exception on malicious bytes.
    except Exception as error:
        raise InvalidField("image", kinds.DAMAGED) from error


def _prepared(content: bytes, max_pixels: int) -> bytes:
    """Return what to decode. Raises `InvalidField` for what is refused by its bytes, before Pillow builds anything of them."""
    if name := kinds.raw_photo(content):
        raise InvalidField("image", kinds.raw_photo_refusal(name))
    if tiff.is_tiff(content):
        return tiff.with_picture_first(content, max_pixels)
    if content.startswith(png.SIGNATURE):
        return png.without_extras(content)
    return content


def _read(content: bytes, options: _Options) -> Decoded:
    try:
        return _read_whole(content, options)
    except OSError:
        ends = jpeg.with_ends(content) if content.startswith(jpeg.START) else None
        if ends is None:
            raise
        first, second = (_read_whole(ended, options) for ended in ends)
        if first != second:
            raise
        return first


def _read_whole(content: bytes, options: _Options) -> Decoded:
    if heif.is_heic(content):
        source = heif.open_heic(content, options.max_pixels)
        size = source.size
        picture, is_transparent = _convert(source, content, options)
        return Decoded(picture, size, "HEIF", is_transparent)
    with Image.open(io.BytesIO(content), formats=kinds.PILLOW_FORMATS) as source:
        check_size(source.size, options.max_pixels)
        # MPO is a JPEG with several views, as phones write it; other programs read its first view as JPEG.
        kind = "JPEG" if source.format == "MPO" else str(source.format)
        if kind == "JPEG":
            jpeg.check_scans(content)
        return _decode(source, content, kind, options)


def _decode(source: Image.Image, content: bytes, kind: str, options: _Options) -> Decoded:
    width, height = source.size
    scale = min(1.0, options.max_side / max(source.size))
    # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that is large enough.
    source.draft(None, (max(1, int(width * scale)), max(1, int(height * scale))))
    # Pillow turns a TIFF when it loads it, by XMP if there is no other orientation.
    source.info.pop("xmp", None)
    source.load()
    orientation = _orientation(source)
    picture, is_transparent = _convert(source, content, options)
    if orientation in _TRANSPOSITIONS:
        picture = picture.transpose(_TRANSPOSITIONS[orientation])
    size = (height, width) if orientation in (5, 6, 7, 8) else (width, height)
    return Decoded(picture, size, kind, is_transparent)


def _convert(source: Image.Image, content: bytes, options: _Options) -> tuple[Image.Image, bool]:
    """Return the picture in sRGB, mode RGB, or the mask, mode 1; and whether some of it is transparent.

    It is reduced and without metadata.
    """
    picture = _to_eight_bit(source)
    # When reducing, Hamming is as sharp as bicubic and takes little more than half the time.
    picture.thumbnail((options.max_side, options.max_side), Image.Resampling.HAMMING)
    is_transparent = picture.mode == "RGBA" and picture.getchannel("A").getextrema() != (255, 255)
    if options.is_mask:
        decides = picture.getchannel("A") if is_transparent else picture.convert("RGB").convert("L")
        picture = decides.point(lambda value: 255 if value >= _HALF else 0, "1")
    else:
        picture = _on_white(to_srgb(picture, source, content))
    picture.info.clear()
    return picture, is_transparent


def _orientation(source: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if there is none.

    Not Pillow's `getexif`, which reads XMP if EXIF has none, unlike browsers; nor `ImageOps.exif_transpose`, which rewrites the
    whole EXIF block, and fails if any part of that is damaged.
    """
    if source.format == "WEBP":
        # Chromium turns no WebP, so that a mask that is painted in the studio would not fit.
        return 1
    exif = Image.Exif()
    try:
        exif.load(source.info.get("exif", b""))
        orientation = exif.get(ExifTags.Base.Orientation)
    except (ValueError, TypeError, LookupError, OSError, SyntaxError, struct.error):
        return 1
    return orientation if orientation in _TRANSPOSITIONS else 1


def _to_eight_bit(picture: Image.Image) -> Image.Image:
    """Convert a picture to mode L, RGB, RGBA or CMYK."""
    if picture.format == "BMP" and picture.mode == "RGBA" and picture.getchannel("A").getextrema() == (0, 0):
        # Windows leaves the fourth byte of its 32-bit bitmaps 0. In other formats 0 means what it says, and browsers show it.
        return picture.convert("RGB")
    if picture.mode.startswith("I") or picture.mode == "F":
        return _grey_to_eight_bit(picture)
    if picture.mode != "RGBA" and picture.has_transparency_data:
        return picture.convert("RGBA")
    if picture.mode == "1":
        return picture.convert("L")
    return picture if picture.mode in ("L", "RGB", "RGBA", "CMYK") else picture.convert("RGB")


def _grey_to_eight_bit(picture: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and floating-point grey so that nothing is clipped.

    White is 65535, or 1 for floating point, or the highest value if that is larger. Raises `ValueError` on infinite values
    and on NaN.
    """
    values = picture if picture.mode == "F" else picture.convert("F")
    lowest, highest = cast(tuple[float, float], values.getextrema())
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise ValueError("grey values are not finite")
    black = min(0.0, lowest)
    white = max(1.0 if picture.mode == "F" else 65535.0, highest)
    scale = 255 / (white - black)
    grey = values.point(lambda value: value * scale + (0.5 - black * scale)).convert("L")
    key = picture.info.get("transparency")
    if isinstance(key, int):
        grey.putalpha(picture.convert("I").point([0 if value == key else 255 for value in range(65536)], "L"))
        return grey.convert("RGBA")
    return grey


def _on_white(picture: Image.Image) -> Image.Image:
    if picture.mode != "RGBA":
        return picture
    background = Image.new("RGB", picture.size, "white")
    background.paste(picture, mask=picture)
    return background
