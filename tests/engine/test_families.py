"""Every family of models that can be run here, each by a tiny model with random weights: is its declaration true?

`python -m tests.tools.gpu` runs the tests with the fixture `driver` for real models, in place of the twins.
"""

import inspect
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps

from generation.engine import previews
from generation.engine.autoencoders import autoencoder_of, scale
from generation.engine.batches import BatchItem, Receipt, Result
from generation.engine.engine import Engine, EngineSettings
from generation.engine.errors import ModelFailed
from generation.engine.observation import results_observed
from generation.engine.pipelines import expected_warnings_ignored
from generation.engine.progress import OnStep, Preview, PreviewSink
from generation.families import FAMILY_TRAITS, Family
from generation.family_detection import REASONS, UnsupportedModel, detect_family, read_configuration
from generation.family_traits import ImageUse
from generation.inpainting import Box
from generation.parameters import ImageToImageParameters
from generation.recipes import Limits, LoraReference, ModelReference, Recipe, plan, traits_of
from generation.sizes import fit
from tests.support.pictures import scene
from tests.support.twin_loras import save_twin_lora
from tests.support.twins import TWINS, save_twin
from tests.support.vision_twins import scaled_to_less

Pixels = NDArray[np.int16]

SIDE = 128
PICTURE = scene(SIDE, SIDE)
OPEN_BOX = (32, 24, 96, 80)
"""What the masks here let change."""
FIELDS: dict[str, Any] = {
    "strength": 0.4,
    "guidance_scale": 2.0,
    "image_guidance_scale": 3.0,
    "negative_prompt": "a ship",
    "num_inference_steps": 3,
    "prompt": "a ship",
    "loras": '{"any": 1}',
}
"""Each field of a request that a model may ignore, with another value than in most requests here."""

DECLARED = dict(FAMILY_TRAITS)
"""Before `less_work` changes some."""

REFUSED = {
    "flux-depth": "needs a control picture",
    "sana": "from text alone",
}
DRIVEN = [
    name for name, twin in TWINS.items() if name not in REFUSED and all(find_spec(package) for package in twin.packages)
]


@pytest.fixture(scope="module", autouse=True)
def less_work() -> Iterator[None]:
    with scaled_to_less() if all(twin.is_tiny for twin in TWINS.values()) else nullcontext():
        yield


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def ignore(done: int, of: int, phase: str) -> None:
    pass


def mask_of(recipe: Recipe, open_box: Box | None = None) -> Image.Image | None:
    """Return a mask for this recipe, if it has one, that is white in `open_box` or else everywhere."""
    if recipe.inpainting is None:
        return None
    mask = Image.new("L", recipe.inpainting.size)
    mask.paste(255, open_box or (0, 0, *mask.size))
    return mask


@dataclass
class Observed:
    """A run, and what the pipeline did in it: calls of the scheduler, latents before and pictures after decoding."""

    recipe: Recipe
    result: Result
    steps_told: list[int] = field(default_factory=list)
    previews: list[Preview] = field(default_factory=list)
    steps: int = 0
    latents: list[torch.Tensor] = field(default_factory=list)
    decoded_pixels: int = 0

    @property
    def pixels(self) -> Pixels:
        return pixels_of(self.result)


