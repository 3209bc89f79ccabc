"""The bundled models change what a mask lets change, and nothing else."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from generation.engine import calls, canvas
from generation.engine.engine import Engine
from generation.engine.masks import MaskedPicture
from generation.engine.progress import OnStep
from generation.parameters import ImageToImageParameters
from generation.recipes import ModelReference, plan
from tests.support.environment import ROOT
from tests.support.tiny_models import TINY_EDIT, TINY_REDRAW

Pixels = NDArray[np.int16]


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    with Image.open(ROOT / "dreamsite" / "static" / "sample.jpg") as cat:
        return cat.convert("RGB").resize((150, 130))


def ignore(*_: Any) -> None:
    pass


def make(
    engine: Engine,
    model: ModelReference,
    photo: Image.Image,
    mask: Image.Image,
    on_step: OnStep = ignore,
    **fields: Any,
) -> Pixels:
    values = {"prompt": "make it black and white", "seed": 7, "safety_check": False, "num_inference_steps": 2}
    parameters = ImageToImageParameters(**values | fields)
    recipe, _ = plan(parameters, model, [], photo.size, open_box=mask.getbbox())
    return pixels(engine.run(recipe, photo, on_step, mask=mask).pictures[0].image)


def pixels(picture: Image.Image) -> Pixels:
    return np.asarray(picture, np.int16)


def ellipse(size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse((30, 30, size[0] - 40, size[1] - 20), fill=255)
    return mask


@pytest.mark.parametrize("model", [TINY_EDIT, TINY_REDRAW], ids=lambda model: model.id)
def test_a_mask_of_any_size_changes_only_what_it_opens(
    engine: Engine, photo: Image.Image, model: ModelReference
) -> None:
    one = Image.new("L", photo.size)
    one.putpixel((70, 60), 255)
    all_but_one = Image.eval(one, lambda value: 255 - value)
    upload = pixels(photo)
    for mask in (one, all_but_one, ellipse(photo.size)):
        made, is_open = make(engine, model, photo, mask), pixels(mask) > 0
        assert np.array_equal(made[~is_open], upload[~is_open])
        assert np.abs(made - upload)[is_open].any()
        assert np.array_equal(made, make(engine, model, photo, mask))


@pytest.mark.parametrize("model", [TINY_EDIT, TINY_REDRAW], ids=lambda model: model.id)
def test_a_part_around_a_mask_is_drawn_and_put_back_into_a_large_upload(
    engine: Engine, photo: Image.Image, model: ModelReference
) -> None:
    large, mask = photo.resize((1500, 1300)), Image.new("L", (1500, 1300))
    mask.paste(255, (1380, 700, 1480, 790))
    made = make(engine, model, large, mask, mask_padding=40, num_inference_steps=2)
    changed = np.abs(made - pixels(large)).any(axis=2)
    assert changed[705:785, 1385:1475].mean() > 0.9
    assert not changed[pixels(mask) == 0].any()


def test_results_are_put_together_one_by_one(
    engine: Engine, photo: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was drawn of one has the size of the upload, and is let go before the next."""
    order = []

    def fit_back(*arguments: Any) -> Image.Image:
        order.append("fit")
        return canvas.fit_back(*arguments)

    def paste(masked: MaskedPicture, drawn: Image.Image) -> Image.Image:
        order.append("paste")
        return put_back(masked, drawn)

    put_back = MaskedPicture.paste
    monkeypatch.setattr(calls, "fit_back", fit_back)
    monkeypatch.setattr(MaskedPicture, "paste", paste)
    make(engine, TINY_EDIT, photo, ellipse(photo.size), num_inference_steps=2, num_images_per_prompt=2)
    assert order == ["fit", "paste"] * 2


def test_no_seam_is_seen_at_the_edge_of_a_mask(engine: Engine, photo: Image.Image) -> None:
    """Where pixels on both sides of the edge meet, they differ no more than neighbours do in the upload."""
    mask = ellipse(photo.size)
    is_open = pixels(mask) > 0
    edge = is_open[:, 1:] != is_open[:, :-1]

    def steps(picture: Pixels) -> NDArray[np.float64]:
        return np.asarray(np.abs(np.diff(picture, axis=1)).mean(axis=2))

    usual = np.percentile(steps(pixels(photo)), 90)
    soft, hard = (make(engine, TINY_EDIT, photo, mask, mask_feather=feather) for feather in (16, 0))
    assert steps(soft)[edge].mean() < usual < steps(hard)[edge].mean()


def test_a_request_with_a_mask_stops_within_a_step(engine: Engine, photo: Image.Image) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, of: int, phase: str) -> None:
        if phase == "denoising" and done:
            raise Stop

    mask = ellipse(photo.size)
    with pytest.raises(Stop):
        make(engine, TINY_EDIT, photo, mask, stop)
    assert make(engine, TINY_EDIT, photo, mask).shape == pixels(photo).shape
