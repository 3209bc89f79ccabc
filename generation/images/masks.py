"""Masks: which pixels of a picture may change, from what clients send to what is stored."""

import io
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import IO, Self

from PIL import Image, ImageOps

from generation.images import decoder, kinds
from generation.images.sizes import MAX_SIDE
from generation.inpainting import Box
from generation.parameters import InvalidField

OPAQUE_WARNING = "The mask has no transparent part, so what is white in it may change."
FULL_WARNING = "The mask lets all of the picture change, so it counts as none."

_AT_ONCE = 128
"""How many pixels along a side become one at a time: one of so many is still a level of 255."""


@dataclass(frozen=True)
class Mask:
    """A mask: `picture`, of mode 1, is white where the picture may change.

    `is_by_alpha` says whether the transparency of the upload decided, not its lightness.
    """

    picture: Image.Image
    is_by_alpha: bool = False

    @classmethod
    def from_file(cls, content: bytes) -> Self:
        """Return a stored mask."""
        return cls(Image.open(io.BytesIO(content)).convert("1"))

    @property
    def size(self) -> tuple[int, int]:
        return self.picture.size

    @property
    def is_empty(self) -> bool:
        """Return whether nothing may change."""
        return self.picture.getbbox() is None

    @property
    def is_full(self) -> bool:
        """Return whether all may change."""
        return self.picture.getextrema() == (255, 255)

    @property
    def open_share(self) -> float:
        """Return how much may change, above 0 to 1."""
        return self.picture.histogram()[255] / (self.size[0] * self.size[1])

    @cached_property
    def content(self) -> bytes:
        """The file that is stored: a PNG of one bit for each pixel."""
        encoded = io.BytesIO()
        self.picture.save(encoded, "PNG")
        return encoded.getvalue()

    @property
    def sha256(self) -> str:
        """Return the hex digest of `content`."""
        return sha256(self.content).hexdigest()

    def open_box(self, size: tuple[int, int]) -> Box:
        """Return the box of all that may change in a picture of this size."""
        (width, height), (own_width, own_height) = size, self.size
        left, upper, right, lower = self.picture.getbbox() or (0, 0, 0, 0)
        return (
            left * width // own_width,
            upper * height // own_height,
            -(-right * width // own_width),
            -(-lower * height // own_height),
        )

    def fitted(self, size: tuple[int, int]) -> Self:
        """Return the mask for a picture of this size: a pixel of it may change if any whose middle is in it may."""
        if self.size == size:
            return self
        grey = self.picture.convert("L")
        for axis in (0, 1):
            # Each step makes a multiple of the pixels that are left at last, so that their edges stay where they are.
            while grey.size[axis] != size[axis]:
                length = size[axis] * max(1, -(-grey.size[axis] // (_AT_ONCE * size[axis])))
                shape = (length, grey.height) if axis == 0 else (grey.width, length)
                grey = _any(grey.resize(shape, Image.Resampling.BOX))
        return type(self)(grey.convert("1"), self.is_by_alpha)

    def inverted(self) -> Self:
        """Return the mask of all that may not change."""
        return type(self)(ImageOps.invert(self.picture), self.is_by_alpha)


def read_mask(upload: IO[bytes], *, max_pixels: int) -> Mask:
    """Check and decode a mask: any picture that an upload may be. Raises `InvalidField` on `mask`, and nothing else."""
    upload.seek(0)
    content = upload.read()
    if not content:
        raise InvalidField("mask", f"The file is empty; send a {kinds.ALLOWED} picture")
    try:
        decoded = decoder.decode(content, max_pixels, MAX_SIDE, is_mask=True)
    except InvalidField as error:
        raise InvalidField("mask", error.message) from error
    return Mask(decoded.picture, decoded.is_transparent)


def empty_message(*, mask_invert: bool, has_openai_mask: bool) -> str:
    """Return what to tell about a mask that lets nothing change, with how to mark in it what may."""
    lightness = "black" if mask_invert else "white"
    part = "transparent" if mask_invert != has_openai_mask else "opaque"
    return (
        f"The mask lets nothing change: mark what may change in {lightness}, "
        f"or as the {part} part of a picture with transparency"
    )


def fitting_warning(mask: Mask, size: tuple[int, int]) -> list[str]:
    """Return a warning if the mask has not the size of the picture, which `size` is."""
    if mask.size == size:
        return []
    (width, height), (own_width, own_height) = size, mask.size
    shape = "" if own_width * height == own_height * width else ", which has another shape"
    return [f"The mask of {own_width} x {own_height} pixels was fitted to the picture of {width} x {height}{shape}."]


def _any(grey: Image.Image) -> Image.Image:
    """Return white for all that is not black."""
    return grey.point(lambda value: 255 if value else 0)
