"""The safety checkers score pictures and leave them as they are."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from generation.engine import safety
from generation.engine.catalog import find_safety_checker
from generation.engine.engine import Engine, EngineSettings
from generation.engine.errors import ModelFailed
from generation.recipes import Recipe
from tests.support.pictures import scene
from tests.support.tiny_models import (
    TINY_EDIT,
    save_safety_checker,
    transformers,
)

CPU = torch.device("cpu")
CHECKER = "CompVis/stable-diffusion-safety-checker"


def various() -> list[Image.Image]:
    """Return pictures that a checker with random weights scores differently."""
    noise = np.random.default_rng(1).integers(0, 256, (8, 64, 48, 3), dtype=np.uint8)
    return [scene(), *(Image.fromarray(pixels) for pixels in noise), Image.new("RGB", (40, 40), "red")]


def stock_flags(checker: Any, pictures: list[Image.Image]) -> list[bool]:
    """Return the flags of the checker's own call, on copies, since it overwrites flagged pictures."""
    prepare = transformers.CLIPImageProcessorPil(size={"shortest_edge": 30}, crop_size={"height": 30, "width": 30})
    pixels = prepare(pictures, return_tensors="pt").pixel_values
    _, flags = checker(clip_input=pixels, images=[np.array(picture) for picture in pictures])
    return list(flags)


def test_open_nsfw_scores_each_picture_of_a_batch_as_alone() -> None:
    judge = safety.open_nsfw(None, threads=1)
    pictures = various()[:3]
    together = judge(pictures)
    assert [result.checker for result in together] == ["opennsfw"] * 3
    for picture, result in zip(pictures, together, strict=True):
        assert 0 <= result.score < 0.5
        assert not result.nsfw
        assert result.score == pytest.approx(judge([picture])[0].score, abs=1e-5)


def test_the_threshold_decides_what_is_flagged() -> None:
    assert safety.open_nsfw(None, threads=1)([scene()])[0].threshold == 0.5
    strict = safety.open_nsfw(0.0, threads=1)([scene()])[0]
    assert (strict.threshold, strict.nsfw) == (0.0, True)


@pytest.mark.parametrize("limit", [0.42, 0.46, 0.5])
def test_the_stable_diffusion_checker_flags_what_the_stock_one_flags(tmp_path: Path, limit: float) -> None:
    stock = save_safety_checker(tmp_path, limit)
    pictures = various()
    results = safety.stable_diffusion(None, tmp_path, CPU)(pictures)
    assert [result.nsfw for result in results] == stock_flags(stock, pictures)
    assert all(0 <= result.score <= 1 for result in results)
    assert {result.threshold for result in results} == {0.5}


def test_the_stable_diffusion_checker_scores_higher_when_its_limits_are_lower(tmp_path: Path) -> None:
    scores = []
    for limit in (0.6, 0.5, 0.4):
        save_safety_checker(tmp_path / str(limit), limit)
        scores.append(safety.stable_diffusion(None, tmp_path / str(limit), CPU)([scene()])[0].score)
    assert scores == sorted(scores)
    assert len(set(scores)) > 1


def test_no_checker_changes_a_picture(tmp_path: Path) -> None:
    save_safety_checker(tmp_path, limit=-1)
    pictures = various()
    before = [picture.tobytes() for picture in pictures]
    for judge in (safety.stable_diffusion(None, tmp_path, CPU), safety.open_nsfw(0.0, threads=1)):
        assert all(result.nsfw for result in judge(pictures))
    assert [picture.tobytes() for picture in pictures] == before


def test_a_checker_without_all_its_weights_is_refused(tmp_path: Path) -> None:
    save_safety_checker(tmp_path, limit=0.2)
    weights = load_file(tmp_path / "model.safetensors")
    del weights["concept_embeds"]
    save_file(weights, tmp_path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match="concept_embeds"):
        safety.stable_diffusion(None, tmp_path, CPU)


def test_the_setting_chooses_the_checker_and_flagged_pictures_are_unchanged(tmp_path: Path) -> None:
    save_safety_checker(tmp_path / CHECKER, limit=-1)
    engine = Engine(
        EngineSettings(models_dir=tmp_path, offline=True, safety_checker="stable-diffusion", safety_threshold=0.25)
    )
    recipe = Recipe(
        model=TINY_EDIT,
        loras=(),
        prompt="make it night",
        negative_prompt="",
        strength=1,
        guidance_scale=2.5,
        image_guidance_scale=1.5,
        num_inference_steps=1,
        seeds=(7,),
        safety_check=True,
        width=128,
        height=128,
    )
    picture = engine.run(recipe, scene(), lambda done, of, phase: None).pictures[0]
    assert (picture.nsfw, picture.checker, picture.threshold) == (True, "stable-diffusion", 0.25)
    unchecked = recipe.model_copy(update={"safety_check": False})
    plain = engine.run(unchecked, scene(), lambda done, of, phase: None).pictures[0]
    assert picture.image.tobytes() == plain.image.tobytes()


def test_a_missing_checker_fails_in_plain_words(tmp_path: Path) -> None:
    with pytest.raises(ModelFailed, match="The safety checker is not available on this server"):
        find_safety_checker(tmp_path)
