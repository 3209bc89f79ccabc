"""What of a picture may change by masks of every kind: by transparency or lightness, in any format, turned and in any size."""

import io
from typing import Any

import pytest
from PIL import Image

from generation.images import masks
from generation.images.inputs import InputFiles, Inputs, read_files, usable
from generation.images.masks import Mask, read_mask
from generation.parameters import InvalidField
from tests.support.pictures import encoded

SIZE = (6, 4)
LEFT = (0, 0, 3, 4)
"""The part of `SIZE` that the masks here open."""

MAX_PIXELS = 1_000_000


def halves(mode: str, right: Any, left: Any) -> Image.Image:
    """Return a picture whose left half, `LEFT`, has another colour."""
    picture = Image.new(mode, SIZE, right)
    picture.paste(left, LEFT)
    return picture


def read(content: bytes) -> Mask:
    return read_mask(io.BytesIO(content), max_pixels=MAX_PIXELS)


def palette(*, transparency: int | None = None) -> bytes:
    """A picture whose left half has colour 1, white, and whose right half has colour 0, black, unless transparent."""
    picture = halves("P", 0, 1)
    picture.putpalette([0, 0, 0, 255, 255, 255])
    options: dict[str, Any] = {} if transparency is None else {"transparency": transparency}
    return encoded(picture, **options)


def sixteen_bit() -> bytes:
    """A grey picture whose halves are on either side of the middle of 16 bits."""
    picture = Image.new("I;16", SIZE, 32_500)
    picture.paste(33_000, LEFT)
    return encoded(picture)


@pytest.mark.parametrize(
    "content",
    [
        encoded(halves("1", 0, 1)),
        encoded(halves("L", 127, 128)),
        encoded(halves("RGB", "navy", "yellow")),
        encoded(halves("RGB", "black", "white"), "JPEG", quality=95),
        encoded(halves("RGB", "black", "white"), "WEBP", lossless=True),
        encoded(halves("CMYK", (0, 0, 0, 255), (0, 0, 0, 0)), "TIFF"),
        encoded(halves("LA", (0, 255), (255, 255))),
        palette(),
        sixteen_bit(),
    ],
    ids=["1", "L", "RGB", "JPEG", "WebP", "CMYK", "opaque LA", "palette", "16 bits"],
)
def test_without_transparency_what_is_light_may_change(content: bytes) -> None:
    mask = read(content)
    assert (mask.picture.mode, mask.size, mask.picture.getbbox()) == ("1", SIZE, LEFT)
    assert not mask.is_by_alpha
    assert mask.open_share == 0.5


@pytest.mark.parametrize(
    "content",
    [
        encoded(halves("RGBA", (255, 255, 255, 127), (0, 0, 0, 128))),
        encoded(halves("LA", (255, 0), (0, 255))),
        encoded(halves("RGBA", (255, 255, 255, 0), (0, 0, 0, 255)), "WEBP", lossless=True, exact=True),
        palette(transparency=0),
    ],
    ids=["RGBA", "LA", "WebP", "palette"],
)
def test_with_transparency_what_is_opaque_may_change(content: bytes) -> None:
    mask = read(content)
    assert (mask.picture.getbbox(), mask.is_by_alpha) == (LEFT, True)


@pytest.mark.parametrize(
    ("orientation", "box"), [(1, (0, 0, 3, 4)), (3, (3, 0, 6, 4)), (6, (0, 0, 4, 3)), (8, (0, 3, 4, 6))]
)
def test_a_mask_is_turned_as_its_orientation_says(orientation: int, box: tuple[int, ...]) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    mask = read(encoded(halves("L", 0, 255), exif=exif))
    assert mask.size == (SIZE if orientation < 5 else SIZE[::-1])
    assert mask.picture.getbbox() == box


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The file is empty"),
        (b"no picture", "looks like a text file"),
        (encoded(Image.new("1", (1001, 1000))), "at most 1,000,000 pixels"),
    ],
)
def test_what_is_no_mask_is_an_error_of_the_mask(content: bytes, words: str) -> None:
    with pytest.raises(InvalidField, match=words) as caught:
        read(content)
    assert caught.value.field == "mask"


def test_a_mask_is_stored_as_one_bit_for_each_pixel() -> None:
    mask = read(encoded(halves("RGB", "black", "white"), "JPEG", quality=95))
    stored = Image.open(io.BytesIO(mask.content))
    assert (stored.format, stored.mode, stored.info) == ("PNG", "1", {})
    assert Mask.from_file(mask.content).picture.tobytes() == mask.picture.tobytes()
    assert read(mask.content).sha256 == mask.sha256


