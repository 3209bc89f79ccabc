"""Memory plans: how a model is placed on a worker's card, chosen from the sizes of both. Knows no torch.

A model is given as the number of parameters of each part of its pipeline, such as {"transformer": 12e9, "vae": 84e6}.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from pydantic import BaseModel, ConfigDict, model_validator

from generation.family_traits import MEGAPIXEL, Traits

WORK_BYTES = 2_000_000_000
"""What denoising one megapixel needs beside the weights, about."""

_DECODING_BYTES = 4_000_000_000
"""What must be free to decode one megapixel in one piece, at most."""

_USABLE_SHARE = 0.95
"""The share of a card that the driver leaves."""

_STREAMED_SHARE = 1 / 20
"""The share of the largest part that group offload has on the card at a time."""

_QUANTIZED_PARTS = ("transformer", "unet", "text_encoder")
"""How the names of the parts begin that are quantized. Autoencoders are small and lose too much."""


class Offload(StrEnum):
    """Where the parts of a pipeline are while others work."""

    NONE = "none"
    """On the card."""
    MODEL = "model"
    """In the host's memory; a part comes to the card as a whole."""
    GROUP = "group"
    """In the host's memory; a part comes to the card layer by layer."""


class Quantization(StrEnum):
    """How the weights of denoiser and text encoders are stored. They compute in the type of the model."""

    NONE = "none"
    FP8 = "fp8"
    """Floating-point numbers of 8 bits, raised layer by layer. LoRAs do not work with it."""
    EIGHT_BIT = "8-bit"
    """Integers, by torchao."""
    FOUR_BIT = "4-bit"
    """NF4, by bitsandbytes."""


PACKAGES = {Quantization.EIGHT_BIT: "torchao", Quantization.FOUR_BIT: "bitsandbytes"}
"""What a worker needs for a quantization."""

# NF4 stores a scale for each 64 numbers, and leaves norms and embeddings as they are.
_QUANTIZED_BYTES = {Quantization.FP8: 1.0, Quantization.EIGHT_BIT: 1.0, Quantization.FOUR_BIT: 0.56}

# The best pictures first. fp8 needs no package, but LoRAs do not work with it.
_CHOSEN = (Quantization.NONE, Quantization.EIGHT_BIT, Quantization.FP8, Quantization.FOUR_BIT)

_WORDS = {
    Offload.MODEL: "model offload",
    Offload.GROUP: "group offload",
    Quantization.FP8: "fp8",
    Quantization.EIGHT_BIT: "8 bit",
    Quantization.FOUR_BIT: "4 bit",
}


class MemoryOptions(BaseModel):
    """What staff chose for a model; None is chosen from the card.

    Raises ValueError for group offload of weights in 8 or 4 bit, which diffusers cannot do.
    """

    model_config = ConfigDict(frozen=True)

    offload: Offload | None = None
    quantization: Quantization | None = None
    vae_tiling: bool | None = None
    step_cache: bool = False
    compile_repeated_blocks: bool = False

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.offload is Offload.GROUP and self.quantization in PACKAGES:
            raise ValueError("Group offload needs weights that are not quantized, or fp8.")
        return self


NO_OPTIONS = MemoryOptions()


@dataclass(frozen=True)
class MemoryPlan:
    """How a pipeline is placed. In bytes, estimated: `weights` is the size of all parts, `need` what a card must have."""

    offload: Offload
    quantization: Quantization
    vae_tiling: bool
    weights: int
    need: int

    def __str__(self) -> str:
        """Return the plan in words: "whole", or such as "model offload and 4 bit"."""
        words = [_WORDS[choice] for choice in (self.offload, self.quantization) if choice in _WORDS] or ["whole"]
        words += ["VAE tiling"] if self.vae_tiling else []
        return " and ".join(words) if len(words) < 3 else f"{', '.join(words[:-1])} and {words[-1]}"


WHOLE = MemoryPlan(Offload.NONE, Quantization.NONE, vae_tiling=False, weights=0, need=0)


def is_quantized(part: str) -> bool:
    """Return whether a quantization concerns the part of a pipeline with this name."""
    return part.startswith(_QUANTIZED_PARTS)


def is_over_budget(plans: Sequence[MemoryPlan], allocated: int, card: int, host: int) -> bool:
    """Return whether warm pipelines have more than the bytes that they may have on the card and in the host's memory.

    `allocated` are the bytes of pipelines that stay on the card. One offloaded pipeline works at a time.
    """
    offloaded = [plan for plan in plans if plan.offload is not Offload.NONE]
    at_work = max((plan.need - WORK_BYTES for plan in offloaded), default=0)
    return allocated + at_work > card or sum(plan.weights for plan in offloaded) > host


