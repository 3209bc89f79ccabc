"""The bundled models do what their cards say, run as the service runs them. `training/` measures how well."""

import json
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from torch.nn import functional

from generation.engine.engine import Engine
from generation.models import DiffusionModel
from generation.parameters import ImageToImageParameters
from generation.recipes import LoraReference, ModelReference, plan
from generation.repositories.files import BUNDLED
from tests.support.environment import ROOT
from tests.support.tiny_models import TINY_EDIT, TINY_REDRAW
from training.classifier import GUIDANCE
from training.edits import EDITS
from training.emoji import CALLED
from training.evaluate import RECOMMENDED
from training.instructions import NEUTRAL_OF_CARD
from training.lora import STYLES
from training.tokenizer import token_ids
from training.words import INSTRUCTIONS, load, prototypes_of


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    with Image.open(ROOT / "dreamsite" / "static" / "sample.jpg") as cat:
        return cat.convert("RGB").resize((128, 128))


def blob(colour: str) -> Image.Image:
    picture = Image.new("RGB", (128, 128), "white")
    ImageDraw.Draw(picture).ellipse((24, 24, 104, 104), fill=colour)
    return picture.filter(ImageFilter.GaussianBlur(3))


def make(
    engine: Engine,
    model: ModelReference,
    picture: Image.Image,
    prompt: str,
    loras: Sequence[LoraReference] = (),
    **fields: Any,
) -> NDArray[np.float64]:
    """Return the pixels, 0 to 255, of a request with these fields."""
    parameters = ImageToImageParameters(prompt=prompt, seed=7, safety_check=False, **fields)
    recipe, _ = plan(parameters, model, loras, picture.size)
    return np.asarray(engine.run(recipe, picture, lambda *_: None).pictures[0].image, float)


def error(one: NDArray[np.float64], other: Image.Image | NDArray[np.float64]) -> float:
    return float(np.square(one - np.asarray(other, float)).mean())


def test_an_edit_follows_its_prompt(engine: Engine, photo: Image.Image) -> None:
    result = make(engine, TINY_EDIT, photo, "make it black and white", num_inference_steps=2)
    assert np.ptp(result, axis=2).mean() < 0.25 * np.ptp(np.asarray(photo, float), axis=2).mean()


@pytest.mark.django_db
def test_the_editor_distinguishes_its_examples_from_unknown_words() -> None:
    examples = DiffusionModel.objects.get(pk="dreamsite/tiny-edit").example_prompts.splitlines()
    pipeline = load(BUNDLED / "tiny-edit")
    with torch.no_grad():
        tokens = torch.tensor([token_ids(pipeline.tokenizer, text) for text in [*examples, *NEUTRAL_OF_CARD]])
        vectors = pipeline.unet.add_embedding(pipeline.text_encoder(tokens)[0])
    prototypes = prototypes_of(pipeline, INSTRUCTIONS, 50)
    nearest = functional.cosine_similarity(vectors[:, None], prototypes[None], dim=2).argmax(1).tolist()
    assert nearest[: len(examples)] == list(range(len(EDITS)))
    assert nearest[len(examples) :].count(len(EDITS)) >= 0.8 * len(NEUTRAL_OF_CARD)


@pytest.mark.django_db
def test_the_redrawer_knows_its_examples() -> None:
    examples = DiffusionModel.objects.get(pk="dreamsite/tiny-redraw").example_prompts.splitlines()
    motifs = {name for names in CALLED.values() for name in names}
    assert {re.sub("^an? ", "", prompt) for prompt in examples} <= motifs


@pytest.mark.parametrize(("style", "prompt"), [("banknote", "make it a banknote"), ("knitted", "make it knitted")])
def test_a_lora_makes_its_style(engine: Engine, photo: Image.Image, style: str, prompt: str) -> None:
    lora = LoraReference(id=f"dreamsite/{style}", revision="", weight_name="", weight=1.0)
    result = make(engine, TINY_EDIT, photo, prompt, loras=[lora], num_inference_steps=2)
    draw, _ = STYLES[style]
    expected = 255 * np.clip(draw(np.asarray(photo, np.float32) / 255), 0, 1)
    assert error(result, expected) < 0.6 * error(result, photo)


def test_one_step_resembles_two(engine: Engine, photo: Image.Image) -> None:
    one, two = (make(engine, TINY_EDIT, photo, "make it night", num_inference_steps=steps) for steps in (1, 2))
    assert error(one, two) < 60


def test_the_prompt_decides_the_motif(engine: Engine) -> None:
    for prompt, strongest in (("a red apple", 0), ("a green heart", 1), ("blue heart please", 2)):
        result = make(engine, TINY_REDRAW, blob("gray"), prompt, strength=0.9, num_inference_steps=25)
        middle = result[32:96, 32:96].mean((0, 1))
        assert middle.argmax() == strongest, prompt


@pytest.mark.parametrize("prompt", ["a penguin", "pizza"])
def test_more_strength_leaves_less_of_the_picture(engine: Engine, prompt: str) -> None:
    drawn = blob("teal")
    errors = [
        error(make(engine, TINY_REDRAW, drawn, prompt, strength=s, num_inference_steps=25), drawn)
        for s in (0.2, 0.5, 0.7, 0.9)
    ]
    assert errors == sorted(errors)
    assert errors[-1] > 4 * errors[0]


@pytest.mark.parametrize(("name", "most"), [("tiny-edit", 15), ("tiny-redraw", 12)])
def test_a_bundled_model_is_small_and_has_a_card_without_traces_of_its_machine(name: str, most: int) -> None:
    directory = BUNDLED / name
    card = (directory / "CARD.md").read_text()
    assert (directory / "samples.jpg").is_file()
    schedule = json.loads((directory / "scheduler/scheduler_config.json").read_text())
    assert schedule["prediction_type"].replace("_", "-") in card
    assert not schedule["clip_sample"]
    files = [path for path in directory.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < most * 1_000_000
    assert {path.suffix for path in files} <= {".md", ".txt", ".jpg", ".svg", ".json", ".safetensors"}
    settings = "".join(path.read_text() for path in files if path.suffix == ".json" and path.name != "tokenizer.json")
    assert str(ROOT) not in settings
    assert "build/" not in settings


def test_training_measures_with_the_guidance_and_steps_of_the_service() -> None:
    request = ImageToImageParameters(prompt="a penguin")
    for model, measured in ((TINY_EDIT, RECOMMENDED.guidance), (TINY_REDRAW, GUIDANCE)):
        assert plan(request, model, [], (128, 128))[0].guidance_scale == pytest.approx(measured)
    assert plan(request, TINY_EDIT, [], (128, 128))[0].num_inference_steps == RECOMMENDED.steps
