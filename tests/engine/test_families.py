"""Every family of models that can be run here, each by a tiny model with random weights: is its declaration true?"""

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
from generation.families import FAMILY_TRAITS, Family, ImageUse
from generation.family_detection import UnsupportedModel, detect_family, read_configuration
from generation.parameters import ImageToImageParameters
from generation.recipes import ModelReference, Recipe, plan, traits_of
from tests.support.pictures import scene
from tests.support.twins import TWINS, save_twin

Pixels = NDArray[np.int16]

REFUSED = {
    "sd-inpainting": "needs a mask",
    "flux-depth": "needs a control picture",
    "sana": "from text alone",
}
DRIVEN = [
    name for name, twin in TWINS.items() if name not in REFUSED and all(find_spec(package) for package in twin.packages)
]
BFLOAT16 = {"z-image-omni"}
"""Twins whose pipeline computes in nothing else."""


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
        dtype = "bfloat16" if name in BFLOAT16 else "float32"
        self.engine = Engine(EngineSettings(models_dir=models_dir, dtype=dtype, offline=True))
        self._pixels: dict[str, Pixels] = {}

    def recipe(self, size: tuple[int, int] = (256, 256), **fields: Any) -> tuple[Recipe, list[str]]:
        values = {
            "prompt": "make it night",
            "num_inference_steps": 4,
            "seed": 7,
            "strength": 0.7,
            "safety_check": False,
        }
        return plan(ImageToImageParameters(**values | fields), self.model, [], size)

    def run(self, picture: Image.Image | None = None, **fields: Any) -> Result:
        picture = picture or scene(256, 256)
        recipe, _ = self.recipe(picture.size, **fields)
        return self.engine.run(recipe, picture, lambda *_: None)

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


def reported_steps(engine: Engine, recipe: Recipe) -> list[tuple[int, int, str]]:
    reports: list[tuple[int, int, str]] = []
    engine.run(recipe, scene(256, 256), lambda *report: reports.append(report))
    return reports


def difference(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one - other).mean())


def test_the_picture_matters_and_equal_requests_give_equal_pixels(driver: Driver) -> None:
    assert np.array_equal(driver.pixels(), pixels_of(driver.run()))
    assert difference(driver.pixels(), pixels_of(driver.run(ImageOps.invert(scene(256, 256))))) > 0


def test_the_picture_matters_at_the_contracts_defaults_and_few_steps(driver: Driver) -> None:
    defaults: dict[str, Any] = {"strength": 0.8, "num_inference_steps": 4}
    inverse = driver.run(ImageOps.invert(scene(256, 256)), **defaults)
    assert difference(driver.pixels(**defaults), pixels_of(inverse)) > 0


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
    assert difference(pixels_of(both, 1), driver.pixels(seed=8)) < 1


def test_a_neighbour_in_the_batch_changes_nothing(driver: Driver) -> None:
    recipe, _ = driver.recipe()
    items = [BatchItem(recipe, scene(256, 256)), BatchItem(recipe, ImageOps.invert(scene(256, 256)))]
    first, second = driver.engine.run_batch(items, lambda *_: None)
    assert isinstance(first, Result)
    assert isinstance(second, Result)
    assert difference(pixels_of(first), driver.pixels()) < 1


def test_odd_sizes_are_neither_refused_nor_stretched(driver: Driver) -> None:
    result = driver.run(scene(257, 391))
    width, height = result.pictures[0].image.size
    assert width / height == pytest.approx(257 / 391, rel=0.01)


def test_stated_steps_are_the_steps(driver: Driver) -> None:
    for steps, strength in ((4, 0.4), (2, 1.0)):
        recipe, _ = driver.recipe(num_inference_steps=steps, strength=strength)
        reports = reported_steps(driver.engine, recipe)
        assert max(done for done, _, phase in reports if phase == "denoising") == recipe.executed_steps
        assert {of for _, of, _ in reports} == {recipe.executed_steps}


def test_it_stops_within_a_step_and_the_next_run_is_clean(driver: Driver) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, of: int, phase: str) -> None:
        if phase == "denoising" and done:
            assert done == 1
            raise Stop

    recipe, _ = driver.recipe()
    with pytest.raises(Stop):
        driver.engine.run(recipe, scene(256, 256), stop)
    assert np.array_equal(driver.pixels(), pixels_of(driver.run()))


def test_it_warms(driver: Driver) -> None:
    driver.engine.warm(driver.model)


def test_previews_have_the_shape_of_the_picture(driver: Driver) -> None:
    previews: list[list[Preview]] = []
    recipe, _ = driver.recipe((256, 384))
    driver.engine.run(recipe, scene(256, 384), lambda *_: None, lambda make: previews.append(make()))
    for step in previews:
        for preview in step:
            assert preview.picture.size == (85, 128)


def test_a_batch_of_two_scales_works(driver: Driver) -> None:
    one, other = driver.recipe()[0], driver.recipe(guidance_scale=2.0)[0]
    if one.batch_key == other.batch_key:
        items = [BatchItem(one, scene(256, 256)), BatchItem(other, scene(256, 256))]
        first, second = driver.engine.run_batch(items, lambda *_: None)
        assert isinstance(first, Result)
        assert isinstance(second, Result)
        assert difference(pixels_of(first), driver.pixels()) < 1
        assert difference(pixels_of(second), driver.pixels(guidance_scale=2.0)) < 1


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
