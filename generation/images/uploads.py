"""Uploads: safe, upright RGB pictures, or refused with a clear message.

The content decides what an upload is, never its name or content type. Only pixels are stored, and content credentials without
what may be personal: no EXIF, no profile, no text.
"""

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import IO

from PIL import Image

from generation.images import certificates, decoder, kinds
from generation.images.ingredients import MAX_KEPT_BYTES, Ingredient
from generation.images.manifests import Claims
from generation.images.sizes import MAX_INPUT_SIDE
from generation.parameters import InvalidField

THUMBNAIL_SIDE = 392
"""Pixels: twice the width of a tile of the history page, for screens with two pixels per CSS pixel."""

THUMBNAIL_QUALITY = 80

_THUMBNAIL_METHOD = 2
"""Of WebP, 0 to 6: it takes half the time of 4, which is the default, and 3 to 6 % more bytes."""

_NOT_KEPT = (
    "The content credentials of a picture are not passed on to the result: they are damaged, kept elsewhere, or have more than "
    f"{MAX_KEPT_BYTES // 1024} kB without what is removed. Send the file as its camera or program signed it."
)

_SIGNS_OF_CREDENTIALS = (b"c2pa", b"dcterms:provenance")
"""Content credentials in a file are in a box of the first name; for those that are kept elsewhere its XMP has the other."""


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
    their number; `format` is one of `generation.images.kinds.FORMATS`. `stored` is the file to store, if there is one already.
    `claims` is what its content credentials claim, and `ingredient` passes them on. `warnings` says what is not kept.
    """

    picture: Image.Image
    size: tuple[int, int]
    sha256: str
    format: str
    length: int
    stored: InputFile | None = None
    claims: Claims | None = None
    ingredient: Ingredient | None = None
    warnings: Sequence[str] = ()


def read_upload(upload: IO[bytes], *, max_pixels: int, max_side: int = MAX_INPUT_SIDE) -> Upload:
    """Check and decode an upload; of an animation the first frame. A longer side is reduced to `max_side`.

    `max_pixels` limits width times height, and is checked by the header before anything is decoded. Raises `InvalidField` on
    `image`, and nothing else, for any bytes.
    """
    upload.seek(0)
    content = upload.read()
    if not content:
        raise InvalidField("image", f"The file is empty; send a {kinds.ALLOWED} picture")
    decoded = decoder.decode(content, max_pixels, max_side)
    digest = hashlib.sha256(content).hexdigest()
    read = Upload(decoded.picture, decoded.size, digest, decoded.format, len(content))
    has_credentials = any(sign in content for sign in _SIGNS_OF_CREDENTIALS)
    return _with_credentials(read, content, max_pixels) if has_credentials else read


def _with_credentials(upload: Upload, content: bytes, max_pixels: int) -> Upload:
    found = decoder.read_ingredient(content, max_pixels, certificates.known())
    if found is None:
        return upload
    claims, ingredient = found
    return replace(upload, claims=claims, ingredient=ingredient, warnings=() if ingredient else [_NOT_KEPT])


def raw_bytes(width: int, height: int) -> int:
    """Return the bytes of a picture of this size and its thumbnail without compression."""
    return 3 * (width * height + min(width, THUMBNAIL_SIDE) * min(height, THUMBNAIL_SIDE))


def thumbnail(picture: Image.Image, side: int) -> bytes:
    """Reduce a picture to fit into `side` x `side` pixels, and encode it as WebP without metadata. It is never enlarged."""
    small = picture.copy()
    small.thumbnail((side, side), Image.Resampling.LANCZOS)
    encoded = io.BytesIO()
    small.save(encoded, "WEBP", quality=THUMBNAIL_QUALITY, method=_THUMBNAIL_METHOD, icc_profile=b"", exif=b"", xmp=b"")
    return encoded.getvalue()
