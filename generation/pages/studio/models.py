"""How the studio presents the models to choose from."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from django.db.models import F, OuterRef, Subquery
from django.templatetags.static import static

from accounts.models import User
from generation import display
from generation.jobs.forecast import RunTimeEstimator
from generation.models import DiffusionModel, GeneratedImage, Generation, State
from generation.repositories import vocabulary
from generation.responses import ModelDescription

_SAMPLES = {
    "dreamsite/tiny-edit": "dreamsite/samples/cat-pencil-sketch.webp",
    "dreamsite/tiny-redraw": "dreamsite/samples/cat-sunflower.webp",
}
"""A picture of the models that ship, below the static files, made of the photo of the cat."""


@dataclass(frozen=True)
class Presentation:
    """What a model does, its kind of prompt, its usual time and the address of a sample; the last two "" if unknown."""

    summary: str
    prompt_label: str
    placeholder: str
    seconds: str
    sample: str


def presentations(
    user: User, rows: Sequence[DiffusionModel], models: Sequence[ModelDescription]
) -> dict[str, Presentation]:
    """Return how each model is presented to this user, by its name; `models` are the descriptions of `rows`."""
    times = RunTimeEstimator()
    results = _last_results(user, [row.pk for row in rows if row.pk not in _SAMPLES])
    samples = results | {name: static(file) for name, file in _SAMPLES.items()}
    return {
        row.pk: _presentation(row, model, times, samples.get(row.pk, ""))
        for row, model in zip(rows, models, strict=True)
    }


def as_json(presented: Mapping[str, Presentation]) -> dict[str, dict[str, Any]]:
    """Return the presentations for the page's script."""
    return {name: asdict(presentation) for name, presentation in presented.items()}


def unknown_words(model_id: str, prompt: str) -> list[str]:
    """Return a warning if the model has a fixed vocabulary and knows no word of the prompt."""
    if not prompt or not vocabulary.knows_none(model_id, prompt):
        return []
    return [f"{model_id} knows none of these words, so the result is chance. Ideas shows words that it knows."]


def _presentation(row: DiffusionModel, model: ModelDescription, times: RunTimeEstimator, sample: str) -> Presentation:
    # Models with a strength redraw the picture as the prompt describes it, all others are told what to change.
    is_described = model.parameters["strength"].has_effect
    steps = model.parameters["num_inference_steps"]
    seconds = times.usual_seconds(row.pk, int(steps.recommended or steps.default or 1))
    does = "Draws the picture anew from your words." if is_described else "Changes the picture as you say."
    return Presentation(
        summary=row.summary or does,
        prompt_label=row.prompt_label or ("What should it show?" if is_described else "What should happen to it?"),
        placeholder=row.placeholder or ("a watercolor of a harbor" if is_described else "make it a snowy winter day"),
        seconds=f"Usually {_rounded(seconds)}." if seconds else "",
        sample=sample,
    )


def _last_results(user: User, model_ids: Sequence[str]) -> dict[str, str]:
    """Return the address of the small picture of this user's last result of each model, unless it has none or it is flagged."""
    last = Generation.objects.owned_by(user).filter(model=OuterRef("pk"), state=State.SUCCEEDED, is_flagged=False)
    generations = DiffusionModel.objects.filter(pk__in=model_ids).values(
        last=Subquery(last.order_by("-pk").values("pk")[:1])
    )
    images = GeneratedImage.objects.filter(generation__in=generations, index=0).exclude(thumbnail="")
    rows: Any = images.annotate(model=F("generation__model"))
    return {row.model: row.thumbnail.url for row in rows}


def _rounded(seconds: float) -> str:
    whole = max(1, round(seconds))
    return f"{whole} s" if whole < 10 else display.seconds(whole)
