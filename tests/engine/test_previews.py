"""Previews resemble the final pictures, and neither change nor break the run."""

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageOps
from torch.nn.modules.module import register_module_forward_pre_hook

from generation.engine.batches import BatchItem, Result
from generation.engine.engine import Engine, EngineSettings
from generation.engine.pipelines import expected_warnings_ignored
from generation.engine.previews import Previews, fit, render
from generation.engine.progress import Preview
from generation.families import Family
from generation.inpainting import Box
from generation.recipes import ModelReference, Recipe
from generation.repositories.files import BUNDLED
from tests.support.environment import ROOT
from tests.support.pictures import scene
from tests.support.tiny_models import (
    TINY_EDIT,
    TINY_REDRAW,
    diffusers,
    local,
    save_instruct_pix2pix,
    save_sdxl,
    save_stable_diffusion,
    tiny_autoencoder,
)

SD = local("tests/sd", Family.STABLE_DIFFUSION)
SDXL = local("tests/sdxl", Family.SDXL)
ANCESTRAL = local("timbrooks/instruct-pix2pix", Family.INSTRUCT_PIX2PIX)


@pytest.fixture(scope="module")
def models_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("models")
    save_stable_diffusion(directory, SD.id)
    save_sdxl(directory, SDXL.id)
    save_instruct_pix2pix(directory, ANCESTRAL.id)
    return directory


@pytest.fixture
def engine(models_dir: Path) -> Engine:
    return Engine(EngineSettings(models_dir=models_dir, dtype="float32", offline=True))


@pytest.fixture(scope="module")
def bundled_autoencoder() -> Any:
    return diffusers.AutoencoderTiny.from_pretrained(BUNDLED / "tiny-edit/vae").eval()


@pytest.fixture
def before() -> Iterator[Callable[[str, Callable[[torch.Tensor], None]], None]]:
    """Register a hook that gets the first input of every network of the named class before it runs."""
    handles = []

    def add(network: str, hook: Callable[[torch.Tensor], None]) -> None:
        def only_named(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
            if type(module).__name__ == network:
                hook(arguments[0])

        handles.append(register_module_forward_pre_hook(only_named))

    yield add
    for handle in handles:
        handle.remove()


class Viewer:
    """A preview sink that makes and stores the previews of every step."""

    def __init__(self) -> None:
        self.steps: list[list[Preview]] = []

    def __call__(self, make: Callable[[], list[Preview]]) -> None:
        self.steps.append(make())


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
        "num_inference_steps": 3,
        "seeds": (7,),
        "safety_check": False,
        "width": side,
        "height": side,
    }
    return Recipe(**values | changes)


def ignore(done: int, of: int, phase: str) -> None:
    pass


def cat() -> Image.Image:
    return ImageOps.fit(Image.open(ROOT / "dreamsite/static/sample.jpg").convert("RGB"), (256, 192))


def psnr(one: Image.Image, other: Image.Image) -> float:
    """Return the PSNR in dB; the second picture is scaled to the size of the first."""
    scaled = np.asarray(other.resize(one.size, Image.Resampling.BOX), dtype=float)
    error = np.mean((np.asarray(one, dtype=float) - scaled) ** 2)
    return float(10 * np.log10(255**2 / max(error, 1e-9)))


def results(outcomes: list[Any]) -> list[Result]:
    assert all(isinstance(outcome, Result) for outcome in outcomes), outcomes
    return outcomes


def same_pixels(one: Result, other: Result) -> bool:
    return all(
        np.array_equal(np.asarray(a.image), np.asarray(b.image))
        for a, b in zip(one.pictures, other.pictures, strict=True)
    )


