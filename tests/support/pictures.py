"""Uploads for tests, as bytes: valid pictures of every kind, and malicious files."""

import io
import itertools
import random
import struct
import zipfile
import zlib
from collections.abc import Sequence
from typing import Any

from PIL import ExifTags, Image, ImageChops, PngImagePlugin
from pillow_heif import register_heif_opener

HIDDEN = (255, 0, 255)
"""The colour under the transparent half of the pictures of `hidden_colours`."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "HEIF")

# Of what the service never uses, the encoder.
register_heif_opener()


def scene(width: int = 256, height: int = 192) -> Image.Image:
    """A landscape of smooth sky, a low sun, hills and some fine structure; the same every time."""
    upward = Image.linear_gradient("L").resize((width, height), Image.Resampling.BILINEAR)
    rightward = upward.resize((height, width)).transpose(Image.Transpose.ROTATE_90)
    sun = ImageChops.invert(Image.radial_gradient("L")).resize((width, height), Image.Resampling.BILINEAR)
    sun = sun.point(lambda value: max(0, value - 128) * 2)
    rocks = Image.effect_mandelbrot((128, 96), (-1.8, -1.2, 0.6, 1.2), 24).resize((width, height))
    hills = ImageChops.add(upward, rightward, scale=2).point(lambda value: 255 if value > 150 else 0)
    red = ImageChops.add(upward.point(lambda value: 60 + value // 2), sun, scale=1.5)
    green = ImageChops.add(rightward.point(lambda value: 90 + value // 3), sun, scale=2)
    sky = Image.merge("RGB", (red, green, upward.point(lambda value: 230 - value // 2)))
    ground = Image.merge("RGB", (rightward.point(lambda value: value // 3), rocks, rightward))
    sky.paste(ground, mask=hills)
    return sky


def encoded(picture: Image.Image, format_: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format_, **options)
    return stream.getvalue()


def photo(width: int = 256, height: int = 192, format_: str = "PNG", **options: Any) -> bytes:
    return encoded(scene(width, height), format_, **options)


def hidden_colours(mode: str = "RGBA", format_: str = "PNG") -> bytes:
    """64 x 64: the left half opaque blue, or black in grey; the right half transparent over `HIDDEN`, or grey 90."""
    if mode in ("LA", "L", "I;16"):
        return _hidden_grey(mode, format_)
    picture = Image.new("RGBA", (64, 64), (0, 0, 255, 255))
    picture.paste((*HIDDEN, 0), (32, 0, 64, 64))
    if mode == "RGBA":
        return encoded(picture, format_, **({"lossless": True, "exact": True} if format_ == "WEBP" else {}))
    if mode == "RGB":
        return encoded(picture.convert("RGB"), format_, transparency=HIDDEN)
    palette = Image.new("P", (64, 64), 0)
    palette.putpalette([0, 0, 255, *HIDDEN])
    palette.paste(1, (32, 0, 64, 64))
    if mode == "PA":
        return encoded(Image.merge("PA", (palette, picture.getchannel("A"))), format_)
    return encoded(palette, format_, transparency=b"\xff\x00" if format_ == "PNG" else 1)


def _hidden_grey(mode: str, format_: str) -> bytes:
    grey = Image.new("L", (64, 64), 0)
    grey.paste(90, (32, 0, 64, 64))
    if mode == "LA":
        grey.putalpha(grey.point(lambda value: 0 if value else 255))
        return encoded(grey, format_)
    if mode == "I;16":
        # Pillow writes no transparent colour for this mode.
        data = encoded(grey.convert("I").point(lambda value: value * 257).convert("I;16"), format_)
        return with_png_chunk(data, b"tRNS", struct.pack(">H", 90 * 257))
    return encoded(grey, format_, transparency=90)


def deep_grey(mode: str = "I;16", format_: str = "PNG", white: float = 65535) -> bytes:
    """256 x 8 in grey of 16 or 32 bits: a ramp from black on the left to `white` on the right."""
    ramp = Image.linear_gradient("L").rotate(90).crop((0, 0, 256, 8))
    deep = ramp.convert("F").point(lambda value: value * (white / 255) + 0)
    return encoded(deep if mode == "F" else deep.convert("I").convert(mode), format_)


def cmyk_jpeg(ink: tuple[int, int, int, int] = (255, 0, 0, 0), profile: bytes | None = None) -> bytes:
    """64 x 64 of one ink mixture, 0 to 255 each."""
    return encoded(Image.new("CMYK", (64, 64), ink), "JPEG", quality=95, icc_profile=profile)


def phone_photo(width: int = 320, height: int = 240, format_: str = "JPEG", orientation: int = 6) -> bytes:
    """A picture that lies on its side, as `orientation` tells, with a position, a camera name and a comment."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    exif[ExifTags.Base.Model] = "Secret Phone"
    position: dict[int, Any] = {ExifTags.GPS.GPSLatitudeRef: "N", ExifTags.GPS.GPSLatitude: (48.0, 8.0, 14.0)}
    exif.get_ifd(ExifTags.IFD.GPSInfo).update(position)
    comment = {"comment": b"Secret comment"} if format_ == "JPEG" else {}
    return photo(width, height, format_, exif=exif, **comment)


