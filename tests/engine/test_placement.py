"""What memory plans and options do to pipelines, as far as a CPU can run it."""

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from generation.engine.engine import Engine, EngineSettings
from generation.engine.errors import LoraFailed, ModelFailed
from generation.engine.placement import place
from generation.engine.progress import Preview
from generation.families import FAMILY_TRAITS, Family
from generation.memory import NO_OPTIONS, MemoryOptions, MemoryPlan, Offload, Quantization
from generation.parameters import ImageToImageParameters
from generation.recipes import Limits, LoraReference, ModelReference, Recipe, plan
from tests.support.pictures import scene
from tests.support.tiny_models import diffusers, local, save_lora, save_sdxl
from tests.support.twins import save_twin

Pixels = NDArray[np.int16]


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def sdxl(models_dir: Path) -> ModelReference:
    return save_sdxl(models_dir, "tests/sdxl")


@pytest.fixture(scope="module")
def sd35(models_dir: Path) -> ModelReference:
    """Text encoders of two kinds: CLIP and T5."""
    return local(save_twin(models_dir, "sd35"), Family.SD3)


def new_engine(models_dir: Path) -> Engine:
    return Engine(EngineSettings(models_dir=models_dir, dtype="float32", offline=True))


def with_options(model: ModelReference, **options: Any) -> ModelReference:
    return model.model_copy(update={"memory": MemoryOptions(**options)})


def recipe(model: ModelReference, *loras: LoraReference, size: tuple[int, int] = (128, 128), **fields: Any) -> Recipe:
    values = {"prompt": "a cat", "num_inference_steps": 4, "seed": 1, "safety_check": False}
    return plan(ImageToImageParameters(**values | fields), model, loras, size, Limits(side=max(size)))[0]


def pixels(engine: Engine, recipe: Recipe) -> Pixels:
    result = engine.run(recipe, scene(recipe.width, recipe.height), lambda *_: None)
    return np.asarray(result.pictures[0].image, np.int16)


@pytest.mark.parametrize("model_fixture", ["sdxl", "sd35"])
def test_fp8_halves_the_weights_of_networks_but_not_their_pictures(
    models_dir: Path, model_fixture: str, request: pytest.FixtureRequest
) -> None:
    model = request.getfixturevalue(model_fixture)
    engine = new_engine(models_dir)
    expected = pixels(engine, recipe(model))
    in_fp8 = with_options(model, quantization=Quantization.FP8)
    seen = pixels(engine, recipe(in_fp8))
    assert engine.memory_plans == {model.id: "fp8"}
    assert 0 < np.abs(seen - expected).mean() < 10
    pipe = engine._pipelines.get(in_fp8).pipe
    for name in ("unet" if model_fixture == "sdxl" else "transformer", "text_encoder", "text_encoder_2"):
        layers = [layer.weight.dtype for layer in getattr(pipe, name).modules() if isinstance(layer, torch.nn.Linear)]
        assert layers.count(torch.float8_e4m3fn) > len(layers) / 2, name
    assert all(parameter.dtype == torch.float32 for parameter in pipe.vae.parameters())


def test_fp8_refuses_loras_in_words(models_dir: Path, sdxl: ModelReference) -> None:
    engine = new_engine(models_dir)
    lora = save_lora(models_dir, "tests/lora", engine._pipelines.get(sdxl).pipe)
    engine.run(recipe(sdxl, lora), scene(128, 128), lambda *_: None)
    with pytest.raises(LoraFailed, match="Ask an administrator to set another quantization, such as 8 bit"):
        engine.run(recipe(with_options(sdxl, quantization=Quantization.FP8), lora), scene(128, 128), lambda *_: None)


def test_eight_bit_runs_or_is_refused_for_want_of_its_package(models_dir: Path, sd35: ModelReference) -> None:
    engine = new_engine(models_dir)
    quantized = with_options(sd35, quantization=Quantization.EIGHT_BIT)
    if not find_spec("torchao"):
        with pytest.raises(ModelFailed, match="needs torchao, which is not installed on this server"):
            pixels(engine, recipe(quantized))
        return
    difference = np.abs(pixels(engine, recipe(quantized)) - pixels(engine, recipe(sd35)))
    assert 0 < difference.mean() < 5


def test_four_bit_is_refused_in_words_where_it_cannot_run(models_dir: Path, sdxl: ModelReference) -> None:
    with pytest.raises(ModelFailed, match=r"needs bitsandbytes, which is not installed|needs an NVIDIA GPU"):
        pixels(new_engine(models_dir), recipe(with_options(sdxl, quantization=Quantization.FOUR_BIT)))


