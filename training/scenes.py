"""Synthetic pictures in addition to the photos: smooth gradients, shapes, text and clutter, which photos rarely have."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

_WORDS = ["HELLO", "Sale", "open", "2026", "Cafe", "Hotel", "exit", "No 7", "Paris", "menu", "abc", "park"]


def draw_scene(side: int, random: np.random.Generator) -> Image.Image:
    """Draw a random RGB picture of `side` x `side` pixels: a background with shapes, text or soft blobs."""
    scene = _gradient(side, random)
    kind = random.integers(4)
    if kind == 0:
        _shapes(scene, int(random.integers(3, 25)), random)
    elif kind == 1:
        _shapes(scene, int(random.integers(2, 6)), random)
        _text(scene, random)
    elif kind == 2:
        _landscape(scene, random)
    else:
        _shapes(scene, int(random.integers(3, 12)), random)
        scene = scene.filter(ImageFilter.GaussianBlur(float(random.uniform(1, side / 20))))
        _shapes(scene, int(random.integers(0, 3)), random)
    return scene


def _colour(random: np.random.Generator) -> tuple[int, int, int]:
    red, green, blue = colorsys.hsv_to_rgb(random.random(), random.random() ** 1.3, 0.1 + 0.9 * random.random())
    return int(red * 255), int(green * 255), int(blue * 255)


def _gradient(side: int, random: np.random.Generator) -> Image.Image:
    corners = np.array([[_colour(random), _colour(random)], [_colour(random), _colour(random)]], np.uint8)
    if random.random() < 0.4:  # a sky: one gradient from top to bottom
        corners[:, 1] = corners[:, 0]
    return Image.fromarray(corners).resize((side, side), Image.Resampling.BICUBIC)


def _shapes(scene: Image.Image, count: int, random: np.random.Generator) -> None:
    draw = ImageDraw.Draw(scene)
    for _ in range(count):
        centre, radius = random.uniform(0, scene.width, 2), scene.width * random.uniform(0.03, 0.3)
        corners = int(random.choice([3, 4, 4, 5, 6, 40]))
        turns = random.uniform(0, 2 * np.pi) + np.arange(corners) / corners * 2 * np.pi
        stretch = random.uniform(0.4, 1, 2)
        points = [
            (float(x), float(y)) for x, y in centre + radius * stretch * np.stack([np.cos(turns), np.sin(turns)], 1)
        ]
        outline = _colour(random) if random.random() < 0.3 else None
        draw.polygon(points, fill=_colour(random), outline=outline, width=int(random.integers(1, 4)))


def _text(scene: Image.Image, random: np.random.Generator) -> None:
    draw = ImageDraw.Draw(scene)
    for _ in range(int(random.integers(1, 4))):
        size = scene.width * random.uniform(0.1, 0.35)
        at = float(random.uniform(0, scene.width * 0.7)), float(random.uniform(0, scene.width * 0.7))
        draw.text(at, _WORDS[random.integers(len(_WORDS))], fill=_colour(random), font=ImageFont.load_default(size))


def _landscape(scene: Image.Image, random: np.random.Generator) -> None:
    """Draw ranges of hills as sums of sines, each nearer and darker."""
    draw = ImageDraw.Draw(scene)
    columns = np.arange(scene.width + 1)
    for layer in range(int(random.integers(2, 5))):
        waves, heights = random.uniform((2, 0, 0.01), (25, 6, 0.06), (4, 3)), np.zeros(len(columns))
        for frequency, phase, height in waves:
            heights += height * scene.width * np.sin(columns / scene.width * frequency + phase)
        line = scene.width * (0.35 + 0.15 * layer) + heights
        points = [(float(x), float(y)) for x, y in zip(columns, line, strict=True)]
        draw.polygon([*points, (scene.width, scene.width), (0, scene.width)], fill=_colour(random))
