"""An imperceptible watermark: 64 bits in the lightness of a picture, which only who has the key can read.

A pattern that repeats in tiles is added, stronger where the picture has contrast of its own. The tiles begin where the picture
resembles the pattern most: of all patterns that say the same, this one needs the least change (informed coding: Miller, Doërr
and Cox, IEEE Transactions on Image Processing 13, 2004).
"""

from collections.abc import Iterator
from functools import cached_property
from io import BytesIO

import numpy as np
from PIL import Image, ImageFilter

from generation.images import watermark_code, watermark_search
from generation.images.watermark_pattern import (
    NOISE,
    TILE,
    Pattern,
    Plane,
    contrasts,
    folded,
    pattern,
    per_pixel,
    weighted,
)
from generation.images.watermark_payload import Payload, site_of
from generation.inpainting import Box

_STRENGTHS = (0.25, 0.35, 0.5)
"""Of the pattern, as a share of the picture's contrast around it: the first is taken that survives `_JPEG_QUALITY`."""

_JPEG_QUALITY = 35
"""Less than what users are promised, since they cut something off as well."""

_STRONGEST = 4.0
"""In levels of 255."""

_MAX_ERROR = 5.9
"""Mean squared change of the marked part, in levels of 255: 40.4 dB."""

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)
"""Of red, green and blue (ITU-R BT.601), as JPEG and Pillow weigh them."""

_STEP = _LUMA / (_LUMA @ _LUMA)
"""The smallest change of the three that makes a picture one level lighter."""

_BAND = 16 * TILE
"""Rows that are computed together, since all of a large photo would need gigabytes."""

_WHITE = [0] * 128 + [255] * 128

_HALVINGS = 16


def embed(image: Image.Image, payload: Payload, key: bytes, open_part: Image.Image | None = None) -> Image.Image:
    """Return an RGB picture with the payload, changed so little that the PSNR is at least 40 dB.

    `open_part` is a mask of the same size, mode L: nothing changes where it is black. A picture that is too small or too flat
    may not carry the payload: `read` tells.
    """
    opened = None if open_part is None else open_part.point(_WHITE)
    box = (0, 0, *image.size) if opened is None else opened.getbbox()
    marked = image.copy()
    if box is None:
        return marked
    chosen = pattern(key)
    bands = [_Band(image.crop(part), opened.crop(part) if opened else None, part) for part in _split(box)]
    signal = chosen.signal(payload.to_bytes())
    own = chosen.whitened(chosen.of_tile(np.sum([band.tile for band in bands], axis=0)))
    likeness = chosen.plane(own * signal.conj())
    down, right = np.unravel_index(likeness.argmax(), likeness.shape)
    tile = np.roll(chosen.tile(signal), (down, right), axis=(0, 1))
    for strength in _STRENGTHS:
        limit = _limit(bands, strength)
        for band in bands:
            marked.paste(band.marked(tile, strength, limit), band.box)
        # Nothing is stronger than the last one.
        if strength == _STRENGTHS[-1] or _survives(marked.crop(box), payload, chosen):
            break
    return marked


def read(image: Image.Image, key: bytes) -> Payload | None:
    """Return what the watermark of an RGB picture says. None: it has none that this key reads.

    The picture may be cropped, scaled, compressed, and surrounded by something else.
    """
    return next(readings(image, key), None)


def readings(image: Image.Image, key: bytes) -> Iterator[Payload]:
    """Yield what the watermarks of a picture say, as `read` does, some more than once. One in a part may lie over another."""
    chosen = pattern(key)
    for whitened in watermark_search.candidates(image, chosen):
        content = watermark_code.decode(chosen.soft_bits(whitened))
        # The site's own bits are known, so they are a second checksum.
        if content is not None and (payload := Payload.from_bytes(content)).site == site_of(key):
            yield payload


class _Band:
    """Some rows of a picture, at `box` in it; `opened` is white where they may change, None: everywhere."""

    def __init__(self, picture: Image.Image, opened: Image.Image | None, box: Box) -> None:
        self._picture = picture
        self._opened = opened
        self.box = box
        differences, self._contrast = contrasts(picture)
        self.tile = folded(weighted(differences, self._contrast))

    @cached_property
    def share(self) -> Plane:
        """Return for each cell how much of it may change, 0 to 1."""
        if self._opened is None:
            return np.ones((self._contrast.height, self._contrast.width), np.float32)
        share = self._opened.convert("F").resize(self._contrast.size, Image.Resampling.BOX)
        return np.asarray(share) / np.float32(255)

    @cached_property
    def _calm(self) -> Plane:
        """Return for each cell the least contrast around it."""
        return np.asarray(self._contrast.filter(ImageFilter.MinFilter(3))) + np.float32(NOISE)

    def strengths(self, share_of_contrast: float) -> Plane:
        """Return for each cell how strong the pattern may be, in levels."""
        strengths: Plane = np.minimum(share_of_contrast * self._calm, np.float32(_STRONGEST))
        return strengths

    def marked(self, tile: Plane, strength: float, limit: float) -> Image.Image:
        """Return the rows with a pattern of these tiles that is nowhere stronger than `limit`."""
        strengths = np.minimum(self.strengths(strength), np.float32(limit))
        height, width = self._picture.height, self._picture.width
        change = per_pixel(Image.fromarray(strengths), (width, height))
        change = change * np.tile(tile, (-(-height // TILE), -(-width // TILE)))[:height, :width]
        if self._opened is not None:
            change[np.asarray(self._opened) == 0] = 0
        marked = np.array(self._picture)
        # One colour at a time, and in place: all three together take twice as long.
        for colour, step in enumerate(_STEP):
            changed = change * step
            changed += marked[:, :, colour]
            np.rint(changed, out=changed)
            marked[:, :, colour] = np.clip(changed, 0, 255, out=changed)
        return Image.fromarray(marked)


def _limit(bands: list[_Band], strength: float) -> float:
    """Return the strength that the pattern may have at most, in levels, so that its mean square is `_MAX_ERROR`."""
    strengths = np.concatenate([band.strengths(strength).ravel() for band in bands])
    shares = np.concatenate([band.share.ravel() for band in bands])
    low, high = 0.0, float(strengths.max())
    most = _MAX_ERROR / float(np.mean(_STEP**2)) * shares.sum()
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        is_low = (np.minimum(strengths, middle) ** 2) @ shares <= most
        low, high = (middle, high) if is_low else (low, middle)
    return low


def _survives(marked: Image.Image, payload: Payload, chosen: Pattern) -> bool:
    """Return whether the payload is read from a JPEG file of `_JPEG_QUALITY`, where it is."""
    file = BytesIO()
    marked.save(file, "JPEG", quality=_JPEG_QUALITY)
    tiles = watermark_search.unscaled(Image.open(file), chosen)
    return any(watermark_code.decode(chosen.soft_bits(tile)) == payload.to_bytes() for tile in tiles)


def _split(box: Box) -> list[Box]:
    left, upper, right, lower = box
    return [(left, top, right, min(top + _BAND, lower)) for top in range(upper, lower, _BAND)]
