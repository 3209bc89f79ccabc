"""Valid uploads: formats, colours, orientation, size and metadata."""

import hashlib
import io
import struct

import pytest
from PIL import Image, ImageChops, ImageOps

from generation.images import kinds, uploads
from generation.images.input_files import encode_jpeg, encode_lossless
from tests.support import pictures

WHITE = (255, 255, 255)

# Pillow warns of broken metadata; an upload may have it.
pytestmark = pytest.mark.filterwarnings("ignore:::PIL")


def read(content: bytes) -> uploads.Upload:
    return uploads.read_upload(io.BytesIO(content), max_pixels=4_000_000)


def difference(first: Image.Image, second: Image.Image) -> int:
    """Return the largest difference of any channel of any pixel."""
    assert (first.size, first.mode) == (second.size, second.mode)
    histogram = ImageChops.difference(first, second).histogram()
    return max(value for value in range(256) if any(histogram[value::256]))


def pixel_at_left(picture: Image.Image) -> tuple[int, ...]:
    return pixel(picture, picture.width // 4)


def right(picture: Image.Image) -> tuple[int, ...]:
    return pixel(picture, picture.width * 3 // 4)


def pixel(picture: Image.Image, column: int) -> tuple[int, ...]:
    colour = picture.getpixel((column, picture.height // 2))
    assert isinstance(colour, tuple)
    return colour


def near(colour: tuple[int, ...], expected: tuple[int, ...], tolerance: int = 4) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(colour, expected, strict=True))


def test_it_works() -> None:
    content = pictures.photo(200, 120)
    upload = read(content)
    assert upload.format == "PNG"
    assert upload.size == (200, 120)
    assert upload.sha256 == hashlib.sha256(content).hexdigest()
    assert upload.picture.mode == "RGB"
    assert upload.picture.tobytes() == pictures.scene(200, 120).tobytes()


@pytest.mark.parametrize("format_", pictures.FORMATS)
def test_every_allowed_format_is_recognised_by_its_content(format_: str) -> None:
    assert set(pictures.FORMATS) == set(kinds.FORMATS)
    upload = read(pictures.photo(format_=format_))
    assert upload.format == format_
    reduced = upload.picture.reduce(8)
    assert difference(reduced, pictures.scene().reduce(8)) < 24


def test_an_upload_is_read_from_its_start() -> None:
    upload = io.BytesIO(pictures.photo(32, 32))
    upload.read()
    assert uploads.read_upload(upload, max_pixels=4_000_000).size == (32, 32)
    assert not upload.closed


def test_a_photo_with_two_views_is_a_jpeg_and_shows_the_first() -> None:
    upload = read(pictures.two_views())
    assert upload.format == "JPEG"
    assert difference(upload.picture.reduce(8), pictures.scene(96, 64).reduce(8)) < 24


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "AVIF", "TIFF"])
def test_a_photo_on_its_side_is_turned_upright(format_: str) -> None:
    upload = read(pictures.phone_photo(320, 240, format_))
    assert upload.size == upload.picture.size == (240, 320)
    upright = pictures.scene(320, 240).transpose(Image.Transpose.ROTATE_270)
    assert difference(upload.picture.reduce(16), upright.reduce(16)) < 24


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied(orientation: int) -> None:
    upload = read(pictures.phone_photo(64, 48, "PNG", orientation))
    upright: Image.Image = Image.open(io.BytesIO(pictures.phone_photo(64, 48, "PNG", orientation)))
    turns = {2: [0], 3: [3], 4: [1], 5: [5], 6: [4], 7: [6], 8: [2]}
    for turn in turns.get(orientation, []):
        upright = upright.transpose(Image.Transpose(turn))
    assert upload.picture.tobytes() == upright.tobytes()
    assert upload.size == upright.size


@pytest.mark.parametrize("orientation", [0, 9, 60_000])
def test_an_orientation_that_does_not_exist_is_ignored(orientation: int) -> None:
    assert read(pictures.phone_photo(64, 48, "JPEG", orientation)).size == (64, 48)


def test_a_picture_with_damaged_exif_is_accepted() -> None:
    for exif in (
        b"Exif\0\0garbage",
        b"Exif\0\0II*\0\xff\xff\xff\xff",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\xff" * 40,
    ):
        assert read(pictures.photo(64, 48, "JPEG", exif=exif)).size == (64, 48)


def test_the_orientation_is_applied_despite_a_damaged_exif_entry() -> None:
    """The second entry has a wrong type, with which ImageOps.exif_transpose fails."""
    orientation = b"\x12\x01\x03\0\x01\0\0\0\x06\0\0\0"
    wrong = b"\x44\x01\x05\0\x01\0\0\0\x26\0\0\0"
    exif = b"Exif\0\0II*\0\x08\0\0\0\x02\0" + orientation + wrong + bytes(4) + struct.pack("<II", 72, 1)
    content = pictures.photo(64, 48, "JPEG", exif=exif)
    with pytest.raises(struct.error):
        ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    assert read(content).size == (48, 64)


@pytest.mark.parametrize("format_", ["JPEG", "PNG", "WEBP", "AVIF", "TIFF", "HEIF"])
def test_position_camera_and_comment_are_removed(format_: str) -> None:
    content = pictures.phone_photo(format_=format_)
    assert b"Secret Phone" in content
    picture = read(content).picture
    assert type(picture) is Image.Image
    assert picture.info == {}
    assert len(picture.getexif()) == 0
    for content in (encode_lossless(picture), encode_jpeg(picture), uploads.thumbnail(picture, 64)):
        assert b"Secret" not in content
        assert not any(name in content for name in (b"EXIF", b"XMP ", b"ICCP"))


def test_encoders_write_no_metadata_of_a_picture_that_has_some() -> None:
    picture = Image.open(io.BytesIO(pictures.phone_photo()))
    picture.info |= {"icc_profile": pictures.rgb_profile(), "xmp": b"Secret"}
    for content in (encode_lossless(picture), encode_jpeg(picture), uploads.thumbnail(picture, 64)):
        assert not any(name in content for name in (b"EXIF", b"XMP ", b"ICCP", b"Secret"))


@pytest.mark.parametrize(
    ("mode", "format_"),
    [
        *[("RGBA", format_) for format_ in ("PNG", "WEBP", "TIFF", "AVIF", "HEIF")],
        *[("P", "PNG"), ("P", "GIF"), ("PA", "TIFF"), ("RGB", "PNG")],
        *[("LA", "PNG"), ("LA", "TIFF"), ("L", "PNG"), ("I;16", "PNG")],
    ],
)
def test_transparent_parts_become_white_and_hidden_colours_stay_hidden(mode: str, format_: str) -> None:
    picture = read(pictures.hidden_colours(mode, format_)).picture
    assert right(picture) == WHITE
    assert near(pixel_at_left(picture), (0, 0, 0) if mode in ("LA", "L", "I;16") else (0, 0, 255))


def test_hidden_colours_do_not_bleed_into_a_reduced_picture() -> None:
    large = Image.new("RGBA", (4096, 64), (0, 255, 0, 255))
    large.paste((255, 0, 0, 0), (2049, 0, 4096, 64))
    picture = read(pictures.encoded(large)).picture
    assert picture.size == (2048, 32)
    red, _, blue = picture.split()
    assert difference(red, blue) <= 1


def test_half_transparent_pixels_are_mixed_with_white() -> None:
    picture = read(pictures.encoded(Image.new("RGBA", (8, 8), (255, 0, 0, 128)))).picture
    assert near(pixel_at_left(picture), (255, 127, 127), 1)


@pytest.mark.parametrize(
    ("mode", "format_", "white"),
    [
        *[("I;16", "PNG", 65535), ("I;16", "TIFF", 65535), ("I;16B", "TIFF", 65535)],
        *[("I", "TIFF", 65535), ("I", "TIFF", 2e9), ("F", "TIFF", 1.0), ("F", "TIFF", 5000.0)],
    ],
)
def test_deep_greys_are_scaled_and_not_clipped(mode: str, format_: str, white: float) -> None:
    picture = read(pictures.deep_grey(mode, format_, white)).picture
    ramp = picture.getchannel("R").crop((0, 0, 256, 1)).tobytes()
    assert ramp[0] == 0
    assert ramp[-1] == 255
    assert all(abs(value - column) <= 1 for column, value in enumerate(ramp))


def test_a_dark_deep_grey_stays_dark() -> None:
    picture = read(pictures.deep_grey("I;16", "PNG", 6553)).picture
    assert picture.getextrema() == ((0, 25),) * 3


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", "YCbCr", "LAB"])
def test_every_colour_mode_becomes_rgb(mode: str) -> None:
    before = pictures.scene(64, 48).convert(mode)
    picture = read(pictures.encoded(before, "TIFF")).picture
    assert difference(picture, before.convert("RGB")) <= 1


def test_cmyk_goes_through_its_profile() -> None:
    assert near(pixel_at_left(read(pictures.cmyk_jpeg(profile=pictures.cmyk_profile())).picture), (0, 159, 224))
    assert near(pixel_at_left(read(pictures.cmyk_jpeg((0, 0, 0, 0), pictures.cmyk_profile())).picture), WHITE, 1)


def test_cmyk_without_a_valid_profile_is_converted_without_it() -> None:
    for profile in (None, b"garbage", pictures.rgb_profile(), pictures.cmyk_profile()[:200]):
        assert near(pixel_at_left(read(pictures.cmyk_jpeg(profile=profile)).picture), (0, 255, 255))


@pytest.mark.parametrize("format_", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
def test_wide_colours_become_srgb(format_: str) -> None:
    plain = Image.new("RGB", (64, 64), (192, 96, 64))
    for name, expected in (("Display P3", (208, 89, 51)), ("Adobe RGB", (218, 96, 60))):
        content = pictures.encoded(plain, format_, icc_profile=pictures.rgb_profile(name), quality=95)
        assert near(pixel_at_left(read(content).picture), expected, 6)


def test_wide_colours_under_transparency_become_srgb() -> None:
    content = pictures.encoded(Image.new("RGBA", (8, 8), (192, 96, 64, 255)), icc_profile=pictures.rgb_profile())
    assert near(pixel_at_left(read(content).picture), (208, 89, 51), 1)


def test_grey_goes_through_its_profile() -> None:
    content = pictures.encoded(Image.new("L", (8, 8), 64), icc_profile=pictures.grey_profile(1.0))
    assert near(pixel_at_left(read(content).picture), (137, 137, 137), 1)


def test_a_profile_that_is_broken_or_for_other_pictures_is_ignored() -> None:
    sound = pictures.rgb_profile()
    for profile in (b"x", b"\0" * 500, sound[:150], pictures.cmyk_profile(), pictures.grey_profile()):
        content = pictures.photo(64, 48, icc_profile=profile)
        assert read(content).picture.tobytes() == pictures.scene(64, 48).tobytes()


@pytest.mark.parametrize("format_", ["GIF", "WEBP", "PNG", "AVIF", "TIFF"])
def test_the_first_frame_of_an_animation_is_used(format_: str) -> None:
    upload = read(pictures.animation(format_))
    assert upload.size == (64, 48)
    assert near(pixel_at_left(upload.picture), (0, 255, 0), 2)


def test_a_large_picture_is_reduced_and_its_original_size_returned() -> None:
    upload = read(pictures.photo(2600, 1300, "PNG", compress_level=1))
    assert upload.size == (2600, 1300)
    assert upload.picture.size == (2048, 1024)
    assert difference(upload.picture.reduce(32), pictures.scene(2048, 1024).reduce(32)) < 24


@pytest.mark.parametrize("size", [(5000, 600), (600, 5000), (4096, 300), (4100, 410)])
def test_a_jpeg_decoded_at_reduced_size_is_large_enough_and_looks_the_same(size: tuple[int, int]) -> None:
    content = pictures.photo(*size, "JPEG", quality=95)
    upload = read(content)
    assert upload.size == size
    assert max(upload.picture.size) == 2048
    whole = Image.open(io.BytesIO(content)).resize(upload.picture.size, Image.Resampling.LANCZOS)
    assert difference(upload.picture.reduce(4), whole.reduce(4)) < 24
    assert read(content).picture.tobytes() == upload.picture.tobytes()


def test_a_very_long_picture_keeps_at_least_one_pixel() -> None:
    upload = read(pictures.photo(65_500, 1))
    assert (upload.size, upload.picture.size) == ((65_500, 1), (2048, 1))
    assert read(pictures.photo(1, 1)).picture.size == (1, 1)


@pytest.mark.parametrize(
    ("size", "expected"),
    [((640, 480), (160, 120)), ((480, 640), (120, 160)), ((100, 50), (100, 50)), ((900, 2), (160, 1))],
)
def test_a_thumbnail_fits_and_is_never_enlarged(size: tuple[int, int], expected: tuple[int, int]) -> None:
    picture = pictures.scene(*size)
    small = Image.open(io.BytesIO(uploads.thumbnail(picture, 160)))
    assert (small.format, small.size) == ("WEBP", expected)
    assert picture.size == size
