"""Warm pipelines: loaded once, kept while memory allows, the least recently used one dropped first."""

import inspect
import json
import logging
import warnings
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import diffusers
import huggingface_hub
import torch
import transformers
from huggingface_hub.utils.tqdm import disable_progress_bars
from safetensors.torch import load_file

from generation.engine.catalog import (
    Weights,
    find_lora,
    find_model,
    load_spec,
)
from generation.engine.devices import choose_dtype, is_out_of_memory, release_memory
from generation.engine.errors import ModelFailed
from generation.engine.loras import Loras
from generation.engine.previews import Previews
from generation.recipes import LoraReference, ModelReference

log = logging.getLogger(__name__)

_NEEDED_ARGUMENTS = {"prompt", "image", "generator", "callback_on_step_end"}


def silence_libraries() -> None:
    """Keep the libraries off the terminal: what matters of their messages is raised as an exception too."""
    # diffusers logs as errors what it then raises.
    diffusers.utils.logging.set_verbosity(logging.CRITICAL)
    diffusers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    huggingface_hub.logging.set_verbosity_error()
    disable_progress_bars()


@contextmanager
def expected_warnings_ignored() -> Iterator[None]:
    """Warnings of what is done here on purpose stay silent within this context."""
    with warnings.catch_warnings():
        # diffusers tells what will change after the releases that are used here.
        warnings.filterwarnings("ignore", "", FutureWarning, r"diffusers\.")
        warnings.filterwarnings("ignore", "", DeprecationWarning, r"diffusers\.")
        # peft: a pipeline keeps several LoRAs, and drops some.
        warnings.filterwarnings("ignore", "Already found a `peft_config` attribute", UserWarning, r"peft\.")
        warnings.filterwarnings("ignore", "Adapter .* was active which is now deleted", UserWarning, r"peft\.")
        yield


class WarmPipeline:
    """A loaded pipeline, its LoRAs and previews, the network that denoises, and the names of the arguments that it takes."""

    def __init__(self, pipe: Any, dtype: torch.dtype, find: Callable[[LoraReference], Path]) -> None:
        self.pipe = pipe
        self.dtype = dtype
        self.denoiser: torch.nn.Module = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
        self.arguments = frozenset(inspect.signature(pipe.__call__).parameters)
        self.loras = Loras(pipe, find)
        self.previews = Previews(pipe)
        missing = _NEEDED_ARGUMENTS - self.arguments
        if missing:
            raise TypeError(f"{type(pipe).__name__} cannot be driven: it takes no {', '.join(sorted(missing))}")

    @property
    def size(self) -> int:
        """Bytes of its networks, LoRAs included."""
        return sum(
            tensor.numel() * tensor.element_size()
            for part in self.pipe.components.values()
            if isinstance(part, torch.nn.Module)
            for tensors in (part.parameters(), part.buffers())
            for tensor in tensors
        )


class WarmPipelines:
    """Pipelines by model, least recently used first, within `budget` bytes as far as more than one is loaded."""

    def __init__(self, models_dir: Path, offline: bool, device: torch.device, dtype: str, budget: int) -> None:
        self._models_dir = models_dir
        self._offline = offline
        self._device = device
        self._dtype = dtype
        self._budget = budget
        self._warm: OrderedDict[ModelReference, WarmPipeline] = OrderedDict()

    @property
    def models(self) -> list[str]:
        """Ids of the models that are warm, least recently used first."""
        return [model.id for model in self._warm]

    def get(self, model: ModelReference) -> WarmPipeline:
        """The pipeline of this model, loaded if need be. Raises `ModelFailed`, or the memory error of loading it."""
        if model not in self._warm:
            self._warm[model] = self._load(model)
        self._warm.move_to_end(model)
        self.trim()
        return self._warm[model]

    def trim(self) -> None:
        """Drop the least recently used ones while all together pass the budget; the last used one stays."""
        while len(self._warm) > 1 and self._used() > self._budget:
            self._drop_oldest()

    def drop_idle(self) -> bool:
        """Drop all but the last used one; says whether there was any other."""
        idle = len(self._warm) - 1
        for _ in range(idle):
            self._drop_oldest()
        return idle > 0

    def drop(self, model_id: str) -> bool:
        """Drop all revisions of this model; says whether there was any."""
        found = [model for model in self._warm if model.id == model_id]
        for model in found:
            del self._warm[model]
        if found:
            log.info("dropped %s from memory", model_id)
            release_memory(self._device)
        return bool(found)

    def _used(self) -> int:
        if self._device.type == "cuda":
            return torch.cuda.memory_allocated(self._device)
        return sum(warm.size for warm in self._warm.values())

    def _drop_oldest(self) -> None:
        model = next(iter(self._warm))
        del self._warm[model]  # not popped: a name for it here would keep it in memory
        log.info("dropped %s from memory", model.id)
        release_memory(self._device)

    def _load(self, model: ModelReference) -> WarmPipeline:
        weights = find_model(model, self._models_dir, self._offline)
        dtype = choose_dtype(self._dtype, self._device, load_spec(model).bfloat16)
        while True:
            try:
                pipe = load(model, weights, self._device, dtype)
                return WarmPipeline(pipe, dtype, lambda lora: find_lora(lora, self._models_dir, self._offline))
            except Exception as error:
                if not is_out_of_memory(error):
                    raise ModelFailed(f"Model '{model.id}' could not be loaded.") from error
                if not self._warm:
                    raise
            log.warning("no memory for %s beside other models", model.id)
            self._warm.clear()
            release_memory(self._device)


def load(model: ModelReference, weights: Weights, device: torch.device, dtype: torch.dtype) -> Any:
    """The pipeline of this model on the device, every network wholly in `dtype`. Raises what diffusers raises."""
    needs = load_spec(model)
    parts: dict[str, Any] = {}
    if "safety_checker" in json.loads((weights.pipeline / "model_index.json").read_text()):
        # Results are judged by `safety`, which leaves them as they are.
        parts = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if weights.unet is not None:
        parts["unet"] = _load_unet(weights.pipeline, weights.unet, dtype)
    pipe = getattr(diffusers, needs.pipeline).from_pretrained(
        weights.pipeline, dtype=dtype, use_safetensors=True, local_files_only=True, trust_remote_code=False, **parts
    )
    if needs.scheduler:
        scheduler = getattr(diffusers, needs.scheduler)
        pipe.scheduler = scheduler.from_config(pipe.scheduler.config, **needs.scheduler_changes)
    pipe.set_progress_bar_config(disable=True)
    pipe.to(device)
    for part in (getattr(pipe, "unet", None), getattr(pipe, "vae", None)):
        if part is not None and all(parameter.dim() < 5 for parameter in part.parameters()):
            part.to(memory_format=torch.channels_last)
    return pipe


def _load_unet(base: Path, file: Path, dtype: torch.dtype) -> Any:
    """A UNet built as the base's configuration says, with the weights of a file."""
    unet_class: Any = diffusers.UNet2DConditionModel
    with torch.device("meta"):  # the weights come next: none are made up first
        unet = unet_class.from_config(unet_class.load_config(base / "unet"))
    unet.load_state_dict(load_file(file), assign=True)
    return unet.to(dtype).eval()
