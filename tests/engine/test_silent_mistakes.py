"""What the engine once did wrong without telling, for models that were published after it was written.

`test_families.py` has the rest for every family: that no other request's picture reaches a result, that guidance, negative
prompt and strength count or are told to have no effect, sizes, second seeds, and warming of models that need two steps.
"""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook

from generation.engine.batches import Result
from generation.engine.devices import choose_dtype
from generation.engine.engine import Engine, EngineSettings
from generation.engine.prompts import truncation_warnings
from generation.families import FAMILY_TRAITS, Family
from generation.family_traits import StepRule
from generation.parameters import ImageToImageParameters
from generation.recipes import Limits, ModelReference, Recipe, plan
from tests.support.pictures import scene
from tests.support.tiny_models import diffusers, local, save_stable_diffusion
from tests.support.tiny_parts import clip_tokenizer
from tests.support.twins import save_twin

ROUNDED_UP = [family for family in Family if FAMILY_TRAITS[family].step_rule is StepRule.ROUND_UP]


def planned(family: Family, size: tuple[int, int] = (1024, 1024), **fields: Any) -> tuple[Recipe, list[str]]:
    model = ModelReference(id="someone/model", revision="", family=family)
    open_box = (0, 0, *size) if FAMILY_TRAITS[family].needs_mask else None
    return plan(ImageToImageParameters(prompt="make it night", **fields), model, [], size, open_box=open_box)


@pytest.mark.parametrize("family", ROUNDED_UP)
def test_the_upload_is_not_ignored_where_steps_are_rounded_up(family: Family) -> None:
    recipe, warnings = planned(family, num_inference_steps=4, strength=0.8)
    assert recipe.executed_steps == 3
    assert "strength 0.8 was lowered to 0.75: with 4 steps, more would ignore the picture." in warnings
    assert planned(family, num_inference_steps=1)[0].num_inference_steps == 2


def test_flow_models_do_not_compute_in_float16() -> None:
    """A GPU without bfloat16, as torch sees none here, computes in float32."""
    in_float16 = {family for family in Family if FAMILY_TRAITS[family].gpu_dtype == "float16"}
    assert not in_float16 & (set(ROUNDED_UP) - {Family.SD3})
    assert choose_dtype("auto", torch.device("cuda"), False, "bfloat16") is torch.float32
    assert choose_dtype("auto", torch.device("cuda"), False, "float16") is torch.float16


def test_an_editor_is_charged_for_the_steps_and_pixels_that_it_makes() -> None:
    """Kontext has no strength; a request of 200 steps was charged as 4, and a small picture as if a megapixel were made."""
    recipe, _ = planned(Family.FLUX_KONTEXT, num_inference_steps=200, strength=0.02)
    assert recipe.cost(1) == pytest.approx(200 * 1024 * 1024 / 1e6)
    small, warnings = planned(Family.LONGCAT_EDIT, (300, 200), num_inference_steps=50)
    assert (small.width, small.height) == (300, 200)
    assert small.cost(1) == pytest.approx(50 * 1024 * 1024 / 1e6, rel=0.03)
    assert "since someone/model always makes 1.0 megapixels" in warnings[-1]


def test_requests_whose_guidance_differs_share_no_call_of_a_model_that_guides_image_by_image() -> None:
    """Sixteen pictures in a call of Z-Image would have multiplied its sixteen channels by their scales."""
    one, other = (planned(Family.Z_IMAGE, guidance_scale=guidance)[0] for guidance in (3.0, 5.0))
    assert one.batch_key != other.batch_key


@pytest.fixture
def one_image_a_call() -> Iterator[list[int]]:
    """Let each UNet refuse more than one guided image, as the pipeline of Qwen-Image-Edit-2509 does; yield their numbers."""
    seen: list[int] = []

    def refuse(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, diffusers.UNet2DConditionModel):
            seen.append(len(arguments[0]) // 2)
            if seen[-1] > 1:
                raise ValueError("only one image a call")

    handle = register_module_forward_pre_hook(refuse)
    yield seen
    handle.remove()


def test_a_request_for_several_images_is_made_image_by_image_if_need_be(
    tmp_path: Path, one_image_a_call: list[int]
) -> None:
    save_stable_diffusion(tmp_path, "tests/sd")
    engine = Engine(EngineSettings(models_dir=tmp_path, dtype="float32", offline=True))
    recipe = Recipe(
        model=local("tests/sd", Family.STABLE_DIFFUSION),
        loras=(),
        prompt="make it night",
        negative_prompt="",
        strength=1,
        guidance_scale=7.5,
        image_guidance_scale=1.5,
        num_inference_steps=1,
        seeds=(7, 8),
        safety_check=False,
        width=64,
        height=64,
    )
    both = engine.run(recipe, scene(64, 64), ignore)
    assert one_image_a_call == [2, 1, 1]
    alone = engine.run(recipe.model_copy(update={"seeds": (8,)}), scene(64, 64), ignore)
    assert np.array_equal(pixels(both, 1), pixels(alone, 0))


def test_the_end_of_a_long_prompt_is_told_where_the_tokenizer_is_part_of_a_processor() -> None:
    pipe = SimpleNamespace(components={"tokenizer": SimpleNamespace(tokenizer=clip_tokenizer())})
    (warning,) = truncation_warnings(pipe, "prompt", "make it night, " * 20)
    assert warning.startswith("prompt is longer than the model reads")


def test_kandinskys_prior_can_be_canceled(tmp_path: Path) -> None:
    """Its 25 steps come before those that are told."""
    id_ = save_twin(tmp_path, "kandinsky22")
    engine = Engine(EngineSettings(models_dir=tmp_path, dtype="float32", offline=True))
    parameters = ImageToImageParameters(prompt="make it night", num_inference_steps=2, safety_check=False)
    recipe, _ = plan(parameters, local(id_, Family.KANDINSKY_2), [], (64, 64), Limits(side=64))
    phases: list[str] = []
    engine.run(recipe, scene(64, 64), lambda done, of, phase: phases.append(phase))
    assert phases.count("encoding") == 26

    class Stop(Exception):
        pass

    def stop(done: int, of: int, phase: str) -> None:
        phases.append(phase)
        if phases.count("encoding") == 3:
            raise Stop

    phases.clear()
    with pytest.raises(Stop):
        engine.run(recipe, scene(64, 64), stop)
    assert "denoising" not in phases


def pixels(result: Result, image: int) -> Any:
    return np.asarray(result.pictures[image].image)


def ignore(done: int, of: int, phase: str) -> None:
    pass
