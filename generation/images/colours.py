"""Convert pictures to sRGB, from whatever their files say about their colours.

What counts is what Chromium goes by, so that a picture is used as the studio shows it. Exif's colour space counts for nothing.
"""

import struct

from PIL import Image, ImageCms

from generation.images import icc, png
from generation.images.boxes import picture_properties
from generation.images.colour_spaces import (
    PRIMARIES,
    SRGB,
    SRGB_CURVE,
    TRANSFERS,
    ColourSpace,
    from_code_points,
    from_gamma,
)
from generation.images.tone_mapping import HDR_PEAK

_DAMAGED = (ImageCms.PyCMSError, OSError, ValueError, LookupError, struct.error)

# Transfer characteristics of H.273 that are a camera's, not a screen's: Chromium shows them by the curve of sRGB.
_BT709_TRANSFERS = (1, 6, 14, 15)

_MAX_PEAK = 10_000
"""Nits: the most that PQ can express (ITU-R BT.2100-2, Table 4)."""


def to_srgb(picture: Image.Image, source: Image.Image, content: bytes) -> Image.Image:
    """Return a new picture in sRGB, mode RGBA if `picture` has that, else RGB.

    `picture` is of mode L, RGB, RGBA or CMYK, with the colours of `source`, which was opened from `content`. What sRGB cannot
    show is clipped; what is brighter than white in an HDR picture is brought below it. Names of colours that are damaged or for
    another kind of picture are ignored.
    """
    # From Lab, Pillow has converted to sRGB.
    readers = () if source.mode == "LAB" else _READERS.get(str(source.format), (_profile,))
    for read in readers:
        try:
            space = read(source, content)
            if isinstance(space, bytes):
                grey = source.mode in ("1", "L", "LA", "F") or source.mode.startswith("I")
                return icc.convert(picture, space, grey=grey)
            if space == SRGB:
                break
            if space:
                hdr = isinstance(space.transfer, str)
                profile = icc.profile_of(space, _peak(source, content)) if hdr else icc.profile_of(space)
                return icc.convert(picture, profile, exact=hdr)
        except _DAMAGED:
            continue
    return picture.convert("RGBA" if picture.mode == "RGBA" else "RGB")


def _profile(source: Image.Image, content: bytes) -> ColourSpace | bytes | None:
    """Return the ICC profile, or the space that its code points name."""
    profile = _bmp_profile(content) if source.format == "BMP" else source.info.get("icc_profile")
    if not isinstance(profile, bytes):
        return None
    points = icc.code_points(profile)
    return (points and from_code_points(*points)) or profile


def _bmp_profile(content: bytes) -> bytes | None:
    """Return the profile that is embedded in a BMP with a BITMAPV5HEADER (Microsoft, Windows GDI, wingdi.h)."""
    length, kind, offset, size = struct.unpack_from("<14xI52x4s52xII", content)
    return content[14 + offset : 14 + offset + size] if (length, kind) == (124, b"DEBM") else None


def _png_code_points(source: Image.Image, content: bytes) -> ColourSpace | None:
    """PNG third edition, section 11.3.2.6 (cICP): RGB in the full range, as Chromium wants it."""
    chunk = png.ancillary(content).get(b"cICP", b"")
    return from_code_points(chunk[0], chunk[1]) if chunk[2:] == b"\0\1" else None


def _png_gamma(source: Image.Image, content: bytes) -> ColourSpace | None:
    """PNG third edition, sections 11.3.2.1 (cHRM), 11.3.2.2 (gAMA) and 11.3.2.5 (sRGB)."""
    if "srgb" in source.info or "gamma" not in source.info:
        return None
    return from_gamma(source.info["gamma"], source.info.get("chromaticity"))


def _nclx(source: Image.Image, content: bytes) -> ColourSpace | None:
    """ISO/IEC 14496-12, section 12.1.5. What is unspecified or unknown is that of sRGB (ISO/IEC 23000-22, section 7.3.6.4)."""
    for name, data in picture_properties(content):
        if name == b"colr" and bytes(data[:4]) == b"nclx":
            primaries, transfer = struct.unpack_from(">HH", data, 4)
            curve = SRGB_CURVE if transfer in _BT709_TRANSFERS else TRANSFERS.get(transfer, SRGB_CURVE)
            return ColourSpace(PRIMARIES.get(primaries, SRGB.chromaticities), curve)
    return None


def _peak(source: Image.Image, content: bytes) -> float:
    """Return the nits of the brightest white of an HDR picture."""
    peak = 0.0
    if source.format == "PNG":
        # Sections 11.3.2.7 (mDCV, the maximum luminance of the mastering display) and 11.3.2.8 (cLLI).
        chunks = png.ancillary(content)
        for name, place in ((b"cLLI", 0), (b"mDCV", 16)):
            peak = peak or int.from_bytes(chunks.get(name, b"")[place : place + 4]) / 10_000
    elif source.format in ("AVIF", "HEIF"):
        # ISO/IEC 14496-12, section 12.1.6. Of several the first.
        peak = int.from_bytes(dict(reversed(picture_properties(content))).get(b"clli", b"")[:2])
    return min(peak, _MAX_PEAK) or HDR_PEAK


_READERS = {
    # Third edition, section 4.3.
    "PNG": (_png_code_points, _profile, _png_gamma),
    "AVIF": (_profile, _nclx),
    "HEIF": (_profile, _nclx),
}
