"""Decode HEIC, the photos of phones and some cameras: HEVC in HEIF (ISO/IEC 23008-12)."""

import io
import struct

from PIL import Image, UnidentifiedImageError
from pillow_heif import register_heif_opener

from generation.images.boxes import picture_properties
from generation.images.sizes import check_size

_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis"})
"""Brands of pictures in HEVC: ISO/IEC 23008-12, section B.4."""

_AVIF_BRANDS = frozenset({b"avif", b"avis"})

register_heif_opener(thumbnails=False, depth_images=False, aux_images=False, decode_threads=1)


def is_heic(content: bytes) -> bool:
    """Tell by the first brand of HEIC or AVIF, the major or a compatible one (ISO/IEC 14496-12, section 4.3)."""
    if content[4:8] != b"ftyp":
        return False
    end = min(int.from_bytes(content[:4]), 256)
    brands = [content[at : at + 4] for at in (8, *range(16, end, 4))]
    return next((brand in _BRANDS for brand in brands if brand in _BRANDS or brand in _AVIF_BRANDS), False)


def open_heic(content: bytes, max_pixels: int) -> Image.Image:
    """Return the primary picture, decoded and upright, of mode L, RGB or RGBA.

    Rotation, mirror and crop are those of the file's properties; as these are always applied, EXIF has no effect (section
    6.5.10 and A.2.2). Raises `InvalidField` for a picture that is too large, and another error for one that is damaged.
    """
    extents = [data for name, data in picture_properties(content) if name == b"ispe"]
    # What is decoded, before it is cropped (section 6.5.3).
    check_size(struct.unpack_from(">II", extents[0], 4), max_pixels)
    try:
        source = Image.open(io.BytesIO(content), formats=["HEIF"])
    except UnidentifiedImageError as error:
        raise ValueError("the HEIC is damaged") from error
    check_size(source.size, max_pixels)
    source.load()
    picture: Image.Image = source
    if source.mode not in ("L", "RGB", "RGBA"):
        picture = source.convert("RGBA" if source.has_transparency_data else "RGB")
    picture.format = "HEIF"
    return picture
