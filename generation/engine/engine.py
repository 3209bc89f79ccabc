"""The engine: makes the pictures of recipes. A worker creates one Engine; only what says so is thread-safe."""

import logging
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import torch
from PIL import Image

from generation.engine import catalog, safety
from generation.engine.calls import (
    CallPreviewSink,
    ImageJob,
    call,
    prepare,
)
from generation.engine.devices import (
    DTYPES,
    card_memory,
    choose_device,
    is_device_lost,
    is_out_of_memory,
    memory,
    memory_budget,
    name_of,
    release_memory,
)
from generation.engine.errors import (
    DeviceLost,
    EngineError,
    ModelFailed,
    ModelNotDownloaded,
    OutOfMemory,
    first_cause,
)
from generation.engine.pipelines import (
    WarmPipeline,
    WarmPipelines,
    expected_warnings_ignored,
    silence_libraries,
)
from generation.engine.progress import (
    OnStep,
    Preview,
    PreviewSink,
    Progress,
    ProgressSlice,
)
from generation.family_traits import ImageUse
from generation.recipes import ModelReference, Recipe, traits_of
from generation.repositories.files import FLOAT16

log = logging.getLogger(__name__)

_WARM_SIDE = 256
"""Pixels a side of the picture that warms a model. It may be too small to be good."""


@dataclass(frozen=True)
class EngineSettings:
    """How to run on this machine.

    `models_dir` contains models in directories `<id>`, and the hub's cache in `hub`. Models are never downloaded here; the
    safety checker is when it is first needed, unless `offline`. `device` is auto, cpu, cuda, cuda:1
    or mps; `dtype` auto, float32, bfloat16 or float16. `memory_budget` is in bytes, for warm pipelines; None means a share
    of the memory, which this worker divides with its `gpu_neighbours` on a GPU, and with all `neighbours` on this host
    elsewhere. `safety_threshold` is 0 to 1, None means the checker's default. Raises ValueError for an invalid value.
    """

    models_dir: Path
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 1
    offline: bool = False
    memory_budget: int | None = None
    neighbours: int = 0
    gpu_neighbours: int = 0
    safety_checker: str = "opennsfw"
    safety_threshold: float | None = None

    def __post_init__(self) -> None:
        if self.device.split(":")[0] not in {"auto", "cpu", "cuda", "mps"}:
            raise ValueError(f"device must be auto, cpu, cuda, cuda:<number> or mps, not {self.device!r}")
        if self.dtype != "auto" and self.dtype not in DTYPES:
            raise ValueError(f"dtype must be auto, {', '.join(DTYPES)}, not {self.dtype!r}")
        if self.safety_checker not in safety.CHECKERS:
            raise ValueError(f"safety_checker must be {' or '.join(safety.CHECKERS)}, not {self.safety_checker!r}")
        if self.threads < 1:
            raise ValueError(f"threads must be 1 or more, not {self.threads}")


@dataclass(frozen=True)
class BatchItem:
    """One request of a batch: a recipe and an RGB picture of any size."""

    recipe: Recipe
    picture: Image.Image


@dataclass(frozen=True)
class Picture:
    """One resulting picture. Without a safety check `checker` is empty, and `score` and `threshold` are None."""

    image: Image.Image
    seed: int
    nsfw: bool = False
    score: float | None = None
    checker: str = ""
    threshold: float | None = None


@dataclass(frozen=True)
class Result:
    """The pictures of a recipe in the order of its seeds, warnings for the user, and seconds by phase."""

    pictures: list[Picture]
    warnings: list[str]
    timings: dict[str, float]


