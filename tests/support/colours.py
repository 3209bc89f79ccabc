"""Pictures of the same values, in files that name all kinds of colours."""

import struct
import zlib
from dataclasses import dataclass
from typing import Any

from PIL import Image

from tests.support import pictures

PATCHES = ((64, 64, 64), (149, 149, 149), (192, 96, 64), (64, 192, 96), (150, 120, 100), (138, 163, 127))
SIDE = 8

_D65 = (0.3127, 0.329)
P3_CHROMATICITIES = (*_D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06)


# What Chromium 156 shows for the patches.
PLAIN = PATCHES
DISPLAY_P3 = ((64, 64, 64), (149, 149, 149), (206, 89, 54), (0, 195, 83), (156, 119, 97), (131, 164, 123))
P3_WITH_GAMMA = ((62, 62, 62), (150, 150, 150), (208, 89, 51), (0, 197, 82), (157, 119, 97), (133, 165, 124))
P3_LIGHT = ((137, 137, 137), (201, 201, 201), (236, 162, 132), (104, 228, 160), (206, 182, 166), (191, 210, 185))
BT2020 = ((64, 64, 64), (149, 149, 149), (230, 73, 52), (0, 203, 77), (165, 117, 95), (119, 166, 121))
BT2020_WITH_BT1886 = ((54, 54, 54), (143, 143, 143), (229, 60, 41), (0, 199, 67), (162, 108, 88), (113, 161, 115))
LIGHT = ((137, 137, 137), (201, 201, 201), (225, 165, 137), (137, 225, 165), (202, 183, 168), (194, 209, 187))
GREY_LIGHT = ((137, 137, 137), (201, 201, 201), (183, 183, 183), (197, 197, 197), (187, 187, 187), (202, 202, 202))
GREY_GAMMA = ((62, 62, 62), (150, 150, 150), (122, 122, 122), (144, 144, 144), (128, 128, 128), (152, 152, 152))
PQ = ((30, 30, 30), (190, 190, 190), (255, 0, 0), (0, 255, 0), (229, 98, 66), (50, 226, 99))
PQ_P3 = ((30, 30, 30), (190, 190, 190), (255, 0, 0), (0, 255, 0), (206, 109, 67), (119, 223, 104))
PQ_OF_AVIF = ((30, 30, 30), (190, 190, 190), (255, 0, 0), (0, 255, 0), (225, 102, 64), (33, 226, 96))
PQ_400_OF_AVIF = ((39, 39, 39), (232, 233, 233), (255, 0, 0), (0, 255, 0), (255, 126, 80), (40, 255, 112))
PQ_400 = ((39, 39, 39), (232, 233, 233), (255, 0, 0), (0, 255, 0), (255, 121, 82), (59, 255, 116))
PQ_4000 = ((30, 30, 30), (190, 190, 190), (255, 0, 0), (0, 238, 0), (229, 98, 66), (46, 212, 93))
HLG = ((43, 43, 43), (121, 121, 121), (211, 49, 41), (0, 193, 60), (132, 90, 76), (94, 141, 99))


@dataclass(frozen=True)
class Sample:
    content: bytes
    media_type: str


def strip() -> Image.Image:
    """The patches from left to right, each a square of `SIDE` pixels."""
    picture = Image.new("RGB", (SIDE * len(PATCHES), SIDE))
    for number, colour in enumerate(PATCHES):
        picture.paste(colour, (number * SIDE, 0, number * SIDE + SIDE, SIDE))
    return picture