def test_previews_resemble_the_picture_the_more_the_later(engine: Engine) -> None:
    viewer = Viewer()
    request = recipe(TINY_REDRAW, prompt="a red apple", num_inference_steps=8, width=192, height=192)
    result = engine.run(request, cat(), ignore, viewer)
    assert len(viewer.steps) == 7, "the last step is followed by the picture itself"
    likeness = [psnr(preview.picture, result.pictures[0].image) for (preview,) in viewer.steps]
    assert likeness[0] > 11, "noise has a likeness of 8 dB"
    assert likeness[-1] > 17
    assert likeness[-1] > likeness[0] + 1


def test_each_preview_shows_its_item_and_image_without_padding(engine: Engine) -> None:
    viewer = Viewer()
    # Padded to 160 x 128.
    size: dict[str, Any] = {"width": 150, "height": 107, "guidance_scale": 1.0, "image_guidance_scale": 1.0}
    items = [
        BatchItem(recipe(seeds=(1, 2), **size), cat()),
        BatchItem(recipe(prompt="leave it as it is", seeds=(3,), **size), ImageOps.invert(cat())),
        BatchItem(recipe(prompt="leave it as it is", seeds=(4, 5), **size), ImageOps.mirror(scene())),
    ]
    outcome = results(engine.run_batch(items, ignore, viewer))
    for step in viewer.steps:
        assert [(preview.item, preview.image) for preview in step] == [(0, 0), (0, 1), (1, 0), (2, 0), (2, 1)]
    for one in viewer.steps[-1]:
        assert (one.picture.size, one.picture.mode) == ((128, 91), "RGB")
        likeness = [psnr(one.picture, result.pictures[0].image) for result in outcome]
        assert likeness.index(max(likeness)) == one.item
    alone = Viewer()
    engine.run(recipe(seeds=(2,), **size), cat(), ignore, alone)
    likeness = [psnr(one.picture, alone.steps[-1][0].picture) for one in viewer.steps[-1]]
    assert likeness[1] > 45
    assert sorted(likeness)[-2] < 42


def test_previews_keep_their_places_where_images_are_made_in_several_calls(
    engine: Engine, before: Callable[[str, Callable[[torch.Tensor], None]], None]
) -> None:
    def allow_two(latents: torch.Tensor) -> None:
        if len(latents) > 2 * 3:  # InstructPix2Pix runs three guidance variants
            torch.empty(2**50)

    before("UNet2DConditionModel", allow_two)
    viewer = Viewer()
    changes: dict[str, Any] = {"num_inference_steps": 2}
    items = [BatchItem(recipe(seeds=(1,), **changes), cat()), BatchItem(recipe(seeds=(2, 3, 4), **changes), scene())]
    results(engine.run_batch(items, ignore, viewer))
    places = [[(preview.item, preview.image) for preview in step] for step in viewer.steps]
    assert places == [[(0, 0), (1, 0)], [(1, 1), (1, 2)]]


@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        (TINY_EDIT, "float32"),
        (TINY_EDIT, "bfloat16"),
        (SD, "float32"),
        (SDXL, "bfloat16"),  # its autoencoder is switched to float32 and back
        (ANCESTRAL, "float32"),  # its scheduler draws noise at each step
    ],
    ids=str,
)
def test_previews_change_no_pixel_of_the_result(models_dir: Path, model: ModelReference, dtype: str) -> None:
    engine = Engine(EngineSettings(models_dir=models_dir, dtype=dtype, offline=True))
    request = recipe(model, seeds=(7, 8))
    viewer = Viewer()
    first, again = (engine.run(request, scene(), ignore, viewer) for _ in range(2))
    without = engine.run(request, scene(), ignore)
    assert same_pixels(first, without)
    assert same_pixels(again, without)
    of = 4 if model == SD else 3  # its scheduler takes one step twice
    assert [len(step) for step in viewer.steps] == [2] * (of - 1) * 2
    assert {preview.picture.size for step in viewer.steps for preview in step} == {(128, 128)}