class Engine:
    """The warm models with their LoRAs, and the safety checker."""

    def __init__(self, settings: EngineSettings) -> None:
        silence_libraries()
        torch.set_num_threads(settings.threads)
        self._settings = settings
        self._device = choose_device(settings.device)
        self.device = name_of(self._device)
        """The name of the device, for staff."""
        budget = (
            memory_budget(self._device, settings.gpu_neighbours if self._device.type == "cuda" else settings.neighbours)
            if settings.memory_budget is None
            else settings.memory_budget
        )
        self._pipelines = WarmPipelines(
            settings.models_dir,
            self._device,
            settings.dtype,
            budget,
            host_budget=memory_budget(torch.device("cpu"), settings.neighbours),
            card=card_memory(self._device, settings.gpu_neighbours),
        )
        self._safety_checker: safety.SafetyChecker | None = None

    @property
    def warm_models(self) -> list[str]:
        """Return the ids of the loaded models, least recently used first. Safe to call from any thread."""
        return self._pipelines.models

    @property
    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each loaded model by its id, least recently used first."""
        return self._pipelines.fingerprints

    @property
    def memory_plans(self) -> dict[str, str]:
        """Return the memory plan of each loaded model by its id, in words. Safe to call from any thread."""
        return self._pipelines.plans

    @property
    def memory(self) -> tuple[int, int]:
        """Return the bytes in use and in total on the device. Safe to call from any thread."""
        return memory(self._device)

    def variant_of(self, model: ModelReference) -> str:
        """Return the variant of the weights to download for this model, "" for the full ones."""
        return FLOAT16 if self._pipelines.dtype_of(model) is torch.float16 else ""

    def has(self, model: ModelReference) -> bool:
        """Return whether the weights of this model are on disk. Safe to call from any thread."""
        try:
            catalog.find_model(model, self._settings.models_dir)
        except ModelNotDownloaded:
            return False
        except Exception:
            # Whatever is wrong with its files, loading it tells.
            log.debug("%s cannot be looked up", model.id, exc_info=True)
        return True

    def evict(self, model_id: str) -> bool:
        """Unload this model; return whether it was loaded."""
        return self._pipelines.drop(model_id)

    def warm(self, model: ModelReference) -> None:
        """Load the model and the safety checker, and run few steps of the smallest size. Raises what `run` raises."""
        traits = traits_of(model)
        side = min(traits.min_side, _WARM_SIDE)
        recipe = Recipe(
            model=model,
            loras=(),
            prompt="",
            negative_prompt="",
            strength=1,
            guidance_scale=traits.forced.get("guidance_scale", 2),
            image_guidance_scale=1.5,
            num_inference_steps=traits.min_steps,
            seeds=(0,),
            safety_check=True,
            width=side,
            height=side,
        )
        self.run(recipe, Image.new("RGB", (side, side), "grey"), lambda done, of, phase: None)

    def run(
        self, recipe: Recipe, picture: Image.Image, on_step: OnStep, on_preview: PreviewSink | None = None
    ) -> Result:
        """Make the pictures of this recipe from an RGB picture of any size.

        Raises what `on_step` raised, within one step and without decoding, an `EngineError`, or `DeviceLost`.
        """
        (result,) = self.run_batch([BatchItem(recipe, picture)], on_step, on_preview)
        if isinstance(result, EngineError):
            raise result
        return result

    def run_batch(
        self, items: Sequence[BatchItem], on_step: OnStep, on_preview: PreviewSink | None = None
    ) -> list[Result | EngineError]:
        """Make the pictures of all items, if possible in one call, and return the result or the error of each item.

        If memory is short, retry in halves; if the call fails otherwise, retry item by item, so that a bad item fails
        alone, and then image by image, for pipelines that make one at a time. Steps and timings are those of the whole
        run. Previews, and errors of `on_preview`, do not affect the results. Raises what `on_step` raised, within one step
        and without decoding, ValueError if the recipes do not share one `batch_key`, or `DeviceLost`: then this process can
        run nothing more.
        """
        if len({item.recipe.batch_key for item in items}) != 1:
            raise ValueError("the items of a batch must have one batch_key")
        progress = Progress(on_step, on_preview)
        try:
            with expected_warnings_ignored():
                results = self._run(items, progress)
        except Exception as error:
            if error is progress.raised:
                raise
            results = [_engine_error(error, items[0].recipe.model)] * len(items)
        for result in results:
            if isinstance(result, EngineError) and is_device_lost(result):
                raise DeviceLost(f"The device {self.device} failed: {first_cause(result)}.") from result
        return results

    def _run(self, items: Sequence[BatchItem], progress: Progress) -> list[Result | EngineError]:
        shared = items[0].recipe
        steps = shared.executed_steps
        progress(0, steps, "loading")
        warm = self._pipelines.get(shared.model)
        runs = [_ItemRun(item.recipe) for item in items]
        with warm.loras.applied(shared.loras) as warnings:
            self._pipelines.trim()
            for run, item in zip(runs, items, strict=True):
                with run.errors_caught(progress):
                    run.jobs, run.warnings = prepare(warm, item.recipe, item.picture)
            self._make_images(warm, runs, steps, progress)
        for run in runs:
            if run.error is None:
                with run.errors_caught(progress):
                    run.pictures = self._check_safety(run, progress)
        timings = progress.finish()
        return [run.error or Result(run.pictures, warnings + run.warnings, timings) for run in runs]

    def _make_images(self, warm: WarmPipeline, runs: Sequence["_ItemRun"], steps: int, progress: Progress) -> None:
        """Set the images or the error of each run: in one call of the pipeline if possible, else in several."""
        entries = [
            _CallEntry(run, job, item, image) for item, run in enumerate(runs) for image, job in enumerate(run.jobs)
        ]
        has_references = traits_of(runs[0].recipe.model).image_use is ImageUse.REFERENCES
        pending = [[entry] for entry in entries] if has_references else [entries]
        calls = 0
        while pending := _without_failed(pending):
            entries, *later = pending
            report = ProgressSlice(progress, calls * steps, steps, (calls + len(pending)) * steps)
            error = self._call(warm, entries, report)
            smaller = error and self._split(pending, error)
            if smaller:
                pending = smaller
                continue
            if error:
                entries[0].run.error = _engine_error(error, entries[0].run.recipe.model)
            pending = later
            calls += 1

    def _call(self, warm: WarmPipeline, entries: Sequence["_CallEntry"], report: ProgressSlice) -> Exception | None:
        """Make the images of one call. Return the error it failed with, but raise what `on_step` or a lost device raised."""
        try:
            images = call(
                warm, [entry.job for entry in entries], report, _call_preview_sink(entries, report.progress.on_preview)
            )
        except Exception as error:
            if error is report.progress.raised or is_device_lost(error):
                raise
            return error
        for entry, image in zip(entries, images, strict=True):
            entry.run.images.append(image)
        return None

    def _split(self, pending: Sequence[list["_CallEntry"]], error: Exception) -> list[list["_CallEntry"]]:
        """Return smaller calls to try instead of the pending ones, after the first failed; empty if it cannot be split."""
        failed, *later = pending
        # The frames of the failed call still hold its tensors.
        traceback.clear_frames(error.__traceback__)
        if is_out_of_memory(error):
            freed = self._pipelines.drop_idle()
            release_memory(self._device)
            if len(failed) == 1 and not freed:
                return []
            size = max(1, len(failed) // 2)
            log.warning("out of memory, retrying with at most %d images per call", size)
            return [entries[start : start + size] for entries in pending for start in range(0, len(entries), size)]
        if len(failed) == 1:
            return []
        smaller = [list(entries) for _, entries in groupby(failed, key=lambda entry: entry.item)]
        if len(smaller) == 1:
            smaller = [[entry] for entry in failed]
        log.warning("a call for %d images failed, retrying in %d calls: %r", len(failed), len(smaller), error)
        return [*smaller, *later]

    def _check_safety(self, run: "_ItemRun", progress: Progress) -> list[Picture]:
        seeds = run.recipe.seeds
        if not run.recipe.safety_check:
            return [Picture(image, seed) for image, seed in zip(run.images, seeds, strict=True)]
        progress(progress.of, progress.of, "safety")
        if self._safety_checker is None:
            self._safety_checker = self._load_safety_checker()
        return [
            Picture(image, seed, result.nsfw, result.score, result.checker, result.threshold)
            for image, seed, result in zip(run.images, seeds, self._safety_checker(run.images), strict=True)
        ]

    def _load_safety_checker(self) -> safety.SafetyChecker:
        settings = self._settings
        if settings.safety_checker == "opennsfw":
            return safety.open_nsfw(settings.safety_threshold, settings.threads)
        find = catalog.find_safety_checker if settings.offline else catalog.download_safety_checker
        directory = find(settings.models_dir)
        return safety.stable_diffusion(settings.safety_threshold, directory, self._device)


@dataclass(eq=False)
class _ItemRun:
    """The state of one batch item: its image jobs, then its images, then the checked pictures; or its error."""

    recipe: Recipe
    jobs: list[ImageJob] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
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
            self.error = _engine_error(error, self.recipe.model)


class _CallEntry(NamedTuple):
    """An image job of a call and the run it belongs to; `item` and `image` are indices, as in `Preview`."""

    run: _ItemRun
    job: ImageJob
    item: int
    image: int


def _without_failed(calls: Sequence[Sequence[_CallEntry]]) -> list[list[_CallEntry]]:
    """Return the calls without the entries of failed items, and without empty calls."""
    remaining = ([entry for entry in entries if entry.run.error is None] for entries in calls)
    return [entries for entries in remaining if entries]


def _call_preview_sink(entries: Sequence[_CallEntry], on_preview: PreviewSink | None) -> CallPreviewSink | None:
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


def _engine_error(error: Exception, model: ModelReference) -> EngineError:
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
