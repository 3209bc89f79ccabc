"""Cache of warm pipelines: when memory is short, the least recently used one is dropped first."""

import inspect
import logging
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import huggingface_hub
import torch
import transformers
from huggingface_hub.utils.tqdm import disable_progress_bars

from generation.engine.catalog import Weights, find_lora, find_model, load_spec
from generation.engine.devices import choose_dtype, is_out_of_memory, release_memory
from generation.engine.digests import check_digests
from generation.engine.errors import EngineError, ModelFailed, ModelTooLarge, PackagesMissing
from generation.engine.fingerprint import fingerprint
from generation.engine.loading import check_support, count_weights, load
from generation.engine.loras import Loras
from generation.engine.previews import Previews
from generation.engine.receipts import digests_of_model
from generation.family_detection import UnsupportedModel
from generation.family_traits import StepSource, Traits
from generation.memory import PACKAGES, WHOLE, MemoryPlan, Quantization, choose_plan, is_over_budget
from generation.recipes import LoraReference, ModelReference, traits_of

log = logging.getLogger(__name__)

_NEEDED_ARGUMENTS = ("prompt", "image", "generator")


def silence_libraries() -> None:
    """Turn off the libraries' logs and progress bars."""
    # Nothing is lost: diffusers also raises the errors that it logs.
    diffusers.utils.logging.set_verbosity(logging.CRITICAL)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    huggingface_hub.logging.set_verbosity_error()
    disable_progress_bars()


@contextmanager
def expected_warnings_ignored() -> Iterator[None]:
    """Ignore warnings about intended behaviour within this context."""
    with warnings.catch_warnings():
        # diffusers announces changes in later releases than the ones supported here.
        warnings.filterwarnings("ignore", "", FutureWarning, r"diffusers\.")
        warnings.filterwarnings("ignore", "", DeprecationWarning, r"diffusers\.")
        # peft warns when a pipeline has several LoRAs, and when one is removed.
        warnings.filterwarnings("ignore", "Already found a `peft_config` attribute", UserWarning, r"peft\.")
        # A depth model estimates in half precision where it can; on a CPU in float32 it cannot.
        warnings.filterwarnings("ignore", "In CPU autocast, but the target dtype is not supported", UserWarning)
        warnings.filterwarnings("ignore", "Adapter .* was active which is now deleted", UserWarning, r"peft\.")
        yield


def arguments_of(pipe: Any) -> frozenset[str]:
    """Return the names of the arguments of a call of this pipeline."""
    return frozenset(inspect.signature(pipe.__call__).parameters)


class WarmPipeline:
    """A loaded pipeline with its LoRAs, previews, denoising network, fingerprint and the digests of its files.

    Raises TypeError if the pipeline lacks an argument that its family's rules need.
    """

    def __init__(
        self,
        pipe: Any,
        dtype: torch.dtype,
        traits: Traits,
        find: Callable[[LoraReference], Path],
        plan: MemoryPlan = WHOLE,
    ) -> None:
        self.pipe = pipe
        self.dtype = dtype
        self.fingerprint = ""
        self.files: dict[str, str] = {}
        self.plan = plan
        self.denoiser: torch.nn.Module = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
        self._traits = traits
        self.loras = Loras(pipe, find, can_load=plan.quantization is not Quantization.FP8)
        self.previews = Previews(pipe, traits.latents)
        needed = {traits.arguments.get(name, name) for name in _NEEDED_ARGUMENTS} | set(traits.constants)
        if traits.step_source is StepSource.CALLBACK:
            needed.add("callback_on_step_end")
        missing = needed - arguments_of(pipe)
        if missing:
            raise TypeError(f"{type(pipe).__name__} is not supported: it has no argument {', '.join(sorted(missing))}")

    @cached_property
    def inpainter(self) -> Any:
        """Return the pipeline for masks with the same networks, scheduler and hooks; the pipeline itself if there is none."""
        if not self._traits.inpaint_pipeline:
            return self.pipe
        pipeline = getattr(diffusers, self._traits.inpaint_pipeline)
        parts = dict(self.pipe.config) | self.pipe.components
        names = inspect.signature(pipeline.__init__).parameters
        # `from_pipe` would also convert the networks to another number type.
        inpainter = pipeline(**{name: part for name, part in parts.items() if name in names})
        inpainter.set_progress_bar_config(disable=True)
        return inpainter

    @property
    def size(self) -> int:
        """Return the bytes of all networks, including LoRAs."""
        return sum(
            tensor.numel() * tensor.element_size()
            for part in self.pipe.components.values()
            if isinstance(part, torch.nn.Module)
            for tensors in (part.parameters(), part.buffers())
            for tensor in tensors
        )


