"""`make models`: print the tables of families for docs/models.md, from their declarations."""

from itertools import groupby

from generation.families import FAMILY_TRAITS, Family
from generation.family_detection import REASONS
from generation.family_traits import MEGAPIXEL, Traits

FAMILIES = (
    "family",
    "for",
    "fields without effect",
    "recommended",
    "pixels a side",
    "mask",
    "pictures",
    "on GPUs",
    "packages",
)
LEFT_OUT = ("pipelines of diffusers", "why they cannot be run")


def families() -> str:
    return _table(FAMILIES, [_family(family, FAMILY_TRAITS[family]) for family in Family])


def left_out() -> str:
    """Return the table of known pipelines that are refused, those with the same reason in one row."""
    by_reason = sorted(REASONS.items(), key=lambda item: list(REASONS.values()).index(item[1]))
    rows = []
    for reason, pipelines in groupby(by_reason, key=lambda item: item[1]):
        rows.append([", ".join(f"`{pipeline.removesuffix('Pipeline')}`" for pipeline, _ in pipelines), reason])
    return _table(LEFT_OUT, rows)


def _family(family: Family, traits: Traits) -> list[str]:
    recommended = {**traits.recommended, **traits.forced}
    values = ", ".join(f"`{name}` {value:g}" for name, value in sorted(recommended.items()) if name in _free(traits))
    return [
        f"`{family}`",
        traits.models,
        ", ".join(f"`{name}`" for name in sorted(traits.without_effect)),
        values,
        _sides(traits),
        _mask(traits),
        str(1 + traits.max_references),
        traits.gpu_dtype,
        ", ".join(traits.packages),
    ]


def _free(traits: Traits) -> set[str]:
    """Return the fields with recommended values that a request can set."""
    return set(traits.recommended) - set(traits.forced) - traits.without_effect


def _sides(traits: Traits) -> str:
    if traits.has_fixed_area:
        return f"always {_megapixels(traits)} MP"
    return f"{traits.min_side} to {traits.max_side}, at most {_megapixels(traits)} MP"


def _mask(traits: Traits) -> str:
    if traits.needs_mask:
        return "needed"
    pipeline = traits.inpaint_pipeline.removesuffix("Pipeline")
    return f"`{pipeline}`" if pipeline else "composited"


def _megapixels(traits: Traits) -> str:
    return f"{traits.area / MEGAPIXEL:.2g}"


def _table(header: tuple[str, ...], rows: list[list[str]]) -> str:
    lines = [header, ["-" * 3] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |".replace("|  |", "| |") for line in lines)


if __name__ == "__main__":
    print(f"{families()}\n\n{left_out()}")  # noqa: T201
