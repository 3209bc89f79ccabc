"""Bring the light of HDR pictures (PQ and HLG of ITU-R BT.2100-2) into the range of others, as Chromium does for a canvas."""

import math
from collections.abc import Iterator

from generation.images.colour_spaces import BT2020, ColourSpace, Vector, apply, inverse, product, to_d50

HDR_PEAK = 1000
"""Nits of the nominal display of ITU-R BT.2100-2, and of the brightest white of a picture that does not tell its own."""

SIDE = 33
"""Steps of each channel in the tables."""

_REFERENCE_WHITE = 203
"""Nits of a sheet of white paper (ITU-R BT.2408-7, section 2.1); light is given in multiples of it."""

# ITU-R BT.2100-2, Table 4.
_M1, _M2 = 2610 / 16384, 2523 / 4096 * 128
_C1, _C2, _C3 = 3424 / 4096, 2413 / 4096 * 32, 2392 / 4096 * 32

# ITU-R BT.2100-2, Table 5.
_A, _B, _C = 0.17883277, 0.28466892, 0.55991073
_GAMMA = 1.2
_LUMINANCE = (0.2627, 0.678, 0.0593)

_KNEE = 0.65
"""How closely the shoulder keeps to the line below it and to white: from 0 for a straight line to 1 for a corner."""


def tone_mapped(space: ColourSpace, peak: float) -> Iterator[Vector]:
    """Yield the colours of an HDR space, `SIDE` values of each channel, of which red changes last.

    They are XYZ for a white of D50, 1 for white; `peak` is the nits of the picture's brightest white. The three channels of
    BT.2020 are scaled by what `_Shoulder` makes of the brightest of them, so that hues stay.
    """
    to_xyz = to_d50(BT2020)
    to_bt2020 = product(inverse(to_xyz), to_d50(space.chromaticities))
    shoulder = _Shoulder(peak / _REFERENCE_WHITE)
    to_light = _pq_light if space.transfer == "PQ" else _hlg_light
    lights = [to_light(step / (SIDE - 1)) for step in range(SIDE)]
    for red in lights:
        for green in lights:
            for blue in lights:
                light = apply(to_bt2020, (red, green, blue))
                factor = _hlg_factor(light) if space.transfer == "HLG" else 1.0
                factor *= shoulder.gain(max(light) * factor)
                x, y, z = apply(to_xyz, light)
                yield x * factor, y * factor, z * factor


class _Shoulder:
    """The reference white tone mapping of SMPTE ST 2094-50 (clause C.3.8), for a display without headroom.

    Light up to reference white is scaled by a factor: 1/2 if the picture's peak is 1000 nits, 1 if it is reference white. From
    there a curve of Bezier leads to white, which the peak becomes.
    """

    def __init__(self, peak: float) -> None:
        """Take the picture's peak in multiples of reference white."""
        headroom = math.log2(max(1.0, peak)) / math.log2(HDR_PEAK / _REFERENCE_WHITE)
        self._peak = peak
        self._white = 1 - 0.5 * min(1.0, headroom)
        # The middle point lies between those where the line ends and where it would reach white.
        x, y = 1 - _KNEE + _KNEE / self._white, (1 - _KNEE) * self._white + _KNEE
        self._x = (peak - 2 * x + 1, 2 * (x - 1))
        self._y = (1 - 2 * y + self._white, 2 * (y - self._white))

    def gain(self, light: float) -> float:
        """Return the factor for a pixel whose brightest channel is `light`."""
        if light <= 1:
            return self._white
        if light >= self._peak:
            return 1 / light
        square, linear = self._x
        t = 2 * (light - 1) / (linear + math.sqrt(linear * linear + 4 * square * (light - 1)))
        return (self._white + t * (self._y[1] + t * self._y[0])) / light


def _pq_light(value: float) -> float:
    root = value ** (1 / _M2)
    return float((max(0.0, root - _C1) / (_C2 - _C3 * root)) ** (1 / _M1) * 10_000 / _REFERENCE_WHITE)


def _hlg_light(value: float) -> float:
    """Return the light of the scene, 0 to 1, by the inverse of the OETF."""
    return value * value / 3 if value <= 0.5 else (math.exp((value - _C) / _A) + _B) / 12


def _hlg_factor(scene: Vector) -> float:
    """Return the factor of the OOTF of a display of `HDR_PEAK` nits, for the light of the scene in BT.2020."""
    luminance = sum(weight * light for weight, light in zip(_LUMINANCE, scene, strict=True))
    return float(max(0.0, luminance) ** (_GAMMA - 1) * HDR_PEAK / _REFERENCE_WHITE)
