"""Makes the pictures of recipes. A worker builds one Engine and is its only caller; it is not safe for threads."""

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
    ImageJob,
    OfferPictures,
    call,
    prepare,
)
from generation.engine.devices import (
    DTYPES,
    choose_device,
    is_out_of_memory,
    memory,
    memory_budget,
    release_memory,
)
from generation.engine.errors import EngineError, ModelFailed, OutOfMemory
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
from generation.recipes import ModelReference, Recipe, traits_of

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineSettings:
    """How to run on this machine.

    `models_dir` holds models as `<id>` directories, and the hub's cache as `hub`. `device` is auto, cpu, cuda, cuda:1,
    mps; `dtype` auto, float32, bfloat16, float16. `memory_budget` is bytes for warm pipelines, None a share of what
    there is, the host's divided with so many `neighbours`, other workers on it. `safety_threshold` is 0 to 1, None the
    checker's own. Raises ValueError for a value that is none of these.
    """

    models_dir: Path
    device: str = "auto"
    dtype: str = "auto"
    threads: int = 1
    offline: bool = False
    memory_budget: int | None = None
    neighbours: int = 0
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
    """One request of a run: a recipe, and an RGB picture of any size."""

    recipe: Recipe
    picture: Image.Image


@dataclass(frozen=True)
class Picture:
    """One result. `checker` is empty, `score` and `threshold` None when it was not judged."""

    image: Image.Image
    seed: int
    nsfw: bool = False
    score: float | None = None
    checker: str = ""
    threshold: float | None = None


@dataclass(frozen=True)
class Result:
    """Pictures in the order of the recipe's seeds, warnings in words, seconds by phase."""

    pictures: list[Picture]
    warnings: list[str]
    timings: dict[str, float]


