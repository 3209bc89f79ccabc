"""The pictures that a result can be compared with: its input, and the results of related generations."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any
from uuid import UUID

from generation import display
from generation.library.related import Related
from generation.models import GeneratedImage, Generation

INPUT = "input"
"""The key of the input."""

_MAX_CHOICES = 36
_MAX_RATIO_DIFFERENCE = 0.06


@dataclass(frozen=True)
class ComparisonImage:
    """A picture to compare with. `key` names it in the page's address, `alt` describes it for screen readers."""

    key: str
    name: str
    alt: str
    file: Any
    thumbnail: Any
    width: int
    height: int
    is_flagged: bool


def choices(
    generation: Generation, result: GeneratedImage, images: Sequence[GeneratedImage], related: Related
) -> list[ComparisonImage]:
    """Return the pictures that the page offers to compare `result` with, each once.

    These are the input, the other results, those it was made from, those made from it, those of the same contact sheet
    and of the same input, and its neighbours in the history.
    """
    by_key = {choice.key: choice for choice in _candidates(generation, result, images, related)}
    return list(by_key.values())[:_MAX_CHOICES]


def select(
    generation: Generation, result: GeneratedImage, candidates: Sequence[ComparisonImage], key: str
) -> ComparisonImage:
    """Return the picture with this key: a candidate, or any other result of the same user. By default, the first one."""
    for choice in candidates:
        if choice.key == key:
            return choice
    generation_id, _, index = key.partition(".")
    try:
        rows = GeneratedImage.objects.filter(
            generation__in=Generation.objects.owned_by(generation.user),
            generation=UUID(generation_id),
            index=int(index or 0),
        )
    except ValueError:
        return candidates[0]
    image = rows.exclude(pk=result.pk).select_related("generation").first()
    return _result_of(image.generation, image) if image else candidates[0]


def has_other_shape(result: GeneratedImage, choice: ComparisonImage) -> bool:
    """Return whether the aspect ratios differ so much that covering one picture with the other would crop it a lot."""
    ratio = (result.width / result.height) / ((choice.width or 1) / (choice.height or 1))
    return not 1 - _MAX_RATIO_DIFFERENCE < ratio < 1 + _MAX_RATIO_DIFFERENCE


def _candidates(
    generation: Generation, result: GeneratedImage, images: Sequence[GeneratedImage], related: Related
) -> Iterator[ComparisonImage]:
    if generation.input:
        size = generation.input_width, generation.input_height
        yield ComparisonImage(
            INPUT,
            "input",
            "The input picture",
            generation.input,
            generation.input_thumbnail,
            *size,
            generation.has_flagged_input,
        )
    else:
        # A retention rule removed the input. The address without a key still needs a picture to show.
        yield _choice(INPUT, "input, removed", "The result itself, as its input was removed", result)
    for image in images:
        if image != result:
            name = f"result {image.index + 1}"
            yield _choice(_key(image), name, name.capitalize(), image)
    for image in reversed(related.ancestors[:-1]):
        if not image.generation.is_removed:
            yield _result_of(image.generation, image)
    others = related.derived, related.of_sheet, related.of_input, _alternating(related.older, related.newer)
    for other in chain(*others):
        for image in other.images.all()[:1]:
            yield _result_of(other, image)


def _alternating(first: Sequence[Generation], second: Sequence[Generation]) -> Iterator[Generation]:
    for index in range(max(len(first), len(second))):
        yield from (*first[index : index + 1], *second[index : index + 1])


def _result_of(generation: Generation, image: GeneratedImage) -> ComparisonImage:
    name = display.name(generation)
    return _choice(_key(image), name, name, image)


def _key(image: GeneratedImage) -> str:
    return f"{image.generation_id}.{image.index}"


def _choice(key: str, name: str, alt: str, image: GeneratedImage) -> ComparisonImage:
    return ComparisonImage(key, name, alt, image.file, image.thumbnail, image.width, image.height, image.nsfw)
