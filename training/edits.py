"""The edits that the model learns, as functions of a picture, (height, width, 3) float32 in 0..1.

They are deterministic and local, so that a network can learn them: flakes and drops lie where the picture says. Grids have
periods of 8 or 16 px from the upper left corner, since a value of the UNet's coarsest level is 16 px of the picture.
"""

from collections.abc import Callable

import numpy as np

from training.filters import (
    Picture,
    blur,
    box,
    cells,
    edges,
    gradient_map,
    grey,
    guided_filter,
    kuwahara,
    luma,
    saturate,
    shift,
    smear,
    smoothstep,
)

Colour = tuple[float, float, float]


def apply(name: str, picture: Picture) -> Picture:
    """Apply the edit `name` of EDITS, clipped to 0..1. Raises KeyError."""
    return np.clip(EDITS[name](picture), 0, 1).astype(np.float32)


def pencil(picture: Picture) -> Picture:
    """Graphite on white: brightness divided by its blurred self (colour dodge of the negative), darker in shadows."""
    brightness = luma(picture)
    lines = np.clip(brightness / (blur(brightness, 3.5) + 0.02), 0, 1) ** 2.2
    return grey(0.12 + 0.86 * lines * (0.8 + 0.2 * smoothstep(brightness, 0, 0.7)))


def charcoal(picture: Picture) -> Picture:
    """Broad dark smudges on buff paper: wide edges and deepened shadows."""
    brightness = blur(luma(picture), 0.8)
    dark = 1 - smoothstep(brightness, 0.05, 0.6)
    stroke = np.clip(8 * edges(picture, 2.0), 0, 1)
    cover = np.clip(0.85 * dark + 0.9 * stroke, 0, 1)[..., None]
    return cover * _tuple(0.10, 0.09, 0.09) + (1 - cover) * _tuple(0.93, 0.86, 0.74)


def ink(picture: Picture) -> Picture:
    """Black lines on white: difference of Gaussians with a steep threshold (Winnemöller, XDoG, 2011)."""
    brightness = luma(picture)
    fine = blur(brightness, 1.0)
    difference = fine - 0.96 * blur(brightness, 2.6)
    return grey(np.where(fine < 0.13, 0, np.clip(0.5 + 18 * (difference - 0.006), 0, 1)))


def oil(picture: Picture) -> Picture:
    """Flat strong strokes under an old varnish: Kuwahara filter twice, colours and contrast raised, warmed."""
    flat = saturate(kuwahara(kuwahara(picture, 6), 4), 1.45)
    return ((flat - 0.5) * 1.2 + 0.45) * _tuple(1.12, 0.98, 0.78)


def van_gogh(picture: Picture) -> Picture:
    """Starry night: strokes along the edges (line integral convolution), dark ones blue, bright ones yellow, with bristles."""
    strokes = saturate(smear(picture, 7, luma(picture)), 1.5)
    brightness = luma(strokes)[..., None]
    warmth = smoothstep(brightness, 0.3, 0.7)
    tint = _tuple(0.6, 0.85, 1.35) * (1 - warmth) + _tuple(1.15, 1, 0.55) * warmth
    paint = (_tuple(0.05, 0.2, 0.6) * (1 - warmth) + _tuple(1, 0.85, 0.25) * warmth) * (0.55 + 0.7 * brightness)
    return (0.45 * strokes * tint + 0.55 * paint) * (1 + 0.3 * _strokes(picture)[..., None])


def watercolour(picture: Picture) -> Picture:
    """Pale washes that darken at their rims: Kuwahara filter, lightened, edges darkened."""
    wash = kuwahara(blur(picture, 1.2), 6)
    rim = np.clip(1.2 * edges(wash, 1.0), 0, 0.22)[..., None]
    return 0.3 + 0.7 * np.clip(saturate(wash, 1.1), 0, 1) ** 0.8 - rim


def cartoon(picture: Picture) -> Picture:
    """Few flat bright colours with black outlines: guided filter, brightness in five steps, thresholded edges."""
    flat = np.clip(saturate(guided_filter(picture, 4, 0.01), 1.5), 0, 1)
    brightness = luma(flat)
    stepped = flat * ((np.floor(brightness * 5) + 0.5) / 5 / (brightness + 0.03))[..., None] * 0.9 + 0.08
    return np.clip(stepped, 0, 1) * (1 - 0.92 * smoothstep(edges(picture, 1.1), 0.045, 0.1))[..., None]


def pixel_art(picture: Picture) -> Picture:
    """Blocks of 8 px in six steps of brightness, each in the strengthened hue of its place."""
    blocks = np.clip(saturate(cells(picture, _squares(picture, 8)), 1.5), 0, 1)
    brightness = luma(blocks)
    stepped = (np.floor(brightness * 6) + 0.5) / 6
    return blocks * ((stepped + 0.02) / (brightness + 0.02))[..., None]


