"""HEIC files as bytes, built box by box around one coded picture (ISO/IEC 14496-12 and 23008-12)."""

import base64
import struct
from collections.abc import Sequence
from dataclasses import dataclass

# 64 x 64 in HEVC (hvcC and the coded slices, by x265): four squares, red and green above, blue and yellow below.
_CONFIGURATION = base64.b64decode(
    "AQNwAAAAkAAAAAAAHvAA/P34+AAADwNgAAEAGEABDAH//wNwAAADAJAAAAMAAAMAHroCQGEAAQArQgEBA3AAAAMAkAAAAwAAAwAeoCCBBZbqSSmubgIa"
    "DAgAAAMAyAAAAwAIQGIAAQAHRAHBcrAiQA=="
)
_SLICES = base64.b64decode("AAAANigBrxOA5TPAn//sSo//bnzw+7r7KVvX6W/gG//RHISf+88qPvjqn/ks8Dm//Yu7f77cw+VgSA==")
# 64 x 64 in grey: white on the left, black on the right.
_MASK_CONFIGURATION = base64.b64decode(
    "AQQIAAAAn/gAAAAAHvAA/Pz4+AAADwNgAAEAF0ABDAH//wQIAAADAJ/4AAADAAAeugJAYQABACZCAQEECAAAAwCf+AAAAwAAHsCCBBZbqSSmubAgAAAD"
    "AyAAAAMAIWIAAQAHRAHBcrAiQA=="
)
_MASK_SLICES = base64.b64decode("AAAAFygBrifD9Cn1D90y7V//3og/Ev//Nc/w")

RED, GREEN, BLUE, YELLOW = (200, 40, 40), (40, 160, 60), (50, 70, 200), (230, 200, 60)
SIDE = 64


@dataclass(frozen=True)
class Item:
    """An item of a HEIC file: its type, its bytes in mdat, and its properties as boxes."""

    kind: bytes
    data: bytes
    properties: Sequence[bytes] = ()


@dataclass(frozen=True)
class Reference:
    """A reference of a kind such as dimg or cdsc from one item to others, by their numbers from 1."""

    kind: bytes
    source: int
    targets: Sequence[int]


def heic(*properties: bytes, size: tuple[int, int] = (SIDE, SIDE), brand: bytes = b"heic", exif: bytes = b"") -> bytes:
    """The four squares; `size` is what ispe says, `properties` are such as `rotation` and `nclx`, `exif` is a TIFF."""
    items, references = [coded(*properties, size=size)], []
    if exif:
        items.append(Item(b"Exif", bytes(4) + exif))
        references.append(Reference(b"cdsc", 2, [1]))
    return container(items, references, brand=brand)


def heic_with_alpha() -> bytes:
    """The four squares; the right half is transparent."""
    kind = full_box(b"auxC", b"urn:mpeg:hevc:2015:auxid:1\0")
    mask = Item(b"hvc1", _MASK_SLICES, [box(b"hvcC", _MASK_CONFIGURATION), extent(SIDE, SIDE), kind])
    return container([coded(), mask], [Reference(b"auxl", 2, [1])])


def heic_with_gain_map() -> bytes:
    """The four squares with a gain map, as phones of Apple write it, which ISO 21496-1:2025 describes as an item, too."""
    kind = full_box(b"auxC", b"urn:com:apple:photo:2020:aux:hdrgainmap\0")
    gain_map = Item(b"hvc1", _MASK_SLICES, [box(b"hvcC", _MASK_CONFIGURATION), extent(SIDE, SIDE), kind])
    # Version, flags, headrooms, and minimum, maximum, gamma and offsets of the one channel (ISO 21496-1, Annex C).
    rationals = struct.pack(">4I", 0, 1, 3, 1), struct.pack(">10I", 0, 1, 3, 1, 1, 1, 0, 1, 0, 1)
    tone_mapped = Item(b"tmap", bytes(6) + b"".join(rationals), [extent(SIDE, SIDE), nclx(9, 16, 9)])
    references = [Reference(b"auxl", 2, [1]), Reference(b"dimg", 3, [1, 2])]
    return container([coded(), gain_map, tone_mapped], references)


