"""The engine: makes the pictures of recipes. A worker creates one Engine; only what says so is thread-safe."""

import logging
import threading
import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from generation.engine import catalog, safety
from generation.engine.allocation import keep_freed_memory
from generation.engine.batches import (
    BatchItem,
    CallEntry,
    CallPlace,
    ItemRun,
    MadeImages,
    Picture,
    Receipt,
    Result,
    call_preview_sink,
    engine_error,
    without_failed,
)
from generation.engine.calls import call, prepare
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
from generation.engine.errors import DeviceLost, EngineError, ModelNotDownloaded, first_cause
from generation.engine.pipelines import (
    WarmPipeline,
    WarmPipelines,
    expected_warnings_ignored,
    silence_libraries,
)
from generation.engine.progress import OnStep, PreviewSink, Progress, ProgressSlice
from generation.engine.read_ahead import read_ahead
from generation.engine.receipts import computed_with, environment
from generation.family_traits import ImageUse
from generation.inpainting import Inpainting
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


class Engine:
    """The warm models with their LoRAs, and the safety checker."""

    def __init__(self, settings: EngineSettings) -> None:
        silence_libraries()
        torch.set_num_threads(settings.threads)
        keep_freed_memory()
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
        self._safety_lock = threading.Lock()

    @property
    def warm_models(self) -> list[str]:
        """Return the ids of the loaded models, least recently used first. Safe to call from any thread."""
        return self._pipelines.models

    @property
    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprint of each loaded model by its id, least recently used first."""
        return self._pipelines.fingerprints

    @property
    def environments(self) -> dict[str, dict[str, Any]]:
        """Return what each loaded model computes with, by its id, without LoRAs. Safe to call from any thread."""
        return {model: self._environment(warm) for model, warm in self._pipelines.unchanged.items()}

    def known_environment(self, model: ModelReference) -> dict[str, Any]:
        """Return what this model is computed with; if it is not loaded, what is known without its files.

        Safe to call from any thread.
        """
        if loaded := self.environments.get(model.id):
            return loaded
        return computed_with(self._pipelines.dtype_of(model), self._device, self._settings.threads)

    @property
    def loaded_loras(self) -> list[str]:
        """Return the SHA-256 of the files of all loaded LoRAs. Safe to call from any thread."""
        return sorted({digest for warm in self._pipelines.unchanged.values() for digest in warm.loras.all_digests})

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

    def read_ahead(self, model: ModelReference) -> None:
        """Read the weights of this model into memory if they are on disk and there is room. Safe to call from any thread."""
        try:
            if read_ahead(catalog.find_model(model, self._settings.models_dir)):
                log.info("read the weights of %s into memory", model.id)
        except Exception:
            # Whatever is wrong with its files, loading it tells.
            log.debug("the weights of %s cannot be read", model.id, exc_info=True)

    def evict(self, model_id: str) -> bool:
        """Unload this model; return whether it was loaded."""
        return self._pipelines.drop(model_id)

    def load(self, model: ModelReference) -> None:
        """Load the model, and run nothing; in an engine with one thread that leaves no other one. Raises `EngineError`."""
        with expected_warnings_ignored():
            self._pipelines.get(model)

    def take_over(self, other: "Engine") -> None:
        """Use the models that another engine has loaded, if they are on this one's device."""
        self._pipelines.take_over(other._pipelines)

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
        picture, mask = Image.new("RGB", (side, side), "grey"), None
        if traits.needs_mask:
            inpainting = Inpainting(size=picture.size, box=(0, 0, side, side), feather=0)
            recipe, mask = recipe.model_copy(update={"inpainting": inpainting}), Image.new("L", picture.size, "white")
        self.run(recipe, picture, lambda done, of, phase: None, mask=mask)

    def run(
        self,
        recipe: Recipe,
        picture: Image.Image,
        on_step: OnStep,
        on_preview: PreviewSink | None = None,
        *,
        mask: Image.Image | None = None,
    ) -> Result:
        """Make the pictures of this recipe from an RGB picture of any size, and its mask as `BatchItem` has it.

        Raises what `on_step` raised, within one step and without decoding, an `EngineError`, or `DeviceLost`.
        """
        (result,) = self.run_batch([BatchItem(recipe, picture, mask)], on_step, on_preview)
        if isinstance(result, EngineError):
            raise result
        return result

    def run_batch(
        self, items: Sequence[BatchItem], on_step: OnStep, on_preview: PreviewSink | None = None
    ) -> list[Result | EngineError]:
        """Make the images of all items, and finish them. Raises what these two raise."""
        return self.finish(self.make_images(items, on_step, on_preview), on_step)

    def make_images(
        self, items: Sequence[BatchItem], on_step: OnStep, on_preview: PreviewSink | None = None
    ) -> MadeImages:
        """Make the images of all items on the device, if possible in one call.

        If memory is short, retry in halves; if the call fails otherwise, retry item by item, so that a bad item fails
        alone, and then image by image, for pipelines that make one at a time. Steps and timings are those of the whole
        run. Previews, and errors of `on_preview`, do not affect the results. Raises what `on_step` raised, within one step
        and without decoding, ValueError if the recipes do not share one `batch_key`, or `DeviceLost`: then this process can
        run nothing more.
        """
        if len({item.recipe.batch_key for item in items}) != 1:
            raise ValueError("the items of a batch must have one batch_key")
        progress = Progress(on_step, on_preview)
        runs = [ItemRun(item.recipe) for item in items]
        try:
            with expected_warnings_ignored():
                self._run(items, runs, progress)
        except Exception as error:
            if error is progress.raised:
                raise
            for run in runs:
                run.error = engine_error(error, run.recipe.model)
        self._require_device(runs)
        return MadeImages(runs, progress.of, progress.finish())

    def finish(self, made: MadeImages, on_step: OnStep) -> list[Result | EngineError]:
        """Check the safety of these images, and return the result or the error of each item.

        Safe to call from any thread, while another one makes the next images. Raises what `on_step` raised, or `DeviceLost`.
        """
        progress = Progress(on_step)
        for run in made.runs:
            if run.error is None:
                with run.errors_caught(progress):
                    run.pictures = self._check_safety(run, made.steps, progress)
        self._require_device(made.runs)
        timings = made.timings | progress.finish()
        return [run.error or Result(run.pictures, run.warnings, timings, run.receipt) for run in made.runs]

    def _require_device(self, runs: Sequence[ItemRun]) -> None:
        """Raise `DeviceLost` if one of these items failed by it."""
        for run in runs:
            if run.error is not None and is_device_lost(run.error):
                raise DeviceLost(f"The device {self.device} failed: {first_cause(run.error)}.") from run.error

    def _environment(self, warm: WarmPipeline) -> dict[str, Any]:
        settings = self._settings
        limit = "" if settings.safety_threshold is None else f" from {settings.safety_threshold:g}"
        return {
            **environment(warm.pipe, warm.dtype, self._device, warm.plan, warm.files, settings.threads),
            "safety_checker": f"{settings.safety_checker}{limit}",
        }

    def _run(self, items: Sequence[BatchItem], runs: Sequence[ItemRun], progress: Progress) -> None:
        """Set the warnings, and the images or the error, of each run."""
        shared = items[0].recipe
        steps = shared.executed_steps
        progress(0, steps, "loading")
        warm = self._pipelines.get(shared.model)
        with warm.loras.applied(shared.loras) as warnings:
            self._pipelines.trim()
            made_with = self._environment(warm) | {"loras": warm.loras.digests(shared.loras)}
            for run, item in zip(runs, items, strict=True):
                run.receipt = Receipt(made_with, [])
                with run.errors_caught(progress):
                    run.jobs, own_warnings = prepare(warm, item.recipe, item.picture, item.mask, item.references)
                    run.warnings = [*warnings, *own_warnings]
            self._make_images(warm, runs, steps, progress)

    def _make_images(self, warm: WarmPipeline, runs: Sequence[ItemRun], steps: int, progress: Progress) -> None:
        """Set the images or the error of each run: in one call of the pipeline if possible, else in several."""
        entries = [
            CallEntry(run, job, item, image) for item, run in enumerate(runs) for image, job in enumerate(run.jobs)
        ]
        recipe = runs[0].recipe
        has_references = recipe.references > 0 or traits_of(recipe.model).image_use is ImageUse.REFERENCES
        pending = [[entry] for entry in entries] if has_references else [entries]
        calls = 0
        while pending := without_failed(pending):
            entries, *later = pending
            report = ProgressSlice(progress, calls * steps, steps, (calls + len(pending)) * steps)
            error = self._call(warm, entries, report)
            smaller = error and self._split(pending, error)
            if smaller:
                pending = smaller
                continue
            if error:
                entries[0].run.error = engine_error(error, entries[0].run.recipe.model)
            pending = later
            calls += 1

    def _call(self, warm: WarmPipeline, entries: Sequence[CallEntry], report: ProgressSlice) -> Exception | None:
        """Make the images of one call. Return the error it failed with, but raise what `on_step` or a lost device raised."""
        try:
            images = call(
                warm, [entry.job for entry in entries], report, call_preview_sink(entries, report.progress.on_preview)
            )
        except Exception as error:
            if error is report.progress.raised or is_device_lost(error):
                raise
            return error
        for position, (entry, image) in enumerate(zip(entries, images, strict=True)):
            entry.run.images.append(image)
            entry.run.receipt.calls.append(CallPlace(len(entries), position))
        return None

    def _split(self, pending: Sequence[list[CallEntry]], error: Exception) -> list[list[CallEntry]]:
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

    def _check_safety(self, run: ItemRun, steps: int, progress: Progress) -> list[Picture]:
        """Return the pictures of a run. `steps` are those of the whole batch, which are done."""
        seeds = run.recipe.seeds
        if not run.recipe.safety_check:
            return [Picture(image, seed) for image, seed in zip(run.images, seeds, strict=True)]
        progress(steps, steps, "safety")
        # Two threads check when a model is warmed while a batch is finished.
        with self._safety_lock:
            if self._safety_checker is None:
                self._safety_checker = self._load_safety_checker()
            results = self._safety_checker(run.images)
        return [
            Picture(image, seed, result.nsfw, result.score, result.checker, result.threshold)
            for image, seed, result in zip(run.images, seeds, results, strict=True)
        ]

    def _load_safety_checker(self) -> safety.SafetyChecker:
        settings = self._settings
        if settings.safety_checker == "opennsfw":
            return safety.open_nsfw(settings.safety_threshold, settings.threads)
        find = catalog.find_safety_checker if settings.offline else catalog.download_safety_checker
        directory = find(settings.models_dir)
        return safety.stable_diffusion(settings.safety_threshold, directory, self._device)
