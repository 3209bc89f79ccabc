"""The colour spaces that files name by numbers: code points of ITU-T H.273, or chromaticities and gamma."""

from dataclasses import dataclass
from typing import Literal

Chromaticities = tuple[float, float, float, float, float, float, float, float]
"""x and y of white, red, green and blue, in the order of PNG's chunk cHRM."""

Curve = tuple[float, float, float, float, float]
"""g, a, b, c, d of ICC.1:2022, section 10.18, function type 3: light is (a v + b) ** g from the value d on, c v below."""

Transfer = Curve | Literal["PQ", "HLG"]

Vector = tuple[float, float, float]
Matrix = tuple[Vector, Vector, Vector]

_D65 = (0.3127, 0.329)
_C = (0.31, 0.316)
_BT709 = (*_D65, 0.64, 0.33, 0.3, 0.6, 0.15, 0.06)
BT2020 = (*_D65, 0.708, 0.292, 0.17, 0.797, 0.131, 0.046)
_SMPTE170M = (*_D65, 0.63, 0.34, 0.31, 0.595, 0.155, 0.07)

# ITU-T H.273 (07/2024), Table 2.
PRIMARIES: dict[int, Chromaticities] = {
    1: _BT709,
    4: (*_C, 0.67, 0.33, 0.21, 0.71, 0.14, 0.08),
    5: (*_D65, 0.64, 0.33, 0.29, 0.6, 0.15, 0.06),
    6: _SMPTE170M,
    7: _SMPTE170M,
    8: (*_C, 0.681, 0.319, 0.243, 0.692, 0.145, 0.049),
    9: BT2020,
    10: (1 / 3, 1 / 3, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0),
    11: (0.314, 0.351, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    12: (*_D65, 0.68, 0.32, 0.265, 0.69, 0.15, 0.06),
    22: (*_D65, 0.63, 0.34, 0.295, 0.605, 0.155, 0.077),
}

SRGB_CURVE = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)
_BT1886_CURVE = (2.4, 1, 0, 0, 0)

# ITU-T H.273 (07/2024), Table 3; where that is a camera's curve, the screen's, of ITU-R BT.1886.
TRANSFERS: dict[int, Transfer] = {
    1: _BT1886_CURVE,
    4: (2.2, 1, 0, 0, 0),
    5: (2.8, 1, 0, 0, 0),
    6: _BT1886_CURVE,
    7: (1 / 0.45, 1 / 1.1115, 0.1115 / 1.1115, 1 / 4, 0.0912),
    8: (1, 1, 0, 0, 0),
    11: _BT1886_CURVE,
    13: SRGB_CURVE,
    14: _BT1886_CURVE,
    15: _BT1886_CURVE,
    16: "PQ",
    17: (2.6, (52.37 / 48) ** (1 / 2.6), 0, 0, 0),
    18: "HLG",
}

_BRADFORD: Matrix = ((0.8951, 0.2664, -0.1614), (-0.7502, 1.7135, 0.0367), (0.0389, -0.0685, 1.0296))
"""From XYZ to the responses of the eye's cones (ICC.1:2022, Annex E)."""

D50 = (0.9642, 1.0, 0.8249)
"""XYZ of the white of ICC profiles (ICC.1:2022, section 7.2.16)."""


@dataclass(frozen=True)
class ColourSpace:
    """An RGB space: its chromaticities, and how its values become light."""

    chromaticities: Chromaticities
    transfer: Transfer


SRGB = ColourSpace(_BT709, SRGB_CURVE)


def from_code_points(primaries: int, transfer: int) -> ColourSpace | None:
    """Return the space of these code points, or none if they name none."""
    if primaries in PRIMARIES and transfer in TRANSFERS:
        return ColourSpace(PRIMARIES[primaries], TRANSFERS[transfer])
    return None


def from_gamma(gamma: float, chromaticities: Chromaticities | None) -> ColourSpace:
    """Return the space of PNG's gAMA and cHRM; `gamma` is the exponent from light to values.

    Without chromaticities they are those of sRGB, and a gamma within 5 % of 1/2.2 stands for sRGB itself. Raises `ValueError`
    for a gamma of 0.
    """
    if not gamma:
        raise ValueError("gamma is 0")
    if chromaticities is None and abs(gamma * 2.2 - 1) < 0.05:
        return SRGB
    return ColourSpace(chromaticities or SRGB.chromaticities, (1 / gamma, 1, 0, 0, 0))


def to_d50(chromaticities: Chromaticities) -> Matrix:
    """Return the matrix from linear RGB to XYZ, with white adapted to D50.

    Raises `ValueError` if the chromaticities span no space.
    """
    white_x, white_y, *primaries = chromaticities
    if not white_y:
        raise ValueError("white has no luminance")
    white = (white_x / white_y, 1.0, (1 - white_x - white_y) / white_y)
    xs, ys = primaries[::2], primaries[1::2]
    unscaled: Matrix = (
        (xs[0], xs[1], xs[2]),
        (ys[0], ys[1], ys[2]),
        (1 - xs[0] - ys[0], 1 - xs[1] - ys[1], 1 - xs[2] - ys[2]),
    )
    to_xyz = product(unscaled, _diagonal(apply(inverse(unscaled), white)))
    cones, d50_cones = apply(_BRADFORD, white), apply(_BRADFORD, D50)
    if not all(cones):
        raise ValueError("white is no colour that eyes see")
    scales = (d50_cones[0] / cones[0], d50_cones[1] / cones[1], d50_cones[2] / cones[2])
    return product(product(inverse(_BRADFORD), product(_diagonal(scales), _BRADFORD)), to_xyz)


def product(left: Matrix, right: Matrix) -> Matrix:
    columns = [apply(left, (right[0][i], right[1][i], right[2][i])) for i in range(3)]
    first, second, third = zip(*columns, strict=True)
    return first, second, third


def apply(matrix: Matrix, vector: Vector) -> Vector:
    x, y, z = vector
    first, second, third = (row[0] * x + row[1] * y + row[2] * z for row in matrix)
    return first, second, third


def inverse(matrix: Matrix) -> Matrix:
    """Raise `ValueError` if there is none."""
    (a, b, c), (d, e, f), (g, h, i) = matrix
    determinant = a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g)
    if abs(determinant) < 1e-9:
        raise ValueError("the matrix has no inverse")
    s = 1 / determinant
    return (
        ((e * i - f * h) * s, (c * h - b * i) * s, (b * f - c * e) * s),
        ((f * g - d * i) * s, (a * i - c * g) * s, (c * d - a * f) * s),
        ((d * h - e * g) * s, (b * g - a * h) * s, (a * e - b * d) * s),
    )


def _diagonal(values: Vector) -> Matrix:
    x, y, z = values
    return (x, 0, 0), (0, y, 0), (0, 0, z)
