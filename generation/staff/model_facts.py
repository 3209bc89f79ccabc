"""What staff read about a model before they use it: what follows from its family, and from its sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from generation.families import FAMILY_TRAITS, Family
from generation.family_traits import MEGAPIXEL, ImageUse, Traits
from generation.memory import describe_fit
from generation.recipes import ModelReference, traits_of


@dataclass(frozen=True)
class Fact:
    label: str
    text: str


def family_facts(model_id: str, family: Family) -> list[Fact]:
    """Return what follows from the family of a model."""
    traits = traits_of(ModelReference(id=model_id, revision="", family=family))
    facts = [
        Fact("Without effect", ", ".join(sorted(traits.without_effect)) or "none of the fields"),
        Fact("Always", _values(traits.forced)),
        Fact("Recommended", _values(traits.recommended)),
        Fact("Sizes", _sizes(traits)),
        Fact("On GPUs", f"computes in {traits.gpu_dtype}"),
        Fact("Batches", "one picture a call" if traits.image_use is ImageUse.REFERENCES else ""),
        Fact("Packages", ", ".join(traits.packages)),
    ]
    return [fact for fact in facts if fact.text]


def _values(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


def _sizes(traits: Traits) -> str:
    megapixels = traits.max_pixels / MEGAPIXEL
    area = (
        f"{'always' if traits.has_fixed_area else 'at most'} {megapixels:.2g} megapixel{'s' if megapixels != 1 else ''}"
    )
    return f"{traits.min_side} to {traits.max_side} pixels a side, in multiples of {traits.side_multiple}, {area}"


def memory_facts(parameters: Mapping[str, int], family: Family | None, cards: Sequence[int]) -> list[Fact]:
    """Return what a model needs, given the numbers of parameters of its components, and how it fits cards of these bytes."""
    if not parameters or family is None:
        return []
    parts = [f"{name} {_count(count)}" for name, count in sorted(parameters.items(), key=lambda item: -item[1])]
    return [
        Fact("Parameters", ", ".join(parts)),
        Fact("Memory on GPUs", describe_fit(FAMILY_TRAITS[family], parameters, cards)),
    ]


def _count(count: int) -> str:
    for unit, name in ((10**9, "billion"), (10**6, "million"), (10**3, "thousand")):
        if count >= unit:
            return f"{count / unit:.3g} {name}"
    return str(count)


def size_in_words(size: int) -> str:
    """Return bytes in words, such as "6.9 GB"."""
    for unit, name in ((10**9, "GB"), (10**6, "MB"), (10**3, "kB")):
        if size >= unit:
            return f"{size / unit:.3g} {name}"
    return f"{size} bytes"
