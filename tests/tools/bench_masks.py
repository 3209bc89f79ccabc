"""Measure masks: compositing latents against a step of the bundled model, and putting pixels back into large uploads."""

import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from generation.engine.compositing import KeptPicture, outside_kept
from generation.engine.engine import Engine, EngineSettings
from generation.engine.masks import MaskedPicture
from generation.family_traits import LatentLayout
from generation.inpainting import inpaint
from generation.parameters import ImageToImageParameters
from generation.recipes import plan
from tests.support import pictures
from tests.support.tiny_models import TINY_EDIT
from tests.tools.bench_queue import Measurement

STEPS = 20
ROUNDS = 5
SIDES = (128, 256, 512)
UPLOADS = ((4000, 3000), (8000, 6250))


def measure_masks() -> Iterator[Measurement]:
    """Run an engine like a worker's, with one thread."""
    engine = Engine(EngineSettings(models_dir=Path("nowhere"), offline=True))
    for side in SIDES:
        recipe, _ = plan(
            ImageToImageParameters(prompt="make it night", num_inference_steps=2, safety_check=False),
            TINY_EDIT,
            [],
            (side, side),
        )
        step = engine.run(recipe, pictures.scene(side, side), _ignore).timings["denoising"] / 4
        compositing = _time_compositing(engine, side)
        yield (
            f"{side} x {side}: compositing the latents, and a step",
            f"{compositing * 1e3:.2f} ms, {step * 1e3:.0f} ms",
        )
        yield f"{side} x {side}: compositing (aim: under 3 % of a step)", f"{compositing / step:.2%}"
    for size in UPLOADS:
        mask = _ellipse(size)
        masked = MaskedPicture(Image.new("RGB", size), mask, inpaint(size, mask.getbbox() or (0, 0, 1, 1), None, None))
        drawn = Image.new("RGB", size, "white")
        yield f"{size[0]} x {size[1]}: the first picture put back", f"{_seconds(partial(masked.paste, drawn)):.2f} s"
        yield f"{size[0]} x {size[1]}: each further one", f"{_seconds(partial(masked.paste, drawn)):.2f} s"


def _time_compositing(engine: Engine, side: int) -> float:
    """Return the seconds by which compositing makes a step of the scheduler longer."""
    pipe = engine._pipelines.get(TINY_EDIT).pipe
    channels = pipe.vae.config.latent_channels
    latents = torch.randn(1, channels, side // pipe.vae_scale_factor, side // pipe.vae_scale_factor)
    picture = pictures.scene(side, side)

    def steps() -> None:
        for time_ in pipe.scheduler.timesteps:
            pipe.scheduler.step(latents, time_, latents, return_dict=False)

    differences = []
    for _ in range(ROUNDS):
        pipe.scheduler.set_timesteps(STEPS)
        bare = _seconds(steps)
        pipe.scheduler.set_timesteps(STEPS)
        with outside_kept(pipe, LatentLayout.SPATIAL, [KeptPicture(picture, _ellipse(picture.size), 7)]):
            differences.append((_seconds(steps) - bare) / STEPS)
    return statistics.median(differences)


def _ellipse(size: tuple[int, int]) -> Image.Image:
    mask = Image.new("L", size)
    ImageDraw.Draw(mask).ellipse((size[0] // 8, size[1] // 8, size[0] * 7 // 8, size[1] * 7 // 8), fill=255)
    return mask


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _ignore(done: int, of: int, phase: str) -> None:
    pass
