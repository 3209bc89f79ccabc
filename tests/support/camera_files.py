"""Files as cameras, phones and other programs write them, as bytes."""

import struct
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

NEW_SUBFILE_TYPE, SUBFILE_TYPE, PHOTOMETRIC, MAKE, SUB_DIRECTORIES, XMP, DNG_VERSION = (
    254,
    255,
    262,
    271,
    330,
    700,
    50706,
)
FULL, REDUCED = 0, 1


@dataclass(frozen=True)
class Page:
    """A picture of one colour in a TIFF, and tags beside its layout: numbers as LONG, bytes as BYTE, text as ASCII."""

    colour: tuple[int, int, int]
    size: tuple[int, int] = (40, 30)
    tags: Mapping[int, int | bytes | str] = field(default_factory=dict)


def tiff_of_pages(pages: Sequence[Page], inner: Sequence[Page] = (), order: str = "<") -> bytes:
    """A TIFF (TIFF 6.0, section 2) of pages; those of `inner` are in the SubIFDs of the first."""
    data = bytearray(8)

    def append(page: Page, following: int, tags: dict[int, list[int]]) -> int:
        width, height = page.size
        pixels = bytes(page.colour) * (width * height)
        layout = {
            256: width,
            257: height,
            258: 8,
            259: 1,
            262: 2,
            273: len(data),
            277: 3,
            278: height,
            279: len(pixels),
        }
        data.extend(pixels)
        entries = b""
        for tag, value in sorted({**layout, **page.tags, **tags}.items()):
            kind, count, content = _packed(value, order)
            if len(content) > 4:
                place = struct.pack(f"{order}I", len(data))
                data.extend(content)
            else:
                place = content.ljust(4, b"\0")
            entries += struct.pack(f"{order}HHI", tag, kind, count) + place
        start = len(data)
        data.extend(struct.pack(f"{order}H", len(entries) // 12) + entries + struct.pack(f"{order}I", following))
        return start

    offsets = [append(page, 0, {}) for page in inner]
    following = 0
    for page in reversed(pages):
        is_first = page is pages[0]
        following = append(page, following, {SUB_DIRECTORIES: offsets} if is_first and offsets else {})
    data[:8] = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, following)
    return bytes(data)


def _packed(value: int | bytes | str | list[int], order: str) -> tuple[int, int, bytes]:
    """Return type, count and bytes of a tag's value."""
    if isinstance(value, str):
        return 2, len(value) + 1, value.encode() + b"\0"
    if isinstance(value, bytes):
        return 1, len(value), value
    numbers = [value] if isinstance(value, int) else value
    return 4, len(numbers), struct.pack(f"{order}{len(numbers)}I", *numbers)


def raw_photo(tags: Mapping[int, int | bytes | str]) -> bytes:
    """A raw photo by its structure: a small preview, and the data of the sensor, with a colour filter array, in SubIFDs."""
    preview = Page((90, 90, 90), tags={NEW_SUBFILE_TYPE: REDUCED, **tags})
    return tiff_of_pages([preview], [Page((1, 2, 3), (160, 120), {NEW_SUBFILE_TYPE: FULL, PHOTOMETRIC: 32803})], ">")


def bmp_with_alpha(alpha: Sequence[int] = (0,)) -> bytes:
    """A BMP of 32 bits with a mask for alpha (BITMAPV4HEADER), 2 x 2, orange; its pixels have these alphas in turn."""
    masks = struct.pack("<4I", 0x00FF0000, 0x0000FF00, 0x000000FF, 0xFF000000)
    header = struct.pack("<IiiHHIIiiII", 108, 2, 2, 1, 32, 3, 16, 2835, 2835, 0, 0) + masks + b"BGRs" + bytes(48)
    pixels = b"".join(bytes((0, 128, 255, alpha[number % len(alpha)])) for number in range(4))
    return struct.pack("<2sIHHI", b"BM", 14 + 108 + 16, 0, 0, 14 + 108) + header + pixels


def xmp_orientation(orientation: int = 6) -> bytes:
    """XMP that names an orientation, as Lightroom writes it."""
    return (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="%d"/></rdf:RDF></x:xmpmeta>'
    ) % orientation


def ultra_hdr(base: bytes, gain_map: bytes) -> bytes:
    """A JPEG with a gain map behind it, as Android writes it (Ultra HDR Image Format 1.1; ISO 21496-1:2025, Annex C)."""
    described = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:Container="http://ns.google.com/photos/1.0/container/"'
        b' xmlns:Item="http://ns.google.com/photos/1.0/container/item/"'
        b' xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"><Container:Directory><rdf:Seq>'
        b'<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="Primary" Item:Mime="image/jpeg"/></rdf:li>'
        b'<rdf:li rdf:parseType="Resource"><Container:Item Item:Semantic="GainMap" Item:Mime="image/jpeg"'
        b' Item:Length="%d"/></rdf:li></rdf:Seq></Container:Directory></rdf:Description></rdf:RDF></x:xmpmeta>'
    )
    levels = (
        b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
        b'<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"'
        b' hdrgm:GainMapMax="3" hdrgm:HDRCapacityMax="3"/></rdf:RDF></x:xmpmeta>'
    )
    version = (b"urn:iso:std:iso:ts:21496:-1\0", bytes(4))
    gain_map = _with_segments(gain_map, (_XMP_OF_JPEG, levels), version)
    return _with_segments(base, (_XMP_OF_JPEG, described % len(gain_map)), version) + gain_map


_XMP_OF_JPEG = b"http://ns.adobe.com/xap/1.0/\0"


def _with_segments(jpeg: bytes, *segments: tuple[bytes, bytes]) -> bytes:
    """Return the JPEG with these segments at its beginning: XMP in APP1, others in APP2."""
    added = b""
    for name, data in segments:
        marker = 0xE1 if name == _XMP_OF_JPEG else 0xE2
        added += struct.pack(">2BH", 0xFF, marker, 2 + len(name + data)) + name + data
    return jpeg[:2] + added + jpeg[2:]


def with_wrong_checksum(png: bytes, name: bytes) -> bytes:
    """Return the PNG with one bit of the checksum of its first chunk of that name turned."""
    at = png.index(name)
    (length,) = struct.unpack(">I", png[at - 4 : at])
    last = at + 4 + length + 3
    return png[:last] + bytes((png[last] ^ 1,)) + png[last + 1 :]


def deep_png(pixels: Sequence[tuple[int, int, int]], key: bytes) -> bytes:
    """A PNG of one row of truecolour with 16 bits, as ImageMagick writes one with a transparent colour: `key` is its tRNS."""
    row = b"\0" + b"".join(struct.pack(">3H", *pixel) for pixel in pixels)
    header = struct.pack(">2I5B", len(pixels), 1, 16, 2, 0, 0, 0)
    chunks = {b"IHDR": header, b"tRNS": key, b"IDAT": zlib.compress(row), b"IEND": b""}
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks.items()
    )
