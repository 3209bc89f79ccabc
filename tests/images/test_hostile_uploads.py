"""Malicious and damaged uploads: each is refused with a message, or accepted; nothing else happens."""

import io
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageFile

from generation.images import decoding, kinds, uploads
from generation.images.sizes import MAX_INPUT_SIDE
from generation.parameters import InvalidField
from tests.support import colours, heif, pictures
from tests.support.environment import ROOT

MAX_PIXELS = 4_000_000

# Pillow warns of broken metadata; an upload may have it.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


def read(content: bytes, max_pixels: int = MAX_PIXELS) -> uploads.Upload:
    return uploads.read_upload(io.BytesIO(content), max_pixels=max_pixels)


def refusal(content: bytes, max_pixels: int = MAX_PIXELS) -> str:
    with pytest.raises(InvalidField) as refused:
        read(content, max_pixels)
    item = refused.value.item
    assert item["loc"] == ["body", "image"]
    assert item["type"] == "value_error"
    message = str(item["msg"])
    assert not re.search(r"BytesIO|Pillow|PIL|Error|0x|\.py|/tmp|/home", message)
    return message


def test_a_side_of_more_than_65500_pixels_is_refused() -> None:
    message = refusal(pictures.encoded(Image.new("L", (65_501, 1))))
    assert "65501 x 1" in message
    assert "65500" in message


def test_the_pixel_limit_is_exact_and_in_the_message() -> None:
    content = pictures.photo(100, 50)
    assert read(content, max_pixels=5000).size == (100, 50)
    message = refusal(content, max_pixels=4999)
    assert "100 x 50" in message
    assert "4,999" in message


@pytest.mark.parametrize("format_", pictures.FORMATS)
@pytest.mark.parametrize("side", [2100, 10_000, 16_000, 60_000])
def test_a_bomb_is_refused_from_its_header(format_: str, side: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_decode", lambda *_: pytest.fail("decoded"))
    if format_ in ("WEBP", "AVIF"):
        side = min(side, 16_384)
    bomb = pictures.header_bomb(format_, side, side)
    assert len(bomb) < 2000
    with pytest.raises(InvalidField, match="4,000,000 pixels in all are allowed"):
        decoding.decode(bomb, MAX_PIXELS)


@pytest.mark.parametrize("format_", pictures.FORMATS)
@pytest.mark.parametrize("part", [0.02, 0.1, 0.5, 0.9])
def test_a_truncated_picture_is_refused(format_: str, part: float) -> None:
    content = pictures.photo(format_=format_)
    message = refusal(content[: int(len(content) * part)])
    assert "damaged" in message
    assert "send" in message
    assert ImageFile.LOAD_TRUNCATED_IMAGES is False


@pytest.mark.parametrize("size", [(0, 16), (16, 0)])
@pytest.mark.parametrize("format_", ["PNG", "JPEG", "GIF", "BMP", "TIFF", "AVIF", "HEIF"])
def test_a_picture_without_pixels_is_refused(format_: str, size: tuple[int, int]) -> None:
    content = pictures.header_bomb(format_, *size)
    if format_ == "GIF":
        # A frame stretches the canvas; without one there is nothing to see.
        content = content[: content.index(b",")] + b";"
    refusal(content)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The file is empty"),
        (pictures.svg(), "SVG"),
        (pictures.zip_archive(), "zip archive"),
        (heif.heic(brand=b"hevc").replace(b"heicmiaf", b"hevcmiaf"), "HEIF file of another kind than HEIC and AVIF"),
        (b"%PDF-1.7\n", "PDF"),
        (b"8BPS" + bytes(60), "Photoshop"),
        (b"\xff\x0a\xf8\x01" + bytes(60), "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n" + bytes(60), "JPEG XL"),
        (b"hello", "a text"),
        (b"hello world " * 20, "a text"),
        (pictures.postscript(), "a text"),
        (pictures.noise(500), "not a picture of a known kind"),
        (pictures.other_picture("PPM"), "not a picture of a known kind"),
        (pictures.other_picture("ICO"), "not a picture of a known kind"),
        (pictures.other_picture("TGA"), "not a picture of a known kind"),
        (pictures.other_picture("JPEG2000"), "JPEG 2000"),
    ],
)
def test_other_formats_are_refused_with_a_plain_message(content: bytes, words: str) -> None:
    message = refusal(content)
    assert words in message
    assert message.endswith("send a PNG, JPEG, WebP, GIF, BMP, TIFF, AVIF or HEIC picture")


def test_the_text_of_a_png_is_dropped() -> None:
    assert read(pictures.png_with_much_text()).picture.info == {}


def test_a_tiff_of_too_many_pieces_is_refused() -> None:
    assert read(pictures.tiff_of_many_tiles(500)).size == (500, 1)
    assert "100000 strips or tiles" in refusal(pictures.tiff_of_many_tiles(100_001))


def test_a_tiff_whose_tile_is_far_larger_than_itself_is_refused() -> None:
    assert "20000 x 20000" in refusal(pictures.tiff_of_huge_tile(20_000))