class Engine:
    """Warm models, their LoRAs and the safety checker."""

    def __init__(self, settings: EngineSettings) -> None:
        silence_libraries()
        torch.set_num_threads(settings.threads)
        self._settings = settings
        self._device = choose_device(settings.device)
        budget = (
            memory_budget(self._device, settings.neighbours)
            if settings.memory_budget is None
            else settings.memory_budget
        )
        self._pipelines = WarmPipelines(settings.models_dir, settings.offline, self._device, settings.dtype, budget)
        self._judge: safety.SafetyChecker | None = None

    @property
    def warm_models(self) -> list[str]:
        """Ids of the models that are loaded, least recently used first."""
        return self._pipelines.models

    @property
    def device(self) -> str:
        """What it computes on, such as `cpu` or `cuda:1`."""
        return str(self._device)

    @property
    def memory(self) -> tuple[int, int]:
        """Bytes in use and bytes there are on the device; may be asked from any thread."""
        return memory(self._device)

    def evict(self, model_id: str) -> bool:
        """Drop this model from memory; says whether it was there."""
        return self._pipelines.drop(model_id)

    def warm(self, model: ModelReference) -> None:
        """Load the model and the safety checker and run one small step. Raises what `run` raises."""
        side = traits_of(model).min_side
        recipe = Recipe(
            model=model,
            loras=(),
            prompt="",
            negative_prompt="",
            strength=1,
            guidance_scale=traits_of(model).forced.get("guidance_scale", 2),
            image_guidance_scale=1.5,
            num_inference_steps=1,
            seeds=(0,),
            safety_check=True,
            width=side,
            height=side,
        )
        self.run(recipe, Image.new("RGB", (side, side), "grey"), lambda done, of, phase: None)

    def run(self, recipe: Recipe, picture: Image.Image, on_step: OnStep, offer: PreviewSink | None = None) -> Result:
        """The pictures of this recipe, made of an RGB picture of any size. Previews of them are offered to `offer`.

        Raises what `on_step` raised, within one step and without decoding, or an `EngineError`.
        """
        (result,) = self.run_batch([BatchItem(recipe, picture)], on_step, offer)
        if isinstance(result, EngineError):
            raise result
        return result

    def run_batch(
        self, members: Sequence[BatchItem], on_step: OnStep, offer: PreviewSink | None = None
    ) -> list[Result | EngineError]:
        """The pictures of each member, or what it failed with. All images of all members are made in one call if they can.

        Where memory is short they are made in halves; where the call breaks, member by member, so that a bad one fails
        alone. Steps and timings are those of the whole run. Previews are offered to `offer`, which changes no pixel of
        the results, nor does anything that goes wrong with them. Raises what `on_step` raised, within one step and without
        decoding, or ValueError for recipes that have not all the same `batch_key`.
        """
        if len({member.recipe.batch_key for member in members}) != 1:
            raise ValueError("the members of a run must have one batch_key")
        progress = Progress(on_step, offer)
        try:
            with expected_warnings_ignored():
                return self._run(members, progress)
        except Exception as error:
            if error is progress.raised:
                raise
            return [_failure(error, members[0].recipe.model)] * len(members)

    def _run(self, members: Sequence[BatchItem], progress: Progress) -> list[Result | EngineError]:
        shared = members[0].recipe
        steps = shared.executed_steps
        progress(0, steps, "loading")
        warm = self._pipelines.get(shared.model)
        slots = [_Slot(member.recipe) for member in members]
        with warm.loras.applied(shared.loras) as warnings:
            self._pipelines.trim()
            for slot, member in zip(slots, members, strict=True):
                with slot.failing_alone(progress):
                    slot.shots, slot.warnings = prepare(warm, member.recipe, member.picture)
            self._make(warm, slots, steps, progress)
        for slot in slots:
            if slot.failure is None:
                with slot.failing_alone(progress):
                    slot.pictures = self._judged(slot, progress)
        timings = progress.finish()
        return [slot.failure or Result(slot.pictures, warnings + slot.warnings, timings) for slot in slots]

    def _make(self, warm: WarmPipeline, slots: Sequence["_Slot"], steps: int, progress: Progress) -> None:
        """Fill the slots with their images, or with what they failed with: in one call if that works, else in more."""
        wanted = [
            _Wanted(slot, shot, member, image)
            for member, slot in enumerate(slots)
            for image, shot in enumerate(slot.shots)
        ]
        parts = [wanted]
        calls = 0
        while parts := [live for part in parts if (live := [one for one in part if one.slot.failure is None])]:
            part, *later = parts
            span = ProgressSlice(progress, calls * steps, steps, (calls + len(parts)) * steps)
            error = self._fill(warm, part, span)
            smaller = error and self._smaller(parts, error)
            if smaller:
                parts = smaller
                continue
            if error:
                part[0].slot.failure = _failure(error, part[0].slot.recipe.model)
            parts = later
            calls += 1

    def _fill(self, warm: WarmPipeline, part: Sequence["_Wanted"], span: ProgressSlice) -> Exception | None:
        """Put the images of one call into their slots. Returns what it broke with, raises what `on_step` raised."""
        try:
            images = call(warm, [one.shot for one in part], span, _offering(part, span.progress.offer))
        except Exception as error:
            if error is span.progress.raised:
                raise
            return error
        for one, image in zip(part, images, strict=True):
            one.slot.images.append(image)
        return None

    def _smaller(self, parts: Sequence[list["_Wanted"]], error: Exception) -> list[list["_Wanted"]]:
        """What to call instead of these parts, the first of which broke; nothing where no other way is left for that."""
        broken, *later = parts
        # The frames of the failed call still hold its tensors.
        traceback.clear_frames(error.__traceback__)
        if is_out_of_memory(error):
            freed = self._pipelines.drop_idle()
            release_memory(self._device)
            if len(broken) == 1 and not freed:
                return []
            size = max(1, len(broken) // 2)
            log.warning("out of memory, trying with batches of %d", size)
            return [part[start : start + size] for part in parts for start in range(0, len(part), size)]
        members = [list(part) for _, part in groupby(broken, key=lambda one: id(one.slot))]
        if len(members) == 1:
            return []
        log.warning("a batch of %d requests failed, trying each of them alone: %r", len(members), error)
        return [*members, *later]

    def _judged(self, slot: "_Slot", progress: Progress) -> list[Picture]:
        seeds = slot.recipe.seeds
        if not slot.recipe.safety_check:
            return [Picture(image, seed) for image, seed in zip(slot.images, seeds, strict=True)]
        progress(progress.of, progress.of, "safety")
        if self._judge is None:
            self._judge = self._load_judge()
        return [
            Picture(image, seed, verdict.nsfw, verdict.score, verdict.checker, verdict.threshold)
            for image, seed, verdict in zip(slot.images, seeds, self._judge(slot.images), strict=True)
        ]

    def _load_judge(self) -> safety.SafetyChecker:
        settings = self._settings
        if settings.safety_checker == "opennsfw":
            return safety.open_nsfw(settings.safety_threshold, settings.threads)
        directory = catalog.find_safety_checker(settings.models_dir, settings.offline)
        return safety.stable_diffusion(settings.safety_threshold, directory, self._device)


@dataclass(eq=False)
class _Slot:
    """How far one member of a run is: what is to be made, what was made, or why it failed."""

    recipe: Recipe
    shots: list[ImageJob] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    images: list[Image.Image] = field(default_factory=list)
    pictures: list[Picture] = field(default_factory=list)
    failure: EngineError | None = None

    @contextmanager
    def failing_alone(self, progress: Progress) -> Iterator[None]:
        """What breaks within this context is this member's failure; what `on_step` raised is not."""
        try:
            yield
        except Exception as error:
            if error is progress.raised:
                raise
            self.failure = _failure(error, self.recipe.model)


class _Wanted(NamedTuple):
    """An image to make, the slot that it is for, and its place: which member's, and which of that one's images."""

    slot: _Slot
    shot: ImageJob
    member: int
    image: int


def _offering(part: Sequence[_Wanted], offer: PreviewSink | None) -> OfferPictures | None:
    """Offers small pictures of these images as glimpses. What goes wrong with them is logged, and the run goes on."""
    if offer is None:
        return None

    def offer_pictures(look: Callable[[], list[Image.Image]]) -> None:
        try:
            offer(lambda: [Preview(one.member, one.image, small) for one, small in zip(part, look(), strict=False)])
        except Exception:
            log.warning("previews could not be shown", exc_info=True)

    return offer_pictures


def _failure(error: Exception, model: ModelReference) -> EngineError:
    """What is told of this error, which becomes its cause."""
    if isinstance(error, EngineError):
        return error
    failure = (
        OutOfMemory()
        if is_out_of_memory(error)
        else ModelFailed(f"Model '{model.id}' failed while it was making the pictures.")
    )
    failure.__cause__ = error
    return failure
