"""What a result can be compared with: its input, other results, and those of generations around it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from generation import display
from generation.library.related import Related
from generation.models import GeneratedImage, Generation

INPUT = "input"
_MOST = 24


@dataclass(frozen=True)
class Other:
    """A picture to compare with; `key` is what the page's address says for it."""

    key: str
    name: str
    words: str
    file: Any
    thumbnail: Any
    width: int
    height: int
    is_flagged: bool


def others(
    generation: Generation, chosen: GeneratedImage, images: Sequence[GeneratedImage], around: Related
) -> list[Other]:
    """What the page offers, the input first; each once."""
    found = {other.key: other for other in _all(generation, chosen, images, around)}
    return list(found.values())[:_MOST]


def selected(generation: Generation, chosen: GeneratedImage, offered: Sequence[Other], key: str) -> Other:
    """The other of this key: one that is offered, or any other result of the same user; the first for all that is neither."""
    for other in offered:
        if other.key == key:
            return other
    first, _, index = key.partition(".")
    try:
        found = GeneratedImage.objects.filter(
            generation__in=Generation.objects.owned_by(generation.user), generation=UUID(first), index=int(index or 0)
        )
    except ValueError:
        return offered[0]
    image = found.exclude(pk=chosen.pk).select_related("generation").first()
    return _elsewhere(image.generation, image) if image else offered[0]


def is_unlike(chosen: GeneratedImage, other: Other) -> bool:
    """Whether the shapes differ so much that one would be cropped a lot to cover the other."""
    ratio = (chosen.width / chosen.height) / ((other.width or 1) / (other.height or 1))
    return not 0.94 < ratio < 1.06


def _all(
    generation: Generation, chosen: GeneratedImage, images: Sequence[GeneratedImage], around: Related
) -> Iterator[Other]:
    if generation.input:
        size = generation.input_width, generation.input_height
        yield Other(INPUT, "input", "The input picture", generation.input, generation.input_thumbnail, *size, False)
    else:
        # Retention removes inputs of their own; the address without a key still needs something to show.
        yield _other(INPUT, "input, removed", "The result itself, as its input was removed", chosen)
    for image in images:
        if image != chosen:
            name = f"result {image.index + 1}"
            yield _other(f"{image.generation_id}.{image.index}", name, f"Result {image.index + 1}", image)
    for image in reversed(around.ancestors[:-1]):
        if not image.generation.is_removed:
            yield _elsewhere(image.generation, image)
    for beside in (*around.derived, *_alternating(around.older, around.newer)):
        for image in beside.images.all()[:1]:
            yield _elsewhere(beside, image)


def _alternating(one: Sequence[Generation], two: Sequence[Generation]) -> Iterator[Generation]:
    for at in range(max(len(one), len(two))):
        yield from (*one[at : at + 1], *two[at : at + 1])


def _elsewhere(generation: Generation, image: GeneratedImage) -> Other:
    name = display.name(generation)
    return _other(f"{generation.pk}.{image.index}", name, name, image)


def _other(key: str, name: str, words: str, image: GeneratedImage) -> Other:
    return Other(key, name, words, image.file, image.thumbnail, image.width, image.height, image.nsfw)
