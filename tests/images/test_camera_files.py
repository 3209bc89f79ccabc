"""What cameras, phones and other programs write: taken as every viewer shows it, or refused by name."""

import io
import re
import struct
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
from PIL import Image, PngImagePlugin

from generation.images import png, uploads
from generation.parameters import InvalidField
from tests.support import camera_files, pictures
from tests.support.camera_files import DNG_VERSION, FULL, MAKE, NEW_SUBFILE_TYPE, REDUCED, SUBFILE_TYPE, Page

# Pillow warns of broken metadata; an upload may have it.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")

RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def read(content: bytes) -> uploads.Upload:
    return uploads.read_upload(io.BytesIO(content), max_pixels=4_000_000)


def refusal(content: bytes) -> str:
    with pytest.raises(InvalidField) as refused:
        read(content)
    return str(refused.value.item["msg"])


def first_pixel(content: bytes) -> object:
    return read(content).picture.getpixel((0, 0))


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (camera_files.raw_photo({DNG_VERSION: bytes((1, 7, 0, 0))}), "DNG"),
        (camera_files.raw_photo({MAKE: "NIKON CORPORATION"}), "NEF"),
        (camera_files.raw_photo({MAKE: "SONY"}), "ARW"),
        (camera_files.raw_photo({}), "TIFF/EP"),
        (camera_files.tiff_of_pages([Page(RED, tags={DNG_VERSION: bytes((1, 4, 0, 0))})]), "DNG"),
        (b"II\x2a\0\x10\0\0\0CR\x02\0" + bytes(100), "CR2"),
        (struct.pack(">I", 24) + b"ftypcrx \0\0\0\1crx isom" + bytes(100), "CR3"),
        (b"FUJIFILMCCD-RAW 0201" + bytes(100), "RAF"),
        (b"IIRO\x08\0\0\0" + bytes(100), "ORF"),
        (b"IIU\0\x18\0\0\0" + bytes(100), "RW2"),
    ],
)
def test_a_raw_photo_is_refused_by_name(content: bytes, kind: str) -> None:
    message = refusal(content)
    assert f"raw photo ({kind})" in message
    assert "export it as JPEG, PNG or TIFF" in message


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("reduced", [{NEW_SUBFILE_TYPE: REDUCED}, {SUBFILE_TYPE: 2}, {NEW_SUBFILE_TYPE: 4}])
def test_a_tiff_is_its_first_full_picture(reduced: dict[int, int], order: str) -> None:
    small, full = Page(RED, (16, 12), reduced), Page(GREEN, (64, 48), {NEW_SUBFILE_TYPE: FULL})
    for pages, inner in (([small, full], []), ([small, small, full, Page(BLUE)], []), ([small, Page(BLUE)], [full])):
        content = camera_files.tiff_of_pages(pages, inner, order)
        upload = read(content)
        assert (upload.size, upload.format) == ((64, 48), "TIFF")
        assert upload.picture.getpixel((0, 0)) == GREEN
    assert first_pixel(camera_files.tiff_of_pages([Page(BLUE), full], [full], order)) == BLUE


def test_a_tiff_of_reduced_pictures_alone_is_refused() -> None:
    small = Page(RED, tags={NEW_SUBFILE_TYPE: REDUCED})
    for pages in ([small], [small] * 100):
        assert "only reduced pictures" in refusal(camera_files.tiff_of_pages(pages))


def test_the_full_picture_of_a_tiff_is_bounded_like_the_first() -> None:
    small = Page(RED, tags={NEW_SUBFILE_TYPE: REDUCED})
    assert "pixels in all" in refusal(camera_files.tiff_of_pages([small, Page(GREEN, tags={256: 9000, 257: 9000})]))
    tiles: dict[int, int] = {322: 20_000, 323: 20_000}
    assert "20000 x 20000" in refusal(camera_files.tiff_of_pages([small, Page(GREEN, tags=tiles)]))
    assert "1000 tags" in refusal(camera_files.tiff_of_pages([Page(RED, tags={1000 + tag: 0 for tag in range(1000)})]))


