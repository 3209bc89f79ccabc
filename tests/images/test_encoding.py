"""Encoding of results."""

from PIL import Image

from generation.images import encoding
from generation.parameters import OutputFormat


def test_a_png_is_compressed_faster_than_usual() -> None:
    """The two upper bits of a zlib stream's second byte tell the way: 2 for the usual one, 0 for the fastest (RFC 1950)."""
    encoded = encoding.encode(Image.new("RGB", (512, 384)), OutputFormat.PNG, 90)
    _, _, chunk = encoded.partition(b"IDAT")
    assert chunk[1] >> 6 == 0
    assert encoding.decode(encoded).size == (512, 384)
    # Runs of one colour are found all the same: without them it would have a bit for each byte, 70 kB.
    assert len(encoded) < 10_000
