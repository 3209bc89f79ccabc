"""Measures the effect of the two guidance scales and of a negative prompt, as a plot for the model's card.

`python -m training.guidance DIRECTORY PLOT.svg --work DIR` runs every edit on some photos at several scales, and measures
how often the requested edit is the nearest, and how similar the result is to its target and to the photo.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline

from training.edits import EDITS, apply
from training.evaluate import RECOMMENDED, Settings, edit_all, load_model, middles
from training.filters import Picture
from training.instructions import PROMPTS
from training.stages import say, stage_parser

GUIDANCE = (1.0001, 1.5, 2.0, 2.5, 3.0, 4.0, 5.5, 7.5)
IMAGE_GUIDANCE = (1.0, 1.25, 1.5, 2.0, 2.5, 3.0)

_WIDTH, _HEIGHT, _MARGIN = 320, 200, 40
_COLOURS = ("#2a6fdb", "#d1495b", "#4a9e5c")


class Point(NamedTuple):
    """The results of all pairs of photo and edit at one setting."""

    scale: float
    nearest: float
    """Share of pairs whose asked edit is the nearest by pixels, in percent."""
    to_target: float
    """Mean PSNR to the classical target, in dB."""
    to_photo: float
    """Mean PSNR to the photo, in dB."""


def measure(
    pipeline: StableDiffusionInstructPix2PixPipeline, photos: Sequence[Picture], settings: Settings, scale: float
) -> Point:
    """Run every edit on every photo with `settings`. `scale` is the value on the axis of the plot."""
    hits, to_target, to_photo = [], [], []
    for photo in photos:
        targets = np.stack([apply(name, photo) for name in EDITS])
        for asked, edited in enumerate(edit_all(pipeline, photo, list(PROMPTS.values()), settings)):
            errors = np.square(targets - edited).mean(axis=(1, 2, 3))
            hits.append(int(errors.argmin()) == asked)
            to_target.append(_decibels(float(errors[asked])))
            to_photo.append(_decibels(float(np.square(edited - photo).mean())))
    point = Point(scale, 100 * float(np.mean(hits)), float(np.mean(to_target)), float(np.mean(to_photo)))
    say(
        f"{settings}: {point.nearest:.1f} %, {point.to_target:.1f} dB to the target, {point.to_photo:.1f} dB to the photo"
    )
    return point


def pushed_away(pipeline: StableDiffusionInstructPix2PixPipeline, photo: Picture) -> float:
    """Return the share of edits, in percent, that as negative prompt move the result of "a photo" away from their target."""
    negatives = list(PROMPTS.values())
    prompts = ["a photo"] * len(negatives)
    without = edit_all(pipeline, photo, prompts, RECOMMENDED)
    pushed = edit_all(pipeline, photo, prompts, RECOMMENDED, negatives)
    further = []
    for name, before, after in zip(PROMPTS, without, pushed, strict=True):
        target = apply(name, photo)
        further.append(np.square(after - target).mean() > np.square(before - target).mean())
    return 100 * float(np.mean(further))


def plot(panels: Sequence[tuple[str, Sequence[Point]]]) -> str:
    """Return an SVG: one panel for each scale, with a line for each measure in 0..100 (percent, or twice the dB)."""
    width = _WIDTH * len(panels)
    size = f'viewBox="0 0 {width} {_HEIGHT + 60}" font-family="sans-serif" font-size="11"'
    parts = [f'<svg xmlns="http://www.w3.org/2000/svg" {size}><rect width="100%" height="100%" fill="white"/>']
    for number, (title, points) in enumerate(panels):
        parts.append(f'<g transform="translate({number * _WIDTH} 0)">{_panel(title, points)}</g>')
    labels = ("asked edit nearest, %", "PSNR to the target, dB × 2", "PSNR to the photo, dB × 2")
    for number, (label, colour) in enumerate(zip(labels, _COLOURS, strict=True)):
        at = _MARGIN + number * 190
        parts.append(f'<text x="{at}" y="{_HEIGHT + 52}" fill="{colour}">{label}</text>')
    return "".join(parts) + "</svg>\n"


def _panel(title: str, points: Sequence[Point]) -> str:
    scales = [point.scale for point in points]
    low, high = min(scales), max(scales)

    def place(scale: float, value: float) -> str:
        x = _MARGIN + (scale - low) / (high - low) * (_WIDTH - 2 * _MARGIN)
        return f"{x:.1f},{_HEIGHT - value / 100 * (_HEIGHT - _MARGIN):.1f}"

    parts = [f'<text x="{_MARGIN}" y="20">{title}</text>']
    for value in (0, 25, 50, 75, 100):
        x, y = place(low, value).split(",")
        parts.append(f'<path d="M{x} {y}h{_WIDTH - 2 * _MARGIN}" stroke="#ddd"/>')
        parts.append(f'<text x="{_MARGIN - 6}" y="{float(y) + 4:.1f}" text-anchor="end">{value}</text>')
    for scale in scales:
        x = place(scale, 0).split(",")[0]
        parts.append(f'<text x="{x}" y="{_HEIGHT + 18}" text-anchor="middle">{scale:.3g}</text>')
    lines = zip(*[(point.nearest, 2 * point.to_target, 2 * point.to_photo) for point in points], strict=True)
    for colour, values in zip(_COLOURS, lines, strict=True):
        corners = " ".join(place(scale, min(value, 100)) for scale, value in zip(scales, values, strict=True))
        parts.append(f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="2"/>')
    return "".join(parts)


def _decibels(error: float) -> float:
    return -10 * float(np.log10(max(error, 1e-9)))


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("plot", type=Path)
    parser.add_argument("--photos", type=int, default=4, help="how many photos, of those trained on")
    parser.add_argument("--steps", type=int, default=RECOMMENDED.steps)
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.directory)
    known = list(middles(options.work, 128, "train").values())
    some = known[:: len(known) // options.photos][: options.photos]
    by_text = [measure(model, some, Settings(options.steps, scale), scale) for scale in GUIDANCE]
    by_image = [
        measure(model, some, Settings(options.steps, RECOMMENDED.guidance, scale), scale) for scale in IMAGE_GUIDANCE
    ]
    options.plot.write_text(plot([("guidance scale", by_text), ("image guidance scale", by_image)]))
    share = float(np.mean([pushed_away(model, photo) for photo in some]))
    say(f"a negative prompt leads away from its edit in {share:.0f} % of pairs")
