"""The boxes of AVIF and HEIF files, as far as they tell about the colours of the picture.

Boxes: ISO/IEC 14496-12, section 4.2. Items and their properties: ISO/IEC 23008-12, sections 6.5 and 9.3.
"""

import struct
from collections.abc import Iterator

_MAX_BOXES = 10_000
"""In a box, and entries in a table. A photo of a phone has about a hundred."""

_MAX_TABLES = 4
"""Of properties: one for each version and length of entries."""


def picture_properties(content: bytes) -> list[tuple[bytes, memoryview]]:
    """Return name and content of each property of the primary item, and then of the first tile if it is made of tiles.

    Raises `LookupError` or `struct.error` if the file tells none or is damaged.
    """
    meta = dict(_boxes(_only(memoryview(content), b"meta")[4:]))
    item = meta[b"pitm"]
    (primary,) = struct.unpack_from(">I" if item[0] else ">H", item, 4)
    boxes = list(_boxes(meta[b"iprp"]))
    properties = list(_boxes(dict(boxes)[b"ipco"]))
    tables = [box for name, box in boxes if name == b"ipma"][:_MAX_TABLES]
    items = primary, *_sources(meta.get(b"iref", memoryview(b"")), primary)
    places = [place for number in items for table in tables for place in _associations(table, number)]
    # Places count from 1; 0 stands for no property.
    return [properties[place - 1] for place in places if place]


def _sources(references: memoryview, item: int) -> Iterator[int]:
    """Yield the first of the items that an item is derived from, if it is (ISO/IEC 14496-12, section 8.11.12)."""
    number = "I" if references and references[0] else "H"
    for name, box in _boxes(references[4:]):
        if name == b"dimg" and struct.unpack_from(f">{number}", box) == (item,):
            _, _, first = struct.unpack_from(f">{number}H{number}", box)
            yield first
            return


def _only(content: memoryview, name: bytes) -> memoryview:
    for found, box in _boxes(content):
        if found == name:
            return box
    raise LookupError("there is no such box")


def _boxes(content: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    at = 0
    for _ in range(_MAX_BOXES):
        if at + 8 > len(content):
            return
        size, name = struct.unpack_from(">I4s", content, at)
        start = at + 8
        if size == 1:
            (size,) = struct.unpack_from(">Q", content, start)
            start += 8
        end = at + size if size else len(content)
        if end < start:
            return
        yield name, content[start:end]
        at = end


def _associations(table: memoryview, item: int) -> list[int]:
    """Return the places of the properties of an item, which has one entry at most (ISO/IEC 23008-12, section 9.3.1)."""
    flags, count = struct.unpack_from(">II", table)
    number = struct.Struct(">I" if flags >> 24 else ">H")
    place = struct.Struct(">H" if flags & 1 else ">B")
    at = 8
    for _ in range(min(count, _MAX_BOXES)):
        (found,) = number.unpack_from(table, at)
        at += number.size
        length = table[at] * place.size
        at += 1
        if found == item:
            # The highest bit tells whether the property is essential.
            mask = 0x7FFF if flags & 1 else 0x7F
            return [index & mask for (index,) in place.iter_unpack(table[at : at + length])]
        at += length
    return []
