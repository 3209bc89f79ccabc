"""Measure live previews in runs of the bundled model: the time of one, and its share of a step."""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from generation.engine.engine import Engine, EngineSettings
from generation.engine.progress import Preview
from generation.recipes import Recipe
from tests.support import pictures
from tests.support.tiny_models import TINY_EDIT
from tests.tools.bench_queue import Measurement

STEPS = 20
ROUNDS = 3
SIDES = (128, 256, 512)


def measure_previews() -> Iterator[Measurement]:
    """Run an engine like a worker's, with one thread. The time outside the previews counts as that of the steps."""
    engine = Engine(EngineSettings(models_dir=Path("nowhere"), offline=True))
    for side in SIDES:
        engine.run(_recipe(side, 2), pictures.scene(), _ignore)
        if side == SIDES[0]:
            yield (
                "the first preview of a warm model, including the fit of its linear map",
                f"{_time_previews(engine, side, 2)[0][0] * 1000:.0f} ms",
            )
        preview_times, step_times = [], []
        for _ in range(ROUNDS):
            previews, seconds = _time_previews(engine, side, STEPS)
            preview_times += previews
            step_times.append((seconds - sum(previews)) / STEPS)
        preview, step = statistics.median(preview_times), statistics.median(step_times)
        yield f"{side} x {side}: a preview, and a step", f"{preview * 1000:.2f} ms, {step * 1000:.0f} ms"
        yield f"{side} x {side}: previews at each step (aim: under 2 % of a step)", f"{preview / step:.1%}"
        yield f"{side} x {side}: previews once a second", f"{preview / max(step, 1.0):.2%}"


def _time_previews(engine: Engine, side: int, steps: int) -> tuple[list[float], float]:
    """Run with a preview at each step. Return the seconds of each preview, and of all steps and previews together."""
    seconds: list[float] = []

    def on_preview(make: Callable[[], list[Preview]]) -> None:
        start = time.perf_counter()
        assert len(make()) == 1
        seconds.append(time.perf_counter() - start)

    result = engine.run(_recipe(side, steps), pictures.scene(), _ignore, on_preview)
    return seconds, result.timings["denoising"]


def _recipe(side: int, steps: int) -> Recipe:
    return Recipe(
        model=TINY_EDIT,
        loras=(),
        prompt="make it night",
        negative_prompt="",
        strength=1,
        guidance_scale=2.5,
        image_guidance_scale=1.5,
        num_inference_steps=steps,
        seeds=(7,),
        safety_check=False,
        width=side,
        height=side,
    )


def _ignore(done: int, of: int, phase: str) -> None:
    pass