def test_a_tiff_with_odd_tags_is_refused() -> None:
    layout = [(256, [16]), (257, [16]), (258, [8]), (262, [1]), (273, [8]), (279, [256])]
    for tags in (
        [],
        layout[:1],
        [*layout, (259, [77])],
        [*layout, (277, [60_000])],
        [*layout, (322, [9, 9]), (323, [9])],
    ):
        refusal(pictures.tiff(tags))


def test_a_jpeg_of_very_many_scans_is_refused() -> None:
    assert read(pictures.jpeg_of_many_scans(50)).size == (64, 64)
    assert "100 scans" in refusal(pictures.jpeg_of_many_scans(101))


def test_a_gif_frame_outside_its_canvas_counts_as_pixels() -> None:
    assert read(pictures.gif_with_frame_outside(100, 40)).size == (116, 56)
    assert "pixels in all are allowed" in refusal(pictures.gif_with_frame_outside(5000, 5000))
    assert "pixels in all are allowed" in refusal(pictures.gif_with_frame_outside(60_000, 60_000))


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_grey_values_that_are_not_finite_are_refused(value: float) -> None:
    refusal(pictures.encoded(Image.new("F", (8, 8), value), "TIFF"))


@pytest.mark.parametrize("options", [{}, {"progressive": True, "subsampling": 0}])
def test_a_jpeg_of_forty_megapixels_takes_less_memory_than_three_times_its_size(
    tmp_path: Path, options: dict[str, Any]
) -> None:
    path = tmp_path / "large.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (7300, 5478), "teal").save(path, exif=exif, **options)
    script = f"""
import resource
from generation.images import decoding
content = open({str(path)!r}, "rb").read()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert decoding.decode(content, 40_000_000).size == (5478, 7300)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    process = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True, text=True)
    assert int(process.stdout) < 3 * 7300 * 5478 * 3


COLOURS = colours.samples()
SOUND = [
    *[pictures.photo(24, 16, format_) for format_ in kinds.PILLOW_FORMATS],
    heif.heic_grid(2, 1, heif.rotation(1), heif.nclx(12, 13)),
    *[pictures.phone_photo(24, 16, format_) for format_ in ("JPEG", "PNG", "WEBP", "AVIF", "TIFF")],
    *[pictures.animation(format_) for format_ in ("GIF", "WEBP", "PNG", "AVIF", "TIFF")],
    *[pictures.photo(24, 16, "TIFF", compression=name) for name in ("tiff_deflate", "tiff_lzw", "jpeg", "packbits")],
    *[pictures.hidden_colours(mode) for mode in ("RGBA", "LA", "P", "RGB", "L", "I;16")],
    *[pictures.encoded(pictures.scene(24, 16).convert(mode), "TIFF") for mode in ("CMYK", "LAB", "YCbCr", "P", "1")],
    *[pictures.photo(24, 16, format_, icc_profile=pictures.rgb_profile()) for format_ in ("PNG", "JPEG", "TIFF")],
    pictures.cmyk_jpeg(profile=pictures.cmyk_profile()),
    pictures.deep_grey("F", "TIFF", 1.0),
    pictures.photo(24, 16, "JPEG", progressive=True),
    pictures.two_views(),
    pictures.tiff_of_many_tiles(20),
    pictures.gif_with_frame_outside(40, 40),
    *[COLOURS[name][1].content for name in ("PNG cICP of PQ", "PNG gAMA and cHRM", "AVIF nclx of PQ", "BMP profile")],
]

places = st.integers(0, 4000)
edits = st.one_of(
    st.tuples(st.just("write"), places, st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("insert"), places, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("remove"), places, st.binary(min_size=1, max_size=40)),
    st.tuples(st.just("cut"), places, st.just(b"")),
)


def mutated(content: bytes, changes: list[tuple[str, int, bytes]]) -> bytes:
    for kind, place, patch in changes:
        at = place % (len(content) + 1)
        rest = {"write": at + len(patch), "insert": at, "remove": at + len(patch), "cut": len(content)}[kind]
        content = content[:at] + (b"" if kind == "remove" else patch) + content[rest:]
    return content


def assert_taken_or_refused(content: bytes) -> None:
    try:
        upload = read(content, max_pixels=200_000)
    except InvalidField:
        return
    assert upload.picture.mode == "RGB"
    assert upload.picture.info == {}
    assert 1 <= min(upload.picture.size) <= max(upload.picture.size) <= MAX_INPUT_SIDE
    assert upload.format in kinds.FORMATS
    assert all(type(side) is int and side >= 1 for side in upload.size)


@settings(max_examples=1000, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(SOUND), st.lists(edits, min_size=1, max_size=8))
def test_a_mutated_file_is_accepted_or_refused(content: bytes, changes: list[tuple[str, int, bytes]]) -> None:
    assert_taken_or_refused(mutated(content, changes))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.sampled_from([b"", *(content[:12] for content in SOUND)]), st.binary(max_size=400))
def test_random_bytes_are_accepted_or_refused(start: bytes, rest: bytes) -> None:
    assert_taken_or_refused(start + rest)
