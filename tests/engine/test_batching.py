"""Different requests run as one batch: each gets the pictures that it would get alone, and fails alone."""

import os
import re
from collections.abc import Callable, Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from django.core.management import CommandError, call_command
from PIL import Image
from pytest_django import Settings
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook

from generation.engine.batches import BatchItem, Result
from generation.engine.catalog import find_model
from generation.engine.engine import Engine, EngineSettings
from generation.engine.errors import EngineError, LoraFailed, ModelFailed, ModelNotDownloaded, OutOfMemory
from generation.engine.fingerprint import fingerprint
from generation.engine.guidance import PerImage, per_image
from generation.families import Family
from generation.models import DiffusionModel
from generation.recipes import LoraReference, ModelReference, Recipe
from generation.repositories.lightning import SDXL_BASE
from tests.support.pictures import scene
from tests.support.tiny_models import (
    TINY_EDIT,
    diffusers,
    local,
    save_instruct_pix2pix,
    save_lightning_unet,
    save_sdxl,
    save_stable_diffusion,
    save_turbo,
)

Step = tuple[int, int, str]
Hooks = Callable[[Callable[[torch.nn.Module, Any], None]], None]

SD = local("tests/sd", Family.STABLE_DIFFUSION)
SDXL = local("tests/sdxl", Family.SDXL)
TURBO = local("tests/turbo", Family.TURBO)
LIGHTNING = local("ByteDance/SDXL-Lightning-2step", Family.LIGHTNING)
ANCESTRAL = local("timbrooks/instruct-pix2pix", Family.INSTRUCT_PIX2PIX)


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    save_stable_diffusion(directory, SD.id)
    save_sdxl(directory, SDXL.id)
    save_turbo(directory, TURBO.id)
    save_instruct_pix2pix(directory, ANCESTRAL.id)
    save_sdxl(directory, SDXL_BASE.id)
    save_lightning_unet(directory, steps=2)
    return directory


@pytest.fixture(scope="module")
def engine(models_dir: Path) -> Engine:
    return Engine(EngineSettings(models_dir=models_dir, dtype="float32", offline=True))


@pytest.fixture
def before_unet() -> Iterator[Hooks]:
    """Register a hook that gets every UNet and the latents of all its images before it runs."""
    handles = []

    def add(hook: Callable[[torch.nn.Module, Any], None]) -> None:
        def only_unet(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
            if isinstance(module, diffusers.UNet2DConditionModel):
                hook(module, arguments[0])

        handles.append(register_module_forward_pre_hook(only_unet))

    yield add
    for handle in handles:
        handle.remove()


def recipe(model: ModelReference = TINY_EDIT, **changes: Any) -> Recipe:
    unguided = model.family in (Family.TURBO, Family.LIGHTNING)
    values: dict[str, Any] = {
        "model": model,
        "loras": (),
        "prompt": "make it night",
        "negative_prompt": "",
        "strength": 1.0,
        "guidance_scale": 0 if unguided else 2.5,
        "image_guidance_scale": 1.5,
        "num_inference_steps": 2,
        "seeds": (7,),
        "safety_check": False,
        "width": 128,
        "height": 128,
    }
    return Recipe(**values | changes)


def batch_item(model: ModelReference = TINY_EDIT, picture: Image.Image | None = None, **changes: Any) -> BatchItem:
    return BatchItem(recipe(model, **changes), picture or scene())


def ignore(done: int, of: int, phase: str) -> None:
    pass


def results(outcomes: list[Result | EngineError]) -> list[Result]:
    assert all(isinstance(outcome, Result) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, Result)]


def pixels(result: Result, index: int = 0) -> "np.ndarray[Any, np.dtype[np.int16]]":
    return np.asarray(result.pictures[index].image, dtype=np.int16)


def distance(one: Result, other: Result) -> int:
    """The largest difference of any value, 0 to 255, between pictures of two results."""
    assert [picture.seed for picture in one.pictures] == [picture.seed for picture in other.pictures]
    return max(int(np.abs(pixels(one, index) - pixels(other, index)).max()) for index in range(len(one.pictures)))


