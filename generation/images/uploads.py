"""Decode uploads to safe, upright RGB pictures, or refuse them with a clear message.

The content decides what an upload is, never its name or content type. Only pixels are stored: no EXIF, no profile, no text.
"""

import hashlib
import io
import math
import re
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import BinaryIO, cast

from PIL import ExifTags, Image, TiffImagePlugin, UnidentifiedImageError

from generation.images.colours import to_srgb
from generation.parameters import InvalidField

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
MAX_SIDE = 65_500
"""Longest side of an upload in pixels: the limit of common JPEG encoders."""

MAX_INPUT_SIDE = 2048
"""Longest side of a stored input in pixels."""

THUMBNAIL_SIDE = 392
"""Pixels: twice the width of a tile of the history page, for screens with two pixels per CSS pixel."""

THUMBNAIL_QUALITY = 80

_ALLOWED = "PNG, JPEG, WebP, GIF, BMP, TIFF or AVIF"

# A small file can cost much time: a scan of 51 bytes takes 2.5 ms to decode in a picture of 16 megapixels, so a file of 20 MB
# could occupy a processor for 15 minutes. Encoders write about ten scans; libtiff also stops at 100.
_MAX_JPEG_SCANS = 100
_JPEG_SCAN = re.compile(rb"\xff\xda\x00(?:\x08\x01|\x0a\x02|\x0c\x03|\x0e\x04)")
_MAX_TIFF_PIECES = 100_000

_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

_UNSUPPORTED_KINDS = (
    (re.compile(rb"(\xef\xbb\xbf)?\s*<"), "an SVG drawing or another XML or HTML text"),
    (re.compile(rb"PK\x03\x04"), "a zip archive"),
    (re.compile(rb"%PDF"), "a PDF document"),
    (re.compile(rb".{4}ftyp(hei|hev|mif1|msf1)", re.DOTALL), "a HEIC picture"),
    (re.compile(rb".{4}ftyp(?!avi[fs])|\x1aE\xdf\xa3", re.DOTALL), "a video"),
    (re.compile(rb"\xff\x0a|\x00\x00\x00\x0cJXL "), "a JPEG XL picture"),
    (re.compile(rb"\xff\x4f\xff\x51|\x00\x00\x00\x0cjP  "), "a JPEG 2000 picture"),
    (re.compile(rb"8BPS"), "a Photoshop document"),
    (re.compile(rb"[\t\n\r\x20-\x7e]{16}|[\t\n\r\x20-\x7e]+\Z"), "a text file"),
)


_DECODERS = ThreadPoolExecutor(2, "decode")
"""Decodes two uploads at a time, since a small file can have half a gigabyte of pixels. Always the same two threads, since the
C library reserves freed memory for the thread that used it."""


@dataclass(frozen=True)
class Upload:
    """An accepted upload.

    `picture` is upright, mode RGB in sRGB, without metadata, at most `MAX_INPUT_SIDE` pixels on its long side; `size`
    is width and height of the upright upload before any reduction; `sha256` is the hex digest of the uploaded bytes;
    `format` is one of `FORMATS`.
    """

    picture: Image.Image
    size: tuple[int, int]
    sha256: str
    format: str


def read_upload(upload: BinaryIO, *, max_pixels: int) -> Upload:
    """Check and decode an upload; of an animation the first frame.

    `max_pixels` limits width times height, and is checked by the header before anything is decoded; Pillow's own limit is 178
    million. Raises `InvalidField` on `image`, and nothing else, for any bytes.
    """
    upload.seek(0)
    content = upload.read()
    if not content:
        raise InvalidField("image", f"The file is empty; send a {_ALLOWED} picture")
    return _DECODERS.submit(_decode_upload, content, max_pixels).result()


