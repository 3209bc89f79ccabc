"""How large a model draws a picture: its sizes, and what of them a result is fitted into."""

import math
from collections.abc import Sequence

from generation.family_traits import Traits


def fit(size: tuple[int, int], traits: Traits) -> tuple[int, int]:
    """Return the largest width and height up to `size` within `max_side` and `area`, with the same aspect ratio.

    If the model makes only some sizes, they are within the nearest one.
    """
    width, height = size
    if traits.sizes:
        most = nearest(size, traits.sizes)
        scale = min(1.0, traits.max_side / max(size), most[0] / width, most[1] / height)
        return max(1, round(width * scale)), max(1, round(height * scale))
    if width * height <= traits.area and max(size) <= traits.max_side:
        return size
    side_scale, area_scale = traits.max_side / max(size), math.sqrt(traits.area / (width * height))
    if side_scale <= area_scale:
        return max(1, round(width * side_scale)), max(1, round(height * side_scale))
    return max(1, int(width * area_scale)), max(1, int(height * area_scale))


def enlargement(size: tuple[int, int], traits: Traits) -> float:
    """Return how many times as large the model draws a result of this size, which `fit` returned; at least 1.

    The shorter side has `min_side` then, as far as `max_side` and `area` allow; they have priority. `side_multiple` does not
    matter, since the engine pads the picture to it and crops the result.
    """
    if traits.sizes:
        width, height = nearest(size, traits.sizes)
        return min(width / size[0], height / size[1])
    area_scale = math.sqrt(traits.area / (size[0] * size[1]))
    if traits.has_fixed_area:
        return max(1.0, area_scale)
    return max(1.0, min(traits.min_side / min(size), traits.max_side / max(size), area_scale))


def nearest(size: tuple[int, int], sizes: Sequence[tuple[int, int]]) -> tuple[int, int]:
    """Return the size with the nearest aspect ratio."""
    return min(sizes, key=lambda one: abs(one[0] / one[1] - size[0] / size[1]))
