"""Progress of a run: reported to a callback, and measured by phase."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

OnStep = Callable[[int, int, str], None]
"""Called with the steps done, all steps and the phase: loading, encoding, denoising, decoding or safety.

An exception that it raises ends the run.
"""


@dataclass(frozen=True)
class Preview:
    """A small RGB picture of an unfinished image; `item` is an index into the batch, `image` into its recipe's seeds."""

    item: int
    image: int
    picture: Image.Image


PreviewSink = Callable[[Callable[[], list[Preview]]], None]
"""Called after each denoising step except the last with a function that makes the previews of that step.

The function may only be called before the sink returns. It raises nothing and returns an empty list if previews cannot be
made. Its list covers the images of one pipeline call, which need not be all images of the batch. Previews are computed
only if it is called.
"""


class Progress:
    """The progress of one run: calls `on_step`, remembers what that raised, and measures the seconds of each phase.

    `on_preview` is passed on to the calls of the pipeline.
    """

    def __init__(self, on_step: OnStep, on_preview: PreviewSink | None = None) -> None:
        self.on_preview = on_preview
        self.raised: BaseException | None = None
        self.of = 0
        self._on_step = on_step
        self._timings: dict[str, float] = {}
        self._phase = ""
        self._phase_start = 0.0

    def __call__(self, done: int, of: int, phase: str) -> None:
        self.of = of
        if phase != self._phase:
            self.finish()
            self._phase, self._phase_start = phase, time.perf_counter()
        try:
            self._on_step(done, of, phase)
        except BaseException as error:
            self.raised = error
            raise

    def finish(self) -> dict[str, float]:
        """End the current phase and return the seconds of each phase."""
        if self._phase:
            duration = time.perf_counter() - self._phase_start
            self._timings[self._phase] = self._timings.get(self._phase, 0.0) + duration
            self._phase = ""
        return dict(self._timings)


@dataclass(frozen=True)
class ProgressSlice:
    """The share of one pipeline call in the progress of a run: `steps` of `of` steps, after the first `before`."""

    progress: Progress
    before: int
    steps: int
    of: int

    def __call__(self, done: int, calls: int, phase: str) -> None:
        # Some schedulers call the model more often than there are steps, so calls are converted to steps.
        self.progress(self.before + self.steps * done // calls, self.of, phase)
