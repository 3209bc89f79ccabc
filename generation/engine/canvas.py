"""Scale and pad an input picture and its mask to a size that the model can process, and fit the result back."""

import numpy as np
from PIL import Image

from generation.engine.masks import cover
from generation.inpainting import Box
from generation.recipes import Recipe


def pad(picture: Image.Image, recipe: Recipe) -> tuple[Image.Image, Box]:
    """Return `picture` as RGB, scaled to the drawn size of the recipe and padded to its canvas, and the box of the content.

    The box is (left, upper, right, lower) without the padding, in pixels. The padding mirrors the picture at its edges, so
    that the model sees no border.
    """
    scaled = picture.convert("RGB")
    if scaled.size != recipe.drawn_size:
        scaled = scaled.resize(recipe.drawn_size, Image.Resampling.LANCZOS)
    box = _content_box(recipe)
    return _mirror_edges(scaled, recipe.canvas_size, box), box


def pad_mask(mask: Image.Image, recipe: Recipe) -> Image.Image:
    """Return a mask of what is drawn as `pad` does with the picture, black and white."""
    return _mirror_edges(cover(mask, recipe.drawn_size), recipe.canvas_size, _content_box(recipe))


def fit_back(picture: Image.Image, recipe: Recipe, box: Box) -> Image.Image:
    """Return the part `box` of what the model made of the padded picture as RGB, in the size of what it is drawn for."""
    if picture.mode == "RGBA":  # Qwen-Image 2.1 makes transparent pictures
        background = Image.new("RGB", picture.size, "white")
        background.paste(picture, mask=picture)
        picture = background
    if picture.size != recipe.canvas_size:
        # Some pipelines stretch their input to a size of their own choice; this is the way back.
        picture = picture.resize(recipe.canvas_size, Image.Resampling.LANCZOS)
    content = picture.crop(box)
    size = recipe.inpainting.drawn_part if recipe.inpainting else (recipe.width, recipe.height)
    return content if content.size == size else content.resize(size, Image.Resampling.LANCZOS)


def _content_box(recipe: Recipe) -> Box:
    drawn, canvas = recipe.drawn_size, recipe.canvas_size
    left, upper = (canvas[0] - drawn[0]) // 2, (canvas[1] - drawn[1]) // 2
    return left, upper, left + drawn[0], upper + drawn[1]


def _mirror_edges(picture: Image.Image, canvas: tuple[int, int], box: Box) -> Image.Image:
    """Return the picture padded to the canvas, where `box` is its place."""
    if picture.size == canvas:
        return picture
    margins = [(box[1], canvas[1] - box[3]), (box[0], canvas[0] - box[2]), (0, 0)]
    pixels = np.asarray(picture)
    return Image.fromarray(np.pad(pixels, margins[: pixels.ndim], mode="symmetric"))
