"""Results carry the watermark of the site, and their rows say so; those that cannot are left as they are."""

from io import BytesIO

import numpy as np
import pytest
from django.core.files.storage import default_storage
from PIL import Image
from pytest_django import Settings

from accounts.models import ApiToken
from generation.engine.engine import Engine, EngineSettings
from generation.images import watermark
from generation.images.inputs import InputFiles
from generation.images.watermark_payload import Payload
from generation.models import DiffusionModel, GeneratedImage
from generation.serializers import record
from tests.support.execution import run_batch
from tests.support.generations import half_mask
from tests.support.jobs import claim, submit
from tests.support.pictures import encoded, photo, scene

pytestmark = [pytest.mark.usefixtures("redis", "tiny_edit"), pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(EngineSettings(models_dir=tmp_path_factory.mktemp("models"), dtype="float32", offline=True))


def make(token: ApiToken, engine: Engine, files: InputFiles | None = None, **fields: str) -> GeneratedImage:
    fields = {"num_inference_steps": "2", "seed": "7", **fields}
    submit(token, files or InputFiles(BytesIO(photo())), **fields)
    generation = claim()
    assert generation
    run_batch([generation], engine)
    return GeneratedImage.objects.get(generation=generation)


def masked(picture: Image.Image, mask: Image.Image) -> InputFiles:
    return InputFiles(BytesIO(encoded(picture)), BytesIO(encoded(mask)))


def content(image: GeneratedImage) -> bytes:
    with default_storage.open(str(image.file.name)) as file:
        return bytes(file.read())


def pixels(image: GeneratedImage) -> Image.Image:
    return Image.open(BytesIO(content(image))).convert("RGB")


def says(image: GeneratedImage) -> bool:
    """Return what the record of a generation with one picture says of its watermark."""
    (picture,) = record(image.generation, str, None)["images"]
    assert picture["watermark"] is image.has_watermark
    return bool(picture["watermark"])


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_a_result_says_which_recipe_made_it(
    alices: ApiToken, engine: Engine, settings: Settings, output_format: str
) -> None:
    image = make(alices, engine, output_format=output_format)
    assert says(image)
    key = settings.WATERMARK_KEY.encode()
    assert watermark.read(pixels(image), key) == Payload.of(key, image.recipe_digest)
    assert image.watermark == Payload.of(key, image.recipe_digest).picture


def test_the_same_recipe_stays_the_same_pixels(alices: ApiToken, bobs: ApiToken, engine: Engine) -> None:
    first, second = make(alices, engine), make(bobs, engine)
    assert first.watermark == second.watermark
    assert pixels(first) == pixels(second)
    other = make(alices, engine, seed="8")
    assert other.watermark != first.watermark


def test_settings_and_staff_can_switch_it_off(
    alices: ApiToken, engine: Engine, settings: Settings, tiny_edit: DiffusionModel
) -> None:
    marked = make(alices, engine)
    settings.WATERMARK = False
    by_settings = make(alices, engine)
    settings.WATERMARK = True
    DiffusionModel.objects.filter(pk=tiny_edit.pk).update(watermark=False)
    by_staff = make(alices, engine)
    assert (says(marked), says(by_settings), says(by_staff)) == (True, False, False)
    assert pixels(by_settings) == pixels(by_staff) != pixels(marked)
    assert watermark.read(pixels(by_staff), settings.WATERMARK_KEY.encode()) is None


def test_outside_of_a_mask_nothing_changes(alices: ApiToken, engine: Engine) -> None:
    upload, mask = scene(256, 256), half_mask(256, 256)
    image = make(alices, engine, masked(upload, mask))
    assert says(image)
    is_changed = (np.asarray(pixels(image)) != np.asarray(upload)).any(axis=2)
    assert is_changed[np.asarray(mask) > 0].any()
    assert not is_changed[np.asarray(mask) == 0].any()


def test_a_part_that_is_too_small_is_left_as_it_is(alices: ApiToken, engine: Engine, settings: Settings) -> None:
    mask = Image.new("L", (256, 256))
    mask.paste(255, (100, 100, 116, 116))
    image = make(alices, engine, masked(scene(256, 256), mask))
    assert not says(image)
    settings.WATERMARK = False
    unmarked = make(alices, engine, masked(scene(256, 256), mask))
    assert pixels(image) == pixels(unmarked)
