"""Uploads: safe, upright RGB pictures, or refused with a clear message.

The content decides what an upload is, never its name or content type. Only pixels are stored: no EXIF, no profile, no text.
"""

import hashlib
import io
from dataclasses import dataclass
from typing import IO

from PIL import Image

from generation.images import decoder, kinds
from generation.parameters import InvalidField

THUMBNAIL_SIDE = 392
"""Pixels: twice the width of a tile of the history page, for screens with two pixels per CSS pixel."""

THUMBNAIL_QUALITY = 80


@dataclass(frozen=True)
class InputFile:
    """The content of a stored input, and the suffix of its name, such as `.webp`: see `generation.images.input_files`."""

    content: bytes
    suffix: str


@dataclass(frozen=True)
class Upload:
    """An accepted upload.

    `picture` is upright, mode RGB in sRGB, without metadata, at most `MAX_INPUT_SIDE` pixels on its long side; `size`
    is width and height of the upright upload before any reduction; `sha256` is the hex digest of the uploaded bytes, `length`
    their number; `format` is one of `generation.images.kinds.FORMATS`. `stored` is the file, if it is a stored input.
    """

    picture: Image.Image
    size: tuple[int, int]
    sha256: str
    format: str
    length: int
    stored: InputFile | None = None


def read_upload(upload: IO[bytes], *, max_pixels: int) -> Upload:
    """Check and decode an upload; of an animation the first frame.

    `max_pixels` limits width times height, and is checked by the header before anything is decoded. Raises `InvalidField` on
    `image`, and nothing else, for any bytes.
    """
    upload.seek(0)
    content = upload.read()
    if not content:
        raise InvalidField("image", f"The file is empty; send a {kinds.ALLOWED} picture")
    picture, size, kind = decoder.decode(content, max_pixels)
    return Upload(picture, size, hashlib.sha256(content).hexdigest(), kind, len(content))


def thumbnail(picture: Image.Image, side: int) -> bytes:
    """Reduce a picture to fit into `side` x `side` pixels, and encode it as WebP without metadata. It is never enlarged."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    small.save(encoded, "WEBP", quality=THUMBNAIL_QUALITY, method=4, icc_profile=b"", exif=b"", xmp=b"")
    return encoded.getvalue()
