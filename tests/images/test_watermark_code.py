"""The code of the watermark's bits corrects errors, and tells what it cannot correct."""

import numpy as np
import pytest

from generation.images import watermark_code

PAYLOAD = bytes.fromhex("0123456789abcdef")


def test_a_payload_is_decoded() -> None:
    coded = watermark_code.encode(PAYLOAD)
    assert len(coded) == watermark_code.CODED_BITS
    assert watermark_code.decode(coded) == PAYLOAD


@pytest.mark.parametrize("seed", range(10))
def test_errors_are_corrected(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(0, 1, watermark_code.CODED_BITS)
    assert np.mean(noise > 1) > 0.05, "of the bits so many are wrong"
    assert watermark_code.decode(watermark_code.encode(PAYLOAD) + noise) == PAYLOAD


def test_noise_has_no_payload() -> None:
    generator = np.random.default_rng(1)
    assert not any(watermark_code.decode(generator.normal(0, 1, watermark_code.CODED_BITS)) for _ in range(200))
    assert watermark_code.decode(np.zeros(watermark_code.CODED_BITS)) is None
