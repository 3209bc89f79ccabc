"""Scale and pad an input picture to a size that the model can process."""

import numpy as np
from PIL import Image

from generation.families import Traits

Box = tuple[int, int, int, int]


def pad_to_multiple(picture: Image.Image, size: tuple[int, int], traits: Traits) -> tuple[Image.Image, Box]:
    """Return `picture` as RGB, scaled to `size` and padded to sides that the model supports, and the box of the content.

    `size` is width and height in pixels; the box is (left, upper, right, lower) without the padding. The padding mirrors
    the picture at its edges, so that the model sees no border.
    """
    scaled = picture.convert("RGB")
    if scaled.size != size:
        scaled = scaled.resize(size, Image.Resampling.LANCZOS)
    width, height = (_padded_side(length, traits) for length in size)
    left, upper = (width - size[0]) // 2, (height - size[1]) // 2
    box = (left, upper, left + size[0], upper + size[1])
    if (width, height) == size:
        return scaled, box
    margins = ((upper, height - box[3]), (left, width - box[2]), (0, 0))
    return Image.fromarray(np.pad(np.asarray(scaled), margins, mode="symmetric")), box


def _padded_side(length: int, traits: Traits) -> int:
    """Return the least multiple of `side_multiple` that is at least `length` and `min_side`."""
    return -(-max(length, traits.min_side) // traits.side_multiple) * traits.side_multiple