class WarmPipelines:
    """Pipelines by model, least recently used first. Other threads may read `models`, `plans` and `unchanged`.

    Together at most `budget` bytes on the device and, of those that are offloaded, `host_budget` in the host's memory, unless
    it is only one. `card` is what one may have on the GPU while it works; None for devices without memory of their own.
    """

    def __init__(
        self,
        models_dir: Path,
        device: torch.device,
        dtype: str,
        budget: int,
        host_budget: int,
        card: int | None,
    ) -> None:
        self._models_dir = models_dir
        self._device = device
        self._dtype = dtype
        self._budget = budget
        self._host_budget = host_budget
        self._card = card
        self._warm: dict[ModelReference, WarmPipeline] = {}

    @property
    def models(self) -> list[str]:
        """Return the ids of the warm models, least recently used first."""
        return [model.id for model in list(self._warm)]

    @property
    def fingerprints(self) -> dict[str, str]:
        """Return the fingerprints of the warm models by id, without those whose files have changed since they were loaded."""
        return {model: warm.fingerprint for model, warm in self.unchanged.items()}

    @property
    def unchanged(self) -> dict[str, WarmPipeline]:
        """Return the warm models by id, without those whose files have changed since they were loaded."""
        return {model.id: warm for model, warm in list(self._warm.items()) if not self._has_changed(model, warm)}

    @property
    def plans(self) -> dict[str, str]:
        """Return the memory plan of each warm model by its id, in words."""
        return {model.id: str(warm.plan) for model, warm in list(self._warm.items())}

    def take_over(self, other: "WarmPipelines") -> None:
        """Use the pipelines of another cache, if they are on this one's device."""
        if other._device == self._device:
            self._warm |= other._warm

    def get(self, model: ModelReference) -> WarmPipeline:
        """Return the pipeline of this model; load it if necessary, as it is after a change of its files.

        Raises `ModelFailed`, or `ModelTooLarge` if it does not fit even alone.
        """
        if model in self._warm and self._has_changed(model, self._warm[model]):
            # Weights on the CPU are mapped from the files: what is written over them changes or ends the process.
            log.warning("the files of %s have changed, loading it again", model.id)
            self.drop(model.id)
        if model not in self._warm:
            self._warm[model] = self._load(model)
        self._warm[model] = self._warm.pop(model)
        self.trim()
        return self._warm[model]

    def dtype_of(self, model: ModelReference) -> torch.dtype:
        """Return the type that this model is computed in here."""
        return choose_dtype(self._dtype, self._device, load_spec(model).bfloat16, traits_of(model).gpu_dtype)

    def trim(self) -> None:
        """Drop the least recently used pipelines until the rest fits the budget; always keep the most recent one."""
        while len(self._warm) > 1 and self._is_over_budget():
            self._drop_oldest()

    def drop_idle(self) -> bool:
        """Drop all pipelines but the most recently used one; return whether there were others."""
        idle = len(self._warm) - 1
        for _ in range(idle):
            self._drop_oldest()
        return idle > 0

    def drop(self, model_id: str) -> bool:
        """Drop all revisions of this model; return whether any was loaded."""
        revisions = [model for model in self._warm if model.id == model_id]
        for model in revisions:
            del self._warm[model]
        if revisions:
            log.info("unloaded %s", model_id)
            release_memory(self._device)
        return bool(revisions)

    def _has_changed(self, model: ModelReference, warm: WarmPipeline) -> bool:
        """Return whether the files of a warm model are other ones than those that were loaded, or missing."""
        try:
            weights = find_model(model, self._models_dir)
            return fingerprint(weights, warm.dtype, self._device, warm.plan) != warm.fingerprint
        except Exception:
            # Loading it again tells.
            log.debug("%s cannot be looked up", model.id, exc_info=True)
            return True

    def _is_over_budget(self) -> bool:
        allocated = (
            torch.cuda.memory_allocated(self._device)
            if self._device.type == "cuda"
            else sum(warm.size for warm in self._warm.values())
        )
        plans = [warm.plan for warm in self._warm.values()]
        return is_over_budget(plans, allocated, self._budget, self._host_budget)

    def _drop_oldest(self) -> None:
        model = next(iter(self._warm))
        del self._warm[model]  # no pop(): a local reference would keep it in memory
        log.info("unloaded %s", model.id)
        release_memory(self._device)

    def _load(self, model: ModelReference) -> WarmPipeline:
        traits = traits_of(model)
        _require(model, traits.packages)
        dtype = self.dtype_of(model)
        try:
            weights = find_model(model, self._models_dir)
            check_digests(weights.pipeline)
            check_support(model, weights)
            plan = self._plan(model, weights, dtype)
        except UnsupportedModel as error:
            raise ModelFailed(f"Model '{model.id}' cannot be run. {error}") from error
        except EngineError:
            raise
        except Exception as error:  # damaged files raise whatever they make the parsers do
            raise ModelFailed(f"Model '{model.id}' could not be loaded.") from error
        if plan.quantization in PACKAGES:
            _require(model, [PACKAGES[plan.quantization]])
        if plan.quantization is Quantization.FOUR_BIT and self._device.type != "cuda":
            raise ModelFailed(f"Model '{model.id}' is set to 4 bit, which needs an NVIDIA GPU.")
        while True:
            try:
                # Before they are loaded: of files that change meanwhile, these must not be those of the later ones.
                read, files = fingerprint(weights, dtype, self._device, plan), digests_of_model(weights)
                pipe = load(model, weights, self._device, dtype, plan)
                warm = WarmPipeline(pipe, dtype, traits, lambda lora: find_lora(lora, self._models_dir), plan)
                warm.fingerprint, warm.files = read, files
                return warm
            except Exception as error:
                if not is_out_of_memory(error):
                    raise ModelFailed(f"Model '{model.id}' could not be loaded.") from error
                if not self._warm:
                    raise ModelTooLarge(model.id) from error
            log.warning("not enough memory for %s beside other models, unloading them", model.id)
            self._warm.clear()
            release_memory(self._device)

    def _plan(self, model: ModelReference, weights: Weights, dtype: torch.dtype) -> MemoryPlan:
        options = model.memory
        if weights.checkpoint is not None or (weights.denoiser is not None and weights.denoiser.suffix == ".gguf"):
            # diffusers quantizes parts of directories alone, and GGUF is quantized already.
            options = options.model_copy(update={"quantization": Quantization.NONE})
        return choose_plan(
            traits_of(model),
            count_weights(weights, dtype.itemsize),
            self._card,
            options,
            parameter_bytes=dtype.itemsize,
            packages=[package for package in PACKAGES.values() if find_spec(package)],
        )


def _require(model: ModelReference, packages: Iterable[str]) -> None:
    """Raise `PackagesMissing` if one of these packages is not installed."""
    if missing := [package for package in packages if find_spec(package) is None]:
        raise PackagesMissing(model.id, missing)
