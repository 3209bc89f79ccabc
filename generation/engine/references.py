"""Pictures that a model reads beside the one that it changes."""

import math
from collections.abc import Sequence

from PIL import Image

# FLUX.2 and Z-Image-Omni refuse smaller and longer pictures (pipelines/flux2/image_processor.py:60).
_MIN_SIDE = 64
_MAX_ASPECT = 8


def within(picture: Image.Image, pixels: int) -> Image.Image:
    """Return the picture reduced to about as many pixels at most, with sides that all pipelines read."""
    scale = min(1.0, math.sqrt(pixels / (picture.width * picture.height)))
    least = max(_MIN_SIDE, math.ceil(max(picture.size) * scale / _MAX_ASPECT))
    size = max(least, round(picture.width * scale)), max(least, round(picture.height * scale))
    return picture if size == picture.size else picture.resize(size, Image.Resampling.LANCZOS)


def beside(picture: Image.Image, references: Sequence[Image.Image]) -> Image.Image:
    """Return one picture with the references to the right of this one, in its height.

    FLUX.1 Kontext reads one picture; to give it several in this way is common practice.
    """
    if not references:
        return picture
    height = picture.height
    scaled = [
        reference.resize((max(1, round(reference.width * height / reference.height)), height), Image.Resampling.LANCZOS)
        for reference in references
    ]
    stitched = Image.new("RGB", (picture.width + sum(one.width for one in scaled), height))
    left = 0
    for one in (picture, *scaled):
        stitched.paste(one, (left, 0))
        left += one.width
    return stitched