@pytest.mark.parametrize("model", [TINY_EDIT, ANCESTRAL, SD, SDXL, TURBO, LIGHTNING], ids=lambda model: model.id)
def test_each_item_gets_what_it_would_get_alone(engine: Engine, model: ModelReference) -> None:
    negative = "fog" if model.family in (Family.STABLE_DIFFUSION, Family.SDXL) else ""
    scales = {} if recipe(model).guidance_scale == 0 else {"guidance_scale": 9, "image_guidance_scale": 3}
    items = [
        batch_item(model, negative_prompt=negative),
        batch_item(model, scene().rotate(180), prompt="a ship", negative_prompt="snow", seeds=(100, 101), **scales),
        batch_item(model, scene().convert("L"), prompt="", negative_prompt=negative, seeds=(3,)),
    ]
    calls: list[Step] = []
    batched = results(engine.run_batch(items, lambda *step: calls.append(step)))
    assert calls[-1][1] == calls[0][1], "one call for all"
    for made, one in zip(batched, items, strict=True):
        alone = engine.run(one.recipe, one.picture, ignore)
        assert distance(made, alone) <= 1
        assert list(made.timings) == list(alone.timings)
    assert distance(batched[0], results(engine.run_batch([items[0]], ignore))[0]) <= 1
    assert np.abs(pixels(batched[0]) - pixels(batched[2])).max() > 10


def test_guidance_is_each_items_own(engine: Engine) -> None:
    items = [batch_item(guidance_scale=scale, image_guidance_scale=1.5) for scale in (1.5, 8)]
    weak, strong = results(engine.run_batch(items, ignore))
    assert distance(weak, engine.run(items[0].recipe, scene(), ignore)) <= 1
    assert distance(strong, engine.run(items[1].recipe, scene(), ignore)) <= 1
    assert distance(weak, strong) > 20


def test_guidance_by_the_text_and_guidance_by_the_picture_share_a_call(engine: Engine) -> None:
    items = [
        batch_item(guidance_scale=1, image_guidance_scale=2),
        batch_item(guidance_scale=4, image_guidance_scale=0.5),
    ]
    for made, one in zip(results(engine.run_batch(items, ignore)), items, strict=True):
        assert distance(made, engine.run(one.recipe, one.picture, ignore)) <= 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
def test_a_scale_for_each_image_rounds_as_a_plain_number_does(dtype: torch.dtype) -> None:
    difference = torch.randn((2, 4, 8, 8), generator=torch.Generator().manual_seed(1)).to(dtype)
    scaled = PerImage((2.495, 7.1)) * difference
    assert scaled.dtype == dtype
    assert torch.equal(scaled, torch.stack([2.495 * difference[0], 7.1 * difference[1]]))
    assert torch.equal(scaled, difference * PerImage((2.495, 7.1)))


def test_scales_for_other_images_than_those_of_a_prediction_are_refused() -> None:
    with pytest.raises(TypeError, match=r"2 guidance scales, but predictions of shape \(16, 1, 8, 8\)"):
        PerImage((2.495, 7.1)) * torch.zeros(16, 1, 8, 8)


def test_a_scale_for_each_image_is_a_plain_number_where_they_agree_and_is_never_guessed() -> None:
    assert per_image([2.5, 2.5]) == 2.5
    scales: Any = per_image([2.5, 3])
    assert scales > 1
    assert not scales >= 3.5
    with pytest.raises(ValueError, match="too many"):
        bool(scales > 2.7)
    with pytest.raises(TypeError):
        scales - 1


def test_warnings_seeds_and_safety_results_are_each_items_own(engine: Engine) -> None:
    long = "make it night, " * 20
    steps: list[Step] = []
    items = [batch_item(prompt=long), batch_item(image_guidance_scale=0.5, safety_check=True), batch_item(seeds=(1, 2))]
    first, second, third = results(engine.run_batch(items, lambda *step: steps.append(step)))
    assert [len(result.warnings) for result in (first, second, third)] == [1, 1, 0]
    assert "prompt is longer" in first.warnings[0]
    assert "image_guidance_scale 0.5 was raised" in second.warnings[0]
    assert [result.pictures[0].checker for result in (first, second, third)] == ["", "opennsfw", ""]
    assert [picture.seed for picture in third.pictures] == [1, 2]
    phases = ["loading", "encoding", "denoising", "denoising", "denoising", "decoding", "safety"]
    assert [phase for _, _, phase in steps] == phases
    assert first.timings == third.timings


def test_a_prompt_that_breaks_the_tokenizer_fails_alone(engine: Engine) -> None:
    items = [batch_item(), batch_item(prompt="\ud800"), batch_item(seeds=(8,))]
    first, broken, last = engine.run_batch(items, ignore)
    assert isinstance(broken, ModelFailed)
    assert broken.message == "Model 'dreamsite/tiny-edit' failed while it was making the pictures."
    assert distance(*results([first, engine.run(items[0].recipe, scene(), ignore)])) <= 1
    assert distance(*results([last, engine.run(items[2].recipe, scene(), ignore)])) <= 1


