"""Blurring of pictures so that nothing can be recognised."""

from PIL import Image

_SIDE = 8
"""Longest side in pixels to which the picture is reduced before it is enlarged again."""


def blurred(picture: Image.Image) -> Image.Image:
    """Return a grey RGB copy of the same size in which nothing can be recognised."""
    small = picture.convert("L")
    small.thumbnail((_SIDE, _SIDE))
    return small.resize(picture.size, Image.Resampling.BICUBIC).convert("RGB")
