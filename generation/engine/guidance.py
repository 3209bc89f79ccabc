"""Guidance scales that a pipeline can take: sound ones, and one for each image of a call."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch

from generation.recipes import Family, Recipe


@dataclass(frozen=True)
class PerImage:
    """Stands for the one number of a call where its images have different ones.

    Pipelines of diffusers multiply the difference of two predictions, shape (images, ...), by the scale, and compare the
    scale with 1 to decide whether to guide at all. That much this can do, so whatever else a pipeline tries with it raises
    TypeError and is never silently wrong.
    """

    scales: tuple[float, ...]

    def __mul__(self, difference: torch.Tensor) -> torch.Tensor:
        """Each image's difference times its own scale, rounded once to the tensor's type, as with a plain number."""
        shape = (len(self.scales), *[1] * (difference.ndim - 1))
        scales = torch.tensor(self.scales, dtype=torch.float32, device=difference.device).view(shape)
        return (scales * difference).to(difference.dtype)

    __rmul__ = __mul__

    def __gt__(self, least: float) -> bool:
        return _unanimous(scale > least for scale in self.scales)

    def __ge__(self, least: float) -> bool:
        return _unanimous(scale >= least for scale in self.scales)


def per_image(scales: Sequence[float]) -> float | PerImage:
    """What a pipeline is given for images with these scales: a plain number wherever they agree."""
    return scales[0] if len(set(scales)) == 1 else PerImage(tuple(scales))


def sound_guidance(recipe: Recipe) -> tuple[float, float, list[str]]:
    """Guidance by text and by picture, and warnings.

    InstructPix2Pix switches both off when the text's is not above 1 or the picture's is below 1. So the picture's is at
    least 1, and where it is wanted a text guidance of 1 or less, which is none, is given as barely above 1.
    """
    guidance, image_guidance = recipe.guidance_scale, recipe.image_guidance_scale
    if recipe.model.family is not Family.INSTRUCT_PIX2PIX:
        return guidance, image_guidance, []
    warnings = []
    if image_guidance < 1:
        warnings.append(f"image_guidance_scale {image_guidance:g} was raised to 1, the least for {recipe.model.id}.")
        image_guidance = 1.0
    if guidance <= 1 < image_guidance:
        guidance = math.nextafter(1, 2)
    return guidance, image_guidance, warnings


def _unanimous(answers: Iterable[bool]) -> bool:
    """Raises ValueError where images with and without guidance were put into one call."""
    (answer,) = set(answers)
    return answer
