"""Guidance scales for a pipeline: corrected to valid values, and one per image of a call."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from generation.recipes import Recipe, traits_of


@dataclass(frozen=True)
class PerImage:
    """Guidance scales of the images of one call, for use in place of a single number.

    Pipelines of diffusers multiply the difference of two predictions, shape (images, ...), by the scale, and compare the
    scale with 1 to decide whether to guide. Only these operations are supported: any other, or another shape, raises
    TypeError, so that no pipeline computes something wrong in silence. The shape cannot tell as many channels of one image
    as there are images, so models that guide image by image are declared: `Traits.guides_each_image`.
    """

    scales: tuple[float, ...]

    def __mul__(self, difference: torch.Tensor) -> torch.Tensor:
        """Multiply each image's difference by its scale, rounded once to the tensor's type, as with a plain number."""
        if difference.shape[:1] != (len(self.scales),):
            raise TypeError(f"{len(self.scales)} guidance scales, but predictions of shape {tuple(difference.shape)}")
        shape = (len(self.scales), *[1] * (difference.ndim - 1))
        scales = torch.tensor(self.scales, dtype=torch.float32, device=difference.device).view(shape)
        return (scales * difference).to(difference.dtype)

    __rmul__ = __mul__

    def __gt__(self, minimum: float) -> bool:
        return _same_for_all(scale > minimum for scale in self.scales)

    def __ge__(self, minimum: float) -> bool:
        return _same_for_all(scale >= minimum for scale in self.scales)

    def __le__(self, maximum: float) -> bool:
        return not self > maximum


def per_image(scales: Sequence[float]) -> float | PerImage:
    """Return the scale argument for images with these scales: a plain number if all are equal."""
    return scales[0] if len(set(scales)) == 1 else PerImage(tuple(scales))


def sound_guidance(recipe: Recipe) -> tuple[float, float, list[str]]:
    """Return guidance_scale and image_guidance_scale as the pipeline needs them, and warnings.

    Some pipelines disable both kinds of guidance if guidance_scale is at most 1 or image_guidance_scale below 1. So
    raise image_guidance_scale to at least 1; if it is above 1, raise a guidance_scale of at most 1 (no guidance by the
    prompt) to the next number above 1.
    """
    guidance, image_guidance = recipe.guidance_scale, recipe.image_guidance_scale
    if not traits_of(recipe.model).needs_picture_guidance:
        return guidance, image_guidance, []
    warnings = []
    if image_guidance < 1:
        warnings.append(f"image_guidance_scale {image_guidance:g} was raised to 1, the least for {recipe.model.id}.")
        image_guidance = 1.0
    if guidance <= 1 < image_guidance:
        guidance = math.nextafter(1, 2)
    return guidance, image_guidance, warnings


def _same_for_all(values: Iterable[bool]) -> bool:
    """Return the common value. Raises ValueError if one call mixes images with and without guidance."""
    (value,) = set(values)
    return value
