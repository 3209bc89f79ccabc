"""Encoding of generated pictures to files and data URLs, and decoding of those files."""

import base64
import zlib
from io import BytesIO
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from generation.images import credentials
from generation.images.credentials import DIGITAL_SOURCE_TYPE, File
from generation.parameters import OutputFormat

DOWNLOAD_QUALITY = 95
"""Quality of JPEG and WebP files that are converted from another format, 1 to 100."""

_PNG_STRATEGY = zlib.Z_RLE
"""Of zlib: it looks for runs alone. A photo takes half the time that it takes at level 4, and as many bytes; a picture with
much white takes a quarter more."""

_XMP_OF_PNG = "XML:com.adobe.xmp"

_XMP = f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
 Iptc4xmpExt:DigitalSourceType="{DIGITAL_SOURCE_TYPE}"/></rdf:RDF></x:xmpmeta>
<?xpacket end="r"?>"""
"""What IPTC's photo metadata standard 2025.1 says of pictures that a model made."""

_SUFFIXES = {OutputFormat.PNG: ".png", OutputFormat.JPEG: ".jpg", OutputFormat.WEBP: ".webp"}
_TYPES = {".png": "image/png", ".jpg": "image/jpeg", ".webp": "image/webp"}


def suffix(format_: OutputFormat) -> str:
    """Return the file name suffix of the format, such as `.png`."""
    return _SUFFIXES[format_]


def media_type(name: str) -> str:
    """Return the media type of a file with one of the suffixes of `suffix`."""
    return _TYPES["." + name.rpartition(".")[2]]


def encode(picture: Image.Image, format_: OutputFormat, quality: int) -> bytes:
    """Encode an RGB picture that a model made, and say so in XMP.

    `quality`, 0 to 100, applies to JPEG and WebP; PNG is lossless.
    """
    options: dict[str, Any] = {"quality": quality, "xmp": _XMP.encode()}
    if format_ is OutputFormat.PNG:
        text = PngInfo()
        text.add_itxt(_XMP_OF_PNG, _XMP)
        options = {"compress_level": 1, "compress_type": _PNG_STRATEGY, "pnginfo": text}
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
    converted = encode(decode(content), format_, DOWNLOAD_QUALITY)
    return credentials.derive(converted, _TYPES[suffix(format_)], "c2pa.transcoded", File(content, media_type(name)))


def data_url(content: bytes, name: str) -> str:
    """Return the content of a file of this name as a `data:` URL."""
    return f"data:{media_type(name)};base64,{base64.b64encode(content).decode()}"
