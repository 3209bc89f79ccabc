"""Masks of inpainting: white where a picture may change, and what is put back where it may not."""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from PIL import Image, ImageChops, ImageFilter

from generation.engine.previews import PREVIEW_SIDE
from generation.inpainting import Inpainting

_OPEN = 128
"""The least lightness that counts as white."""

_MAX_RADIUS = 254
"""The largest radius at which one white pixel within a mean of 8 bits is not rounded to black."""

_ANY = [0] + [255] * 255


@dataclass(frozen=True)
class MaskedPicture:
    """An upload of which only the white part of `mask` may change; RGB, and a mask of mode L and the same size."""

    picture: Image.Image
    mask: Image.Image
    inpainting: Inpainting

    @property
    def part(self) -> tuple[Image.Image, Image.Image]:
        """Return the part of the picture that is drawn, and that of the mask."""
        return self.picture.crop(self.inpainting.box), self.mask.crop(self.inpainting.box)

    def paste(self, drawn: Image.Image) -> Image.Image:
        """Return the upload with what was drawn of its part, RGB of the part's size; outside of the mask nothing changes."""
        result = self.picture.copy()
        result.paste(drawn, self.inpainting.box, self._opacity)
        return result

    def preview(self, drawn: Image.Image) -> Image.Image:
        """Return a preview of the upload from one of its drawn part."""
        small = self._reduced
        return small.paste(drawn.resize(small.inpainting.drawn_part, Image.Resampling.BICUBIC))

    @cached_property
    def _opacity(self) -> Image.Image:
        return fade_in(self.mask, self.inpainting.feather).crop(self.inpainting.box)

    @cached_property
    def _reduced(self) -> "MaskedPicture":
        """Return the same with the size of a preview, without feather."""
        scale = PREVIEW_SIDE / max(self.picture.size)
        width, height = (max(1, round(length * scale)) for length in self.picture.size)
        left, upper, right, lower = (round(edge * scale) for edge in self.inpainting.box)
        box = (min(left, width - 1), min(upper, height - 1), max(left + 1, right), max(upper + 1, lower))
        return MaskedPicture(
            self.picture.resize((width, height), Image.Resampling.LANCZOS),
            cover(self.mask, (width, height)),
            Inpainting(size=(width, height), box=box, feather=0),
        )


def cover(mask: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return the mask in another size, black and white: a pixel is white where any part of it is."""
    pixels = np.asarray(mask) >= _OPEN
    for axis, new in enumerate(reversed(size)):
        old = pixels.shape[axis]
        if old != new:
            pixels = np.logical_or.reduceat(pixels, np.arange(new) * old // new, axis=axis)
    return Image.fromarray(pixels.astype(np.uint8) * np.uint8(255))


def in_cells(mask: Image.Image, side: int) -> Image.Image:
    """Return a mask whose white parts are whole cells of this many pixels a side, as latents have them."""
    return cover(cover(mask, (mask.width // side, mask.height // side)), mask.size)


def fade_in(mask: Image.Image, feather: int) -> Image.Image:
    """Return how much of what is drawn is seen, 0 to 255: nothing outside of the mask, all in it but for its edge.

    It rises over `feather` pixels from the edge of the mask inwards, but faster where the mask is too thin for that, so that
    every part of it reaches 255. The edge of the picture is no edge of the mask.
    """
    opacity = Image.new("L", mask.size)
    binary = mask.point(lambda lightness: 255 * (lightness >= _OPEN))
    inner = binary.getbbox()
    if inner is None:
        return opacity
    box = (max(0, inner[0] - 1), max(0, inner[1] - 1), min(mask.width, inner[2] + 1), min(mask.height, inner[3] + 1))
    pending = binary = binary.crop(box)
    faded = Image.new("L", binary.size)
    radius = (feather + 1) // 2
    while radius and pending.getbbox():
        # Squares that fit into the mask and have room for the rise on all sides; the rest of it is thinner.
        thick = ImageChops.multiply(_grown(_shrunk(binary, 2 * radius), 2 * radius), pending)
        faded.paste(_shrunk(binary, radius).filter(ImageFilter.BoxBlur(radius)), mask=thick)
        pending = ImageChops.subtract(pending, thick)
        radius //= 4
    faded.paste(255, mask=pending)
    opacity.paste(faded, box)
    return opacity


def _grown(mask: Image.Image, radius: int) -> Image.Image:
    """Return the mask with a square of this radius around each white pixel."""
    while radius:
        step = min(radius, _MAX_RADIUS)
        for size in ((step, 0), (0, step)):
            mask = mask.filter(ImageFilter.BoxBlur(size)).point(_ANY)
        radius -= step
    return mask


def _shrunk(mask: Image.Image, radius: int) -> Image.Image:
    """Return the white pixels of a mask that have no black one in the square of this radius around them."""
    return ImageChops.invert(_grown(ImageChops.invert(mask), radius))