def test_a_tiff_of_a_variant_that_is_not_supported_is_not_called_unknown() -> None:
    sample_format = 339
    assert "variant that is not supported" in refusal(
        camera_files.tiff_of_pages([Page(RED, tags={258: 32, sample_format: 3})])
    )


def test_a_tiff_whose_pages_go_round_is_refused() -> None:
    content = camera_files.tiff_of_pages([Page(RED, tags={NEW_SUBFILE_TYPE: REDUCED})])
    assert "only reduced" in refusal(content[:-4] + content[4:8])


def test_a_bitmap_whose_alpha_is_all_0_is_opaque() -> None:
    assert first_pixel(camera_files.bmp_with_alpha([0])) == (255, 128, 0)
    # The first row of a bitmap is its lowest.
    assert first_pixel(camera_files.bmp_with_alpha([0, 255])) == (255, 255, 255)
    assert first_pixel(camera_files.bmp_with_alpha([255, 0])) == (255, 128, 0)


@pytest.mark.parametrize("format_", ["PNG", "WEBP", "AVIF", "TIFF"])
def test_a_picture_whose_alpha_is_all_0_is_white_in_other_formats(format_: str) -> None:
    assert first_pixel(pictures.encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 0)), format_)) == (255, 255, 255)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"restart_marker_blocks": 4}, {"quality": 20}])
def test_a_jpeg_that_lacks_its_end_marker_is_taken(options: dict[str, int]) -> None:
    content = pictures.photo(96, 64, "JPEG", **options)
    whole = read(content).picture
    for lacking in (1, 2):
        assert read(content[:-lacking]).picture == whole


@pytest.mark.parametrize("options", [{}, {"restart_marker_blocks": 1}, {"restart_marker_blocks": 4}])
def test_a_jpeg_that_lacks_pixels_is_refused(options: dict[str, int]) -> None:
    content = pictures.photo(96, 64, "JPEG", **options)
    marked = [found.start() for found in re.finditer(rb"\xff[\xd0-\xd7]", content)]
    cuts = [*range(len(content) - 300, len(content) - 2, 7), *marked, *[at + 1 for at in marked]]
    taken = [cut for cut in cuts if not _is_refused(content[:cut])]
    assert taken == []


def test_a_progressive_jpeg_that_is_cut_within_a_scan_is_refused() -> None:
    content = pictures.photo(96, 64, "JPEG", progressive=True)
    for lacking in (12, 20, 40):
        assert "cut short" in refusal(content[:-lacking])


def _is_refused(content: bytes) -> bool:
    try:
        read(content)
    except InvalidField as error:
        return "cut short" in str(error.item["msg"])
    return False


def test_a_png_with_a_wrong_checksum_of_a_chunk_that_no_viewer_needs_is_taken() -> None:
    sound = pictures.photo(64, 48)
    for name, data in (
        (b"pHYs", bytes(9)),
        (b"gAMA", bytes(4)),
        (b"iCCP", b"x\0\0" + zlib.compress(b"x")),
        (b"tEXt", b"a\0b"),
    ):
        content = camera_files.with_wrong_checksum(pictures.with_png_chunk(sound, name, data), name)
        assert read(content).picture == read(sound).picture


def test_a_png_with_a_damaged_chunk_that_no_viewer_needs_is_taken() -> None:
    sound = pictures.photo(64, 48)
    for name, data in ((b"gAMA", b"\0"), (b"cHRM", b""), (b"sRGB", b""), (b"iCCP", b"no method"), (b"tIME", b"")):
        assert read(pictures.with_png_chunk(sound, name, data)).picture == read(sound).picture


def test_the_transparent_colour_of_a_deep_png_becomes_white() -> None:
    key, other = (0x1234, 0x5678, 0x9ABC), (0x3434, 0x7878, 0xBCBC)
    picture = read(camera_files.deep_png([key, other], struct.pack(">3H", *key))).picture
    assert [picture.getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (0x34, 0x78, 0xBC)]


