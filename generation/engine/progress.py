"""Where a run is: told to whoever waits, and measured."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from PIL import Image

OnStep = Callable[[int, int, str], None]
"""Called with steps done, of how many, and the phase: loading, encoding, denoising, decoding or safety.

What it raises ends the run.
"""


@dataclass(frozen=True)
class Preview:
    """A preview: a small RGB picture of what one image is becoming, by index of the member and of its recipe's seeds."""

    member: int
    image: int
    picture: Image.Image


PreviewSink = Callable[[Callable[[], list[Preview]]], None]
"""Called after each denoising step but the last with a function that makes the previews of all images of that step.

That function is good until the call returns. It raises nothing: where no previews can be made it gives none. One call of
the pipeline may not make all images, so neither has each list all of them. What is not asked for costs nothing.
"""


class Progress:
    """Tells `on_step` where the run is, keeps what it raised, and measures the seconds of each phase.

    `offer` is kept for those who make the previews.
    """

    def __init__(self, on_step: OnStep, offer: PreviewSink | None = None) -> None:
        self.offer = offer
        self.raised: BaseException | None = None
        self.of = 0
        self._on_step = on_step
        self._timings: dict[str, float] = {}
        self._phase = ""
        self._since = 0.0

    def __call__(self, done: int, of: int, phase: str) -> None:
        self.of = of
        if phase != self._phase:
            self.finish()
            self._phase, self._since = phase, time.perf_counter()
        try:
            self._on_step(done, of, phase)
        except BaseException as error:
            self.raised = error
            raise

    def finish(self) -> dict[str, float]:
        """End the current phase; seconds by phase."""
        if self._phase:
            self._timings[self._phase] = self._timings.get(self._phase, 0.0) + time.perf_counter() - self._since
            self._phase = ""
        return dict(self._timings)


@dataclass(frozen=True)
class ProgressSlice:
    """The part of a run that one call of the pipeline makes: `steps` of all `of`, after those made `before`."""

    progress: Progress
    before: int
    steps: int
    of: int

    def __call__(self, done: int, calls: int, phase: str) -> None:
        # Some schedulers call the model more often than there are steps: what is told are the steps asked for.
        self.progress(self.before + self.steps * done // calls, self.of, phase)
