"""How much two pictures of one size differ."""

import math

from PIL import Image, ImageChops, ImageStat


def difference(one: Image.Image, other: Image.Image) -> tuple[int, float]:
    """Return the largest difference of two RGB pictures, 0 to 255, and their peak signal-to-noise ratio in decibels.

    PSNR = 10 log10(255² / mean squared error), infinite for equal pictures.
    """
    statistics = ImageStat.Stat(ImageChops.difference(one, other))
    error = sum(statistics.sum2) / sum(statistics.count)
    largest = max(int(highest) for _, highest in statistics.extrema)
    return largest, 10 * math.log10(255**2 / error) if error else math.inf
