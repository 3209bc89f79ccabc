"""Upload bytes to a safe, upright RGB picture, or a clear refusal.

Its bytes decide what an upload is, never its name or content type. Only pixels are kept: no EXIF, no profile, no text.
"""

import hashlib
import io
import math
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, cast

from PIL import ExifTags, Image, ImageCms, TiffImagePlugin, UnidentifiedImageError

from generation.parameters import InvalidField

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MAX_SIDE = 65_500
"""Longest side of an upload in pixels: what the common encoders of JPEG can write."""

MAX_INPUT_SIDE = 2048
"""Longest side of a picture that is kept, in pixels."""

THUMBNAIL_SIDE = 392
"""Twice the width of a tile of the history page, for screens with two pixels per CSS pixel."""

THUMBNAIL_QUALITY = 80

_ALLOWED = "PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"

# What a small file may ask for. A scan of 51 bytes takes 2.5 ms to decode in a picture of 16 megapixels, so a file of
# 20 MB could keep a processor busy for a quarter of an hour. Encoders write about ten; libtiff stops at 100 as well.
_MAX_JPEG_SCANS = 100
_JPEG_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
_MAX_TIFF_PIECES = 100_000

_SRGB = ImageCms.createProfile("sRGB")

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_OTHER_KINDS = (
    (re.compile(rb"(\xef\xbb\xbf)?\s*<"), "an SVG drawing or another XML or HTML text"),
    (re.compile(rb"PK\x03\x04"), "a zip archive"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL), "a HEIC picture"),
    (re.compile(rb".{4}ftyp(?!avi[fs])|\x1aE\xdf\xa3", re.DOTALL), "a video"),
    (re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL "), "a JPEG XL picture"),
    (re.compile(rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP  "), "a JPEG 2000 picture"),
    (re.compile(rb"8BPS"), "a Photoshop document"),
    (re.compile(rb"[\t\n\r\x20-\x7e]{16}|[\t\n\r\x20-\x7e]+\Z"), "a text"),
)


_DECODERS = ThreadPoolExecutor(2, "decode")
"""A small file can be half a gigabyte of pixels, so a process decodes only two at a time; always in the same two threads,
since the C library keeps freed memory for the thread that had it."""


@dataclass(frozen=True)
class Upload:
    """An accepted upload.

    `picture` is upright, mode RGB in sRGB, without metadata, at most `MAX_KEPT_SIDE` pixels on its long side; `size`
    is width and height of the upright upload before any reduction; `sha256` is the hex digest of the uploaded bytes;
    `format` is one of `FORMATS`.
    """

    picture: Image.Image
    size: tuple[int, int]
    sha256: str
    format: str


def read_upload(upload: BinaryIO, *, max_pixels: int) -> Upload:
    """Judge and decode an upload; of an animation the first frame.

    `max_pixels` bounds width times height as the header tells them, before anything is decoded; above 178 million
    Pillow refuses by itself. Raises `InvalidField` on `image`, and nothing else, whatever the bytes are.
    """
    upload.seek(0)
    content = upload.read()
    if not content:
        raise InvalidField("image", f"The file is empty; send a {_ALLOWED} picture")
    return _DECODERS.submit(_check_pixels, content, max_pixels).result()


def _check_pixels(content: bytes, max_pixels: int) -> Upload:
    try:
        # Before opening, since opening builds a list of all pieces.
        if content.startswith(tuple(TiffImagePlugin.PREFIXES)):
            _check_tiff(content, max_pixels)
        with Image.open(io.BytesIO(content), formats=FORMATS) as source:
            _check_size(source.size, max_pixels)
            # A picture with more than one view, as phones write it, is a JPEG to everybody else.
            kind = "JPEG" if source.format == "MPO" else str(source.format)
            if kind == "JPEG" and len(_JPEG_SCAN.findall(content)) > _MAX_JPEG_SCANS:
                raise InvalidField(
                    "image",
                    f"The JPEG is built of more than {_MAX_JPEG_SCANS} scans; save it again with the usual settings",
                )
            picture, size = _decode(source)
    except InvalidField:
        raise
    except UnidentifiedImageError as error:
        raise InvalidField("image", _unidentified(content)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidField("image", _too_large("far too many pixels", max_pixels)) from error
    # Decoders raise whatever they like on bytes made to break them.
    except Exception as error:
        raise InvalidField(
            "image",
            "The picture is damaged, cut short, or of a variant that is not supported; save it again as PNG or JPEG "
            "and send that",
        ) from error
    return Upload(picture, size, hashlib.sha256(content).hexdigest(), kind)


def encode_input(picture: Image.Image) -> bytes:
    """The picture as lossless WebP without metadata, at the fastest setting."""
    encoded = io.BytesIO()
    # Without loss, quality means effort: the default takes ten times as long at 2048 x 1536 and saves nothing.
    picture.save(encoded, "WEBP", lossless=True, method=0, quality=0, icc_profile=b"", exif=b"", xmp=b"")
    return encoded.getvalue()


def thumbnail(picture: Image.Image, side: int) -> bytes:
    """The picture reduced to fit in `side` x `side` pixels, never enlarged, as WebP without metadata."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    small.save(encoded, "WEBP", quality=THUMBNAIL_QUALITY, method=4, icc_profile=b"", exif=b"", xmp=b"")
    return encoded.getvalue()


def _check_size(size: tuple[int, int], max_pixels: int) -> None:
    width, height = size
    if max(size) > MAX_SIDE:
        raise InvalidField(
            "image", f"The picture has {width} x {height} pixels; crop it to at most {MAX_SIDE} pixels a side"
        )
    # Pillow's own bound only warns, and belongs to the whole process; it stays behind this one as a second wall.
    if width * height > max_pixels:
        raise InvalidField("image", _too_large(f"{width} x {height} pixels", max_pixels))


def _check_tiff(content: bytes, max_pixels: int) -> None:
    """Refuse a TIFF whose pieces are too many, or each far larger than the picture they make up."""
    directory = TiffImagePlugin.ImageFileDirectory_v2(content[: 16 if content[2] == 43 else 8])
    stream = io.BytesIO(content)
    stream.seek(directory.next)
    directory.load(stream)
    for tag in (TiffImagePlugin.STRIPOFFSETS, TiffImagePlugin.TILEOFFSETS):
        offsets = directory.get(tag)
        if isinstance(offsets, tuple | bytes) and len(offsets) > _MAX_TIFF_PIECES:
            raise InvalidField(
                "image",
                f"The TIFF is built of more than {_MAX_TIFF_PIECES} strips or tiles; save it again with larger ones",
            )
    width, height = directory.get(TiffImagePlugin.TILEWIDTH, 0), directory.get(TiffImagePlugin.TILELENGTH, 0)
    if not (isinstance(width, int) and isinstance(height, int)):
        raise ValueError("tile size that is no number")
    if width * height > max_pixels:
        raise InvalidField("image", _too_large(f"tiles of {width} x {height} pixels", max_pixels))


def _too_large(what: str, max_pixels: int) -> str:
    return f"The picture has {what}; at most {max_pixels:,} pixels in all are allowed, so reduce it and send it again"


def _unidentified(content: bytes) -> str:
    for pattern, kind in _OTHER_KINDS:
        if pattern.match(content):
            return f"The file looks like {kind}, which is not supported; send a {_ALLOWED} picture"
    return f"The file is not a picture of a known kind, or its beginning is damaged; send a {_ALLOWED} picture"


def _decode(source: Image.Image) -> tuple[Image.Image, tuple[int, int]]:
    """The picture to keep, and the upright size before reduction."""
    width, height = source.size
    scale = min(1.0, MAX_INPUT_SIDE / max(source.size))
    # A JPEG comes out of its decoder at a half, a quarter or an eighth where that is still enough.
    source.draft(None, (max(1, int(width * scale)), max(1, int(height * scale))))
    source.load()
    orientation = _orientation(source)
    picture = _to_eight_bit(source)
    # As sharp as bicubic when reducing, in little more than half the time.
    picture.thumbnail((MAX_INPUT_SIDE, MAX_INPUT_SIDE), Image.Resampling.HAMMING)
    picture = _to_srgb(_on_white(picture), source.info.get("icc_profile"))
    if orientation in _TURNS:
        picture = picture.transpose(_TURNS[orientation])
    picture.info.clear()
    return picture, (height, width) if orientation in (5, 6, 7, 8) else (width, height)


def _orientation(source: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 where there is none.

    ImageOps.exif_transpose is of no use here: it writes the whole EXIF block anew, and fails where any part is damaged.
    """
    try:
        orientation = source.getexif().get(ExifTags.Base.Orientation)
    except (ValueError, TypeError, LookupError, OSError, SyntaxError, struct.error):
        return 1
    return orientation if orientation in _TURNS else 1


def _to_eight_bit(picture: Image.Image) -> Image.Image:
    """Mode L, RGB, RGBA or CMYK."""
    if picture.mode.startswith("I") or picture.mode == "F":
        return _grey_to_eight_bit(picture)
    if picture.mode != "RGBA" and picture.has_transparency_data:
        return picture.convert("RGBA")
    if picture.mode == "1":
        return picture.convert("L")
    return picture if picture.mode in ("L", "RGB", "RGBA", "CMYK") else picture.convert("RGB")


def _grey_to_eight_bit(picture: Image.Image) -> Image.Image:
    """Scale deep grey so that nothing is clipped: white is 65535, or 1 of floating point, or the highest value above.

    Raises `ValueError` on infinite values and on those that are not numbers.
    """
    values = picture if picture.mode == "F" else picture.convert("F")
    lowest, highest = cast(tuple[float, float], values.getextrema())
    if not (math.isfinite(lowest) and math.isfinite(highest)):
        raise ValueError("grey values that are not finite numbers")
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
    ground = Image.new("RGB", picture.size, "white")
    ground.paste(picture, mask=picture)
    return ground


def _to_srgb(picture: Image.Image, profile: object) -> Image.Image:
    """A new picture in sRGB; a profile that is broken or meant for another kind of picture is ignored."""
    if isinstance(profile, bytes):
        try:
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            return ImageCms.buildTransform(embedded, _SRGB, picture.mode, "RGB").apply(picture)
        except (ImageCms.PyCMSError, OSError, ValueError):
            return picture.convert("RGB")
    return picture.convert("RGB")
