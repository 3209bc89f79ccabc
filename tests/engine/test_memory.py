"""Memory plans: which model fits which card, and how."""

from collections.abc import Mapping

import pytest
from pydantic import ValidationError

from generation.families import FAMILY_TRAITS, Family
from generation.memory import (
    WORK_BYTES,
    MemoryOptions,
    MemoryPlan,
    Offload,
    Quantization,
    choose_plan,
    describe_fit,
    is_over_budget,
)

GIB = 2**30


def parts(**gigabytes: float) -> Mapping[str, int]:
    """Return the parameters of parts that have these sizes, in GB of 16 bits."""
    return {name: int(size * 1e9 / 2) for name, size in gigabytes.items()}


SDXL = parts(unet=5.1, text_encoder=0.25, text_encoder_2=1.4, vae=0.17)
Z_IMAGE = parts(transformer=12.3, text_encoder=8.0, vae=0.17)
FLUX = parts(transformer=23.8, text_encoder=0.25, text_encoder_2=9.5, vae=0.17)
QWEN = parts(transformer=40.9, text_encoder=16.6, vae=0.25)


@pytest.mark.parametrize(
    ("family", "parameters", "plans"),
    [
        (Family.STABLE_DIFFUSION, parts(unet=1.7, text_encoder=0.25, vae=0.17), ("whole", "whole", "whole", "whole")),
        (Family.SDXL, SDXL, ("model offload", "whole", "whole", "whole")),
        (
            Family.SD3,
            parts(transformer=5.0, text_encoder=0.25, text_encoder_2=1.4, text_encoder_3=9.5, vae=0.17),
            ("model offload and 8 bit", "model offload", "model offload", "whole"),
        ),
        (
            Family.FLUX2_KLEIN,
            parts(transformer=7.75, text_encoder=8.0, vae=0.17),
            ("model offload and 8 bit", "model offload", "model offload", "whole"),
        ),
        (
            Family.Z_IMAGE,
            Z_IMAGE,
            ("model offload and 8 bit", "model offload and 8 bit", "model offload", "whole"),
        ),
        (
            Family.FLUX,
            FLUX,
            ("group offload", "4 bit and VAE tiling", "model offload and 8 bit", "8 bit"),
        ),
        (
            Family.QWEN_IMAGE,
            QWEN,
            ("group offload", "group offload", "model offload and 4 bit", "model offload and 8 bit"),
        ),
        (
            Family.FLUX2,
            parts(transformer=64.4, text_encoder=48, vae=0.17),
            ("group offload", "group offload", "group offload", "model offload and 4 bit"),
        ),
    ],
)
def test_a_model_fits_cards_of_8_12_16_and_24_gigabytes(
    family: Family, parameters: Mapping[str, int], plans: tuple[str, ...]
) -> None:
    chosen = [choose_plan(FAMILY_TRAITS[family], parameters, size * GIB) for size in (8, 12, 16, 24)]
    assert tuple(map(str, chosen)) == plans
    assert all(plan.need <= size * GIB for plan, size in zip(chosen, (8, 12, 16, 24), strict=True))


def test_without_packages_the_weights_are_in_fp8() -> None:
    plan = choose_plan(FAMILY_TRAITS[Family.FLUX], FLUX, 24 * GIB, packages=())
    assert plan.quantization is Quantization.FP8
    assert choose_plan(FAMILY_TRAITS[Family.FLUX], FLUX, 12 * GIB, packages=()).offload is Offload.GROUP


def test_what_staff_chose_is_kept() -> None:
    traits = FAMILY_TRAITS[Family.QWEN_IMAGE]
    for offload in Offload:
        assert choose_plan(traits, QWEN, 24 * GIB, MemoryOptions(offload=offload)).offload is offload
    for quantization in Quantization:
        options = MemoryOptions(quantization=quantization)
        assert choose_plan(traits, QWEN, 8 * GIB, options).quantization is quantization
        assert choose_plan(traits, QWEN, None, options).quantization is quantization
    for tiling in (True, False):
        assert choose_plan(traits, QWEN, 80 * GIB, MemoryOptions(vae_tiling=tiling)).vae_tiling is tiling
    with pytest.raises(ValidationError, match="Group offload needs weights that are not quantized, or fp8"):
        MemoryOptions(offload=Offload.GROUP, quantization=Quantization.FOUR_BIT)


def test_without_a_card_of_its_own_a_model_is_loaded_as_it_is() -> None:
    plan = choose_plan(FAMILY_TRAITS[Family.FLUX], FLUX, None, parameter_bytes=4)
    assert str(plan) == "whole"
    assert plan.weights == pytest.approx(2 * 33.72e9)


def test_the_fit_is_told_in_words() -> None:
    traits = FAMILY_TRAITS[Family.SDXL]
    assert describe_fit(traits, SDXL, []) == "Needs 8.9 GB; fits in 8 GB with model offload."
    assert (
        describe_fit(FAMILY_TRAITS[Family.QWEN_IMAGE], QWEN, [24 * GIB, int(11.7 * GIB), 24 * GIB, 3 * GIB])
        == "Needs 60 GB; fits in 24 GB with model offload and 8 bit, in 16 GB with model offload and 4 bit, in 8 GB with "
        "group offload. Workers: 24 GB: model offload and 8 bit; 12 GB: group offload; 3 GB: too small, needs 4 GB even "
        "with group offload and VAE tiling."
    )


def test_offloaded_models_count_where_they_are() -> None:
    """Of those on the card, the allocation tells the size. Of offloaded ones, one at a time is there."""

    def offloaded(size: int) -> MemoryPlan:
        return MemoryPlan(Offload.MODEL, Quantization.NONE, vae_tiling=False, weights=size, need=size + WORK_BYTES)

    both = [offloaded(12 * 10**9), offloaded(8 * 10**9)]
    assert not is_over_budget(both, allocated=4 * 10**9, card=16 * 10**9, host=20 * 10**9)
    assert is_over_budget(both, allocated=5 * 10**9, card=16 * 10**9, host=20 * 10**9)
    assert is_over_budget(both, allocated=4 * 10**9, card=16 * 10**9, host=19 * 10**9)