@pytest.mark.parametrize("size", [(1, 1), (6, 1), (1, 4), (3, 2), (5, 3), (12, 8), (600, 40)])
def test_a_fitted_mask_opens_what_was_open(size: tuple[int, int]) -> None:
    mask = read(encoded(halves("L", 0, 255)))
    fitted = mask.fitted(size)
    assert fitted.size == size
    assert fitted.picture.getbbox() == mask.open_box(size)


@pytest.mark.parametrize(("at", "fitted_at"), [((0, 0), (0, 0)), ((19_999, 9), (6, 4)), ((11_777, 5), (4, 2))])
def test_a_single_open_pixel_stays_open_in_a_far_smaller_picture(
    at: tuple[int, int], fitted_at: tuple[int, int]
) -> None:
    large = Image.new("1", (20_000, 10))
    large.putpixel(at, 255)
    left, upper = fitted_at
    assert Mask(large).fitted((7, 5)).picture.getbbox() == (left, upper, left + 1, upper + 1)
    assert Mask(large).fitted((1, 1)).is_full


def test_a_mask_of_the_same_size_is_not_fitted() -> None:
    mask = Mask(halves("1", 0, 255))
    assert mask.fitted(SIZE) is mask
    assert masks.fitting_warning(mask, SIZE) == []
    assert masks.fitting_warning(mask, (12, 8)) == ["The mask of 6 x 4 pixels was fitted to the picture of 12 x 8."]
    assert masks.fitting_warning(mask, (12, 9)) == [
        "The mask of 6 x 4 pixels was fitted to the picture of 12 x 9, which has another shape."
    ]


@pytest.mark.parametrize("invert", [False, True])
def test_an_empty_mask_is_refused_and_a_full_one_is_none(invert: bool) -> None:
    empty, full = Mask(Image.new("1", SIZE, 255 if invert else 0)), Mask(Image.new("1", SIZE, 0 if invert else 255))
    with pytest.raises(InvalidField, match="in black" if invert else "in white") as caught:
        usable(empty, mask_invert=invert)
    assert caught.value.field == "mask"
    assert usable(full, mask_invert=invert) == (None, [masks.FULL_WARNING])
    half, warnings = usable(Mask(halves("1", 0, 255)), mask_invert=invert)
    assert half
    assert (half.picture.getbbox(), warnings) == ((3, 0, 6, 4) if invert else LEFT, [])


@pytest.mark.parametrize(
    ("mask", "invert", "is_left_open", "warnings"),
    [
        (halves("RGBA", (0, 0, 0, 255), (0, 0, 0, 0)), False, True, []),
        (halves("RGBA", (0, 0, 0, 255), (0, 0, 0, 0)), True, False, []),
        (halves("L", 0, 255), False, True, [masks.OPAQUE_WARNING]),
    ],
)
def test_in_openais_masks_what_is_transparent_may_change(
    mask: Image.Image, invert: bool, is_left_open: bool, warnings: list[str]
) -> None:
    picture, sent = io.BytesIO(encoded(Image.new("RGB", SIZE))), io.BytesIO(encoded(mask))
    files = InputFiles(picture, sent, has_openai_mask=True)
    inputs, told = read_files(files, max_pixels=MAX_PIXELS, mask_invert=invert)
    assert inputs.mask
    assert inputs.mask.picture.getbbox() == (LEFT if is_left_open else (3, 0, 6, 4))
    assert told == warnings


def test_the_digest_of_a_request_depends_on_its_mask_and_order() -> None:
    def digest(*references: str, mask: Image.Image | None = None) -> str:
        files = [io.BytesIO(encoded(Image.new("RGB", SIZE, colour))) for colour in references]
        sent = io.BytesIO(encoded(mask)) if mask else None
        picture = io.BytesIO(encoded(Image.new("RGB", SIZE)))
        inputs, _ = read_files(InputFiles(picture, sent, files), max_pixels=MAX_PIXELS)
        return inputs.digest

    half = halves("L", 0, 255)
    digests = [digest(), digest("red"), digest("red", "blue"), digest("blue", "red"), digest(mask=half)]
    digests += [digest(mask=halves("L", 255, 0)), Inputs().digest]
    assert len(set(digests)) == len(digests)
    assert digest(mask=half) == digest(mask=halves("RGBA", (0, 0, 0, 0), (9, 9, 9, 255))), "they mean the same"


def test_a_dry_run_encodes_no_picture() -> None:
    def send(*, is_stored: bool) -> Inputs:
        files = InputFiles(io.BytesIO(encoded(Image.new("RGB", SIZE))), io.BytesIO(encoded(halves("L", 0, 255))))
        return read_files(files, max_pixels=MAX_PIXELS, is_stored=is_stored)[0]

    kept, dry = send(is_stored=True), send(is_stored=False)
    assert kept.picture
    assert dry.picture
    assert (kept.picture.stored is None, dry.picture.stored) == (False, None)
    assert (dry.picture.size, dry.mask) == (kept.picture.size, kept.mask)
