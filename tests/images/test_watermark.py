"""The watermark: what it says, what is left of it, and what it leaves as it was. `make bench` measures it on photos."""

import numpy as np
import pytest
from PIL import Image

from generation.images import watermark
from generation.images.watermark_payload import PICTURE_BITS, Payload, site_of
from tests.support import pictures
from tests.support.environment import ROOT
from tests.support.handling import HANDLING

KEY = b"the key of this site"
PAYLOAD = Payload(site_of(KEY), 0x0123456789AB)


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.open(ROOT / "dreamsite/static/sample.jpg").convert("RGB")


@pytest.fixture(scope="module")
def marked(photo: Image.Image) -> Image.Image:
    return watermark.embed(photo, PAYLOAD, KEY)


@pytest.mark.parametrize("handling", HANDLING)
def test_it_is_read_from_what_is_left(marked: Image.Image, handling: str) -> None:
    assert watermark.read(HANDLING[handling](marked), KEY) == PAYLOAD


def test_it_is_at_least_40_decibels_below_the_picture(photo: Image.Image, marked: Image.Image) -> None:
    change = np.asarray(marked, np.float64) - np.asarray(photo)
    assert 10 * np.log10(255**2 / np.mean(change**2)) >= 40


def test_only_the_key_reads_it(photo: Image.Image, marked: Image.Image) -> None:
    assert watermark.read(marked, b"the key of another site") is None
    assert watermark.read(photo, KEY) is None


def test_the_same_picture_becomes_the_same_bytes(photo: Image.Image, marked: Image.Image) -> None:
    assert watermark.embed(photo, PAYLOAD, KEY).tobytes() == marked.tobytes()


def test_a_recipe_and_a_key_have_one_payload() -> None:
    assert Payload.of(KEY, "a") == Payload.of(KEY, "a")
    assert len({Payload.of(KEY, "a"), Payload.of(KEY, "b"), Payload.of(b"another key", "a")}) == 3
    assert 0 <= Payload.of(KEY, "a").picture < 2**PICTURE_BITS
    assert Payload.from_bytes(PAYLOAD.to_bytes()) == PAYLOAD


def test_nothing_changes_outside_of_the_open_part(photo: Image.Image) -> None:
    mask = Image.new("L", photo.size)
    mask.paste(255, (100, 40, 370, 280))
    marked = watermark.embed(photo, PAYLOAD, KEY, mask)
    assert watermark.read(marked, KEY) == PAYLOAD
    is_changed = (np.asarray(marked) != np.asarray(photo)).any(axis=2)
    assert is_changed.any()
    assert not is_changed[np.asarray(mask) == 0].any()


def test_a_mark_in_a_part_of_a_large_photo_is_found() -> None:
    photo = pictures.scene(3000, 2000)
    mask = Image.new("L", photo.size)
    mask.paste(255, (1500, 900, 2100, 1500))
    assert watermark.read(watermark.embed(photo, PAYLOAD, KEY, mask), KEY) == PAYLOAD


@pytest.mark.parametrize("side", [1, 8, 47, 64])
def test_a_picture_can_be_too_small_for_it(side: int) -> None:
    picture = Image.effect_noise((side, side), 40).convert("RGB")
    assert watermark.read(watermark.embed(picture, PAYLOAD, KEY), KEY) is None


def test_an_empty_mask_changes_nothing(photo: Image.Image) -> None:
    assert watermark.embed(photo, PAYLOAD, KEY, Image.new("L", photo.size)).tobytes() == photo.tobytes()


@pytest.mark.parametrize("colour", ["black", "white", "#808080"])
def test_a_flat_picture_says_nothing_by_itself(colour: str) -> None:
    assert watermark.read(Image.new("RGB", (256, 256), colour), KEY) is None
