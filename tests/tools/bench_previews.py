"""What live previews cost: the time of one, and its share of a step, measured in the bundled model's own runs."""

import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from generation.engine.engine import Engine, EngineSettings
from generation.engine.progress import Preview
from generation.recipes import Recipe
from tests.support import pictures
from tests.support.tiny_models import TINY_EDIT
from tests.tools.bench_queue import Line

STEPS = 20
ROUNDS = 3
SIDES = (128, 256, 512)


def measure_previews() -> Iterator[Line]:
    """A worker's engine with one thread; the time outside the previews is that of the steps."""
    engine = Engine(EngineSettings(models_dir=Path("nowhere"), offline=True))
    for side in SIDES:
        engine.run(_recipe(side, 2), pictures.scene(), _ignore)
        if side == SIDES[0]:
            yield (
                "the first preview of a warm model, which fits its map",
                f"{_looks(engine, side, 2)[0][0] * 1000:.0f} ms",
            )
        looks, steps = [], []
        for _ in range(ROUNDS):
            seen, seconds = _looks(engine, side, STEPS)
            looks += seen
            steps.append((seconds - sum(seen)) / STEPS)
        look, step = statistics.median(looks), statistics.median(steps)
        yield f"{side} x {side}: a preview, and a step", f"{look * 1000:.2f} ms, {step * 1000:.0f} ms"
        yield f"{side} x {side}: previews at each step (aim: under 2 % of a step)", f"{look / step:.1%}"
        yield f"{side} x {side}: previews once a second", f"{look / max(step, 1.0):.2%}"


def _looks(engine: Engine, side: int, steps: int) -> tuple[list[float], float]:
    """The seconds of each preview of a run that looks at every step, and of all its steps together with them."""
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