def _decode_upload(content: bytes, max_pixels: int) -> Upload:
    try:
        # Before opening, since Pillow then builds a list of all pieces.
        if content.startswith(tuple(TiffImagePlugin.PREFIXES)):
            _check_tiff(content, max_pixels)
        with Image.open(io.BytesIO(content), formats=FORMATS) as source:
            _check_size(source.size, max_pixels)
            # MPO is a JPEG with several views, as phones write it; other programs read its first view as JPEG.
            kind = "JPEG" if source.format == "MPO" else str(source.format)
            if kind == "JPEG" and len(_JPEG_SCAN.findall(content)) > _MAX_JPEG_SCANS:
                raise InvalidField(
                    "image",
                    f"The JPEG is built of more than {_MAX_JPEG_SCANS} scans; save it again with the usual settings",
                )
            picture, size = _decode(source, content)
    except InvalidField:
        raise
    except UnidentifiedImageError as error:
        raise InvalidField("image", _unidentified(content)) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InvalidField("image", _too_large("far too many pixels", max_pixels)) from error
    # Decoders raise any kind of exception on malicious bytes.
    except Exception as error:
        raise InvalidField(
            "image",
            "The picture is damaged, cut short, or of a variant that is not supported; save it again as PNG or JPEG "
            "and send that",
        ) from error
    return Upload(picture, size, hashlib.sha256(content).hexdigest(), kind)


def encode_input(picture: Image.Image) -> bytes:
    """Encode a picture as lossless WebP without metadata, at the fastest setting."""
    encoded = io.BytesIO()
    # For lossless WebP, quality means effort: the default takes ten times as long at 2048 x 1536 and saves nothing.
    picture.save(encoded, "WEBP", lossless=True, method=0, quality=0, icc_profile=b"", exif=b"", xmp=b"")
    return encoded.getvalue()


def thumbnail(picture: Image.Image, side: int) -> bytes:
    """Reduce a picture to fit into `side` x `side` pixels, and encode it as WebP without metadata. It is never enlarged."""
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
    # Pillow's own limit only warns, and applies to the whole process; it remains as a second check.
    if width * height > max_pixels:
        raise InvalidField("image", _too_large(f"{width} x {height} pixels", max_pixels))


def _check_tiff(content: bytes, max_pixels: int) -> None:
    """Refuse a TIFF with too many strips or tiles, or with tiles that are far larger than the picture."""
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
        raise ValueError("the tile size is not a number")
    if width * height > max_pixels:
        raise InvalidField("image", _too_large(f"tiles of {width} x {height} pixels", max_pixels))


def _too_large(size: str, max_pixels: int) -> str:
    return f"The picture has {size}; at most {max_pixels:,} pixels in all are allowed, so reduce it and send it again"


def _unidentified(content: bytes) -> str:
    for pattern, kind in _UNSUPPORTED_KINDS:
        if pattern.match(content):
            return f"The file looks like {kind}, which is not supported; send a {_ALLOWED} picture"
    return f"The file is not a picture of a known kind, or its beginning is damaged; send a {_ALLOWED} picture"


def _decode(source: Image.Image, content: bytes) -> tuple[Image.Image, tuple[int, int]]:
    """Return the picture to store, and the upright size before it was reduced."""
    width, height = source.size
    scale = min(1.0, MAX_INPUT_SIDE / max(source.size))
    # A JPEG is decoded at 1/2, 1/4 or 1/8 of its size if that is large enough.
    source.draft(None, (max(1, int(width * scale)), max(1, int(height * scale))))
    source.load()
    orientation = _orientation(source)
    picture = _to_eight_bit(source)
    # When reducing, Hamming is as sharp as bicubic and takes little more than half the time.
    picture.thumbnail((MAX_INPUT_SIDE, MAX_INPUT_SIDE), Image.Resampling.HAMMING)
    picture = _on_white(to_srgb(picture, source, content))
    if orientation in _TRANSPOSITIONS:
        picture = picture.transpose(_TRANSPOSITIONS[orientation])
    picture.info.clear()
    return picture, (height, width) if orientation in (5, 6, 7, 8) else (width, height)


def _orientation(source: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if there is none.

    Not `ImageOps.exif_transpose`: it rewrites the whole EXIF block, and fails if any part of that is damaged.
    """
    try:
        orientation = source.getexif().get(ExifTags.Base.Orientation)
    except (ValueError, TypeError, LookupError, OSError, SyntaxError, struct.error):
        return 1
    return orientation if orientation in _TRANSPOSITIONS else 1


def _to_eight_bit(picture: Image.Image) -> Image.Image:
    """Convert a picture to mode L, RGB, RGBA or CMYK."""
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