def two_views() -> bytes:
    """An MPO: two JPEGs in one file, as phones and 3D cameras write it."""
    return photo(96, 64, "MPO", save_all=True, append_images=[Image.new("RGB", (96, 64), "red")])


def animation(format_: str = "GIF") -> bytes:
    """64 x 48, three frames: green, red, blue."""
    frames = [Image.new("RGB", (64, 48), colour) for colour in ("#00ff00", "#ff0000", "#0000ff")]
    exact: dict[str, dict[str, Any]] = {"WEBP": {"lossless": True}, "AVIF": {"quality": 100}}
    options = exact.get(format_, {})
    return encoded(frames[0], format_, save_all=True, append_images=frames[1:], duration=100, **options)


def with_png_chunk(data: bytes, name: bytes, content: bytes) -> bytes:
    """Return the PNG with an additional chunk before its pixels."""
    before = data.index(b"IDAT") - 4
    chunk = struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return data[:before] + chunk + data[before:]


def png_with_text_bomb() -> bytes:
    """A small PNG whose compressed text is 64 MB long."""
    return with_png_chunk(photo(32, 32), b"zTXt", b"Comment\0\0" + zlib.compress(bytes(64_000_000), 9))


def png_with_profile_bomb() -> bytes:
    return with_png_chunk(photo(32, 32), b"iCCP", b"icc\0\0" + zlib.compress(bytes(64_000_000), 9))


def png_with_much_text() -> bytes:
    info = PngImagePlugin.PngInfo()
    for number in range(1000):
        info.add_itxt(f"key {number}", "Secret text", zip=True)
    return photo(32, 32, pnginfo=info)


def header_bomb(format_: str, width: int = 60_000, height: int = 60_000) -> bytes:
    """A few bytes whose header promises a picture of that size. WebP and AVIF hold at most 16384 pixels a side."""
    small = photo(16, 16, format_)
    if format_ == "PNG":
        header = b"IHDR" + struct.pack(">II", width, height) + small[24:29]
        return small[:12] + header + struct.pack(">I", zlib.crc32(header)) + small[33:]
    if format_ == "JPEG":
        at = small.index(b"\xff\xc0") + 5
        return small[:at] + struct.pack(">HH", height, width) + small[at + 4 :]
    if format_ == "GIF":
        return small[:6] + struct.pack("<HH", width, height) + small[10:]
    if format_ == "BMP":
        return small[:18] + struct.pack("<ii", width, height) + small[26:]
    if format_ == "WEBP":
        # The lossless header holds width - 1 and height - 1 in 14 bits each.
        small = photo(16, 16, format_, lossless=True)
        (bits,) = struct.unpack("<I", small[21:25])
        return small[:21] + struct.pack("<I", bits >> 28 << 28 | height - 1 << 14 | width - 1) + small[25:]
    if format_ in ("AVIF", "HEIF"):
        at = small.index(b"ispe") + 8
        return small[:at] + struct.pack(">II", width, height) + small[at + 8 :]
    return tiff([(256, [width]), (257, [height]), (258, [8]), (259, [1]), (262, [1]), (273, [8]), (279, [16])])


def tiff(tags: Sequence[tuple[int, list[int]]], pixels: bytes = b"") -> bytes:
    """A little-endian TIFF of exactly these tags, all of type LONG; the pixels come last."""
    start = 8 + 2 + 12 * len(tags) + 4
    entries, values = b"", b""
    for tag, numbers in sorted(tags):
        packed = struct.pack(f"<{len(numbers)}I", *numbers)
        if len(numbers) > 1:
            packed, values = struct.pack("<I", start + len(values)), values + packed
        entries += struct.pack("<HHI", tag, 4, len(numbers)) + packed
    return struct.pack("<2sHIH", b"II", 42, 8, len(tags)) + entries + bytes(4) + values + pixels


def tiff_of_many_tiles(count: int) -> bytes:
    """`count` x 1 pixels in tiles of one pixel."""
    layout = [(256, [count]), (257, [1]), (258, [8]), (259, [1]), (262, [1]), (277, [1])]
    return tiff(
        [*layout, (322, [1]), (323, [1]), (324, [8 + number % 2 for number in range(count)]), (325, [1] * count)]
    )