def choose_plan(
    traits: Traits,
    parameters: Mapping[str, int],
    card: int | None,
    options: MemoryOptions = NO_OPTIONS,
    *,
    parameter_bytes: int | None = None,
    packages: Collection[str] = tuple(PACKAGES.values()),
) -> MemoryPlan:
    """Return the plan that makes the best pictures, then the fastest one, of those that fit a card of `card` bytes.

    If none fits, return the one that needs least. `card` is None for devices that share the host's memory: there is nothing
    to offload to, and what is not chosen in `options` stays as it is. `parameter_bytes` are those of the number type, by
    default of the family's on GPUs. `packages` are the installed ones of `PACKAGES`.
    """
    unit = parameter_bytes or (4 if traits.gpu_dtype == "float32" else 2)
    if card is None:
        quantization = options.quantization or Quantization.NONE
        return _plan(traits, parameters, unit, Offload.NONE, quantization, bool(options.vae_tiling), None)
    plans = [
        _plan(traits, parameters, unit, offload, quantization, options.vae_tiling, card)
        for offload, quantization in _candidates(options, packages)
    ]
    return next((plan for plan in plans if _fits(plan, card)), min(plans, key=lambda plan: plan.need))


def describe_fit(traits: Traits, parameters: Mapping[str, int], cards: Sequence[int]) -> str:
    """Return what the model needs, how it fits smaller cards, and what each of these cards, in bytes, will do.

    Such as "Needs 36 GB; fits in 16 GB with model offload and fp8. Workers: 24 GB: fp8."
    """
    whole = choose_plan(traits, parameters, None)
    fits: dict[str, int] = {}
    for size in (24, 16, 12, 8):
        plan = choose_plan(traits, parameters, size * 2**30)
        if _fits(plan, size * 2**30) and not _fits(whole, size * 2**30):
            # The smallest card of each plan.
            fits[str(plan)] = size
    text = f"Needs {_gigabytes(whole.need)}"
    text += "; fits in " + ", in ".join(f"{size} GB with {plan}" for plan, size in fits.items()) if fits else ""
    if not cards:
        return f"{text}."
    workers = [f"{_card(size)}: {_fate(traits, parameters, size)}" for size in sorted(set(cards), reverse=True)]
    return f"{text}. Workers: {'; '.join(workers)}."


def _candidates(options: MemoryOptions, packages: Collection[str]) -> Iterator[tuple[Offload, Quantization]]:
    offloads = [options.offload] if options.offload else list(Offload)
    quantizations = [options.quantization] if options.quantization else list(_CHOSEN)
    for quantization in quantizations:
        if options.quantization is None and PACKAGES.get(quantization, "") not in ("", *packages):
            continue
        yield from ((offload, quantization) for offload in offloads if offload is not Offload.GROUP)
    # The slowest by far.
    if Offload.GROUP in offloads and quantizations[0] not in PACKAGES:
        yield Offload.GROUP, quantizations[0]


def _plan(
    traits: Traits,
    parameters: Mapping[str, int],
    unit: int,
    offload: Offload,
    quantization: Quantization,
    vae_tiling: bool | None,
    card: int | None,
) -> MemoryPlan:
    parts = {
        name: int(count * (_QUANTIZED_BYTES.get(quantization, unit) if is_quantized(name) else unit))
        for name, count in parameters.items()
    }
    weights, largest = sum(parts.values()), max(parts.values(), default=0)
    megapixels = (traits.area or MEGAPIXEL) / MEGAPIXEL
    on_card, while_decoding = {
        Offload.NONE: (weights, weights),
        Offload.MODEL: (largest, parts.get("vae", 0)),
        Offload.GROUP: (int(largest * _STREAMED_SHARE), 0),
    }[offload]
    if vae_tiling is None:
        vae_tiling = card is not None and card - while_decoding < _DECODING_BYTES * megapixels
    return MemoryPlan(offload, quantization, vae_tiling, weights, on_card + int(WORK_BYTES * megapixels))


def _fits(plan: MemoryPlan, card: int) -> bool:
    return plan.need <= card * _USABLE_SHARE


def _fate(traits: Traits, parameters: Mapping[str, int], card: int) -> str:
    plan = choose_plan(traits, parameters, card)
    return str(plan) if _fits(plan, card) else f"too small, needs {_gigabytes(plan.need)} even with {plan}"


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.2g} GB" if size < 10e9 else f"{size / 1e9:.0f} GB"


def _card(size: int) -> str:
    """Return the size of a card as it is sold: a little more than torch tells."""
    return f"{size / 2**30:.0f} GB"