def heic_grid(columns: int, rows: int, *properties: bytes, size: tuple[int, int] | None = None) -> bytes:
    """The four squares over and over as a grid of tiles, as phones write large photos; `size` is what the grid says."""
    width, height = size or (columns * SIDE, rows * SIDE)
    layout = struct.pack(">4B2I", 0, 1, rows - 1, columns - 1, width, height)
    tiles = [coded() for _ in range(columns * rows)]
    grid = Item(b"grid", layout, [extent(width, height), *properties])
    return container([grid, *tiles], [Reference(b"dimg", 1, range(2, 2 + len(tiles)))])


def coded(*properties: bytes, size: tuple[int, int] = (SIDE, SIDE)) -> Item:
    return Item(b"hvc1", _SLICES, [box(b"hvcC", _CONFIGURATION), extent(*size), *properties])


def extent(width: int, height: int) -> bytes:
    return full_box(b"ispe", struct.pack(">2I", width, height))


def rotation(quarters: int) -> bytes:
    """Quarters of a turn, anticlockwise."""
    return box(b"irot", bytes((quarters,)))


def mirror(mode: int) -> bytes:
    """0 if above and below change places, 1 if left and right do (ISO/IEC 23008-12:2022, section 6.5.12)."""
    return box(b"imir", bytes((mode,)))


def nclx(primaries: int, transfer: int, matrix: int = 6) -> bytes:
    """Colours by their code points of ITU-T H.273, full range."""
    return box(b"colr", b"nclx" + struct.pack(">3HB", primaries, transfer, matrix, 0x80))


def container(
    items: Sequence[Item], references: Sequence[Reference] = (), primary: int = 1, brand: bytes = b"heic"
) -> bytes:
    """A HEIF file of these items; equal bytes and equal properties are stored once."""
    start = box(b"ftyp", brand + bytes(4) + b"mif1heicmiaf")
    properties = list(dict.fromkeys(each for item in items for each in item.properties))
    places: dict[bytes, int] = {}
    for item in items:
        places.setdefault(item.data, sum(map(len, places)))
    first = len(start) + len(_meta(items, references, primary, properties, places, 0)) + 8
    return start + _meta(items, references, primary, properties, places, first) + box(b"mdat", *places)


def _meta(
    items: Sequence[Item],
    references: Sequence[Reference],
    primary: int,
    properties: Sequence[bytes],
    places: dict[bytes, int],
    first: int,
) -> bytes:
    handler = full_box(b"hdlr", bytes(4) + b"pict" + bytes(13))
    locations, entries, associations = b"", b"", b""
    for number, item in enumerate(items, 1):
        locations += struct.pack(">3H2I", number, 0, 1, first + places[item.data], len(item.data))
        entries += full_box(b"infe", struct.pack(">2H4sB", number, 0, item.kind, 0), version=2)
        associations += struct.pack(">HB", number, len(item.properties))
        associations += b"".join(struct.pack(">H", 0x8000 | 1 + properties.index(each)) for each in item.properties)
    count = struct.pack(">H", len(items))
    boxes = [
        handler,
        full_box(b"pitm", struct.pack(">H", primary)),
        full_box(b"iloc", b"\x44\0", count, locations),
        full_box(b"iinf", count, entries),
        box(
            b"iprp",
            box(b"ipco", *properties),
            full_box(b"ipma", struct.pack(">I", len(items)), associations, flags=1),
        ),
    ]
    if references:
        boxes.append(full_box(b"iref", *(_reference(each) for each in references)))
    return full_box(b"meta", *boxes)


def _reference(reference: Reference) -> bytes:
    targets = struct.pack(f">{len(reference.targets)}H", *reference.targets)
    return box(reference.kind, struct.pack(">2H", reference.source, len(reference.targets)), targets)


def box(kind: bytes, *parts: bytes) -> bytes:
    return struct.pack(">I4s", 8 + sum(map(len, parts)), kind) + b"".join(parts)


def full_box(kind: bytes, *parts: bytes, version: int = 0, flags: int = 0) -> bytes:
    return box(kind, struct.pack(">I", version << 24 | flags), *parts)
