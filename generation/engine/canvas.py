"""Scale and pad an input picture to a size that the model can process, and fit the result back."""

import numpy as np
from PIL import Image

from generation.recipes import Recipe

Box = tuple[int, int, int, int]


def pad(picture: Image.Image, recipe: Recipe) -> tuple[Image.Image, Box]:
    """Return `picture` as RGB, scaled to the drawn size of the recipe and padded to its canvas, and the box of the content.

    The box is (left, upper, right, lower) without the padding, in pixels. The padding mirrors the picture at its edges, so
    that the model sees no border.
    """
    drawn, (width, height) = recipe.drawn_size, recipe.canvas_size
    scaled = picture.convert("RGB")
    if scaled.size != drawn:
        scaled = scaled.resize(drawn, Image.Resampling.LANCZOS)
    left, upper = (width - drawn[0]) // 2, (height - drawn[1]) // 2
    box = (left, upper, left + drawn[0], upper + drawn[1])
    if (width, height) == drawn:
        return scaled, box
    margins = ((upper, height - box[3]), (left, width - box[2]), (0, 0))
    return Image.fromarray(np.pad(np.asarray(scaled), margins, mode="symmetric")), box


def fit_back(picture: Image.Image, recipe: Recipe, box: Box) -> Image.Image:
    """Return the part `box` of what the model made of the padded picture as RGB, in the size of the recipe's result."""
    if picture.mode == "RGBA":  # Qwen-Image 2.1 makes transparent pictures
        background = Image.new("RGB", picture.size, "white")
        background.paste(picture, mask=picture)
        picture = background
    if picture.size != recipe.canvas_size:
        # Some pipelines stretch their input to a size of their own choice; this is the way back.
        picture = picture.resize(recipe.canvas_size, Image.Resampling.LANCZOS)
    content = picture.crop(box)
    size = (recipe.width, recipe.height)
    return content if content.size == size else content.resize(size, Image.Resampling.LANCZOS)
