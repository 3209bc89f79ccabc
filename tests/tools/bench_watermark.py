"""Measure the watermark on photos that the bundled models were not trained on; `python -m training.photos` fetches them."""

import random
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from generation.images import watermark
from generation.images.watermark_payload import Payload
from tests.support.handling import HANDLING, scaled
from tests.tools.bench_queue import Measurement
from training import photos

KEY = b"a key of this measurement, of 32 bytes and some more"
SIDES = (256, 512, 1024)
CROPS = 10_000
CROP_SIDES = (64, 384)
LARGE = (8000, 6250)
_WORK = Path("build/training")


def measure_watermark() -> Iterator[Measurement]:
    """Mark each photo, and read it again after each way of handling it."""
    originals = _photos()
    for side in SIDES:
        noise, times = [], []
        read = dict.fromkeys(HANDLING, 0)
        for name, photo in originals.items():
            picture = ImageOps.fit(photo, (side, side), Image.Resampling.LANCZOS)
            payload = Payload.of(KEY, name)
            start = time.perf_counter()
            marked = watermark.embed(picture, payload, KEY)
            times.append(time.perf_counter() - start)
            noise.append(psnr(picture, marked))
            for handling, handle in HANDLING.items():
                read[handling] += watermark.read(handle(marked), KEY) == payload
        yield f"{side} x {side}: PSNR, least and mean", f"{min(noise):.1f}, {statistics.mean(noise):.1f} dB"
        yield f"{side} x {side}: time of marking, median", f"{1000 * statistics.median(times):.0f} ms"
        for handling, count in read.items():
            yield f"{side} x {side}: {handling}", f"{count} of {len(originals)} read"


def measure_unmarked() -> Iterator[Measurement]:
    """Look for watermarks in crops of unmarked photos, and in the largest upload."""
    originals = list(_photos().values())
    # The same crops each time.
    generator = random.Random(1)
    found, times = 0, []
    for _ in range(CROPS):
        crop = _crop(generator.choice(originals), generator)
        start = time.perf_counter()
        found += watermark.read(crop, KEY) is not None
        times.append(time.perf_counter() - start)
    yield f"watermarks found in {CROPS} crops without one", str(found)
    yield (
        "time of looking at one, median and longest",
        f"{1000 * statistics.median(times):.0f}, {1000 * max(times):.0f} ms",
    )
    large = originals[0].resize(LARGE)
    start = time.perf_counter()
    watermark.read(large, KEY)
    yield f"time of looking at {LARGE[0]} x {LARGE[1]} pixels without one", f"{time.perf_counter() - start:.1f} s"


def psnr(first: Image.Image, second: Image.Image) -> float:
    """Return the peak signal-to-noise ratio of two different pictures, in dB."""
    return float(10 * np.log10(255**2 / np.mean((np.asarray(first, np.float64) - np.asarray(second)) ** 2)))


def _crop(photo: Image.Image, generator: random.Random) -> Image.Image:
    picture = scaled(photo, generator.uniform(0.5, 1.5))
    width, height = (min(generator.randint(*CROP_SIDES), side) for side in picture.size)
    left, top = generator.randint(0, picture.width - width), generator.randint(0, picture.height - height)
    return picture.crop((left, top, left + width, top + height))


def _photos() -> dict[str, Image.Image]:
    try:
        return photos.load(_WORK, "held-out")
    except FileNotFoundError:
        raise SystemExit("The photos are missing; fetch them: python -m training.photos") from None