def test_numbers_that_overflow_fail_their_own_item(engine: Engine) -> None:
    items = [
        batch_item(SD),
        batch_item(SD, guidance_scale=1e38, num_inference_steps=2, seeds=(1, 2)),
        batch_item(SD, seeds=(8,)),
    ]
    steps: list[Step] = []
    first, broken, last = engine.run_batch(items, lambda *step: steps.append(step))
    assert isinstance(broken, ModelFailed)
    assert "not finite" in broken.message
    assert distance(*results([first, engine.run(items[0].recipe, scene(), ignore)])) == 0
    assert distance(*results([last, engine.run(items[2].recipe, scene(), ignore)])) == 0
    assert (steps[0], steps[-1]) == ((0, 2, "loading"), (6, 6, "decoding"))


def test_a_missing_model_or_lora_fails_every_item(engine: Engine) -> None:
    nowhere = local("nobody/nothing", Family.STABLE_DIFFUSION)
    for outcome in engine.run_batch([batch_item(nowhere), batch_item(nowhere, seeds=(8,))], ignore):
        assert isinstance(outcome, ModelNotDownloaded)
    lora = LoraReference(id="nobody/nothing", revision="", weight_name="", weight=1)
    for outcome in engine.run_batch([batch_item(loras=(lora,)), batch_item(loras=(lora,), seeds=(8,))], ignore):
        assert isinstance(outcome, LoraFailed)


