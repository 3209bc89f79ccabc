"""How inputs are stored: without loss where that is not many times the upload, else as a JPEG of high quality.

With a mask, all pixels are stored: those that may not change are in the result.
"""

import io
import threading
from dataclasses import replace
from typing import IO

from PIL import Image

from generation.images import credentials
from generation.images.encoding import media_type
from generation.images.sizes import MAX_INPUT_SIDE, MAX_SIDE
from generation.images.uploads import InputFile, Upload, read_upload

MAX_GROWTH = 2
"""How many times the bytes of its upload a file without loss may have."""

ALWAYS_LOSSLESS_BYTES = 256 * 1024
"""A file without loss of at most this many bytes is kept, however small its upload was."""

_JPEG_QUALITY = 95

_MAX_WEBP_PIXELS = 16_000_000
"""Above, WebP would take a gigabyte of memory, and from 16,384 pixels a side it is impossible; PNG takes twice the time."""

_whole_pictures = threading.BoundedSemaphore(1)
"""One at a time in this process, since a picture of 50 megapixels has 200 MB."""


def read_whole(upload: IO[bytes], *, max_pixels: int) -> Upload:
    """Read an upload as `read_upload` does, and make the file that keeps all its pixels."""
    with _whole_pictures:
        whole = read_upload(upload, max_pixels=max_pixels, max_side=MAX_SIDE)
        picture = whole.picture
        is_large = picture.width * picture.height > _MAX_WEBP_PIXELS or max(picture.size) >= 16_384
        stored = InputFile(_encode_png(picture), ".png") if is_large else InputFile(encode_lossless(picture), ".webp")
        picture.thumbnail((MAX_INPUT_SIDE, MAX_INPUT_SIDE))
    return replace(whole, stored=_with_credentials(stored, whole))


def encode_input(upload: Upload) -> InputFile:
    """Encode the picture of an upload, with its content credentials and no other metadata.

    What is stored already stays as it is, byte by byte.
    """
    return upload.stored or _with_credentials(_encode(upload), upload)


def _with_credentials(file: InputFile, upload: Upload) -> InputFile:
    if upload.ingredient is None:
        return file
    return InputFile(credentials.keep(file.content, media_type(file.suffix), upload.ingredient), file.suffix)


def _encode(upload: Upload) -> InputFile:
    lossless = InputFile(encode_lossless(upload.picture), ".webp")
    if len(lossless.content) <= max(ALWAYS_LOSSLESS_BYTES, MAX_GROWTH * upload.length):
        return lossless
    jpeg = InputFile(encode_jpeg(upload.picture), ".jpg")
    return min(lossless, jpeg, key=lambda file: len(file.content))


def encode_lossless(picture: Image.Image) -> bytes:
    """Encode a picture as lossless WebP without metadata, at the fastest setting."""
    encoded = io.BytesIO()
    # For lossless WebP, quality means effort: the default takes ten times as long at 2048 x 1536 and saves nothing.
    picture.save(encoded, "WEBP", lossless=True, method=0, quality=0, icc_profile=b"", exif=b"", xmp=b"")
    return encoded.getvalue()


def _encode_png(picture: Image.Image) -> bytes:
    encoded = io.BytesIO()
    picture.save(encoded, "PNG", compress_level=1)
    return encoded.getvalue()


def encode_jpeg(picture: Image.Image) -> bytes:
    """Encode a picture as JPEG with colours at full resolution: what was a JPEG loses about half a level of 255."""
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=_JPEG_QUALITY, subsampling=0, icc_profile=b"", exif=b"", comment=b"")
    return encoded.getvalue()
