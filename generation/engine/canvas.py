"""The picture as the model wants it, and back: scaled to the wanted size, padded to sides the model can do."""

import numpy as np
from PIL import Image

from generation.recipes import Traits

Box = tuple[int, int, int, int]


def pad_to_multiple(picture: Image.Image, size: tuple[int, int], traits: Traits) -> tuple[Image.Image, Box]:
    """An RGB picture with sides that the model can do, and the box (left, upper, right, lower) of the wanted part.

    The wanted part is `picture` scaled to `size`, width and height in pixels. Around it the picture is mirrored at its
    edges, so that the model sees no border there.
    """
    fitted = picture.convert("RGB")
    if fitted.size != size:
        fitted = fitted.resize(size, Image.Resampling.LANCZOS)
    width, height = (_side(length, traits) for length in size)
    left, upper = (width - size[0]) // 2, (height - size[1]) // 2
    box = (left, upper, left + size[0], upper + size[1])
    if (width, height) == size:
        return fitted, box
    margins = ((upper, height - box[3]), (left, width - box[2]), (0, 0))
    return Image.fromarray(np.pad(np.asarray(fitted), margins, mode="symmetric")), box


def _side(length: int, traits: Traits) -> int:
    return -(-max(length, traits.min_side) // traits.side_multiple) * traits.side_multiple
