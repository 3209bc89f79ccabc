"""How generated pictures are written to files, and read from them."""

from io import BytesIO

from PIL import Image

from generation.parameters import OutputFormat

DOWNLOAD_QUALITY = 95
"""Of JPEG and WebP that are made of a file in another format."""

_SUFFIXES = {OutputFormat.PNG: ".png", OutputFormat.JPEG: ".jpg", OutputFormat.WEBP: ".webp"}
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}


def suffix(format_: OutputFormat) -> str:
    """How the names of such files end."""
    return _SUFFIXES[format_]


def media_type(name: str) -> str:
    """The media type of a file that was named with `suffix`."""
    return _TYPES["." + name.rpartition(".")[2]]


def encode(picture: Image.Image, format_: OutputFormat, quality: int) -> bytes:
    """The file of an RGB picture. `quality`, 1 to 100, is of JPEG and WebP; PNG is without loss."""
    options = {} if format_ is OutputFormat.PNG else {"quality": quality}
    file = BytesIO()
    picture.save(file, format_.upper(), **options)
    return file.getvalue()


def decode(content: bytes) -> Image.Image:
    """The RGB picture in a file that `encode` wrote. Files from elsewhere are for `generation.images.uploads`."""
    with Image.open(BytesIO(content), formats=[format_.upper() for format_ in OutputFormat]) as picture:
        return picture.convert("RGB")


def convert(content: bytes, name: str, format_: OutputFormat) -> bytes:
    """A file that `encode` wrote under this name, in the wanted format; unchanged where it is in that already."""
    if name.endswith(suffix(format_)):
        return content
    return encode(decode(content), format_, DOWNLOAD_QUALITY)
