"""What a request asked for beside what the model ran with."""

from collections.abc import Iterator
from dataclasses import dataclass

from generation import display
from generation.models import Generation

_NOTHING = "none"


@dataclass(frozen=True)
class Comparison:
    """A field as it was asked for and as it was used; `used` is None if it has no effect on the model."""

    label: str
    asked: str
    used: str | None
    is_different: bool = False


def comparisons(generation: Generation) -> list[Comparison]:
    """Return the fields of a generation, without those that were neither asked for nor used."""
    return [row for row in _rows(generation) if row.asked != _NOTHING or row.used not in (_NOTHING, None)]


def _rows(generation: Generation) -> Iterator[Comparison]:
    recipe, asked = generation.get_recipe(), generation.parameters
    model = asked.get("model_id") or "the default"
    yield Comparison("Model", model, generation.model_id, bool(asked.get("model_id")) and model != generation.model_id)
    first, last = recipe.seeds[0], recipe.seeds[-1]
    seed = asked.get("seed")
    used = str(first) if first == last else f"{first} – {last}"
    yield Comparison("Seed", "random" if seed is None else str(seed), used, seed not in (None, first))
    if generation.input_width:
        size, result = (generation.input_width, generation.input_height), (recipe.width, recipe.height)
        yield Comparison("Size", "{} × {}".format(*size), "{} × {}".format(*result), size != result)
    for field in display.parameters(generation):
        yield Comparison(field.label, field.value, field.used, field.used != field.value)
