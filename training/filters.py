"""Filters on float32 pictures, (height, width) or (height, width, 3) in 0..1, with mirrored borders; numpy only."""

from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Picture: TypeAlias = NDArray[Any]


def luma(picture: Picture) -> Picture:
    """Brightness (height, width) with the weights of ITU-R BT.601."""
    return picture @ np.array([0.299, 0.587, 0.114], np.float32)


def grey(brightness: Picture) -> Picture:
    """(height, width) as (height, width, 3)."""
    return np.repeat(brightness[..., None], 3, axis=2)


def smoothstep(values: Picture, low: float, high: float) -> Picture:
    """0 below `low`, 1 above `high`, 3t² - 2t³ between."""
    t = np.clip((values - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def saturate(picture: Picture, factor: float) -> Picture:
    """Colours moved away from their brightness (factor > 1) or towards it (< 1); not clipped."""
    middle = grey(luma(picture))
    return middle + (picture - middle) * np.float32(factor)


def gradient_map(brightness: Picture, stops: list[tuple[float, tuple[float, float, float]]]) -> Picture:
    """Each brightness replaced by the colour that lies between its two neighbours among `stops`."""
    at = [position for position, _ in stops]
    channels = [np.interp(brightness, at, [colour[channel] for _, colour in stops]) for channel in range(3)]
    return np.stack(channels, axis=-1).astype(np.float32)


def blur(picture: Picture, sigma: float) -> Picture:
    """Gaussian blur, cut off at three standard deviations (in pixels)."""
    radius = int(3 * sigma + 0.5)
    offsets = np.arange(-radius, radius + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    return _separable(picture, (weights / weights.sum()).astype(np.float32))


def box(picture: Picture, radius: int) -> Picture:
    """Mean over a square of 2 `radius` + 1 pixels."""
    size = 2 * radius + 1
    return _separable(picture, np.full(size, 1 / size, np.float32))


def shift(picture: Picture, down: int, right: int) -> Picture:
    """The picture moved, with mirrored borders."""
    margin = max(abs(down), abs(right))
    padded = _pad(picture, margin, margin)
    height, width = picture.shape[:2]
    return padded[margin - down : margin - down + height, margin - right : margin - right + width]


def sobel(brightness: Picture) -> tuple[Picture, Picture]:
    """Horizontal and vertical slope, a quarter of Sobel's weights: 1 for a step from 0 to 1."""
    padded = _pad(brightness, 1, 1)
    rows = padded[:-2] + 2 * padded[1:-1] + padded[2:]
    columns = padded[:, :-2] + 2 * padded[:, 1:-1] + padded[:, 2:]
    return (rows[:, 2:] - rows[:, :-2]) / 4, (columns[2:] - columns[:-2]) / 4


def edges(picture: Picture, sigma: float) -> Picture:
    """Strength of edges (height, width) at the scale `sigma`."""
    across, down = sobel(blur(luma(picture), sigma))
    return np.sqrt(across * across + down * down)


def guided_filter(picture: Picture, radius: int, epsilon: float) -> Picture:
    """Smooth while keeping edges: He, Sun and Tang, Guided Image Filtering (2010), guided by its own brightness."""
    guide = luma(picture)
    mean_guide, mean = box(guide, radius), box(picture, radius)
    variance = box(guide * guide, radius) - mean_guide * mean_guide
    covariance = box(picture * guide[..., None], radius) - mean * mean_guide[..., None]
    slope = covariance / (variance + epsilon)[..., None]
    offset = mean - slope * mean_guide[..., None]
    return box(slope, radius) * guide[..., None] + box(offset, radius)


def kuwahara(picture: Picture, radius: int) -> Picture:
    """Painterly flattening: Kuwahara et al. (1976), each pixel takes the mean of its least varying quadrant.

    Quadrants are weighted by the eighth power of their steadiness (Papari 2007), so smooth areas do not flicker between
    quadrants that are equally good.
    """
    half = radius // 2
    brightness = luma(picture)
    means, squares, mean_brightness = box(picture, half), box(brightness * brightness, half), box(brightness, half)
    deviation = np.sqrt(np.maximum(squares - mean_brightness * mean_brightness, 0)) + 0.01
    total = np.zeros_like(picture)
    weights = np.zeros_like(brightness)
    for down in (-half, half):
        for right in (-half, half):
            weight = (0.01 / shift(deviation, down, right)) ** 8
            total += shift(means, down, right) * weight[..., None]
            weights += weight
    return total / weights[..., None]


def smear(picture: Picture, steps: int, brightness: Picture) -> Picture:
    """Average along the edges of `brightness` (height, width): line integral convolution (Cabral and Leedom 1993)."""
    brightness = blur(brightness, 1)
    across, down = sobel(brightness)
    # The structure tensor's smaller eigenvector runs along the edge; smoothing the tensor gives long coherent strokes.
    xx, yy, xy = blur(across * across, 2.5), blur(down * down, 2.5), blur(across * down, 2.5)
    # In flat areas the strokes lie level, rather than along noise.
    angle = 0.5 * np.arctan2(2 * xy, xx - yy - 3e-4) + np.pi / 2
    right, below = np.cos(angle), np.sin(angle)
    height, width = brightness.shape
    rows, columns = np.mgrid[0:height, 0:width].astype(np.float32)
    total, count = picture.copy(), 1
    for direction in (1, -1):
        y, x = rows, columns
        for _ in range(steps):
            nearest = np.clip(np.rint(y), 0, height - 1).astype(int), np.clip(np.rint(x), 0, width - 1).astype(int)
            y, x = y + direction * below[nearest], x + direction * right[nearest]
            at = np.clip(np.rint(y), 0, height - 1).astype(int), np.clip(np.rint(x), 0, width - 1).astype(int)
            total += picture[at]
            count += 1
    return (total / count).astype(np.float32)


def cells(picture: Picture, labels: NDArray[np.intp]) -> Picture:
    """Each pixel replaced by the mean colour of the pixels that share its label (height, width)."""
    flat = labels.reshape(-1)
    count = np.maximum(np.bincount(flat), 1)
    channels = [(np.bincount(flat, picture[..., channel].reshape(-1)) / count)[flat] for channel in range(3)]
    return np.stack(channels, axis=-1).reshape(picture.shape).astype(np.float32)


def _separable(picture: Picture, weights: Picture) -> Picture:
    radius = len(weights) // 2
    height, width = picture.shape[:2]
    padded = _pad(picture, radius, 0)
    columns = np.zeros_like(picture)
    for index, weight in enumerate(weights):
        columns += weight * padded[index : index + height]
    padded = _pad(columns, 0, radius)
    rows = np.zeros_like(picture)
    for index, weight in enumerate(weights):
        rows += weight * padded[:, index : index + width]
    return rows


def _pad(picture: Picture, down: int, right: int) -> Picture:
    return np.pad(picture, [(down, down), (right, right)] + [(0, 0)] * (picture.ndim - 2), mode="symmetric")