def test_the_map_is_fitted_once_and_only_when_a_preview_is_made(
    engine: Engine, before: Callable[[str, Callable[[torch.Tensor], None]], None]
) -> None:
    encoded: list[tuple[int, ...]] = []
    before("EncoderTiny", lambda picture: encoded.append(tuple(picture.shape)))
    sinks: list[object] = []
    engine.run(recipe(), scene(), ignore, sinks.append)
    assert len(sinks) == 2
    assert encoded == [(1, 3, 128, 128)]
    for _ in range(2):
        engine.run(recipe(), scene(), ignore, Viewer())
    assert encoded[1:] == [(1, 3, 128, 128), (1, 3, 256, 256), (1, 3, 128, 128)]


def test_a_map_that_cannot_be_fitted_disables_only_the_previews(
    engine: Engine,
    before: Callable[[str, Callable[[torch.Tensor], None]], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    expected = engine.run(recipe(), scene(), ignore)

    def break_on_the_chart(picture: torch.Tensor) -> None:
        if picture.shape[-1] == 256:
            raise RuntimeError("broken")

    before("EncoderTiny", break_on_the_chart)
    viewer = Viewer()
    with caplog.at_level(logging.WARNING, logger="generation.engine.previews"):
        outcome = [engine.run(recipe(), scene(), ignore, viewer) for _ in range(2)]
    assert viewer.steps == [[]] * 4
    assert [record.getMessage() for record in caplog.records] == [
        "cannot make previews with StableDiffusionInstructPix2PixPipeline"
    ]
    assert all(same_pixels(one, expected) for one in outcome)


def test_a_viewer_that_breaks_does_not_break_the_run(engine: Engine, caplog: pytest.LogCaptureFixture) -> None:
    def give_up(make: object) -> None:
        raise OSError("nobody is there")

    outcome = results(
        engine.run_batch([BatchItem(recipe(), scene()), BatchItem(recipe(seeds=(8,)), cat())], ignore, give_up)
    )
    assert len(outcome) == 2
    assert caplog.messages == ["cannot show previews"] * 2


def test_the_scheduler_is_left_as_it_was() -> None:
    scheduler = diffusers.DDIMScheduler()
    before = dict(vars(scheduler))

    def break_off() -> None:
        with Previews(SimpleNamespace(scheduler=scheduler)).recording():
            assert vars(scheduler) != before
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        break_off()
    assert vars(scheduler) == before


SCHEDULERS = (
    "DDIMScheduler",
    "DPMSolverMultistepScheduler",
    "EulerAncestralDiscreteScheduler",
    "EulerDiscreteScheduler",
    "HeunDiscreteScheduler",
    "LCMScheduler",
    "PNDMScheduler",
    "UniPCMultistepScheduler",
)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("name", SCHEDULERS)
def test_the_noise_is_not_shown(bundled_autoencoder: Any, name: str, prediction_type: str) -> None:
    options = {"PNDMScheduler": {"skip_prk_steps": True}, "DDIMScheduler": {"clip_sample": False}}.get(name, {})
    with expected_warnings_ignored():
        scheduler = getattr(diffusers, name)(prediction_type=prediction_type, **options)
        scheduler.set_timesteps(10)
    previews = Previews(SimpleNamespace(scheduler=scheduler, vae=bundled_autoencoder))
    clean = encode(bundled_autoencoder, scene(256, 256))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    time = scheduler.timesteps[3]
    noisy = scheduler.add_noise(clean, noise, time[None])
    alpha = scheduler.alphas_cumprod[int(time)]
    output = noise if prediction_type == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
    with previews.recording(), expected_warnings_ignored():
        scheduler.step(output, time, noisy, return_dict=False)
        (seen,) = previews.make([((256, 256), (0, 0, 256, 256))])
    assert psnr(seen, scene(256, 256)) > 20
    assert psnr(seen, render(clean, fit(bundled_autoencoder))[0].resize((128, 128), Image.Resampling.BICUBIC)) > 35


def test_noisy_latents_are_shown_if_the_scheduler_returns_no_clean_ones(bundled_autoencoder: Any) -> None:
    scheduler = diffusers.FlowMatchEulerDiscreteScheduler()
    scheduler.set_timesteps(10)
    previews = Previews(SimpleNamespace(scheduler=scheduler, vae=bundled_autoencoder))
    clean = encode(bundled_autoencoder, scene(256, 256))
    noise = torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    noisy = scheduler.scale_noise(clean, scheduler.timesteps[8:9], noise)
    with previews.recording():
        scheduler.step(noise - clean, scheduler.timesteps[8], noisy, return_dict=False)
        (seen,) = previews.make([((256, 256), (0, 0, 256, 256))])
    assert psnr(seen, scene(256, 256)) > 15


@pytest.mark.parametrize(
    "shape", [(1, 256, 32), (1, 8, 2, 32, 32), (2, 8, 32, 32), (1, 4, 32, 32)], ids=["packed", "video", "more", "other"]
)
def test_latents_of_another_kind_give_no_previews(
    bundled_autoencoder: Any, shape: tuple[int, ...], caplog: pytest.LogCaptureFixture
) -> None:
    assert preview_of(torch.zeros(shape), bundled_autoencoder) == []
    assert caplog.messages == []


def test_previews_do_not_show_the_padding(bundled_autoencoder: Any) -> None:
    canvas, box = scene(256, 256), (16, 80, 240, 176)
    latents = encode(bundled_autoencoder, canvas)
    (seen,) = preview_of(latents, bundled_autoencoder, box)
    assert seen.size == (128, 55)
    assert psnr(seen, canvas.crop(box)) > 20
    assert psnr(seen, canvas) < 16


def test_the_map_is_for_latents_on_the_scale_of_the_pipeline() -> None:
    plain, shifted, spread = (
        tiny_autoencoder(**changes)
        for changes in (
            {"scaling_factor": 1.0},
            {"scaling_factor": 0.3, "shift_factor": 0.7},
            {"scaling_factor": 0.5, "latents_mean": [1.0, 2.0, 3.0, 4.0], "latents_std": [2.0, 1.0, 3.0, 0.5]},
        )
    )
    latents = encode(plain, scene(256, 256))
    (expected,) = render(latents, fit(plain))
    (seen,) = render((latents - 0.7) * 0.3, fit(shifted))
    assert psnr(seen, expected) > 45
    mean, deviation = torch.tensor([1.0, 2, 3, 4]).view(1, 4, 1, 1), torch.tensor([2, 1, 3, 0.5]).view(1, 4, 1, 1)
    (seen,) = render((latents - mean) * 0.5 / deviation, fit(spread))
    assert psnr(seen, expected) > 45


def test_the_chart_serves_as_well_as_photographs(bundled_autoencoder: Any) -> None:
    """A least squares map fitted to the picture itself gives 25.6 dB for the cat and 23.2 dB for the landscape."""
    map_ = fit(bundled_autoencoder)
    for picture in (cat().resize((256, 256)), scene(256, 256)):
        (seen,) = render(encode(bundled_autoencoder, picture), map_)
        assert psnr(seen, picture) > 22


def encode(autoencoder: Any, picture: Image.Image) -> torch.Tensor:
    values = torch.from_numpy(np.asarray(picture, dtype=np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
    with torch.inference_mode():
        encoded = autoencoder.encode(values)
    latents: torch.Tensor = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
    return latents


def preview_of(latents: torch.Tensor, autoencoder: Any, box: Box = (0, 0, 256, 256)) -> list[Image.Image]:
    """Return the preview of one image on a canvas of 256 x 256, after a step with these clean latents."""
    scheduler = diffusers.DDIMScheduler(prediction_type="sample", clip_sample=False)
    scheduler.set_timesteps(4)
    previews = Previews(SimpleNamespace(scheduler=scheduler, vae=autoencoder))
    with previews.recording():
        scheduler.step(latents, scheduler.timesteps[0], torch.zeros_like(latents), return_dict=False)
        return previews.make([((256, 256), box)])
