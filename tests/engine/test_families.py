"""Every family of models that can be run here, each by a tiny model with random weights: is its declaration true?

`python -m tests.tools.gpu` runs the tests with the fixture `driver` for real models, in place of the twins.
"""

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from generation.engine.engine import BatchItem, Engine, EngineSettings, Result
from generation.engine.errors import ModelFailed
from generation.engine.progress import Preview
from generation.families import FAMILY_TRAITS, Family, ImageUse, LatentLayout
from generation.family_detection import UnsupportedModel, detect_family, read_configuration
from generation.parameters import ImageToImageParameters
from generation.recipes import NO_LIMITS, Limits, ModelReference, Recipe, plan, traits_of
from tests.support.pictures import scene
from tests.support.twins import TWINS, save_twin

Pixels = NDArray[np.int16]

SMALL = Limits(side=192)
"""As staff can limit a model: it saves time, and all families can make such pictures."""
PICTURE = scene(192, 192)

REFUSED = {
    "sd-inpainting": "needs a mask",
    "flux-depth": "needs a control picture",
    "sana": "from text alone",
}
DRIVEN = [
    name for name, twin in TWINS.items() if name not in REFUSED and all(find_spec(package) for package in twin.packages)
]


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


class Driver:
    """Runs one twin."""

    def __init__(self, name: str, models_dir: Path) -> None:
        id_ = save_twin(models_dir, name)
        family = detect_family(id_, *read_configuration(models_dir / id_))
        self.model = ModelReference(id=id_, revision="", family=family)
        self.traits = traits_of(self.model)
        self.engine = Engine(EngineSettings(models_dir=models_dir, dtype=TWINS[name].dtype, offline=True))
        self._pixels: dict[str, Pixels] = {}

    def recipe(self, limits: Limits = SMALL, size: tuple[int, int] = PICTURE.size, **fields: Any) -> Recipe:
        """Return the recipe of a request with the contract's default strength."""
        values = {"prompt": "make it night", "num_inference_steps": 4, "seed": 7, "safety_check": False}
        return plan(ImageToImageParameters(**values | fields), self.model, [], size, limits)[0]

    def run(self, picture: Image.Image = PICTURE, **fields: Any) -> Result:
        """Return the result of a request with these fields; check that the reported steps are those of its recipe."""
        recipe = self.recipe(**fields)
        reports: list[tuple[int, int, str]] = []
        result = self.engine.run(recipe, picture, lambda *report: reports.append(report))
        images = len(recipe.seeds) if self.traits.image_use is ImageUse.REFERENCES else 1
        assert max(done for done, _, phase in reports if phase == "denoising") == images * recipe.executed_steps
        return result

    def pixels(self, **fields: Any) -> Pixels:
        """Return the pixels of a request with these fields, which is run once."""
        key = repr(sorted(fields.items()))
        if key not in self._pixels:
            self._pixels[key] = pixels_of(self.run(**fields))
        return self._pixels[key]


@pytest.fixture(scope="module", params=DRIVEN)
def driver(request: pytest.FixtureRequest, models_dir: Path) -> Driver:
    return Driver(request.param, models_dir)


def pixels_of(result: Result, image: int = 0) -> Pixels:
    return np.asarray(result.pictures[image].image, np.int16)


def difference(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one - other).mean())


def test_the_picture_matters(driver: Driver) -> None:
    assert difference(driver.pixels(), pixels_of(driver.run(ImageOps.invert(PICTURE)))) > 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("strength", 0.4),
        ("guidance_scale", 2.0),
        ("image_guidance_scale", 3.0),
        ("negative_prompt", "a ship"),
        ("num_inference_steps", 3),
        ("prompt", "a ship"),
    ],
)
def test_a_field_matters_unless_its_family_says_not(driver: Driver, field: str, value: Any) -> None:
    has_effect = field not in driver.traits.without_effect
    assert (difference(driver.pixels(), driver.pixels(**{field: value})) > 0) == has_effect


def test_the_second_image_is_what_its_seed_gives_alone(driver: Driver) -> None:
    both = driver.run(num_images_per_prompt=2)
    assert difference(pixels_of(both, 0), driver.pixels()) < 1
    assert difference(pixels_of(both, 1), driver.pixels(seed=8)) < 1


def test_a_neighbour_in_the_batch_changes_nothing(driver: Driver) -> None:
    """The neighbour has another picture, and another guidance scale where a call may have two."""
    recipe, other = driver.recipe(), driver.recipe(guidance_scale=2.0)
    if other.batch_key != recipe.batch_key:
        other = recipe
    items = [BatchItem(recipe, PICTURE), BatchItem(other, ImageOps.invert(PICTURE))]
    first, second = driver.engine.run_batch(items, lambda *_: None)
    assert isinstance(first, Result)
    assert isinstance(second, Result)
    assert difference(pixels_of(first), driver.pixels()) < 1


def test_odd_sizes_are_neither_refused_nor_stretched_and_previews_have_their_shape(driver: Driver) -> None:
    picture, previews = scene(257, 391), list[Preview]()
    recipe = driver.recipe(NO_LIMITS, picture.size)
    result = driver.engine.run(recipe, picture, lambda *_: None, lambda make: previews.extend(make()))
    width, height = result.pictures[0].image.size
    assert width / height == pytest.approx(257 / 391, rel=0.01)
    has_previews = driver.traits.latents is not LatentLayout.NONE
    assert {preview.picture.size for preview in previews} == ({(84, 128)} if has_previews else set())


def test_it_stops_within_a_step_and_the_next_run_is_clean(driver: Driver) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, of: int, phase: str) -> None:
        if phase == "denoising" and done:
            assert done == 1
            raise Stop

    with pytest.raises(Stop):
        driver.engine.run(driver.recipe(), PICTURE, stop)
    assert np.array_equal(driver.pixels(), pixels_of(driver.run()))


def test_it_warms(driver: Driver) -> None:
    driver.engine.warm(driver.model)


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_run_is_refused_with_its_reason(name: str, models_dir: Path) -> None:
    id_ = save_twin(models_dir, name)
    with pytest.raises(UnsupportedModel, match=REFUSED[name]):
        detect_family(id_, *read_configuration(models_dir / id_))
    engine = Engine(EngineSettings(models_dir=models_dir, offline=True))
    with pytest.raises(ModelFailed, match=REFUSED[name]):
        engine.warm(ModelReference(id=id_, revision="", family=Family.STABLE_DIFFUSION))


def test_no_declaration_names_what_diffusers_does_not_have() -> None:
    import diffusers

    for family in Family:
        traits = FAMILY_TRAITS[family]
        assert hasattr(diffusers, traits.pipeline), family
        assert traits.image_use is ImageUse.START or not traits.has_strength, family


def test_numbers_that_are_not_finite_after_decoding_are_a_failure(models_dir: Path) -> None:
    """A black picture was a success before."""
    driver = Driver("sd35", models_dir)
    warm = driver.engine._pipelines.get(driver.model)
    with torch.no_grad():
        warm.pipe.vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(ModelFailed, match="numbers overflowed"):
        driver.run()