def test_out_of_memory_halves_across_items(engine: Engine, before_unet: Hooks) -> None:
    one_step: dict[str, Any] = {"num_inference_steps": 1}
    items = [
        batch_item(seeds=(1, 2), **one_step),
        batch_item(prompt="a ship", guidance_scale=6, seeds=(3,), **one_step),
        batch_item(seeds=(4, 5), **one_step),
    ]
    expected = results(engine.run_batch(items, ignore))
    seen: list[int] = []

    def allow_two(module: torch.nn.Module, latents: torch.Tensor) -> None:
        seen.append(len(latents) // 3)  # InstructPix2Pix runs three guidance variants
        if seen[-1] > 2:
            torch.empty(2**50)

    before_unet(allow_two)
    steps: list[Step] = []
    halved = results(engine.run_batch(items, lambda *step: steps.append(step)))
    assert seen == [5, 2, 2, 1]
    assert [(done, of) for done, of, phase in steps if phase == "decoding"] == [(1, 3), (2, 3), (3, 3)]
    for one, other in zip(halved, expected, strict=True):
        assert distance(one, other) <= 1


def test_an_item_that_is_out_of_memory_even_alone_fails_alone(engine: Engine, before_unet: Hooks) -> None:
    one_step: dict[str, Any] = {"num_inference_steps": 1}
    items = [
        batch_item(seeds=(1,), **one_step),
        batch_item(prompt="a ship", seeds=(2, 3), **one_step),
        batch_item(seeds=(4,), **one_step),
    ]
    expected = results(engine.run_batch([items[0], items[2]], ignore))
    seen: list[int] = []

    def refuse_seed_two(module: torch.nn.Module, latents: torch.Tensor) -> None:
        seen.append(len(latents) // 3)
        noise = latents[: seen[-1], : latents.shape[1] // 2]  # the other channels are the picture
        too_much = torch.randn(noise[0].shape, generator=torch.Generator().manual_seed(2))
        if any(torch.equal(one, too_much) for one in noise):
            torch.empty(2**50)

    before_unet(refuse_seed_two)
    first, broken, last = engine.run_batch(items, ignore)
    assert isinstance(broken, OutOfMemory)
    assert seen == [4, 2, 1, 1, 1], "the second image of the item that failed is not tried"
    for one, other in zip(results([first, last]), expected, strict=True):
        assert distance(one, other) <= 1


def test_an_exception_of_on_step_ends_the_whole_run(engine: Engine) -> None:
    stop = torch.OutOfMemoryError("not the engine's, so not its to handle")
    steps: list[Step] = []

    def on_step(done: int, of: int, phase: str) -> None:
        steps.append((done, of, phase))
        if done == 1:
            raise stop

    with pytest.raises(torch.OutOfMemoryError) as caught:
        engine.run_batch([batch_item(), batch_item(seeds=(8,))], on_step)
    assert caught.value is stop
    assert steps[-1] == (1, 2, "denoising")


def test_requests_that_cannot_share_a_call_are_refused(engine: Engine) -> None:
    with pytest.raises(ValueError, match="batch_key"):
        engine.run_batch([batch_item(), batch_item(num_inference_steps=3)], ignore)


def verify(*arguments: str) -> list[str]:
    """Return the lines that the command prints."""
    output = StringIO()
    call_command("verify_batching", *arguments, "--images", "2", stdout=output)
    return output.getvalue().splitlines()


@pytest.mark.django_db
def test_a_model_that_batches_well_is_allowed_to(
    tiny_edit: DiffusionModel, models_dir: Path, settings: Settings
) -> None:
    settings.DTYPE = "float32"
    lines = verify(tiny_edit.id, "--steps", "2")
    assert lines[0] == "Making 2 different pictures of 2 steps, one by one and in a batch ..."
    for number, line in enumerate(lines[1:3], start=1):
        match = re.fullmatch(rf"picture {number}: largest difference (\d+) of 255, PSNR (inf|[\d.]+) dB", line)
        assert match
        assert float(match[2]) >= 40
    assert lines[4] == "dreamsite/tiny-edit makes the same pictures in a batch: compatible requests may share one."
    tiny_edit.refresh_from_db()
    weights = find_model(TINY_EDIT, models_dir)
    assert tiny_edit.may_batch(fingerprint(weights, torch.float32, torch.device("cpu")))
    assert not tiny_edit.may_batch("")


def test_a_proof_dies_with_the_files_the_number_type_and_the_device(tmp_path: Path) -> None:
    save_stable_diffusion(tmp_path, SD.id)
    weights = find_model(SD, tmp_path)
    file = weights.pipeline / "unet" / "diffusion_pytorch_model.safetensors"
    unet = weights.pipeline / "unet" / "config.json"
    cpu = torch.device("cpu")
    before = fingerprint(weights, torch.float32, cpu)
    assert before == fingerprint(weights, torch.float32, cpu)
    other = [fingerprint(weights, torch.bfloat16, cpu), fingerprint(weights, torch.float32, torch.device("cuda"))]
    os.utime(file, ns=(0, 1))
    other.append(fingerprint(weights, torch.float32, cpu))
    unet.write_text(unet.read_text() + " ")
    other.append(fingerprint(weights, torch.float32, cpu))
    assert len({before, *other}) == 5


@pytest.fixture
def sd(models_dir: Path, settings: Settings) -> DiffusionModel:
    """A model that was verified before."""
    settings.MODELS_DIR = models_dir
    return DiffusionModel.objects.create(id=SD.id, family=SD.family, batching_verified="fingerprint")


@pytest.mark.django_db
def test_a_model_whose_requests_mix_in_a_batch_is_not_allowed_to(sd: DiffusionModel) -> None:
    def mix(module: torch.nn.Module, arguments: Any, output: Any) -> Any:
        if isinstance(module, diffusers.UNet2DConditionModel):
            return (output[0].roll(1, dims=0),)
        return None

    hook = register_module_forward_hook(mix)
    try:
        with pytest.raises(CommandError, match=r"may not be batched: PSNR must be 40 dB or more .* the worst has \d"):
            verify(sd.id, "--steps", "4")
    finally:
        hook.remove()
    sd.refresh_from_db()
    assert sd.batching_verified == ""


@pytest.mark.django_db
def test_a_model_that_breaks_in_a_batch_is_not_allowed_to(sd: DiffusionModel, before_unet: Hooks) -> None:
    def refuse_two(module: torch.nn.Module, latents: torch.Tensor) -> None:
        if len(latents) > 2:
            raise RuntimeError("one at a time")

    before_unet(refuse_two)
    with pytest.raises(CommandError, match="not made in one call"):
        verify(sd.id, "--steps", "2")
    sd.refresh_from_db()
    assert sd.batching_verified == ""


@pytest.mark.django_db
def test_what_cannot_be_verified_is_one_clear_line(tiny_edit: DiffusionModel) -> None:
    with pytest.raises(CommandError, match=r"There is no model 'nobody/nothing'; .* choose one of .*tiny-edit"):
        verify("nobody/nothing")
    with pytest.raises(CommandError, match="--steps must be from 2 to 200"):
        verify(tiny_edit.id, "--steps", "1")
    with pytest.raises(CommandError, match="--images must be at least 2"):
        call_command("verify_batching", tiny_edit.id, "--images", "1")
