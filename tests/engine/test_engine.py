"""The engine makes the pictures of a recipe, and fails with messages for the user."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.modules.module import register_module_forward_pre_hook

from generation.engine.batches import BatchItem, Result
from generation.engine.engine import Engine, EngineSettings
from generation.engine.errors import (
    DeviceLost,
    EngineError,
    ModelFailed,
    ModelNotDownloaded,
    ModelTooLarge,
    OutOfMemory,
)
from generation.families import Family
from generation.parameters import MAX_SEED, ErrorCode
from generation.recipes import ModelReference, Recipe
from generation.repositories.files import BUNDLED
from generation.weight_files import count_parameters
from tests.support.environment import ROOT
from tests.support.lost_device import lost_device
from tests.support.pictures import scene
from tests.support.tiny_models import (
    TINY_EDIT,
    diffusers,
    local,
    save_sdxl,
    save_stable_diffusion,
)

Step = tuple[int, int, str]


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    save_stable_diffusion(directory, "tests/sd")
    save_sdxl(directory, "tests/sdxl")
    return directory


@pytest.fixture(scope="module")
def engine(models_dir: Path) -> Engine:
    return Engine(EngineSettings(models_dir=models_dir, dtype="float32", offline=True))


SD = local("tests/sd", Family.STABLE_DIFFUSION)
SDXL = local("tests/sdxl", Family.SDXL)


def recipe(model: ModelReference = TINY_EDIT, **changes: Any) -> Recipe:
    side = 128 if model == TINY_EDIT else 256
    values: dict[str, Any] = {
        "model": model,
        "loras": (),
        "prompt": "make it night",
        "negative_prompt": "",
        "strength": 1.0,
        "guidance_scale": 2.5,
        "image_guidance_scale": 1.5,
        "num_inference_steps": 1,
        "seeds": (7,),
        "safety_check": False,
        "width": side,
        "height": side,
    }
    return Recipe(**values | changes)


def run(engine: Engine, one_recipe: Recipe) -> Result:
    return engine.run(one_recipe, scene(), lambda done, of, phase: None)


def pixels(result: Result, index: int = 0) -> "np.ndarray[Any, np.dtype[np.int16]]":
    return np.asarray(result.pictures[index].image, dtype=np.int16)


@pytest.fixture
def only_batches_up_to() -> Iterator[Callable[[int], list[int]]]:
    """Let UNet calls for more images than the limit run out of memory. List the images of each call."""
    hooks = []

    def limit(images: int) -> list[int]:
        seen: list[int] = []

        def run_out_of_memory(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
            if isinstance(module, diffusers.UNet2DConditionModel):
                seen.append(len(arguments[0]) // 3)  # InstructPix2Pix: three ways of guidance
                if seen[-1] > images:
                    torch.empty(2**50)

        hooks.append(register_module_forward_pre_hook(run_out_of_memory))
        return seen

    yield limit
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("size", [(128, 128), (150, 131), (200, 30), (1, 140)])
def test_the_picture_has_exactly_the_requested_size(engine: Engine, size: tuple[int, int]) -> None:
    result = run(engine, recipe(width=size[0], height=size[1]))
    assert result.pictures[0].image.size == size
    assert result.pictures[0].image.mode == "RGB"


def test_the_same_recipe_and_picture_give_the_same_pixels(engine: Engine) -> None:
    one_recipe = recipe(num_inference_steps=2)
    assert np.array_equal(pixels(run(engine, one_recipe)), pixels(run(engine, one_recipe)))


def test_each_image_of_a_batch_is_what_its_seed_gives_alone(engine: Engine) -> None:
    together = run(engine, recipe(num_inference_steps=2, seeds=(7, 8, 9)))
    assert [picture.seed for picture in together.pictures] == [7, 8, 9]
    alone = run(engine, recipe(num_inference_steps=2, seeds=(8,)))
    assert np.abs(pixels(together, 1) - pixels(alone)).max() <= 1
    assert np.abs(pixels(together, 0) - pixels(together, 1)).max() > 1


def test_the_largest_seed_works(engine: Engine) -> None:
    assert run(engine, recipe(seeds=(MAX_SEED,))).pictures[0].seed == MAX_SEED


def test_every_step_and_phase_is_reported(engine: Engine) -> None:
    steps: list[Step] = []
    result = engine.run(recipe(num_inference_steps=2, safety_check=True), scene(), lambda *step: steps.append(step))
    assert steps == [
        (0, 2, "loading"),
        (0, 2, "encoding"),
        (0, 2, "denoising"),
        (1, 2, "denoising"),
        (2, 2, "denoising"),
        (2, 2, "decoding"),
        (2, 2, "safety"),
    ]
    assert list(result.timings) == ["loading", "encoding", "denoising", "decoding", "safety"]
    assert all(seconds > 0 for seconds in result.timings.values())


def test_strength_shortens_the_run(engine: Engine) -> None:
    steps: list[Step] = []
    engine.run(recipe(SD, strength=0.5, num_inference_steps=4), scene(), lambda *step: steps.append(step))
    assert [(done, of) for done, of, phase in steps if phase == "denoising"] == [(0, 2), (0, 2), (1, 2), (2, 2)]


@pytest.mark.parametrize("phase", ["loading", "encoding", "denoising", "decoding", "safety"])
def test_what_on_step_raises_ends_the_run_at_once(engine: Engine, phase: str) -> None:
    before = pixels(run(engine, recipe(num_inference_steps=2)))
    stop = torch.OutOfMemoryError("not the engine's, so not its to handle")
    steps: list[Step] = []

    def on_step(done: int, of: int, current: str) -> None:
        steps.append((done, of, current))
        if current == phase and (done == 1 or phase != "denoising"):
            raise stop

    with pytest.raises(torch.OutOfMemoryError) as error:
        engine.run(recipe(num_inference_steps=2, safety_check=True), scene(), on_step)
    assert error.value is stop
    assert steps[-1][2] == phase
    assert np.array_equal(before, pixels(run(engine, recipe(num_inference_steps=2))))


def test_out_of_memory_halves_the_batch(engine: Engine, only_batches_up_to: Callable[[int], list[int]]) -> None:
    expected = run(engine, recipe(seeds=(1, 2, 3, 4, 5)))
    sizes = only_batches_up_to(2)
    steps: list[Step] = []
    result = engine.run(recipe(seeds=(1, 2, 3, 4, 5)), scene(), lambda *step: steps.append(step))
    assert sizes == [5, 2, 2, 1]
    assert [(done, of) for done, of, phase in steps if phase == "decoding"] == [(1, 3), (2, 3), (3, 3)]
    assert [picture.seed for picture in result.pictures] == [1, 2, 3, 4, 5]
    for index in range(5):
        assert np.abs(pixels(result, index) - pixels(expected, index)).max() <= 1


def test_a_single_image_out_of_memory_is_an_error_and_the_next_run_works(
    engine: Engine, only_batches_up_to: Callable[[int], list[int]]
) -> None:
    run(engine, recipe(SD))
    sizes = only_batches_up_to(0)
    with pytest.raises(OutOfMemory) as caught:
        run(engine, recipe(seeds=(1, 2)))
    assert sizes == [2, 1]
    assert engine.warm_models == [TINY_EDIT.id], "idle models make room first"
    assert caught.value.code == ErrorCode.OUT_OF_MEMORY
    assert caught.value.message == "Out of memory error. Try reducing input image resolution."
    assert "can't allocate memory" in str(caught.value.__cause__)


def test_models_are_dropped_least_recently_used_first_when_memory_is_short(models_dir: Path) -> None:
    tight = Engine(EngineSettings(models_dir=models_dir, dtype="float32", memory_budget=1))
    run(tight, recipe(SD))
    run(tight, recipe(SDXL))
    assert tight.warm_models == [SDXL.id], "the one in use stays, however large"

    directories = (BUNDLED / "tiny-edit", models_dir / SD.id, models_dir / SDXL.id)
    edit, sd, sdxl = (4 * sum(count_parameters(directory).values()) for directory in directories)
    budget = edit + max(sd, sdxl) + min(sd, sdxl) // 2  # room for what is no parameter
    for_two = Engine(EngineSettings(models_dir=models_dir, dtype="float32", memory_budget=budget))
    for model in (TINY_EDIT, SD):
        run(for_two, recipe(model))
    assert for_two.warm_models == [TINY_EDIT.id, SD.id]
    run(for_two, recipe(TINY_EDIT))
    run(for_two, recipe(SDXL))
    assert for_two.warm_models == [TINY_EDIT.id, SDXL.id]


def test_other_models_are_dropped_if_a_model_does_not_fit_beside_them(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(EngineSettings(models_dir=models_dir, dtype="float32"))
    run(engine, recipe(SD))
    real = diffusers.StableDiffusionInstructPix2PixPipeline.from_pretrained
    left = [torch.OutOfMemoryError("too large")]

    def from_pretrained(*arguments: Any, **options: Any) -> Any:
        if left:
            raise left.pop()
        return real(*arguments, **options)

    monkeypatch.setattr(diffusers.StableDiffusionInstructPix2PixPipeline, "from_pretrained", from_pretrained)
    run(engine, recipe(TINY_EDIT))
    assert engine.warm_models == [TINY_EDIT.id]

    engine.evict(TINY_EDIT.id)
    left.append(torch.OutOfMemoryError("too large"))
    with pytest.raises(ModelTooLarge, match=r"'dreamsite/tiny-edit' does not fit .* Use another model. Staff can"):
        run(engine, recipe(TINY_EDIT))
    run(engine, recipe(TINY_EDIT))


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="it is installed here")
def test_a_missing_package_is_named_with_the_command_that_installs_it(engine: Engine) -> None:
    with pytest.raises(ModelFailed, match=r"needs torchvision, which is not .* requirements/gpu\.txt$"):
        engine.warm(local("tests/omnigen", Family.OMNIGEN))


def test_a_lost_device_ends_the_run_of_all_at_once(engine: Engine) -> None:
    """Retrying each alone, or failing each, would tell their users that their requests were wrong."""
    items = [BatchItem(recipe(width=256, height=256, prompt=prompt), scene()) for prompt in ("make it night", "snow")]
    with (
        lost_device() as calls,
        pytest.raises(DeviceLost, match=r"^The device cpu failed: CUDA error: an illegal memory"),
    ):
        engine.run_batch(items, lambda *step: None)
    assert len(calls) == 1


def test_warming_loads_a_model_before_it_is_asked_for(models_dir: Path) -> None:
    engine = Engine(EngineSettings(models_dir=models_dir))
    assert engine.warm_models == []
    engine.warm(SD)
    assert engine.warm_models == [SD.id]


def test_the_unread_end_of_a_long_prompt_is_quoted(engine: Engine) -> None:
    read = "Make it NIGHT, " * 7 + "make it "
    result = run(engine, recipe(prompt=read + "Über den Wolken"))
    assert result.warnings == ["prompt is longer than the model reads; this part had no effect: Über den Wolken"]
    assert np.array_equal(pixels(result), pixels(run(engine, recipe(prompt=read))))
    assert run(engine, recipe(prompt=read)).warnings == []


def test_a_negative_prompt_changes_the_picture_and_without_guidance_is_warned_about(engine: Engine) -> None:
    plain = pixels(run(engine, recipe()))
    assert not np.array_equal(plain, pixels(run(engine, recipe(negative_prompt="snow"))))
    without_guidance = run(engine, recipe(SD, negative_prompt="snow", guidance_scale=1))
    assert without_guidance.warnings == ["negative_prompt had no effect, since it needs a guidance_scale above 1."]


def test_guidance_by_the_picture_works_without_guidance_by_the_text(engine: Engine) -> None:
    plain, strong = (run(engine, recipe(guidance_scale=0.8, image_guidance_scale=scale)) for scale in (1, 2))
    assert not np.array_equal(pixels(plain), pixels(strong))


def test_image_guidance_below_its_minimum_does_not_switch_off_the_prompt(engine: Engine) -> None:
    low, least = (run(engine, recipe(image_guidance_scale=scale)) for scale in (0.5, 1))
    assert np.array_equal(pixels(low), pixels(least))
    assert low.warnings == ["image_guidance_scale 0.5 was raised to 1, the least for dreamsite/tiny-edit."]
    assert least.warnings == []


def test_padding_mirrors_the_picture_so_that_no_border_shows(engine: Engine) -> None:
    picture = Image.new("RGB", (137, 131), (90, 140, 200))
    result = engine.run(recipe(prompt="leave it as it is", width=137, height=131), picture, lambda *step: None)
    values = pixels(result)
    assert np.abs(values[:4].mean(axis=(0, 1)) - values[60:64].mean(axis=(0, 1))).max() < 12


def test_the_safety_checker_scores_every_picture(engine: Engine) -> None:
    picture = run(engine, recipe(safety_check=True)).pictures[0]
    assert picture.score is not None
    assert 0 <= picture.score < 0.5
    assert (picture.nsfw, picture.checker, picture.threshold) == (False, "opennsfw", 0.5)
    unchecked = run(engine, recipe()).pictures[0]
    assert (unchecked.nsfw, unchecked.score, unchecked.checker, unchecked.threshold) == (False, None, "", None)


def test_an_unknown_model_fails_in_plain_words(engine: Engine) -> None:
    with pytest.raises(ModelNotDownloaded) as caught:
        run(engine, recipe(local("nobody/nothing", Family.STABLE_DIFFUSION)))
    assert caught.value.code == ErrorCode.MODEL_NOT_DOWNLOADED
    assert caught.value.message.startswith("Model 'nobody/nothing' is not downloaded yet.")


@pytest.mark.parametrize("damage", ["unet/diffusion_pytorch_model.safetensors", "model_index.json"])
def test_a_damaged_model_fails_without_quoting_the_library(engine: Engine, models_dir: Path, damage: str) -> None:
    shutil.copytree(models_dir / SD.id, models_dir / "tests/damaged", dirs_exist_ok=True)
    (models_dir / "tests/damaged" / damage).write_bytes(b"{")
    with pytest.raises(ModelFailed) as caught:
        run(engine, recipe(local("tests/damaged", Family.STABLE_DIFFUSION)))
    assert caught.value.message == "Model 'tests/damaged' could not be loaded."
    assert caught.value.__cause__ is not None


def test_files_that_change_while_a_model_is_warm_are_loaded_again(tmp_path: Path) -> None:
    """Weights on the CPU are mapped: a process that reads on after the end of a file is killed."""
    model = save_stable_diffusion(tmp_path, "tests/changing")
    engine = Engine(EngineSettings(models_dir=tmp_path, dtype="float32", offline=True))
    before = pixels(run(engine, recipe(model)))
    (proven,) = engine.fingerprints.values()
    save_stable_diffusion(tmp_path, "tests/changing", seed=1)
    assert engine.fingerprints == {}
    after = pixels(run(engine, recipe(model)))
    assert not np.array_equal(before, after)
    assert list(engine.fingerprints.values()) != [proven]
    os.truncate(tmp_path / model.id / "unet/diffusion_pytorch_model.safetensors", 100)
    with pytest.raises(ModelFailed, match="could not be loaded"):
        run(engine, recipe(model))


def test_a_damaged_download_fails_its_requests_but_not_the_report_of_missing_models(tmp_path: Path) -> None:
    """The heartbeat of a worker reports them: one that fails would take the worker out of the service."""
    engine = Engine(EngineSettings(models_dir=tmp_path, offline=True))
    model = ModelReference(id="someone/model", revision="a" * 40, family=Family.STABLE_DIFFUSION)
    snapshot = tmp_path / "hub/models--someone--model/snapshots" / model.revision
    snapshot.mkdir(parents=True)
    (snapshot / "model_index.json").write_text("[")
    assert engine.has(model)
    with pytest.raises(ModelFailed) as caught:
        engine.warm(model)
    assert caught.value.message == "Model 'someone/model' could not be loaded."


def test_a_model_that_breaks_while_running_fails_without_quoting_the_library(engine: Engine) -> None:
    with pytest.raises(ModelFailed) as caught:
        run(engine, recipe(local("tests/sd", Family.INSTRUCT_PIX2PIX)))
    assert caught.value.message == "Model 'tests/sd' failed while it was making the pictures."
    assert "Incorrect configuration" in str(caught.value.__cause__)


def test_overflowing_numbers_are_an_error(engine: Engine) -> None:
    with pytest.raises(EngineError, match="not finite"):
        run(engine, recipe(SD, guidance_scale=1e38, num_inference_steps=3))


def test_a_break_while_decoding_leaves_a_half_precision_model_usable(models_dir: Path) -> None:
    engine = Engine(EngineSettings(models_dir=models_dir, dtype="float16"))
    expected = pixels(run(engine, recipe(SDXL)))

    def break_once(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        if type(module).__name__ == "Decoder":
            hook.remove()
            raise RuntimeError("no kernel")

    hook = register_module_forward_pre_hook(break_once)
    with pytest.raises(ModelFailed):
        run(engine, recipe(SDXL))
    assert np.array_equal(expected, pixels(run(engine, recipe(SDXL))))


def test_bfloat16_stays_close_to_float32(models_dir: Path, engine: Engine) -> None:
    half = Engine(EngineSettings(models_dir=models_dir, dtype="bfloat16"))
    difference = np.abs(pixels(run(half, recipe())) - pixels(run(engine, recipe())))
    assert 0 < difference.mean() < 2


def test_nothing_is_printed_and_the_network_is_left_alone(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("connected")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    engine = Engine(EngineSettings(models_dir=models_dir))
    for model in (TINY_EDIT, SD, SDXL):
        run(engine, recipe(model, seeds=(1, 2), safety_check=True, prompt="long " * 40))
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "changes", [{"device": "tpu"}, {"dtype": "int8"}, {"safety_checker": "none"}, {"threads": 0}], ids=str
)
def test_invalid_settings_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(changes))):
        EngineSettings(models_dir=Path("models"), **changes)


def test_waiting_threads_do_not_spin() -> None:
    assert os.environ["OMP_WAIT_POLICY"] == "PASSIVE"


def test_safety_checks_are_not_reported_to_microsoft() -> None:
    """Once onnxruntime is initialized, its telemetry has a thread, and a file of its own."""
    script = """
import os, generation.engine, onnxruntime
print(len(os.listdir("/proc/self/task")))
"""
    finished = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert finished.stdout == "1\n"
