"""ICC profiles: convert with them to sRGB, write those of colour spaces, and read what LittleCMS does not.

The sections are those of ICC.1:2022.
"""

import io
import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache

from PIL import Image, ImageCms

from generation.images.colour_spaces import D50, ColourSpace, to_d50
from generation.images.tone_mapping import HDR_PEAK, SIDE, tone_mapped

_SRGB = ImageCms.createProfile("sRGB")

_HEADER = 128
_MAX_TAGS = 100
"""As many as LittleCMS reads."""


def convert(picture: Image.Image, profile: bytes, *, grey: bool = False, exact: bool = False) -> Image.Image:
    """Return a picture of mode L, RGB, RGBA or CMYK in sRGB: mode RGBA if it has that, else RGB.

    `grey` tells whether what it shows is grey, so that a profile for grey applies. `exact` takes twice the time. Raises
    `ImageCms.PyCMSError`, `OSError` or `ValueError` if the profile is damaged or for another kind of picture.
    """
    source = ImageCms.ImageCmsProfile(io.BytesIO(_without_elements(profile)))
    flags = ImageCms.Flags.NOOPTIMIZE if exact else ImageCms.Flags.NONE
    mode = "RGBA" if picture.mode == "RGBA" else "RGB"
    match source.profile.xcolor_space.strip():
        case "RGB" if picture.mode != "CMYK":
            return ImageCms.buildTransform(source, _SRGB, mode, mode, flags=flags).apply(picture.convert(mode))
        case "CMYK" if picture.mode == "CMYK":
            return ImageCms.buildTransform(source, _SRGB, "CMYK", "RGB", flags=flags).apply(picture)
        case "GRAY" if grey:
            converted = ImageCms.buildTransform(source, _SRGB, "L", "RGB", flags=flags).apply(picture.convert("L"))
            if mode == "RGBA":
                converted.putalpha(picture.getchannel("A"))
            return converted
    raise ValueError("the profile is for another kind of picture")


def code_points(profile: bytes) -> tuple[int, int] | None:
    """Return primaries and transfer of the tag cicp, if there is one (sections 9.2.17 and 10.3)."""
    for _, name, offset in _tags(profile):
        tag = profile[offset : offset + 12]
        if name == b"cicp" and len(tag) == 12 and tag.startswith(b"cicp"):
            return tag[8], tag[9]
    return None


def profile_of(space: ColourSpace, peak: float = HDR_PEAK) -> bytes:
    """Return the profile of a space; `peak` is the nits of the brightest white of an HDR picture.

    Raises `ValueError` if its chromaticities span no space, `struct.error` if a number is out of range.
    """
    if isinstance(space.transfer, str):
        return _hdr_profile(space, peak)
    red, green, blue = zip(*to_d50(space.chromaticities), strict=True)
    # Section 10.18, function type 3.
    curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + _fixed(space.transfer)
    tags = {
        b"rXYZ": _xyz(red),
        b"gXYZ": _xyz(green),
        b"bXYZ": _xyz(blue),
        b"rTRC": curve,
        b"gTRC": curve,
        b"bTRC": curve,
    }
    return _written(4, tags)


@lru_cache(maxsize=16)
def _hdr_profile(space: ColourSpace, peak: float) -> bytes:
    """Write a table from values to tone mapped colours (lut16Type, section 10.10). It takes a twentieth of a second."""
    ends = struct.pack(">6H", *(0, 65535) * 3)
    # In the table, 1.0 is 32768 (section 6.3.4.2).
    colours = [min(65535, max(0, round(value * 32768))) for xyz in tone_mapped(space, peak) for value in xyz]
    table = (
        b"mft2" + struct.pack(">4x4B", 3, 3, SIDE, 0) + _fixed((1, 0, 0, 0, 1, 0, 0, 0, 1)) + struct.pack(">HH", 2, 2)
    )
    # In version 4, LittleCMS would lift the black point.
    return _written(2, {b"A2B0": table + ends + struct.pack(f">{len(colours)}H", *colours) + ends})


def _written(version: int, tags: dict[bytes, bytes]) -> bytes:
    """Return a profile for RGB: header (section 7.2) and tag table (7.3)."""
    tags = {b"wtpt": _xyz(D50), **tags}
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", _HEADER + 4 + 12 * len(tags) + len(data), len(content))
        data += content
    size = _HEADER + len(table) + len(data)
    header = struct.pack(">I4xB3x4s4s4s12x4s28x", size, version, b"mntr", b"RGB ", b"XYZ ", b"acsp") + _fixed(D50)
    return header.ljust(_HEADER, b"\0") + table + data


def _without_elements(profile: bytes) -> bytes:
    """Rename the tag DToB0Tag (D2B0), which browsers do not read either, so that LittleCMS goes by the others.

    It is a chain of any number of elements, which LittleCMS evaluates 36,000 times: 80 kB take 10 seconds.
    """
    renamed = bytearray(profile)
    for place, name, _ in _tags(profile):
        if name == b"D2B0":
            renamed[place : place + 4] = b"d2b0"
    return bytes(renamed)


def _tags(profile: bytes) -> Iterator[tuple[int, bytes, int]]:
    """Yield for each tag its place in the table, its name, and where its content is (section 7.3)."""
    count = int.from_bytes(profile[_HEADER : _HEADER + 4])
    for place in range(_HEADER + 4, _HEADER + 4 + 12 * min(count, _MAX_TAGS), 12):
        entry = profile[place : place + 12]
        if len(entry) == 12:
            yield place, entry[:4], int.from_bytes(entry[4:8])


def _xyz(values: Iterable[float]) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(values)


def _fixed(values: Iterable[float]) -> bytes:
    """Encode as s15Fixed16Number (section 4.6)."""
    return b"".join(struct.pack(">i", round(value * 65536)) for value in values)
