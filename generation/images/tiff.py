"""Find the picture in a TIFF, and refuse one that would cost too much or is a camera's raw photo.

Tags and their values: TIFF 6.0; SubIFDs: TIFF Technical Note 1; raw photos: TIFF/EP (ISO 12234-2) and DNG 1.7.
"""

import io
import struct
from collections.abc import Iterator

from PIL.TiffImagePlugin import PREFIXES, STRIPOFFSETS, TILELENGTH, TILEOFFSETS, TILEWIDTH, ImageFileDirectory_v2

from generation.images.kinds import raw_photo_refusal
from generation.images.sizes import too_large
from generation.parameters import InvalidField

_NEW_SUBFILE_TYPE, _SUBFILE_TYPE, _PHOTOMETRIC, _MAKE, _SUB_DIRECTORIES, _DNG_VERSION = 254, 255, 262, 271, 330, 50706
_SENSOR_DATA = frozenset({32803, 34892})
"""Values of PhotometricInterpretation: a colour filter array (TIFF/EP) and linear raw (DNG)."""

_MAKERS = {"NIKON": "NEF", "SONY": "ARW", "PENTAX": "PEF", "RICOH": "PEF", "SAMSUNG": "SRW", "HASSELBLAD": "3FR"}

_MAX_DIRECTORIES = 20
_MAX_TAGS = 1000
_MAX_PIECES = 100_000


def is_tiff(content: bytes) -> bool:
    return content.startswith(tuple(PREFIXES))


def with_picture_first(content: bytes, max_pixels: int) -> bytes:
    """Return the TIFF so that it begins with its first full picture, which is neither reduced nor a mask.

    Looks through the pages, and the subdirectories of the first. Raises `InvalidField` if there is no full picture, or if it is
    a raw photo or built of too many or too large pieces; any error of Pillow if the TIFF is damaged.
    """
    big = _is_big(content)
    for offset, directory in _directories(content):
        if _is_full(directory):
            _check_pieces(directory, max_pixels)
            first = struct.pack(_byte_order(content) + ("Q" if big else "I"), offset)
            start = content[: 8 if big else 4]
            return start + first + content[len(start) + len(first) :]
    raise InvalidField(
        "image",
        "The TIFF has only reduced pictures, such as the preview of another file; "
        "save the picture again as TIFF, PNG or JPEG, and send that",
    )


def _directories(content: bytes) -> Iterator[tuple[int, ImageFileDirectory_v2]]:
    """Yield offset and tags of the first page, its subdirectories, and the other pages, at most `_MAX_DIRECTORIES` of each.

    Raises `InvalidField` if the first page or its subdirectories tell a raw photo.
    """
    first = ImageFileDirectory_v2(content[: 16 if _is_big(content) else 8]).next
    page = _directory(content, first)
    offsets = page.get(_SUB_DIRECTORIES)
    inner = [
        (offset, _directory(content, offset))
        for offset in (offsets if isinstance(offsets, tuple) else ())[:_MAX_DIRECTORIES]
    ]
    for _, directory in [(first, page), *inner]:
        if _DNG_VERSION in directory or directory.get(_PHOTOMETRIC) in _SENSOR_DATA:
            raise InvalidField("image", raw_photo_refusal(_raw_photo(page)))
    yield first, page
    yield from inner
    for _ in range(_MAX_DIRECTORIES):
        if not page.next:
            return
        offset = page.next
        page = _directory(content, offset)
        yield offset, page


def _directory(content: bytes, offset: int) -> ImageFileDirectory_v2:
    big = _is_big(content)
    (count,) = struct.unpack_from(_byte_order(content) + ("Q" if big else "H"), content, offset)
    if count > _MAX_TAGS:
        raise InvalidField("image", f"The TIFF has more than {_MAX_TAGS} tags on a page; save it again without them")
    directory = ImageFileDirectory_v2(content[: 16 if big else 8])
    stream = io.BytesIO(content)
    stream.seek(offset)
    directory.load(stream)
    return directory


def _is_big(content: bytes) -> bool:
    """Tell a BigTIFF as Pillow does, which takes the big-endian one for a TIFF and so for a damaged one."""
    return content[2] == 43


def _byte_order(content: bytes) -> str:
    return ">" if content.startswith(b"MM") else "<"


def _is_full(directory: ImageFileDirectory_v2) -> bool:
    """Tell by NewSubfileType (bit 0: reduced, bit 2: a mask) or the older SubfileType (2: reduced); TIFF 6.0, section 8."""
    kind = directory.get(_NEW_SUBFILE_TYPE)
    if isinstance(kind, int):
        return not kind & 0b101
    return directory.get(_SUBFILE_TYPE) != 2


def _raw_photo(page: ImageFileDirectory_v2) -> str:
    if _DNG_VERSION in page:
        return "DNG"
    make = str(page.get(_MAKE, "")).upper()
    return next((kind for maker, kind in _MAKERS.items() if make.startswith(maker)), "TIFF/EP")


def _check_pieces(directory: ImageFileDirectory_v2, max_pixels: int) -> None:
    """Refuse a picture of too many strips or tiles, or of tiles that are far larger than itself."""
    for tag in (STRIPOFFSETS, TILEOFFSETS):
        offsets = directory.get(tag)
        if isinstance(offsets, tuple | bytes) and len(offsets) > _MAX_PIECES:
            raise InvalidField(
                "image",
                f"The TIFF is built of more than {_MAX_PIECES} strips or tiles; save it again with larger ones",
            )
    width, height = directory.get(TILEWIDTH, 0), directory.get(TILELENGTH, 0)
    if not (isinstance(width, int) and isinstance(height, int)):
        raise ValueError("the tile size is not a number")
    if width * height > max_pixels:
        raise InvalidField("image", too_large(f"tiles of {width} x {height} pixels", max_pixels))