def test_tiles_change_large_pictures(models_dir: Path, sdxl: ModelReference) -> None:
    """The autoencoders of twins have tiles of 32 pixels."""
    engine = new_engine(models_dir)
    tiled = with_options(sdxl, vae_tiling=True)
    seen = pixels(engine, recipe(tiled))
    assert engine.memory_plans == {sdxl.id: "whole and VAE tiling"}
    assert np.abs(seen - pixels(engine, recipe(sdxl))).mean() > 0


@pytest.mark.parametrize("offload", [Offload.MODEL, Offload.GROUP])
def test_offload_makes_the_same_pictures_previews_and_loras(models_dir: Path, offload: Offload) -> None:
    """On a CPU, networks are moved from the host's memory to itself."""
    model, engine, cpu = save_sdxl(models_dir, f"tests/{offload}"), new_engine(models_dir), torch.device("cpu")
    pipe = engine._pipelines.get(model).pipe
    recipes = [recipe(model)]
    if offload is Offload.GROUP:
        # Under model offload, diffusers asks for a GPU while it loads a LoRA.
        recipes.append(recipe(model, save_lora(models_dir, "tests/lora-offload", pipe)))
    expected = [pixels(engine, each) for each in recipes]
    engine.evict(model.id)
    pipe = engine._pipelines.get(model).pipe
    memory_plan = MemoryPlan(offload, Quantization.NONE, vae_tiling=False, weights=0, need=0)
    place(pipe, memory_plan, NO_OPTIONS, cpu, torch.float32)
    assert hasattr(pipe.unet, "_hf_hook") == (offload is Offload.MODEL)
    assert hasattr(pipe.unet.conv_in, "_diffusers_hook") == (offload is Offload.GROUP)
    previews: list[Preview] = []
    engine.run(recipes[0], scene(128, 128), lambda *_: None, lambda make: previews.extend(make()))
    assert len(previews) == recipes[0].executed_steps - 1
    for each, before in [*zip(recipes, expected, strict=True), (recipes[0], expected[0])]:
        assert np.abs(pixels(engine, each) - before).max() <= 1


def test_families_can_cache_and_compile_what_they_declare() -> None:
    for family, traits in FAMILY_TRAITS.items():
        hints = get_type_hints(getattr(diffusers, traits.pipeline).__init__)
        (denoiser,) = (denoisers(hints[name]) for name in ("unet", "transformer") if name in hints)
        assert all(bool(each._repeated_blocks) == traits.can_compile for each in denoiser), family
        assert not traits.can_cache_steps or all(hasattr(each, "enable_cache") for each in denoiser), family


def denoisers(hint: Any) -> Sequence[Any]:
    """Return the classes of a type that may be a union."""
    return get_args(hint) or (hint,)


def test_a_step_cache_saves_blocks_and_is_empty_after_a_canceled_run(models_dir: Path) -> None:
    class Stop(Exception):
        pass

    def stop(done: int, of: int, phase: str) -> None:
        if phase == "denoising" and done == 3:
            raise Stop

    model = local(save_twin(models_dir, "qwen-image"), Family.QWEN_IMAGE)
    _ignore_time(models_dir / model.id)
    cached = with_options(model, step_cache=True)
    engine = new_engine(models_dir)
    many_steps: dict[str, Any] = {"num_inference_steps": 60, "strength": 0.2}
    calls: list[int] = []
    blocks = engine._pipelines.get(cached).pipe.transformer.transformer_blocks
    blocks[1].img_mlp.register_forward_hook(lambda *_: calls.append(1))
    seen = pixels(engine, recipe(cached, **many_steps))
    steps = recipe(cached, **many_steps).executed_steps
    assert 2 <= len(calls) < 2 * steps, "two guidance branches a step, some of them from the cache"
    assert np.abs(seen - pixels(engine, recipe(model, **many_steps))).mean() < 5
    with pytest.raises(Stop):
        engine.run(recipe(cached, size=(320, 256), **many_steps), scene(320, 256), stop)
    assert np.array_equal(pixels(engine, recipe(cached, **many_steps)), seen)


def _ignore_time(directory: Path) -> None:
    """Make the transformer of a twin independent of the time step, so that steps resemble each other as trained ones do."""
    file = directory / "transformer/diffusion_pytorch_model.safetensors"
    weights = load_file(file)
    for name in weights:
        if name.startswith("time_text_embed.timestep_embedder.linear_2"):
            weights[name] *= 0
    save_file(weights, file, metadata={"format": "pt"})
