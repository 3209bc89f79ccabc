"""How inputs are stored: the same pixels where that is not many times the upload, else nearly the same."""

import io
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from PIL import Image, ImageChops, ImageStat

from accounts.models import User
from generation.images import uploads
from generation.images.input_files import ALWAYS_LOSSLESS_BYTES, MAX_GROWTH, encode_input
from generation.library.stored import stored_picture
from tests.support import pictures
from tests.support.generations import make_generation

SIZE = (1600, 1200)


def read(content: bytes) -> uploads.Upload:
    return uploads.read_upload(io.BytesIO(content), max_pixels=4_000_000)


@pytest.fixture(scope="module")
def grainy() -> Image.Image:
    """A large picture with the grain of a photo, which no lossless format makes small."""
    grain = Image.merge("RGB", [Image.effect_noise(SIZE, 24)] * 3)
    return ImageChops.add(pictures.scene(*SIZE), grain, scale=1, offset=-128)


def mean_difference(first: Image.Image, second: Image.Image) -> float:
    return max(ImageStat.Stat(ImageChops.difference(first, second)).mean)


@pytest.mark.parametrize("format_", ["PNG", "JPEG"])
def test_a_small_picture_keeps_its_pixels(format_: str) -> None:
    upload = read(pictures.photo(300, 200, format_))
    stored = encode_input(upload)
    assert stored.suffix == ".webp"
    with Image.open(io.BytesIO(stored.content)) as picture:
        assert (picture.format, picture.mode) == ("WEBP", "RGB")
        assert picture.tobytes() == upload.picture.tobytes()


def test_an_upload_without_loss_keeps_its_pixels(grainy: Image.Image) -> None:
    upload = read(pictures.encoded(grainy))
    stored = encode_input(upload)
    assert len(stored.content) > ALWAYS_LOSSLESS_BYTES
    with Image.open(io.BytesIO(stored.content)) as picture:
        assert picture.tobytes() == grainy.tobytes()


@pytest.mark.parametrize("quality", [75, 90])
def test_a_large_photo_is_not_stored_many_times_its_size(grainy: Image.Image, quality: int) -> None:
    content = pictures.encoded(grainy, "JPEG", quality=quality)
    upload = read(content)
    stored = encode_input(upload)
    assert stored.suffix == ".jpg"
    assert len(stored.content) < 1.2 * MAX_GROWTH * len(content)
    with Image.open(io.BytesIO(stored.content)) as picture:
        assert picture.mode == "RGB"
        assert mean_difference(picture, upload.picture) < 1.5


@pytest.mark.django_db
def test_a_stored_input_that_is_used_again_stays_as_it_is(alice: User, grainy: Image.Image) -> None:
    """Otherwise a photo would lose a little with every request that repeats another."""
    stored = encode_input(read(pictures.encoded(grainy, "JPEG", quality=80)))
    generation = make_generation(alice)
    generation.input.name = default_storage.save("test/again.jpg", io.BytesIO(stored.content))
    generation.save()
    again = encode_input(stored_picture(alice, generation.pk).read())
    assert again == stored
    assert Path(generation.input.name).suffix == again.suffix
