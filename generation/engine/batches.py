"""A batch of the engine: its items, their images and pictures, and what failed."""

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from PIL import Image

from generation.engine.calls import CallPreviewSink, ImageJob
from generation.engine.devices import is_out_of_memory
from generation.engine.errors import EngineError, ModelFailed, OutOfMemory
from generation.engine.progress import Preview, PreviewSink, Progress
from generation.recipes import ModelReference, Recipe

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class BatchItem:
    """One request of a batch: a recipe and an RGB picture of any size, and what belongs to it.

    `mask` is a picture of mode L, white where the picture may change, of the picture's size; a recipe with `inpainting` needs
    it. `references` are further RGB pictures, as many as the recipe says.
    """

    recipe: Recipe
    picture: Image.Image
    mask: Image.Image | None = None
    references: Sequence[Image.Image] = ()


@dataclass(frozen=True)
class Picture:
    """One resulting picture. Without a safety check `checker` is empty, and `score` and `threshold` are None."""

    image: Image.Image
    seed: int
    nsfw: bool = False
    score: float | None = None
    checker: str = ""
    threshold: float | None = None


class CallPlace(NamedTuple):
    """Where a picture was made: how many pictures its call of the pipeline made, and which of them it was, from 0."""

    size: int
    position: int


class Receipt(NamedTuple):
    """What made the pictures of a recipe: software, device, files (see `receipts`), and the call of each picture."""

    environment: dict[str, Any]
    calls: list[CallPlace]


@dataclass(frozen=True)
class Result:
    """The pictures of a recipe in the order of its seeds, warnings for the user, seconds by phase, and what made them."""

    pictures: list[Picture]
    warnings: list[str]
    timings: dict[str, float]
    receipt: Receipt


@dataclass(eq=False)
class ItemRun:
    """The state of one batch item: its image jobs, then its images, then the checked pictures; or its error."""

    recipe: Recipe
    jobs: list[ImageJob] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    receipt: Receipt = field(default_factory=lambda: Receipt({}, []))
    pictures: list[Picture] = field(default_factory=list)
    error: EngineError | None = None

    @contextmanager
    def errors_caught(self, progress: Progress) -> Iterator[None]:
        """Store an exception within this context as the error of this item, unless `on_step` raised it."""
        try:
            yield
        except Exception as error:
            if error is progress.raised:
                raise
            self.error = engine_error(error, self.recipe.model)


@dataclass(frozen=True)
class MadeImages:
    """The images of a batch or the errors of its items, the number of steps, and seconds by phase: see `Engine.finish`."""

    runs: list[ItemRun]
    steps: int
    timings: dict[str, float]


class CallEntry(NamedTuple):
    """An image job of a call and the run it belongs to; `item` and `image` are indices, as in `Preview`."""

    run: ItemRun
    job: ImageJob
    item: int
    image: int


def without_failed(calls: Sequence[Sequence[CallEntry]]) -> list[list[CallEntry]]:
    """Return the calls without the entries of failed items, and without empty calls."""
    remaining = ([entry for entry in entries if entry.run.error is None] for entries in calls)
    return [entries for entries in remaining if entries]


def call_preview_sink(entries: Sequence[CallEntry], on_preview: PreviewSink | None) -> CallPreviewSink | None:
    """Adapt `on_preview` to one call. Its errors are logged and do not end the run."""
    if on_preview is None:
        return None

    def on_call_preview(make: Callable[[], list[Image.Image]]) -> None:
        try:
            on_preview(
                lambda: [Preview(entry.item, entry.image, small) for entry, small in zip(entries, make(), strict=False)]
            )
        except Exception:
            log.warning("cannot show previews", exc_info=True)

    return on_call_preview


def engine_error(error: Exception, model: ModelReference) -> EngineError:
    """Return the error as an `EngineError` with a message for the user; the original becomes its cause."""
    if isinstance(error, EngineError):
        return error
    engine_error = (
        OutOfMemory()
        if is_out_of_memory(error)
        else ModelFailed(f"Model '{model.id}' failed while it was making the pictures.")
    )
    engine_error.__cause__ = error
    return engine_error
