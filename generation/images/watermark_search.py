"""Where the tiles of a watermark may lie in a picture, and how large they are now.

The spectrum of a picture with tiles has its frequencies at multiples of one that tells their size. For each size the amplitudes
at those multiples are compared with the key's phases, at all offsets at once, by one small transform: a matched filter.
"""

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
from PIL import Image

from generation.images.watermark_pattern import TILE, Pattern, Plane, Spectrum, contrasts, folded, weighted

_WINDOW = 16 * TILE
"""Side of the largest part of a picture that is searched at once, in pixels."""

_MAX_WINDOWS = 9
"""Parts in which other sizes of the tiles are looked for, those in the middle first."""

_REDUCTIONS = (1, 2, 4)
"""The picture is reduced by each of these, and searched for tiles of about their own size."""

_SMALLEST, _SMALL, _LARGEST = 0.42, 0.7, 1.43
"""Sizes of the tiles, as a share of `TILE`: in the unreduced picture, and in the others."""

_STEP = 2.5
"""Pixels that the whole window grows from one size to the next."""

_TRIED = 10
"""Sizes that are tried for each window."""

_OFFSETS = 2
"""Places that are tried for tiles of their own size: a picture whose part was made here may have been made here before."""

_PEAK = 2
"""How far a place is likely only because its neighbour is, in pixels."""

_CHUNK = 32
_FINE = 4 * TILE

_LEAST_SIDE = 48


def candidates(picture: Image.Image, pattern: Pattern) -> Iterator[Spectrum]:
    """Yield whitened amplitudes of what may be a tile, the most likely first."""
    yield from unscaled(picture, pattern)
    for reduction in _REDUCTIONS:
        reduced = picture.reduce(reduction)
        if min(reduced.size) < _LEAST_SIDE:
            return
        smallest = _SMALLEST if reduction == 1 else _SMALL
        for box in _windows(reduced.size)[:_MAX_WINDOWS]:
            yield from _scaled(_Window(_weighted(reduced.crop(box))), pattern, smallest)


def unscaled(picture: Image.Image, pattern: Pattern) -> Iterator[Spectrum]:
    """Yield what is in tiles of their own size, in each part of the picture and in all of it."""
    total = np.zeros((TILE, TILE), np.float32)
    boxes = _windows(picture.size)
    for box in boxes:
        tile = folded(_weighted(picture.crop(box)))
        total += tile
        yield from _aligned(pattern.whitened(pattern.of_tile(tile)), pattern, TILE, _OFFSETS)
    if len(boxes) > 1:
        yield from _aligned(pattern.whitened(pattern.of_tile(total)), pattern, TILE, _OFFSETS)


def _scaled(window: "_Window", pattern: Pattern, smallest: float) -> Iterator[Spectrum]:
    """Yield what is in tiles of the most likely sizes."""
    step = _STEP / max(window.size)
    inverses = np.arange(1 / _LARGEST, 1 / smallest, step)
    peaks = np.concatenate(
        [
            _likeness(pattern.whitened(window.amplitudes(pattern, chunk, chunk)), pattern, TILE).max(axis=(-2, -1))
            for chunk in np.array_split(inverses, -(-len(inverses) // _CHUNK))
        ]
    )
    for index in np.argsort(-peaks)[:_TRIED]:
        near = inverses[index] + step * np.array([-0.5, 0.0, 0.5])
        across, along = (axis.ravel() for axis in np.meshgrid(near, near))
        whitened = pattern.whitened(window.amplitudes(pattern, across, along))
        best = _likeness(whitened, pattern, TILE).max(axis=(-2, -1)).argmax()
        yield from _aligned(whitened[best], pattern, _FINE, 1)


def _likeness(whitened: Spectrum, pattern: Pattern, side: int) -> Plane:
    """Return how well a tile (..., frequencies) that begins at each of side x side offsets has the key's phases.

    Where there is no watermark, the values have a mean of 0 and a variance of about 1.
    """
    known = np.zeros_like(whitened)
    known[..., pattern.sync] = whitened[..., pattern.sync]
    likeness: Plane = pattern.plane(known, side) * np.sqrt(2 / len(pattern.sync))
    return likeness


def _aligned(whitened: Spectrum, pattern: Pattern, side: int, count: int) -> Iterator[Spectrum]:
    """Yield the amplitudes of the tile from where it most likely begins, and from the `count` - 1 next likely places."""
    likeness = _likeness(whitened, pattern, side)
    around = np.arange(-_PEAK, _PEAK + 1)
    for _ in range(count):
        down, right = np.unravel_index(likeness.argmax(), likeness.shape)
        yield pattern.moved(whitened, float(right) / side, float(down) / side)
        likeness[np.ix_((down + around) % side, (right + around) % side)] = 0


class _Window:
    """The spectrum of a part of a picture, padded so that frequencies between its own can be read."""

    def __init__(self, plane: Plane) -> None:
        self.size = plane.shape
        self._padded = [2 * _smooth(side) for side in plane.shape]
        self._spectrum = np.fft.rfft2(plane, self._padded)

    def amplitudes(
        self, pattern: Pattern, across: npt.NDArray[np.floating], along: npt.NDArray[np.floating]
    ) -> Spectrum:
        """Return the amplitudes (sizes, frequencies) of tiles whose widths and heights are `TILE` divided by these values.

        Their phases are those at the middle of the window, so that they hardly differ between neighbours.
        """
        rows, columns = (
            np.rint(np.outer(inverse, cycles) * (side / TILE)).astype(np.int64)
            for inverse, cycles, side in zip((along, across), (pattern.v, pattern.u), self._padded, strict=True)
        )
        # Beyond half a cycle a pixel there is nothing.
        is_there = (2 * np.abs(rows) < self._padded[0]) & (2 * columns < self._padded[1])
        rows, columns = rows * is_there, columns * is_there
        turns = rows * (self.size[0] / 2 / self._padded[0]) + columns * (self.size[1] / 2 / self._padded[1])
        amplitudes: Spectrum = self._spectrum[rows, columns] * np.exp(2j * np.pi * turns) * is_there
        return amplitudes


def _weighted(picture: Image.Image) -> Plane:
    return weighted(*contrasts(picture))


def _smooth(side: int) -> int:
    """Return a length of at least `side` that is transformed fast."""
    step = 1 << max(0, side.bit_length() - 3)
    return -(-side // step) * step


def _windows(size: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """Return the parts of a picture of this size, whole tiles apart, those in the middle first."""
    width, height = size
    boxes = [
        (left, top, min(left + _WINDOW, width), min(top + _WINDOW, height))
        for top in range(0, height, _WINDOW)
        for left in range(0, width, _WINDOW)
    ]
    return sorted(boxes, key=lambda box: abs(box[0] + box[2] - width) + abs(box[1] + box[3] - height))
