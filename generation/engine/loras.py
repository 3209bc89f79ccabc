"""LoRAs of one pipeline: several stay loaded, and only the current recipe's are enabled."""

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from generation.engine.devices import is_out_of_memory
from generation.engine.digests import check_digests
from generation.engine.errors import LoraFailed
from generation.engine.receipts import sha256_of
from generation.recipes import LoraReference

MAX_LOADED = 12
"""LoRAs that stay loaded on one pipeline; more than a request may name."""

_Key = tuple[str, str, str]


@dataclass(frozen=True)
class _Adapter:
    """A loaded LoRA: its adapter name in peft, how many of its tensors the model uses, and the SHA-256 of its file."""

    name: str
    used: int
    tensors: int
    digest: str


class Loras:
    """The loaded LoRAs of one pipeline, least recently used first. Weights in fp8 cannot have any: not `can_load`."""

    def __init__(self, pipe: Any, find: Callable[[LoraReference], Path], can_load: bool = True) -> None:
        self._pipe = pipe
        self._find = find
        self._can_load = can_load
        self._numbers = count()
        self._adapters: OrderedDict[_Key, _Adapter] = OrderedDict()

    @property
    def loaded(self) -> list[str]:
        """Return the ids of the loaded LoRAs, least recently used first."""
        return [key[0] for key in self._adapters]

    @contextmanager
    def applied(self, loras: Sequence[LoraReference]) -> Iterator[list[str]]:
        """Enable exactly these LoRAs, at their weights, within this context; yield warnings.

        Raises `LoraFailed`, or the out-of-memory error of loading one.
        """
        if not loras:
            yield []
            return
        if not self._can_load:
            raise LoraFailed(
                "LoRAs do not work with this model while its weights are in fp8. Ask an administrator to set another "
                "quantization, such as 8 bit."
            )
        try:
            adapters = [self._adapter(lora) for lora in loras]
            self._pipe.enable_lora()
            self._pipe.set_adapters([adapter.name for adapter in adapters], [lora.weight for lora in loras])
            yield [
                f"LoRA '{lora.id}' fits the model only in part: {adapter.used} of {adapter.tensors} tensors were used."
                for lora, adapter in zip(loras, adapters, strict=True)
                if adapter.used < adapter.tensors
            ]
        finally:
            if self._adapters:
                self._pipe.disable_lora()

    @property
    def all_digests(self) -> list[str]:
        """Return the SHA-256 of the files of all loaded LoRAs. Safe to call from any thread."""
        return [adapter.digest for adapter in list(self._adapters.values())]

    def digests(self, loras: Sequence[LoraReference]) -> dict[str, str]:
        """Return the SHA-256 of the files of these loaded LoRAs by id."""
        return {lora.id: self._adapters[_key(lora)].digest for lora in loras}

    def _adapter(self, lora: LoraReference) -> _Adapter:
        key = _key(lora)
        if key not in self._adapters:
            self._adapters[key] = self._load(lora)
        self._adapters.move_to_end(key)
        while len(self._adapters) > MAX_LOADED:
            self._pipe.delete_adapters(self._adapters.popitem(last=False)[1].name)
        return self._adapters[key]

    def _load(self, lora: LoraReference) -> _Adapter:
        file = self._find(lora)
        check_digests(file)
        digest = sha256_of(file)
        try:
            with safe_open(file, framework="pt") as tensors:
                tensor_count = sum(not key.endswith("alpha") for key in tensors.keys())  # noqa: SIM118  not a mapping
        except (OSError, SafetensorError) as error:
            raise LoraFailed(f"Unable to load LoRA '{lora.id}'") from error
        name = f"lora{next(self._numbers)}"
        try:
            self._pipe.load_lora_weights(
                file.parent, weight_name=file.name, adapter_name=name, use_safetensors=True, local_files_only=True
            )
        except Exception as error:  # each kind of mismatch raises another type
            self._unload_all()
            if is_out_of_memory(error):
                raise
            raise _incompatible(lora) from error
        used = sum(f".{name}." in parameter for parameter in _parameter_names(self._pipe))
        if used == 0:
            self._unload_all()
            raise _incompatible(lora)
        return _Adapter(name, used, tensor_count, digest)

    def _unload_all(self) -> None:
        # A failed load may leave parts of a LoRA in any network; only unloading all LoRAs removes them reliably.
        self._adapters.clear()
        if hasattr(self._pipe, "unload_lora_weights"):
            self._pipe.unload_lora_weights()


def _key(lora: LoraReference) -> _Key:
    return lora.id, lora.revision, lora.weight_name


def _incompatible(lora: LoraReference) -> LoraFailed:
    return LoraFailed(f"LoRA incompatible with base model: '{lora.id}'")


def _parameter_names(pipe: Any) -> Iterator[str]:
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            for name, _ in part.named_parameters():
                yield name
