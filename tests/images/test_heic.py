"""HEIC, the photos of phones."""

import io
import struct
from collections.abc import Callable, Sequence
from typing import cast

import pillow_heif
import pytest
from PIL import Image

from generation.images import uploads
from generation.parameters import InvalidField
from tests.support import heif, pictures


def read(content: bytes) -> uploads.Upload:
    return uploads.read_upload(io.BytesIO(content), max_pixels=4_000_000)


def refusal(content: bytes) -> str:
    with pytest.raises(InvalidField) as refused:
        read(content)
    return str(refused.value.item["msg"])


def squares(content: bytes, size: tuple[int, int] = (heif.SIDE, heif.SIDE)) -> list[tuple[int, ...]]:
    """Return the colours in the corners of a HEIC: above left and right, below left and right."""
    upload = read(content)
    assert (upload.format, upload.size) == ("HEIF", size)
    right, low = size[0] - 4, size[1] - 4
    return [cast(tuple[int, ...], upload.picture.getpixel(at)) for at in ((4, 4), (right, 4), (4, low), (right, low))]


def near(found: Sequence[tuple[int, ...]], expected: Sequence[tuple[int, ...]]) -> bool:
    return all(
        abs(a - b) <= 3 for one, other in zip(found, expected, strict=True) for a, b in zip(one, other, strict=True)
    )


@pytest.mark.parametrize("brand", [b"heic", b"heix", b"mif1"])
def test_a_photo_of_a_phone_is_taken(brand: bytes) -> None:
    assert near(squares(heif.heic(brand=brand)), [heif.RED, heif.GREEN, heif.BLUE, heif.YELLOW])


def test_an_avif_that_also_names_heic_is_an_avif() -> None:
    content = pictures.photo(64, 48, "AVIF")
    at = content.index(b"mif1", 16)
    assert read(content[:at] + b"heic" + content[at + 4 :]).format == "AVIF"


def test_a_photo_in_tiles_is_put_together() -> None:
    corners = [heif.RED, heif.GREEN, heif.BLUE, heif.YELLOW]
    assert near(squares(heif.heic_grid(3, 2), (192, 128)), corners)
    assert near(squares(heif.heic_grid(3, 2, size=(150, 128)), (150, 128))[::2], [heif.RED, heif.BLUE])


def test_a_heic_is_turned_by_its_properties_and_not_by_exif_too() -> None:
    turned = [heif.GREEN, heif.YELLOW, heif.RED, heif.BLUE]
    exif = b"MM\0*\0\0\0\x08\0\1\x01\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
    assert near(squares(heif.heic(heif.rotation(1), exif=exif)), turned)
    assert near(squares(heif.heic_grid(3, 1, heif.rotation(1)), (64, 192)), turned)
    assert near(squares(heif.heic(exif=exif)), [heif.RED, heif.GREEN, heif.BLUE, heif.YELLOW])
    assert near(squares(heif.heic(heif.mirror(1))), [heif.GREEN, heif.RED, heif.YELLOW, heif.BLUE])


def test_the_colours_of_a_heic_become_srgb() -> None:
    plain = squares(heif.heic())[0]
    by_profile = squares(heif.heic(heif.box(b"colr", b"prof" + pictures.rgb_profile("Display P3"))))[0]
    by_code_points = squares(heif.heic(heif.nclx(12, 13)))[0]
    assert by_profile[0] > plain[0] + 10
    assert by_code_points[0] > plain[0] + 10


def test_the_transparent_part_of_a_heic_becomes_white() -> None:
    white = (255, 255, 255)
    assert near(squares(heif.heic_with_alpha()), [heif.RED, white, heif.BLUE, white])


def test_a_heic_with_a_gain_map_is_its_base_picture() -> None:
    assert squares(heif.heic_with_gain_map()) == squares(heif.heic())


@pytest.mark.parametrize("bits", [10, 12])
def test_a_heic_of_more_than_8_bits_is_not_clipped(bits: int) -> None:
    ramp = Image.linear_gradient("L").rotate(90).resize((256, 64))
    deep = b"".join(struct.pack("<H", value * 257) * 3 for value in ramp.tobytes())
    pillow_heif.options.SAVE_HDR_TO_12_BIT = bits == 12
    try:
        stream = io.BytesIO()
        pillow_heif.from_bytes("RGB;16", ramp.size, deep).save(stream, quality=95, chroma=444)
    finally:
        pillow_heif.options.SAVE_HDR_TO_12_BIT = False
    assert struct.pack(">B", bits) * 3 in stream.getvalue()
    picture = read(stream.getvalue()).picture
    for column in range(8, 256, 16):
        assert abs(picture.getchannel("R").tobytes()[32 * 256 + column] - ramp.tobytes()[column]) <= 4


def shared_metadata() -> bytes:
    """Much metadata, described once and belonging to each of many pictures: 1.8 GB if each has its own."""
    pictures_ = [heif.coded() for _ in range(900)]
    return heif.container(
        [*pictures_, heif.Item(b"Exif", bytes(2_000_000))], [heif.Reference(b"cdsc", 901, range(1, 901))]
    )


def crop_of_much() -> bytes:
    """64 x 64 pixels of a picture that says it has 16384 x 16384."""
    numbers = struct.pack(">8I", 64, 1, 64, 1, 0, 1, 0, 1)
    return heif.heic(heif.box(b"clap", numbers), size=(16384, 16384))


def wrong_size() -> bytes:
    return heif.heic(size=(640, 640))


def large_grid() -> bytes:
    return heif.heic_grid(2, 2, size=(16_384, 16_384))


def grid_of_one_tile() -> bytes:
    layout = struct.pack(">4B2I", 0, 1, 255, 255, 64, 64)
    return heif.container(
        [heif.Item(b"grid", layout, [heif.extent(64, 64)]), heif.coded()], [heif.Reference(b"dimg", 1, [2] * 60_000)]
    )


def round_reference() -> bytes:
    same = heif.Item(b"iden", b"", [heif.extent(64, 64)])
    return heif.container([same, same], [heif.Reference(b"dimg", 1, [2]), heif.Reference(b"dimg", 2, [1])])


@pytest.mark.parametrize(
    ("bomb", "words"),
    [
        (shared_metadata, "too much time or memory"),
        (crop_of_much, "16384 x 16384"),
        (large_grid, "16384 x 16384"),
        (wrong_size, "damaged"),
        (grid_of_one_tile, "damaged"),
        (round_reference, "damaged"),
    ],
)
def test_a_heic_that_would_cost_much_is_refused(bomb: Callable[[], bytes], words: str) -> None:
    content = bomb()
    assert len(content) < 3_000_000
    assert words in refusal(content)
