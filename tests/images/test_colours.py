"""Pictures become sRGB by whatever their files name. What is expected is what Chromium shows; tests/browser compares them."""

import io
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from generation.images import boxes, icc, uploads
from tests.support import colours, heif, pictures

SAMPLES = colours.samples()

# Pillow warns of broken metadata; an upload may have it.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


def read(content: bytes) -> Image.Image:
    return uploads.read_upload(io.BytesIO(content), max_pixels=4_000_000).picture


def properties_of(content: bytes) -> list[tuple[bytes, bytes]]:
    return [(name, bytes(value)) for name, value in boxes.picture_properties(content)]


def difference(first: tuple[int, ...], second: tuple[int, ...]) -> int:
    return max(abs(a - b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("name", SAMPLES)
def test_colours_are_those_that_the_browser_shows(name: str) -> None:
    shown, sample = SAMPLES[name]
    read_as = colours.patches(read(sample.content))
    assert max(difference(*pair) for pair in zip(read_as, shown, strict=True)) <= 4, read_as


def test_all_greys_of_hdr_pictures_stay_grey_and_in_order() -> None:
    """A table whose cells are not split along the greys darkens them by up to 12 levels between its steps."""
    ramp = Image.linear_gradient("L").rotate(90).crop((0, 0, 256, 1)).convert("RGB")
    for transfer in (16, 18):
        content = colours.png(colours.cicp(9, transfer), picture=ramp).content
        red, green, blue = (channel.tobytes() for channel in read(content).split())
        assert list(red) == sorted(red)
        assert (red[0], red[-1]) == (0, 255)
        assert all(difference(grey, grey[:1] * 3) <= 1 for grey in zip(red, green, blue, strict=True))
        # 203 nits become half of the light of white.
        assert red[{16: 148, 18: 191}[transfer]] in range(186, 190)


def test_transparent_parts_are_mixed_with_white_after_the_conversion() -> None:
    """White of PQ is 10,000 nits: mixed before, the middle would be nearly white."""
    picture = Image.new("RGBA", (8, 8), (100, 100, 100, 128))
    content = colours.png(colours.cicp(9, 16), picture=picture).content
    assert difference(colours.patches(read(content).resize((48, 8)))[0], (165, 165, 165)) <= 2


def test_hdr_photos_of_cameras_are_tone_mapped() -> None:
    plain, hdr = read(heif.heic(heif.nclx(1, 13))), read(heif.heic(heif.nclx(9, 16)))
    expected = read(colours.png(colours.cicp(9, 16), picture=plain).content)
    for at in ((8, 8), (56, 8), (8, 56), (56, 56)):
        found, wanted = hdr.getpixel(at), expected.getpixel(at)
        assert isinstance(found, tuple)
        assert isinstance(wanted, tuple)
        assert difference(found, wanted) <= 3


def test_a_picture_in_lab_is_not_converted_again() -> None:
    before = colours.strip().convert("LAB")
    for options in ({}, {"icc_profile": pictures.rgb_profile()}):
        assert colours.patches(read(pictures.encoded(before, "TIFF", **options))) == colours.patches(
            before.convert("RGB")
        )


def test_elements_of_a_profile_are_not_evaluated() -> None:
    """10,000 of them, in 80 kB, would take ten seconds; a single one would show in the colours."""
    element = b"matf" + bytes(4) + struct.pack(">HH9f3f", 3, 3, *(1, 0, 0, 0, 1, 0, 0, 0, 1), 0, 0, 0)
    count = 10_000
    chain = b"mpet" + bytes(4) + struct.pack(">HHI", 3, 3, count)
    chain += struct.pack(">II", len(chain) + 8 * count, len(element)) * count + element
    profile = bytearray(pictures.rgb_profile(D2B0=chain))
    profile[8:10] = b"\4\x40"
    for content in (colours.png(colours.iccp(bytes(profile))), colours.jpeg(icc_profile=bytes(profile))):
        assert difference(colours.patches(read(content.content))[2], colours.P3_WITH_GAMMA[2]) <= 2


def test_the_properties_of_the_picture_count_and_not_those_of_others() -> None:
    content = colours.avif(12, 13).content
    assert [name for name, _ in boxes.picture_properties(content)] == [b"ispe", b"pixi", b"av1C", b"colr"]
    # Of no item that the table lists.
    other = content.replace(b"pitm\0\0\0\0\0\1", b"pitm\0\0\0\0\0\2")
    assert boxes.picture_properties(other) == []


@pytest.mark.parametrize("version", [0, 1])
@pytest.mark.parametrize("wide", [False, True])
def test_tables_of_properties_of_every_layout_are_read(version: int, wide: bool) -> None:
    assert properties_of(boxes_of(version, wide, entries=3)) == [(b"clli", b"\1\2"), (b"colr", b"nclx")]


@pytest.mark.parametrize("version", [0, 1])
def test_properties_of_the_first_tile_follow_those_of_a_grid(version: int) -> None:
    properties = properties_of(boxes_of(version, False, entries=3, tiles=(3, 9)))
    assert properties == [(b"clli", b"\1\2"), (b"colr", b"nclx"), (b"ispe", bytes(8))]


def test_a_table_of_properties_is_read_up_to_a_bound() -> None:
    assert boxes.picture_properties(boxes_of(1, True, entries=9000)) != []
    assert boxes.picture_properties(boxes_of(1, True, entries=11_000)) == []


def test_an_item_has_one_entry_in_a_table_and_few_tables_count() -> None:
    """Else a file of a megabyte could name a large property a million times."""
    content = boxes_of(0, False, entries=3)
    at = content.index(b"ipma") - 4
    table = content[at:]
    for count in (2, 1000):
        assert len(boxes.picture_properties(with_tables(content, at, table, count))) == 2 * min(count, 4)
    # The last of its three entries: two bytes of the item, the number of properties, and three of them.
    entry = content[-6:]
    longer = struct.pack(">I4s4xI", 16 + len(entry) * 500, b"ipma", 500) + entry * 500
    assert len(boxes.picture_properties(with_tables(content, at, longer, 1))) == 2


def with_tables(content: bytes, at: int, table: bytes, count: int) -> bytes:
    """Return the boxes of `boxes_of`, the last of them repeated."""
    start = content.index(b"meta") - 4
    meta = content[start + 8 : at] + table * count
    inner = meta.index(b"iprp") - 4
    return content[:start] + box(b"meta", meta[:inner] + box(b"iprp", meta[inner + 8 :]))


def boxes_of(version: int, wide: bool, entries: int, tiles: tuple[int, ...] = ()) -> bytes:
    """The boxes of a HEIF file that name the properties of item 7, which the last of `entries` entries lists.

    The others are of item 3. Item 7 is derived from `tiles`.
    """
    number, place = "I" if version else "H", ">H" if wide else ">B"
    table = struct.pack(">BBBBI", version, 0, 0, wide, entries)
    table += (struct.pack(f">{number}", 3) + b"\1" + struct.pack(place, 1)) * (entries - 1)
    essential = 0x8000 if wide else 0x80
    table += struct.pack(f">{number}", 7) + b"\3"
    table += b"".join(struct.pack(place, value) for value in (2, essential | 3, 0))
    properties = box(b"ipco", box(b"ispe", bytes(8)) + box(b"clli", b"\1\2") + large_box(b"colr", b"nclx"))
    item = box(b"pitm", bytes((version, 0, 0, 0)) + struct.pack(f">{number}", 7))
    if tiles:
        other = box(b"dimg", struct.pack(f">{number}H{number}", 6, 1, 5))
        derived = box(b"dimg", struct.pack(f">{number}H{len(tiles)}{number}", 7, len(tiles), *tiles))
        item += box(b"iref", bytes((version, 0, 0, 0)) + other + derived)
    return box(b"ftyp", b"heic") + box(b"meta", bytes(4) + item + box(b"iprp", properties + box(b"ipma", table)))


def box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4s", 8 + len(content), name) + content


def large_box(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I4sQ", 1, name, 16 + len(content)) + content


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.sampled_from([b"", colours.avif(9, 16).content[:300], boxes_of(0, False, 3), boxes_of(1, True, 3, tiles=(3,))]),
    st.data(),
)
def test_damaged_boxes_raise_nothing_unexpected(content: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(content)))
    damaged = content[:at] + data.draw(st.binary(max_size=12)) + content[data.draw(st.integers(at, at + 12)) :]
    try:
        properties = boxes.picture_properties(damaged)
    except (LookupError, struct.error):
        return
    assert all(len(name) == 4 and len(value) <= len(damaged) for name, value in properties)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.binary(max_size=12), st.integers(0, 500), st.sampled_from(["RGB", "RGBA", "L", "CMYK"]))
def test_damaged_profiles_raise_nothing_unexpected(patch: bytes, at: int, mode: str) -> None:
    sound = pictures.rgb_profile(cicp=b"cicp" + bytes((0, 0, 0, 0, 9, 16, 0, 1)))
    profile = sound[:at] + patch + sound[at + len(patch) :]
    icc.code_points(profile)
    try:
        converted = icc.convert(Image.new(mode, (4, 4)), profile, grey=mode == "L")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return
    assert converted.mode == ("RGBA" if mode == "RGBA" else "RGB")


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(0, 2**32 - 1), st.lists(st.integers(0, 2**32 - 1), min_size=8, max_size=8))
def test_any_gamma_and_chromaticities_are_taken(gamma: int, chromaticities: list[int]) -> None:
    chunks = (b"gAMA", struct.pack(">I", gamma)), (b"cHRM", struct.pack(">8I", *chromaticities))
    assert read(colours.png(*chunks).content).size == colours.strip().size