def test_a_transparent_colour_of_the_wrong_length_is_dropped() -> None:
    for key in (b"", bytes(2), bytes(8)):
        assert first_pixel(camera_files.deep_png([(0, 0, 0)], key)) == (0, 0, 0)


def test_a_png_with_a_wrong_checksum_of_a_critical_chunk_is_refused() -> None:
    assert "damaged" in refusal(camera_files.with_wrong_checksum(pictures.photo(64, 48), b"IHDR"))


def test_a_png_without_its_last_chunk_is_taken() -> None:
    sound = pictures.photo(64, 48)
    assert read(sound[:-12]).picture == read(sound).picture


@pytest.mark.parametrize("bomb", [pictures.png_with_text_bomb, pictures.png_with_profile_bomb])
def test_large_chunks_of_a_png_are_dropped_and_cost_little_memory(bomb: Callable[[], bytes]) -> None:
    content = bomb()
    tracemalloc.start()
    try:
        upload = read(content)
        assert tracemalloc.get_traced_memory()[1] < 4_000_000
    finally:
        tracemalloc.stop()
    assert upload.picture == pictures.scene(32, 32)


def test_more_than_a_megabyte_of_text_in_a_png_is_dropped() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_itxt("parameters", "a prompt " * 200_000, zip=True)
    assert read(pictures.photo(64, 48, pnginfo=info)).picture == pictures.scene(64, 48)


def test_a_png_with_many_profiles_is_read_by_its_first() -> None:
    content = pictures.photo(32, 32, icc_profile=pictures.rgb_profile())
    other = b"x\0\0" + zlib.compress(bytes(900_000), 9)
    for _ in range(50):
        content = pictures.with_png_chunk(content, b"iCCP", other)
    # The last of the chunks is the first that was there.
    assert png.without_extras(content).count(b"iCCP") == 1


def test_a_png_of_very_many_chunks_is_refused() -> None:
    sound = pictures.photo(8, 8)
    chunk = struct.pack(">I4sI", 0, b"tEXt", zlib.crc32(b"tEXt"))
    at = sound.index(b"IDAT") - 4
    assert "100000 chunks" in refusal(sound[:at] + chunk * 100_000 + sound[at:])


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF"])
def test_the_orientation_of_xmp_is_not_applied(format_: str) -> None:
    xmp = camera_files.xmp_orientation(6)
    if format_ == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", xmp.decode())
        content = pictures.photo(64, 48, pnginfo=info)
    elif format_ == "TIFF":
        content = camera_files.tiff_of_pages([Page(RED, (64, 48), {camera_files.XMP: xmp})])
    else:
        content = pictures.photo(64, 48, format_, xmp=xmp)
    assert b"tiff:Orientation" in content
    assert read(content).size == (64, 48)


def test_the_orientation_of_xmp_is_not_applied_in_a_jpeg_without_a_resolution() -> None:
    """Pillow then reads EXIF, and with it XMP, when it opens the file."""
    content = pictures.photo(
        64, 48, "JPEG", xmp=camera_files.xmp_orientation(6), exif=b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"
    )
    start = content.index(b"JFIF") - 4
    (length,) = struct.unpack(">H", content[start + 2 : start + 4])
    assert read(content[:start] + content[start + 2 + length :]).size == (64, 48)


@pytest.mark.parametrize("base", [{}, {"icc_profile": pictures.rgb_profile()}])
def test_a_photo_with_a_gain_map_is_its_base_picture(base: dict[str, bytes]) -> None:
    plain = pictures.photo(96, 64, "JPEG", **base)
    gain_map = pictures.encoded(Image.linear_gradient("L").resize((48, 32)), "JPEG")
    upload = read(camera_files.ultra_hdr(plain, gain_map))
    assert (upload.format, upload.size) == ("JPEG", (96, 64))
    assert upload.picture == read(plain).picture
