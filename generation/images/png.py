"""The chunks of a PNG: what is not needed to show it is dropped before it is decoded.

Chunks, their checksums, and which are critical: PNG third edition, sections 5.3 to 5.6 and 11.
"""

import struct
import zlib

from generation.parameters import InvalidField

SIGNATURE = b"\x89PNG\r\n\x1a\n"

# The ancillary chunks that change what is seen: transparency, colours and orientation; with their length if it is fixed. No
# text, and no frames of an animation, whose first picture is the one of IDAT.
_KEPT = {
    b"tRNS": None,
    b"cICP": 4,
    b"mDCV": 24,
    b"cLLI": 8,
    b"iCCP": None,
    b"sRGB": 1,
    b"gAMA": 4,
    b"cHRM": 32,
    b"eXIf": None,
}

_GREY, _TRUECOLOUR = 0, 2
"""Colour types (section 11.2.1)."""

_KEY_LENGTHS = {_GREY: 2, _TRUECOLOUR: 6}
"""Bytes of tRNS by colour type, where it is the one colour that is transparent (section 11.3.1.1)."""

_MAX_CHUNKS = 100_000
_MAX_PROFILE = 1_000_000
"""Bytes of a colour profile after decompression. Those of cameras and screens have some kilobytes."""


def without_extras(content: bytes) -> bytes:
    """Drop the ancillary chunks that do not change what is seen, are damaged, or come a second time or too late.

    A colour profile of more than `_MAX_PROFILE` bytes is dropped like a damaged one. Critical chunks stay as they are, since
    without a sound one there is no picture. Raises `InvalidField` for a PNG of more than `_MAX_CHUNKS` chunks.
    """
    depth, colour_type = content[24:26]
    kept = [SIGNATURE]
    seen: set[bytes] = set()
    at = len(SIGNATURE)
    for _ in range(_MAX_CHUNKS):
        if at + 12 > len(content):
            return b"".join(kept)
        (length,) = struct.unpack_from(">I", content, at)
        end = at + 12 + length
        name = content[at + 4 : at + 8]
        # Bit 5 of the first byte tells an ancillary chunk (section 5.4).
        if not name[0] & 0x20:
            kept.append(content[at:end])
            if name == b"IDAT":
                # Of those that are kept, eXIf alone may come after the pixels (section 5.6).
                seen |= _KEPT.keys() - {b"eXIf"}
        elif name in _KEPT and name not in seen:
            seen.add(name)
            if end <= len(content) and _is_sound(name, memoryview(content)[at:end], colour_type):
                is_deep_key = name == b"tRNS" and (depth, colour_type) == (16, _TRUECOLOUR)
                kept.append(_key_of_high_bytes(content[at:end]) if is_deep_key else content[at:end])
        at = end
    raise InvalidField(
        "image", f"The PNG is built of more than {_MAX_CHUNKS} chunks; save it again with the usual settings"
    )


def ancillary(content: bytes) -> dict[bytes, bytes]:
    """Return the content of each ancillary chunk before the pixels, by its name, of a PNG of `without_extras`."""
    chunks = {}
    at = len(SIGNATURE)
    while content[at + 4 : at + 8] not in (b"IDAT", b""):
        (length,) = struct.unpack_from(">I", content, at)
        chunks[content[at + 4 : at + 8]] = content[at + 8 : at + 8 + length]
        at += 12 + length
    return chunks


def _is_sound(name: bytes, chunk: memoryview, colour_type: int) -> bool:
    length = _KEY_LENGTHS.get(colour_type) if name == b"tRNS" else _KEPT[name]
    if zlib.crc32(chunk[4:-4]) != int.from_bytes(chunk[-4:]) or length not in (None, len(chunk) - 12):
        return False
    return name != b"iCCP" or _is_sound_profile(chunk[8:-4])


def _is_sound_profile(data: memoryview) -> bool:
    """Tell whether the data of iCCP can be decompressed (section 11.3.2.3: 1 to 79 bytes of name, null, method 0, zlib)."""
    name, null, _ = bytes(data[:81]).partition(b"\0\0")
    decompressor = zlib.decompressobj()
    try:
        decompressor.decompress(data[len(name) + 2 :], _MAX_PROFILE)
    except zlib.error:
        return False
    return bool(null) and decompressor.eof


def _key_of_high_bytes(chunk: bytes) -> bytes:
    """Write the high bytes of tRNS over the low ones, with which Pillow compares the high bytes of truecolour of 16 bits."""
    body = chunk[4:8] + b"".join(bytes((high, high)) for high in chunk[8:-4:2])
    return chunk[:4] + body + struct.pack(">I", zlib.crc32(body))