class Driver:
    """Runs one twin. As staff can limit a model, its pictures are small: that saves time, and all families can make them."""

    def __init__(self, name: str, models_dir: Path) -> None:
        id_ = save_twin(models_dir, name)
        family = detect_family(id_, *read_configuration(models_dir / id_))
        self.model = ModelReference(id=id_, revision="", family=family)
        self.traits = traits_of(self.model)
        self.engine = Engine(EngineSettings(models_dir=models_dir, dtype=TWINS[name].dtype, offline=True))
        self._models_dir = models_dir

    @cached_property
    def lora(self) -> LoraReference:
        return save_twin_lora(self._models_dir, self.model.id)

    @property
    def pipe(self) -> Any:
        with expected_warnings_ignored():
            return self.engine._pipelines.get(self.model).pipe

    def plan(
        self, size: tuple[int, int] = PICTURE.size, open_box: Box | None = None, references: int = 0, **fields: Any
    ) -> tuple[Recipe, list[str]]:
        """Return what `plan` does of a request with the contract's default strength."""
        if self.traits.needs_mask:
            open_box = open_box or (0, 0, *size)
        values = {"prompt": "make it night", "num_inference_steps": 4, "seed": 7, "safety_check": False}
        parameters = ImageToImageParameters(**values | fields)
        loras = [self.lora] if parameters.loras else []
        return plan(parameters, self.model, loras, size, Limits(side=max(size)), open_box, references)

    def recipe(self, **fields: Any) -> Recipe:
        return self.plan(**fields)[0]

    def make(
        self,
        recipe: Recipe,
        picture: Image.Image = PICTURE,
        on_step: OnStep = ignore,
        on_preview: PreviewSink | None = None,
    ) -> Result:
        """Run a recipe; a model that needs a mask gets one that is white everywhere, if the request has none."""
        return self.engine.run(recipe, picture, on_step, on_preview, mask=mask_of(recipe))

    def run(self, picture: Image.Image = PICTURE, **fields: Any) -> Pixels:
        return pixels_of(self.make(self.recipe(**fields), picture))

    @cached_property
    def plain(self) -> Observed:
        """Return the run that others are compared with."""
        run = Observed(self.recipe(), Result([], [], {}, Receipt({}, [])))

        def tell(done: int, of: int, phase: str) -> None:
            if phase == "denoising":
                assert of == run.recipe.executed_steps
                run.steps_told.append(done)

        def count_step(*_: Any) -> None:
            run.steps += 1

        def keep_latents(arguments: Any, decoded: Any) -> None:
            (latents, *_) = arguments.values()
            run.latents.append(latents)
            pictures = decoded[0] if isinstance(decoded, tuple) else decoded.sample
            # JoyImage decodes its reference beside the picture.
            run.decoded_pixels += pictures.shape[-1] * pictures.shape[-2]

        with (
            results_observed(self.pipe.scheduler, "step", count_step),
            results_observed(autoencoder_of(self.pipe), "decode", keep_latents),
        ):
            run.result = self.make(run.recipe, PICTURE, tell, lambda make: run.previews.extend(make()))
        return run


@pytest.fixture(scope="module", params=DRIVEN)
def driver(request: pytest.FixtureRequest, models_dir: Path) -> Driver:
    return Driver(request.param, models_dir)


def pixels_of(result: Result, image: int = 0) -> Pixels:
    return np.asarray(result.pictures[image].image, np.int16)


def difference(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one - other).mean())


def correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def test_the_picture_matters(driver: Driver) -> None:
    """At the contract's default strength and the four steps that distilled models take."""
    assert difference(driver.plain.pixels, driver.run(ImageOps.invert(PICTURE))) > 0


def test_each_field_matters_or_is_told_to_have_no_effect(driver: Driver) -> None:
    """Told in the answer's warnings. What `GET /models` tells is read from the same declaration."""
    without_effect = {name: value for name, value in FIELDS.items() if name in driver.traits.without_effect}
    for name, value in FIELDS.items():
        has_effect = name not in without_effect
        warnings = driver.plan(**{name: value})[1]
        assert any(warning.startswith(f"{name} has no effect") for warning in warnings) == (not has_effect)
        if has_effect:
            assert difference(driver.plain.pixels, driver.run(**{name: value})) > 0, name
    assert np.array_equal(driver.plain.pixels, driver.run(**without_effect))