def patches(picture: Image.Image) -> list[tuple[int, ...]]:
    """Return the colour in the middle of each patch."""
    colours = [picture.getpixel((number * SIDE + SIDE // 2, SIDE // 2)) for number in range(len(PATCHES))]
    return [colour for colour in colours if isinstance(colour, tuple)]


def png(*chunks: tuple[bytes, bytes], picture: Image.Image | None = None, last: bool = False) -> Sample:
    """A PNG with these chunks before all others but the header, or after all others but the end."""
    content = pictures.encoded(picture or strip())
    at = len(content) - 12 if last else 33
    written = b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
    return Sample(content[:at] + written + content[at:], "image/png")


def cicp(primaries: int, transfer: int, matrix: int = 0, full_range: int = 1) -> tuple[bytes, bytes]:
    return b"cICP", bytes((primaries, transfer, matrix, full_range))


def gama(exponent: float) -> tuple[bytes, bytes]:
    return b"gAMA", struct.pack(">I", round(exponent * 100_000))


def chrm(chromaticities: tuple[float, ...] = P3_CHROMATICITIES) -> tuple[bytes, bytes]:
    return b"cHRM", struct.pack(">8I", *(round(value * 100_000) for value in chromaticities))


def iccp(profile: bytes) -> tuple[bytes, bytes]:
    return b"iCCP", b"profile\0\0" + zlib.compress(profile)


def clli(nits: int) -> tuple[bytes, bytes]:
    return b"cLLI", struct.pack(">II", nits * 10_000, 100 * 10_000)


def mdcv(nits: int) -> tuple[bytes, bytes]:
    return b"mDCV", struct.pack(">8HII", 35400, 14600, 8500, 39850, 6550, 2300, 15635, 16450, nits * 10_000, 1)


def avif(primaries: int, transfer: int, nits: int | None = None, **options: Any) -> Sample:
    """An AVIF with these code points, and with `nits` in the box clli, which takes the place of that of a profile."""
    if nits:
        options["icc_profile"] = bytes(400)
    content = bytearray(pictures.encoded(strip(), "AVIF", quality=100, subsampling="4:4:4", **options))
    struct.pack_into(">HH", content, content.index(b"colrnclx") + 8, primaries, transfer)
    if nits:
        struct.pack_into(">4sHH", content, content.index(b"colrprof"), b"clli", nits, nits)
    return Sample(bytes(content), "image/avif")


def jpeg(mode: str = "RGB", **options: Any) -> Sample:
    return Sample(pictures.encoded(strip().convert(mode), "JPEG", quality=100, subsampling=0, **options), "image/jpeg")


def bmp(profile: bytes) -> Sample:
    """A BMP with a BITMAPV5HEADER and an embedded profile."""
    picture = strip()
    rows = picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM).tobytes("raw", "BGR")
    size = 14 + 124 + len(rows) + len(profile)
    header = struct.pack("<IiiHHIIiiII", 124, *picture.size, 1, 24, 0, len(rows), 2835, 2835, 0, 0) + bytes(16)
    header += b"DEBM" + bytes(48) + struct.pack("<IIII", 4, 124 + len(rows), len(profile), 0)
    return Sample(struct.pack("<2sIII", b"BM", size, 0, 14 + 124) + header + rows + profile, "image/bmp")


def _profile_of_code_points(primaries: int, transfer: int) -> bytes:
    return pictures.rgb_profile(cicp=b"cicp" + bytes(4) + bytes((primaries, transfer, 0, 1)))


def samples() -> dict[str, tuple[tuple[tuple[int, ...], ...], Sample]]:
    """Return files, with the colours that their patches are shown in."""
    p3, grey, light = pictures.rgb_profile(), strip().convert("L"), pictures.grey_profile(1.0)
    grey_and_alpha = Image.merge("LA", (grey, Image.new("L", grey.size, 255)))
    srgb, damaged = (b"sRGB", b"\0"), iccp(b"x" * 200)
    adobe_rgb = Image.Exif()
    adobe_rgb[0x8769] = {0xA001: 0xFFFF, 0xA005: {1: "R03"}}
    return {
        "PNG": (PLAIN, png()),
        "PNG cICP of Display P3": (DISPLAY_P3, png(cicp(12, 13))),
        "PNG cICP of BT.2020 with BT.709's curve": (BT2020_WITH_BT1886, png(cicp(9, 1))),
        "PNG cICP of light": (LIGHT, png(cicp(1, 8))),
        "PNG cICP before iCCP": (PLAIN, png(cicp(1, 13), iccp(p3))),
        "PNG cICP that names nothing, iCCP": (P3_WITH_GAMMA, png(cicp(2, 2), iccp(p3))),
        "PNG cICP of half the range": (PLAIN, png(cicp(12, 13, full_range=0))),
        "PNG cICP of PQ": (PQ, png(cicp(9, 16))),
        "PNG cICP of PQ with the primaries of P3": (PQ_P3, png(cicp(12, 16))),
        "PNG cICP of PQ up to 400 nits": (PQ_400, png(cicp(9, 16), clli(400))),
        "PNG cICP of PQ, made on a display of 4000 nits": (PQ_4000, png(cicp(9, 16), mdcv(4000))),
        "PNG cICP of HLG": (HLG, png(cicp(9, 18))),
        "PNG iCCP before sRGB and gAMA": (P3_WITH_GAMMA, png(iccp(p3), srgb, gama(1.0))),
        "PNG sRGB before gAMA": (PLAIN, png(srgb, gama(1.0))),
        "PNG gAMA of light": (LIGHT, png(gama(1.0))),
        "PNG gAMA after the pixels": (PLAIN, png(gama(1.0), last=True)),
        "PNG gAMA near that of sRGB": (PLAIN, png(gama(0.436))),
        "PNG gAMA and cHRM": (P3_WITH_GAMMA, png(gama(0.45455), chrm())),
        "PNG cHRM alone": (PLAIN, png(chrm())),
        "PNG cHRM without a space": (PLAIN, png(gama(1.0), chrm((0.3127, 0.329, 0.1, 0.1, 0.2, 0.2, 0.3, 0.3)))),
        "PNG damaged iCCP, gAMA": (LIGHT, png(damaged, gama(1.0))),
        "PNG damaged iCCP, sRGB and gAMA": (PLAIN, png(damaged, srgb, gama(1.0))),
        "PNG palette with gAMA": (LIGHT, png(gama(1.0), picture=strip().quantize(16))),
        "PNG grey with gAMA": (GREY_LIGHT, png(gama(1.0), picture=grey)),
        "PNG grey with its iCCP": (GREY_LIGHT, png(iccp(light), picture=grey)),
        "PNG grey and alpha with its iCCP": (GREY_LIGHT, png(iccp(light), picture=grey_and_alpha)),
        "PNG grey with an iCCP of RGB": (GREY_GAMMA, png(iccp(p3), picture=grey)),
        "PNG with an iCCP of grey": (PLAIN, png(iccp(light))),
        "PNG iCCP with code points": (P3_LIGHT, png(iccp(_profile_of_code_points(12, 8)))),
        "PNG iCCP with code points of PQ": (PQ, png(iccp(_profile_of_code_points(9, 16)))),
        "AVIF nclx of Display P3": (DISPLAY_P3, avif(12, 13)),
        "AVIF nclx of BT.2020 with BT.709's curve": (BT2020, avif(9, 1)),
        "AVIF nclx of Display P3 with no curve": (DISPLAY_P3, avif(12, 2)),
        "AVIF nclx of no primaries with light": (LIGHT, avif(2, 8)),
        "AVIF nclx of PQ": (PQ_OF_AVIF, avif(9, 16)),
        "AVIF nclx of PQ up to 400 nits": (PQ_400_OF_AVIF, avif(9, 16, nits=400)),
        "AVIF nclx of HLG": (HLG, avif(9, 18)),
        "AVIF profile before nclx": (P3_WITH_GAMMA, avif(9, 16, icc_profile=p3)),
        "WebP profile": (
            P3_WITH_GAMMA,
            Sample(pictures.encoded(strip(), "WEBP", lossless=True, icc_profile=p3), "image/webp"),
        ),
        "BMP profile": (P3_WITH_GAMMA, bmp(p3)),
        "JPEG profile": (P3_WITH_GAMMA, jpeg(icc_profile=p3)),
        "JPEG Adobe RGB in Exif": (PLAIN, jpeg(exif=adobe_rgb)),
        "JPEG of inks": (PLAIN, jpeg("CMYK")),
        "JPEG of inks, profile of RGB": (PLAIN, jpeg("CMYK", icc_profile=p3)),
    }
