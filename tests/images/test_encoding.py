"""Encoding of results."""

from PIL import Image

from generation.images import encoding
from generation.parameters import OutputFormat


def test_a_png_is_compressed_faster_than_usual() -> None:
    """The two upper bits of a zlib stream's second byte tell the level: 2 for 6, the usual one, 1 for 2 to 5 (RFC 1950)."""
    encoded = encoding.encode(Image.new("RGB", (512, 384)), OutputFormat.PNG, 90)
    _, _, chunk = encoded.partition(b"IDAT")
    assert chunk[1] >> 6 == 1
    assert encoding.decode(encoded).size == (512, 384)