def test_each_image_is_what_its_seed_gives_alone_beside_any_neighbour(driver: Driver) -> None:
    """The neighbour has another picture, and another guidance scale where a call may have two."""
    recipe, other = driver.recipe(num_images_per_prompt=2), driver.recipe(guidance_scale=2.0)
    if other.batch_key != recipe.batch_key:
        other = driver.recipe()
    calls: list[int] = []
    items = [
        BatchItem(recipe, PICTURE, mask_of(recipe)),
        BatchItem(other, ImageOps.invert(PICTURE), mask_of(other)),
    ]
    first, second = driver.engine.run_batch(items, lambda done, of, phase: calls.append(of // recipe.executed_steps))
    assert isinstance(first, Result)
    assert isinstance(second, Result)
    assert calls[-1] == (3 if driver.traits.image_use is ImageUse.REFERENCES else 1)
    assert difference(pixels_of(first, 0), driver.plain.pixels) < 1
    assert difference(pixels_of(first, 1), driver.run(seed=8)) < 1


def test_a_picture_of_257_x_391_is_neither_refused_nor_stretched(driver: Driver) -> None:
    recipe, _ = driver.plan((257, 391), num_inference_steps=2)
    decoded: list[Any] = []
    with results_observed(autoencoder_of(driver.pipe), "decode", lambda _, result: decoded.append(result)):
        result = driver.make(recipe, scene(257, 391))
    assert result.pictures[0].image.size == ((257, 391) if driver.traits.needs_mask else fit((257, 391), driver.traits))
    assert recipe.width / recipe.height == pytest.approx(257 / 391, rel=0.01)
    pictures = decoded[-1][0] if isinstance(decoded[-1], tuple) else decoded[-1].sample
    assert (pictures.shape[-1], pictures.shape[-2]) == recipe.canvas_size, "it is padded to what the model makes"


def test_a_mask_changes_what_is_inside_as_much_as_without_one_and_nothing_outside(driver: Driver) -> None:
    """Two requests of a batch with other pictures, masks and seeds are as alone."""

    def request(picture: Image.Image, open_box: Box, seed: int) -> BatchItem:
        recipe = driver.recipe(open_box=open_box, seed=seed, mask_feather=0)
        return BatchItem(recipe, picture, mask_of(recipe, open_box))

    one, other = request(PICTURE, OPEN_BOX, 7), request(ImageOps.invert(PICTURE), (0, 64, 64, SIDE), 8)
    both = [result for result in driver.engine.run_batch([one, other], ignore) if isinstance(result, Result)]
    alone = driver.engine.run(other.recipe, other.picture, ignore, mask=other.mask)
    assert difference(pixels_of(both[1]), pixels_of(alone)) < 1
    inpainter = driver.engine._pipelines.get(driver.model).inpainter
    assert all(part is driver.pipe.components[name] for name, part in inpainter.components.items() if part is not None)
    for item, result in zip((one, other), both, strict=True):
        before, after = np.asarray(item.picture, np.int16), pixels_of(result)
        inside = np.asarray(item.mask) > 0
        assert np.array_equal(after[~inside], before[~inside])
        if not driver.traits.needs_mask:
            plain = driver.run(item.picture, seed=item.recipe.seeds[0])
            assert difference(after[inside], before[inside]) > 0.7 * difference(plain[inside], before[inside])


def test_a_further_picture_is_read(driver: Driver) -> None:
    """Beside a mask, too."""
    if not driver.traits.max_references:
        pytest.skip("reads one picture")
    recipe = driver.recipe(open_box=OPEN_BOX, references=1, num_inference_steps=2)
    mask = mask_of(recipe, OPEN_BOX)
    with_one, with_other = (
        driver.engine.run_batch([BatchItem(recipe, PICTURE, mask, [reference])], ignore)[0]
        for reference in (scene(150, 90), ImageOps.invert(scene(150, 90)))
    )
    assert isinstance(with_one, Result)
    assert isinstance(with_other, Result)
    assert difference(pixels_of(with_one), pixels_of(with_other)) > 0


def test_it_stops_within_a_step_with_a_lora_and_neither_leaves_a_trace(driver: Driver) -> None:
    """The stopped request has the contract's default steps, since some pipelines check them before the first one."""

    class Stop(Exception):
        pass

    steps = ImageToImageParameters(prompt="x").num_inference_steps
    recipe = driver.recipe(loras=FIELDS["loras"], num_inference_steps=steps)

    def stop(done: int, of: int, phase: str) -> None:
        if phase == "denoising" and done:
            assert (done, of) == (1, recipe.executed_steps)
            raise Stop

    plain = driver.plain.pixels
    with pytest.raises(Stop):
        driver.make(recipe, PICTURE, stop)
    assert np.array_equal(plain, driver.run())


def test_it_warms(driver: Driver) -> None:
    driver.engine.warm(driver.model)


def test_cost_and_steps_are_those_that_the_pipeline_executes(driver: Driver) -> None:
    run, steps = driver.plain, driver.plain.steps
    if isinstance(driver.pipe.scheduler, diffusers.PNDMScheduler):
        steps -= 1  # its first step runs the model twice
    assert sorted(set(run.steps_told)) == list(range(steps + 1))
    assert run.recipe.cost(1) == pytest.approx(steps * run.decoded_pixels / 1e6)


def test_the_last_preview_looks_like_the_result(driver: Driver) -> None:
    """As the autoencoder gets it, since one that was never trained decodes to noise. A wrong order of patches is seen."""
    run, autoencoder = driver.plain, autoencoder_of(driver.pipe)
    latents = run.latents[-1][:, :, 0] if run.latents[-1].ndim == 5 else run.latents[-1]
    with torch.inference_mode():
        (*_, expected) = previews.render(scale(autoencoder, latents), previews.fit(autoencoder))
    assert [preview.picture.size for preview in run.previews] == [(128, 128)] * (run.steps - 1)
    preview = np.asarray(run.previews[-1].picture.resize(expected.size, Image.Resampling.BOX))
    swapped = preview.copy()
    swapped[::2, 1::2], swapped[1::2, ::2] = preview[1::2, ::2], preview[::2, 1::2]
    right, *wrong = (correlation(np.asarray(expected), seen) for seen in (preview, preview.transpose(1, 0, 2), swapped))
    assert right > max(0.7, *wrong)


@pytest.mark.parametrize(("name", "is_read"), [("longcat-edit", False), ("qwen-image-edit-plus", True)])
def test_the_end_of_a_long_prompt_counts_or_is_told_to_have_no_effect(name: str, is_read: bool, tmp_path: Path) -> None:
    """LongCat's pipeline fails if it is given more than it reads. Qwen's reads any length."""
    driver = Driver(name, tmp_path)
    recipes = [
        driver.recipe(prompt="make it night, " * 40 + end, num_inference_steps=2) for end in ("with stars", "in fog")
    ]
    one, other = (driver.engine.run(recipe, PICTURE, ignore) for recipe in recipes)
    assert ["prompt is longer than the model reads" in warning for warning in one.warnings] == [True] * (not is_read)
    assert (difference(pixels_of(one), pixels_of(other)) > 0) == is_read


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_run_is_refused_with_its_reason(name: str, models_dir: Path) -> None:
    id_ = save_twin(models_dir, name)
    with pytest.raises(UnsupportedModel, match=REFUSED[name]):
        detect_family(id_, *read_configuration(models_dir / id_))
    engine = Engine(EngineSettings(models_dir=models_dir, offline=True))
    with pytest.raises(ModelFailed, match=REFUSED[name]):
        engine.warm(ModelReference(id=id_, revision="", family=Family.STABLE_DIFFUSION))


def test_no_declaration_names_what_diffusers_does_not_have() -> None:
    for family in Family:
        traits = FAMILY_TRAITS[family]
        assert hasattr(diffusers, traits.pipeline), family
        assert traits.image_use is ImageUse.START or not traits.has_strength, family
    sizes = str(list(DECLARED[Family.KANDINSKY_5_EDIT].sizes))
    assert sizes in inspect.getsource(diffusers.Kandinsky5I2IPipeline.__init__)
    assert [pipeline for pipeline in REASONS if not hasattr(diffusers, pipeline)] == []
    buckets = import_module("diffusers.pipelines.joyimage.image_processor").BUCKETS[1024]
    assert set(FAMILY_TRAITS[Family.JOYIMAGE_EDIT].sizes) <= {(width, height) for height, width in buckets}


def test_numbers_that_are_not_finite_after_decoding_are_a_failure(tmp_path: Path) -> None:
    """A black picture was a success before."""
    driver = Driver("sd35", tmp_path)
    with torch.no_grad():
        driver.pipe.vae.decoder.conv_out.bias.fill_(float("nan"))
    with pytest.raises(ModelFailed, match="numbers are not finite"):
        driver.run()