def mosaic(picture: Picture) -> Picture:
    """Square tiles of 16 px with dark joints and a lit upper left rim."""
    tiles = np.clip(saturate(cells(picture, _squares(picture, 16)), 1.4), 0, 1)
    rows, columns = (axis % 16 for axis in np.indices(picture.shape[:2]))
    tiles[(rows == 2) | (columns == 2)] += 0.15
    tiles[(rows < 2) | (columns < 2)] = (0.16, 0.15, 0.15)
    return tiles


def stained_glass(picture: Picture) -> Picture:
    """Glowing diamond panes (lattice of 16 px) in leads of 2 px."""
    rows, columns = np.indices(picture.shape[:2])
    falling, rising = rows + columns, rows - columns + 16 * (picture.shape[1] // 16 + 1)
    panes = cells(picture, (falling // 16) * (rising.max() // 16 + 1) + rising // 16)
    glass = np.clip(saturate(0.12 + 1.05 * (0.75 * panes + 0.25 * picture), 2.2), 0, 1)
    glass[(falling % 16 < 2) | (rising % 16 < 2)] = 0.04
    return glass


def halftone(picture: Picture) -> Picture:
    """Comic print: flat light colours under black dots on a grid of 8 px whose size follows the darkness."""
    dark = 1 - luma(cells(picture, _squares(picture, 8)))
    rows, columns = (axis % 8 - 3.5 for axis in np.indices(picture.shape[:2]))
    radius = 4.6 * np.sqrt(dark)
    dots = smoothstep(radius - np.sqrt(rows * rows + columns * columns), -0.7, 0.7)[..., None]
    colour = 0.45 + 0.55 * np.clip(saturate(blur(picture, 1.5), 2.5), 0, 1)
    return colour * (1 - 0.95 * dots)


def pop_art(picture: Picture) -> Picture:
    """Screen print in five loud inks by brightness."""
    inks = np.array(
        [(0.16, 0.05, 0.45), (0.9, 0.08, 0.5), (1, 0.45, 0.1), (1, 0.9, 0.15), (0.25, 0.9, 0.95)],
        np.float32,
    )
    level = np.clip((blur(luma(picture), 1.0) - 0.5) * 1.25 + 0.5, 0, 0.999)
    return inks[(level * 5).astype(int)]


def neon(picture: Picture) -> Picture:
    """Edges as glowing tubes in the picture's own hues on black."""
    tubes = np.clip(9 * edges(picture, 1.0), 0, 1)
    hue = blur(picture, 2)
    hue = np.clip(saturate(hue / (hue.max(axis=2, keepdims=True) + 0.05), 2.2), 0, 1)
    light = 0.04 + hue * (tubes + 0.8 * blur(tubes, 3))[..., None] + 0.5 * smoothstep(tubes, 0.55, 1)[..., None]
    return light * _tuple(1, 0.9, 1.1)


def blueprint(picture: Picture) -> Picture:
    """White lines on draughtsman's blue."""
    lines = smoothstep(edges(picture, 0.9), 0.012, 0.075)[..., None]
    ground = _tuple(0.05, 0.2, 0.52) * (0.8 + 0.4 * blur(luma(picture), 1.5)[..., None])
    return ground * (1 - lines) + _tuple(0.88, 0.94, 1) * lines


def emboss(picture: Picture) -> Picture:
    """Grey relief lit from the upper left: difference of the picture shifted both ways along the diagonal."""
    brightness = blur(luma(picture), 0.7)
    return grey(0.5 - 1.6 * (shift(brightness, 1, 1) - shift(brightness, -1, -1)))


def gold(picture: Picture) -> Picture:
    """Polished gold: brightness through a curve that reflects dark and bright bands."""
    bands = [(0, (0.10, 0.05, 0.0)), (0.22, (0.85, 0.58, 0.10)), (0.42, (0.36, 0.20, 0.02))]
    bands += [(0.66, (1.0, 0.80, 0.25)), (0.8, (0.72, 0.48, 0.08)), (1, (1.0, 0.97, 0.70))]
    return gradient_map(blur(luma(picture), 1.2), bands)


def silver(picture: Picture) -> Picture:
    """Chrome: brightness through a curve that reflects dark and bright bands, cold grey."""
    bands = [(0, (0.05, 0.06, 0.08)), (0.22, (0.78, 0.82, 0.88)), (0.42, (0.22, 0.24, 0.28))]
    bands += [(0.66, (0.90, 0.93, 0.97)), (0.8, (0.45, 0.48, 0.54)), (1, (1.0, 1.0, 1.0))]
    return gradient_map(blur(luma(picture), 1.2), bands)


def black_and_white(picture: Picture) -> Picture:
    """Brightness with a little more contrast."""
    return grey((luma(picture) - 0.5) * 1.1 + 0.5)


def noir(picture: Picture) -> Picture:
    """High contrast film: nearly only black and white."""
    return grey(0.02 + 0.96 * smoothstep(luma(picture), 0.3, 0.6))


def sepia(picture: Picture) -> Picture:
    """Brightness in browns."""
    return gradient_map(luma(picture), [(0, (0.13, 0.08, 0.04)), (0.5, (0.56, 0.42, 0.27)), (1, (1, 0.92, 0.76))])


def vintage(picture: Picture) -> Picture:
    """A faded print: pale colours, lifted blacks, yellowed."""
    return (0.16 + 0.7 * saturate(picture, 0.62)) * _tuple(1.1, 1, 0.84) + _tuple(0.02, 0, 0.03)


def night(picture: Picture) -> Picture:
    """Day for night: dark, blue, only the brightest spots left as lights."""
    dark = np.clip(saturate(picture, 0.45), 0, 1) ** 1.25 * _tuple(0.2, 0.28, 0.52) + _tuple(0.01, 0.02, 0.06)
    return dark + 0.1 * smoothstep(luma(picture), 0.88, 1)[..., None]


def sunset(picture: Picture) -> Picture:
    """Evening light: shadows violet, middle orange, highlights yellow."""
    stops = [(0, (0.14, 0.04, 0.16)), (0.35, (0.62, 0.2, 0.2)), (0.7, (1, 0.58, 0.22)), (1, (1, 0.9, 0.55))]
    return 0.35 * picture * _tuple(1.15, 0.85, 0.6) + 0.65 * gradient_map(luma(picture), stops)


def snow(picture: Picture) -> Picture:
    """Winter: colours gone, bright areas covered with white, flakes large and small."""
    cold = saturate(picture, 0.25) * _tuple(0.92, 0.98, 1.06)
    cover = 0.72 * smoothstep(blur(luma(picture), 1.0), 0.18, 0.62)[..., None]
    ground = (cold * (1 - cover) + _tuple(0.93, 0.96, 1) * cover) * 0.86
    large, small = _places(picture)
    flakes = np.clip(18 * blur(large, 1.6) + 5 * blur(small, 0.9), 0, 1)[..., None]
    return ground * (1 - flakes) + flakes


def rain(picture: Picture) -> Picture:
    """A grey wet day: dark and dull, with slanting streaks."""
    dull = np.clip(saturate(blur(picture, 0.8), 0.4), 0, 1) ** 1.15 * _tuple(0.62, 0.68, 0.74) + 0.06
    large, small = _places(picture)
    drops = large + 0.4 * small
    streaks = sum(
        (shift(drops, 2 * step + half, -step) for step in range(-4, 4) for half in (0, 1)), np.zeros_like(drops)
    )
    return dull + 0.34 * np.clip(blur(streaks, 0.5), 0, 1)[..., None]


def fog(picture: Picture) -> Picture:
    """Everything pale behind a grey veil."""
    return 0.3 * blur(saturate(picture, 0.45), 1.6) + 0.88 * _tuple(0.7, 0.72, 0.74)


def underwater(picture: Picture) -> Picture:
    """Light through water: red absorbed, a teal veil."""
    return 0.68 * blur(picture, 0.8) * _tuple(0.3, 0.95, 0.9) + 0.32 * _tuple(0.0, 0.62, 0.66)


def autumn(picture: Picture) -> Picture:
    """Greens turned to orange, the light warmer."""
    green = np.clip(picture[..., 1] - 0.55 * picture[..., 2] - 0.35 * picture[..., 0] + 0.02, 0, 1)
    leaves = smoothstep(green, 0.02, 0.16)[..., None]
    orange = np.clip(luma(picture)[..., None] * _tuple(1.55, 0.82, 0.25), 0, 1)
    return saturate(picture * (1 - leaves) + orange * leaves, 1.1) * _tuple(1.14, 0.97, 0.74)


def negative(picture: Picture) -> Picture:
    """One minus the picture."""
    return 1 - picture


def thermal(picture: Picture) -> Picture:
    """A heat camera's colours by brightness."""
    stops = [(0, (0.02, 0.0, 0.15)), (0.2, (0.3, 0.0, 0.6)), (0.4, (0.85, 0.1, 0.45))]
    stops += [(0.6, (1, 0.45, 0.05)), (0.8, (1, 0.85, 0.1)), (1, (1, 1, 0.9))]
    return gradient_map(luma(picture), stops)


def brighter(picture: Picture) -> Picture:
    """Gamma 0.55 with a little more colour."""
    return saturate(picture**0.55, 1.15) * 1.04 + 0.02


def darker(picture: Picture) -> Picture:
    """Gamma 1.35 at half the light."""
    return picture**1.35 * 0.5


def colder(picture: Picture) -> Picture:
    """Less red and colour, more blue."""
    return saturate(picture, 0.7) * _tuple(0.72, 0.95, 1.22) + _tuple(0, 0.01, 0.05)


def vivid(picture: Picture) -> Picture:
    """Nearly twice the colour, more contrast."""
    return saturate((picture - 0.5) * 1.12 + 0.5, 1.9)


def blurred(picture: Picture) -> Picture:
    """Gaussian blur of 3.5 px."""
    return blur(picture, 3.5)


def dreamy(picture: Picture) -> Picture:
    """Orton's glow: the picture screened with its own blur, rosy lights."""
    glow = 1 - (1 - 0.75 * picture) * (1 - 0.7 * blur(picture, 5))
    return saturate(glow, 1.25) * _tuple(1.06, 0.94, 1.04) + _tuple(0.04, 0, 0.03)


def _tint(colour: Colour) -> Callable[[Picture], Picture]:
    """Duotone: black over the colour at middle brightness to white."""

    def tint(picture: Picture) -> Picture:
        dark, full = _tuple(*colour) * 0.12, _tuple(*colour)
        level = np.clip((luma(picture) - 0.5) * 1.1 + 0.5, 0, 1)[..., None]
        return np.where(level < 0.5, dark + (full - dark) * level * 2, full + (1 - full) * 0.85 * (level * 2 - 1))

    return tint


def _tuple(red: float, green: float, blue: float) -> Picture:
    return np.array([red, green, blue], np.float32)


def _squares(picture: Picture, side: int) -> Picture:
    rows, columns = np.indices(picture.shape[:2])
    return rows // side * (picture.shape[1] // side + 1) + columns // side


def _places(picture: Picture) -> tuple[Picture, Picture]:
    """Return where flakes or drops lie, 1 there and else 0: large ones, and small ones.

    Each square of 16 px has a small one in its darkest quarter, and one in its brightest quarter, which is large if the
    square is brighter than those around it. So the places are irregular and yet can be learned.
    """
    height, width = picture.shape[:2]
    padded = np.pad(luma(picture), [(0, -height % 16), (0, -width % 16)], mode="edge")
    rows, columns = padded.shape[0] // 16, padded.shape[1] // 16
    quarters = (
        padded.reshape(rows, 2, 8, columns, 2, 8).mean(axis=(2, 5)).transpose(0, 2, 1, 3).reshape(rows, columns, 4)
    )
    squares = quarters.mean(axis=2)
    places = np.zeros((2, *padded.shape), np.float32)
    row, column = np.indices((rows, columns))
    for quarter, size, offset in (
        (quarters.argmax(axis=2), np.where(squares > box(squares, 1), 0, 1), (4, 4)),
        (quarters.argmin(axis=2), 1, (2, 6)),
    ):
        below, right = np.divmod(quarter, 2)
        places[size, 16 * row + 8 * below + offset[0], 16 * column + 8 * right + offset[1]] = 1
    return places[0, :height, :width], places[1, :height, :width]


def _strokes(picture: Picture) -> Picture:
    """Return the bristles of strokes along the edges, -1 to 1: a pattern that repeats every 16 px, smeared."""
    pattern = np.random.default_rng(1889).normal(size=(16, 16)).astype(np.float32)
    height, width = picture.shape[:2]
    tiled = np.tile(pattern, (height // 16 + 1, width // 16 + 1))[:height, :width]
    return np.clip(1.6 * smear(tiled, 7, luma(picture)), -1, 1)


EDITS: dict[str, Callable[[Picture], Picture]] = {
    "pencil": pencil,
    "charcoal": charcoal,
    "ink": ink,
    "oil": oil,
    "van_gogh": van_gogh,
    "watercolour": watercolour,
    "cartoon": cartoon,
    "pixel_art": pixel_art,
    "mosaic": mosaic,
    "stained_glass": stained_glass,
    "halftone": halftone,
    "pop_art": pop_art,
    "neon": neon,
    "blueprint": blueprint,
    "emboss": emboss,
    "gold": gold,
    "silver": silver,
    "black_and_white": black_and_white,
    "noir": noir,
    "sepia": sepia,
    "vintage": vintage,
    "night": night,
    "sunset": sunset,
    "snow": snow,
    "rain": rain,
    "fog": fog,
    "underwater": underwater,
    "autumn": autumn,
    "negative": negative,
    "thermal": thermal,
    "brighter": brighter,
    "darker": darker,
    "colder": colder,
    "vivid": vivid,
    "blurred": blurred,
    "dreamy": dreamy,
    "red": _tint((0.8, 0.12, 0.12)),
    "green": _tint((0.15, 0.62, 0.2)),
    "blue": _tint((0.14, 0.32, 0.85)),
    "purple": _tint((0.55, 0.18, 0.75)),
}
