"""Decode HEIC, the photos of phones and some cameras: HEVC in HEIF (ISO/IEC 23008-12)."""

import base64
import json
import signal
import struct
import subprocess
import sys

from PIL import Image

from generation.images import heif_decoder
from generation.images.boxes import picture_properties
from generation.images.sizes import check_size
from generation.parameters import InvalidField

_SECONDS = 60
"""How long a picture may take on a busy machine; the decoder itself ends after some seconds of a processor."""

_STOPPED = (-signal.SIGXCPU, -signal.SIGKILL, heif_decoder.OUT_OF_MEMORY)
"""Exit codes if a limit was reached; SIGKILL is the kernel's, too, when the machine has no memory left."""

_TOO_MUCH = "The HEIC takes too much time or memory to decode; save it again as JPEG or PNG and send that"

_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis"})
"""Brands of pictures in HEVC: ISO/IEC 23008-12, section B.4."""

_AVIF_BRANDS = frozenset({b"avif", b"avis"})


def is_heic(content: bytes) -> bool:
    """Tell by the first brand of HEIC or AVIF, the major or a compatible one (ISO/IEC 14496-12, section 4.3)."""
    if content[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(content[:4]), 256)
    brands = [content[at : at + 4] for at in (8, *range(16, end, 4))]
    return next((brand in _BRANDS for brand in brands if brand in _BRANDS or brand in _AVIF_BRANDS), False)


def decode_heic(content: bytes, max_pixels: int, max_side: int) -> tuple[Image.Image, tuple[int, int]]:
    """Return the primary picture, reduced to at most `max_side` pixels a side, and its size before that; both upright.

    The picture is of mode L, RGB or RGBA. Rotation, mirror and crop are those of the file's properties; as these are
    always applied, EXIF has no effect (section 6.5.10 and A.2.2). Raises `InvalidField` for a picture that is too large,
    or that takes too much time or memory, and another error for one that is damaged.
    """
    extents = [data for name, data in picture_properties(content) if name == b"ispe"]
    # What is decoded, before it is cropped (section 6.5.3).
    check_size(struct.unpack_from(">II", extents[0], 4), max_pixels)
    try:
        process = subprocess.run(
            [sys.executable, "-I", heif_decoder.__file__, str(max_pixels), str(max_side)],
            input=content,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            timeout=_SECONDS,
            env={},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InvalidField("image", _TOO_MUCH) from error
    if process.returncode in _STOPPED:
        raise InvalidField("image", _TOO_MUCH)
    line, _, pixels = process.stdout.partition(b"\n")
    header = json.loads(line)
    width, height = header["size"]
    check_size((width, height), max_pixels)
    picture = Image.frombytes(header["mode"], tuple(header["reduced"]), pixels)
    picture.format = "HEIF"
    if profile := base64.b64decode(header["profile"]):
        picture.info["icc_profile"] = profile
    return picture, (width, height)
