"""The pattern of a watermark: which frequencies of a tile a key chooses, and what is measured of them in a picture.

The pattern is a spread spectrum (Cox, Kilian, Leighton and Shamoon, IEEE Transactions on Image Processing 6, 1997) that repeats
in tiles (Honsinger and Rabbani, Data embedding using phase dispersion, 2000), so that what is left of a picture has whole ones.
"""

import hashlib
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt
from PIL import Image

from generation.images import watermark_code

TILE = 64
"""Width and height of the tile, in pixels of the picture that was marked."""

Plane = npt.NDArray[np.floating]
Spectrum = npt.NDArray[np.complexfloating]

_LEAST_CYCLES = 3
"""Below it pictures have too much of their own."""

_MOST_CYCLES = 15
"""Above it little is left of a picture of half the size, and of strong JPEG compression."""

_SYNC_SHARE = 0.25
"""The share of the frequencies whose phase the key alone determines: they tell where tiles are and how large."""

_RINGS = 4
"""Rings of frequencies whose strength in the picture is measured together."""

CELL = 8
"""Side of the cells in which the contrast of a picture is measured, in pixels."""

NOISE = 4.0
"""The contrast below which a part of a picture counts as flat, in levels of 255."""


@dataclass(frozen=True)
class Pattern:
    """The frequencies of a key: `u` and `v` are their cycles in a tile, to the right and downwards; u is positive.

    `phases` are complex numbers of size 1. `sync` and `data` number the frequencies of each use, in an order of the key.
    """

    u: npt.NDArray[np.int64]
    v: npt.NDArray[np.int64]
    phases: Spectrum
    sync: npt.NDArray[np.int64]
    data: npt.NDArray[np.int64]

    @cached_property
    def rings(self) -> npt.NDArray[np.int64]:
        """Return the ring of each frequency."""
        radius = np.hypot(self.u, self.v)
        return ((radius - _LEAST_CYCLES) * _RINGS / (_MOST_CYCLES + 1e-9 - _LEAST_CYCLES)).astype(np.int64)

    def signal(self, payload: bytes) -> Spectrum:
        """Return the complex amplitudes, of size 1, of a payload; without the key's phases."""
        signal = np.ones(len(self.u), np.complex128)
        coded = np.resize(watermark_code.encode(payload), 2 * len(self.data))
        signal[self.data] = (coded[0::2] + 1j * coded[1::2]) / np.sqrt(2)
        return signal

    def whitened(self, spectrum: Spectrum) -> Spectrum:
        """Return amplitudes (..., frequencies) without the key's phases, each ring scaled to a mean power of 1."""
        power = np.abs(spectrum) ** 2
        means = np.stack([power[..., self.rings == ring].mean(axis=-1) for ring in range(_RINGS)], axis=-1)
        whitened: Spectrum = spectrum / self.phases / np.sqrt(np.maximum(means, 1e-12))[..., self.rings]
        return whitened

    def soft_bits(self, whitened: Spectrum) -> npt.NDArray[np.float64]:
        """Return soft values of the coded bits from whitened amplitudes of a tile that begins at the origin."""
        values = whitened[self.data]
        dimensions = np.stack([values.real, values.imag], axis=1).ravel()
        numbers = np.arange(len(dimensions)) % watermark_code.CODED_BITS
        return np.bincount(numbers, dimensions, watermark_code.CODED_BITS).astype(np.float64)

    def moved(self, spectrum: Spectrum, right: float, down: float) -> Spectrum:
        """Return the amplitudes of a tile that begins so many tiles further right and down, measured from its beginning."""
        return spectrum * np.exp(2j * np.pi * (self.u * right + self.v * down))

    def tile(self, signal: Spectrum) -> Plane:
        """Return a tile with this signal, of mean square 1, for a key's owner to add."""
        return self.plane(signal * self.phases * np.sqrt(2 / len(signal))).astype(np.float32)

    def plane(self, spectrum: Spectrum, side: int = TILE) -> Plane:
        """Return one tile (..., side, side) with these complex amplitudes."""
        half = np.zeros((*spectrum.shape[:-1], side, side // 2 + 1), np.complex64)
        half[..., self.v, self.u] = spectrum / 2
        return np.fft.irfft2(half, (side, side)) * side * side

    def of_tile(self, tile: Plane) -> Spectrum:
        """Return the complex amplitudes of the frequencies in a tile."""
        return np.fft.rfft2(tile)[self.v, self.u]


@lru_cache(maxsize=8)
def pattern(key: bytes) -> Pattern:
    """Return the pattern of a key; it is the same in all versions."""
    side = np.arange(-_MOST_CYCLES, _MOST_CYCLES + 1)
    u, v = (axis.ravel() for axis in np.meshgrid(side, side))
    radius = np.hypot(u, v)
    chosen = (u > 0) & (radius >= _LEAST_CYCLES) & (radius <= _MOST_CYCLES)
    u, v = u[chosen], v[chosen]
    digest = hashlib.shake_256(b"watermark pattern" + key).digest(16 * len(u))
    order, angles = np.frombuffer(digest, ">u8").reshape(2, -1)
    ranked = np.argsort(order, kind="stable")
    split = round(_SYNC_SHARE * len(u))
    return Pattern(u, v, np.exp(2j * np.pi * (angles / 2**64)), ranked[:split], ranked[split:])


def contrasts(picture: Image.Image) -> tuple[Plane, Image.Image]:
    """Return the lightness of a picture as differences from its surroundings, and the contrast in each cell (mode F).

    Both are in levels of 255.
    """
    lightness = picture.convert("L").convert("F")
    cells = (-(-picture.width // CELL), -(-picture.height // CELL))
    mean = lightness.resize(cells, Image.Resampling.BOX).resize(picture.size, Image.Resampling.BICUBIC)
    differences = np.asarray(lightness) - np.asarray(mean)
    squares = np.asarray(Image.fromarray(differences * differences).resize(cells, Image.Resampling.BOX))
    return differences, Image.fromarray(np.sqrt(squares))


def per_pixel(cells: Image.Image, size: tuple[int, int]) -> Plane:
    """Return the values of cells for each pixel of a picture of this size."""
    return np.asarray(cells.resize(size, Image.Resampling.BILINEAR))


def weighted(differences: Plane, contrast: Image.Image) -> Plane:
    """Return the differences that `contrasts` found, divided by the power of the picture around each of them.

    So they are summed as a matched filter does for a pattern of one strength in noise of another power everywhere.
    """
    height, width = differences.shape
    plane: Plane = differences / (per_pixel(contrast, (width, height)) + np.float32(NOISE)) ** 2
    return plane


def folded(plane: Plane) -> Plane:
    """Return the sum of all tiles of a plane that begins with a whole one."""
    height, width = (-(-side // TILE) * TILE for side in plane.shape)
    padded = np.pad(plane, ((0, height - plane.shape[0]), (0, width - plane.shape[1])))
    tile: Plane = padded.reshape(height // TILE, TILE, width // TILE, TILE).sum(axis=(0, 2))
    return tile