def tiff_of_huge_tile(side: int = 20_000) -> bytes:
    """64 x 64 pixels in one tile of `side` x `side`, compressed."""
    pixels = zlib.compress(bytes(side * 64))
    tags = [(256, [64]), (257, [64]), (258, [8]), (259, [8]), (262, [1]), (277, [1]), (322, [side]), (323, [side])]
    return tiff([*tags, (324, [8 + 2 + 12 * 10 + 4]), (325, [len(pixels)])], pixels)


def jpeg_of_many_scans(count: int) -> bytes:
    """A progressive JPEG that repeats one of its scans `count` times."""
    first, second, third, *others = photo(64, 64, "JPEG", progressive=True).split(b"\xff\xda")
    return b"\xff\xda".join([first, second, *[third] * count, *others])


def gif_with_frame_outside(left: int = 60_000, top: int = 60_000) -> bytes:
    """A GIF of 16 x 16 whose frame lies far outside its canvas."""
    data = encoded(Image.new("P", (16, 16)), "GIF")
    at = data.index(b",") + 1
    return data[:at] + struct.pack("<HH", left, top) + data[at + 4 :]


def svg() -> bytes:
    return b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect/></svg>\n'


def zip_archive() -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("photo.png", photo(16, 16))
    return stream.getvalue()


def postscript() -> bytes:
    """A format that Pillow knows and would hand to Ghostscript."""
    return b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\nshowpage\n%%EOF\n"


def other_picture(format_: str) -> bytes:
    """Return a valid picture of a format that Pillow reads but uploads must not have."""
    return photo(16, 16, format_)


def noise(length: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(length)


def rgb_profile(name: str = "Display P3", **more_tags: bytes) -> bytes:
    """An ICC profile: the primaries of "Display P3" or "Adobe RGB" (adapted to D50), a plain gamma, and more tags."""
    primaries, gamma = {
        "Display P3": (((0.51512, 0.2412, -0.00105), (0.29198, 0.69225, 0.04189), (0.1571, 0.06657, 0.78407)), 2.2),
        "Adobe RGB": (((0.60974, 0.31111, 0.01947), (0.20528, 0.62567, 0.06087), (0.14919, 0.06322, 0.74457)), 2.2),
    }[name]
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))
    tags = {b"wtpt": _xyz(0.9642, 1, 0.8249)}
    for letter, primary in zip((b"r", b"g", b"b"), primaries, strict=True):
        tags[letter + b"XYZ"] = _xyz(*primary)
        tags[letter + b"TRC"] = curve
    tags |= {tag.encode(): content for tag, content in more_tags.items()}
    return _profile(b"mntr", b"RGB ", b"XYZ ", tags)


def grey_profile(gamma: float = 1.0) -> bytes:
    curve = b"curv" + struct.pack(">IIH", 0, 1, round(gamma * 256))
    return _profile(b"mntr", b"GRAY", b"XYZ ", {b"wtpt": _xyz(0.9642, 1, 0.8249), b"kTRC": curve})


def cmyk_profile() -> bytes:
    """An ICC profile of a press with dull inks: pure cyan is Lab (58, -37, -48), far from the screen's cyan."""
    inks = ((0.58, -37, -48), (0.5, 74, -3), (0.9, -5, 90), (0.16, 0, 0))
    grid = bytearray()
    for amounts in itertools.product((0, 1), repeat=4):
        lightness, a, b = 1.0, 0.0, 0.0
        for amount, (ink_lightness, ink_a, ink_b) in zip(amounts, inks, strict=True):
            if amount:
                lightness, a, b = lightness * ink_lightness, a + ink_a, b + ink_b
        colour = 0 if amounts[3] else 1
        grid += bytes((round(lightness * 255), round(a * colour + 128), round(b * colour + 128)))
    identity = struct.pack(">9i", *(65536 * (number % 4 == 0) for number in range(9)))
    ramp = bytes(range(256))
    table = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + ramp * 4 + bytes(grid) + ramp * 3
    return _profile(b"prtr", b"CMYK", b"Lab ", {b"wtpt": _xyz(0.9642, 1, 0.8249), b"A2B0": table})


def _xyz(x: float, y: float, z: float) -> bytes:
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in (x, y, z)))


def _profile(kind: bytes, space: bytes, connection: bytes, tags: dict[bytes, bytes]) -> bytes:
    """ICC.1:2001-04, sections 6.1 (header) and 6.2 (tag table)."""
    table, data = struct.pack(">I", len(tags)), b""
    for name, content in tags.items():
        table += name + struct.pack(">II", 128 + 4 + 12 * len(tags) + len(data), len(content))
        data += content + bytes(-len(content) % 4)
    header = struct.pack(
        ">I4sI4s4s4s12s4s", 128 + len(table) + len(data), b"", 0x02400000, kind, space, connection, b"", b"acsp"
    )
    header += bytes(28) + _xyz(0.9642, 1, 0.8249)[8:]
    return header.ljust(128, b"\0") + table + data
