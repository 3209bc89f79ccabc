"""Encoding of generated pictures to files and data URLs, and decoding of those files."""

import base64
from io import BytesIO

from PIL import Image

from generation.parameters import OutputFormat

DOWNLOAD_QUALITY = 95
"""Quality of JPEG and WebP files that are converted from another format, 1 to 100."""

_SUFFIXES = {OutputFormat.PNG: ".png", OutputFormat.JPEG: ".jpg", OutputFormat.WEBP: ".webp"}
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}


def suffix(format_: OutputFormat) -> str:
    """Return the file name suffix of the format, such as `.png`."""
    return _SUFFIXES[format_]


def media_type(name: str) -> str:
    """Return the media type of a file with one of the suffixes of `suffix`."""
    return _TYPES["." + name.rpartition(".")[2]]


def encode(picture: Image.Image, format_: OutputFormat, quality: int) -> bytes:
    """Encode an RGB picture. `quality`, 0 to 100, applies to JPEG and WebP; PNG is lossless."""
    options = {} if format_ is OutputFormat.PNG else {"quality": quality}
    file = BytesIO()
    picture.save(file, format_.upper(), **options)
    return file.getvalue()


def decode(content: bytes) -> Image.Image:
    """Decode a file that `encode` wrote to an RGB picture. For other files use `generation.images.uploads`."""
    with Image.open(BytesIO(content), formats=[format_.upper() for format_ in OutputFormat]) as picture:
        return picture.convert("RGB")


def convert(content: bytes, name: str, format_: OutputFormat) -> bytes:
    """Convert a file of this name that `encode` wrote. If it has the format already, it is returned unchanged."""
    if name.endswith(suffix(format_)):
        return content
    return encode(decode(content), format_, DOWNLOAD_QUALITY)


def data_url(content: bytes, name: str) -> str:
    """Return the content of a file of this name as a `data:` URL."""
    return f"data:{media_type(name)};base64,{base64.b64encode(content).decode()}"
