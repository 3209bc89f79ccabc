"""How pages put a generation into words: day headings, states, parameters, safety, timings."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from django.utils import timezone
from django.utils.dateformat import format as format_date
from django.utils.text import Truncator

from generation.broker import progress
from generation.jobs import forecast
from generation.library import deletion
from generation.models import GeneratedImage, Generation, State
from generation.models.review import DECIDED
from generation.recipes import Recipe, traits_of

PARAMETERS = {
    "num_inference_steps": "Steps",
    "guidance_scale": "Guidance",
    "image_guidance_scale": "Image guidance",
    "strength": "Strength",
    "negative_prompt": "Negative prompt",
    "loras": "LoRAs",
    "num_images_per_prompt": "Pictures",
    "safety_check": "Safety check",
    "priority": "Priority",
}
"""The request's fields that are shown as name and value, in the order in which they are."""

SHARED = ("negative_prompt", "num_inference_steps", "guidance_scale", "image_guidance_scale", "strength", "loras")
"""Those of them that a shared recipe tells."""

_WRONG = {
    "int_parsing": "Input should be a whole number",
    "int_from_float": "Input should be a whole number",
    "float_parsing": "Input should be a number",
}


@dataclass(frozen=True)
class Group:
    """Generations under one heading; `key` is the same for the same heading on the next page."""

    key: str
    heading: str
    tiles: "list[tuple[Generation, Outlook | None]]"


@dataclass(frozen=True)
class Parameter:
    """A field of the request as it was understood; `note` says what the model made of it, where that differs."""

    label: str
    value: str
    note: str


@dataclass(frozen=True)
class Part:
    """A share of the time, 0 to 1 of the whole."""

    name: str
    seconds: float
    share: float


@dataclass(frozen=True)
class Outlook:
    """What a waiting page says: where it stands in words, how far in percent where that is known, and the time left."""

    words: str
    percent: int | None
    left: str


def grouped(generations: Iterable[Generation], outlooks: Mapping[UUID, Outlook]) -> Iterator[Group]:
    """Generations of one order by time, split where the heading changes."""
    today = timezone.localdate()
    for key, group in groupby(
        generations, lambda generation: _group_key(timezone.localdate(generation.created), today)
    ):
        members = [(generation, outlooks.get(generation.pk)) for generation in group]
        yield Group(key, _heading(timezone.localdate(members[0][0].created), today), members)


def state(generation: Generation) -> str:
    """The state in words, with how long it took where that is known."""
    if generation.deleted:
        return f"deleted {timezone.localtime(generation.deleted):%Y-%m-%d %H:%M} ({generation.state})"
    if generation.trashed:
        return f"in the trash since {timezone.localtime(generation.trashed):%Y-%m-%d %H:%M} ({generation.state})"
    took = generation.running_seconds
    match generation.state:
        case State.QUEUED:
            return "waiting for a worker" if not generation.crash_count else "waiting again: its worker was lost"
        case State.RUNNING:
            if generation.cancel_requested:
                return "stopping"
            return "generating" if generation.attempt < 2 else f"generating, attempt {generation.attempt}"
        case State.SUCCEEDED:
            return "succeeded" if took is None else f"succeeded in {seconds(took)}"
        case State.CANCELED:
            return "canceled" if took is None else f"canceled after {seconds(took)}"
        case State.FAILED:
            return "failed" if took is None else f"failed after {seconds(took)}"
        case _:
            raise ValueError(f"no words for the state {generation.state!r}")


def name(generation: Generation) -> str:
    """What it is called where there is little room: its title, else the beginning of its prompt."""
    return Truncator(generation.title or generation.prompt or "No prompt").chars(48)


def last_day(generation: Generation) -> str:
    """When what is in the trash will be deleted, in words: `today`, `tomorrow`, `on Tue, 1 Dec`."""
    if generation.trashed is None:
        raise ValueError("it is not in the trash")
    end = timezone.localdate(generation.trashed + timedelta(days=deletion.TRASH_DAYS))
    match (end - timezone.localdate()).days:
        case 0:
            return "today"
        case 1:
            return "tomorrow"
        case _:
            return f"on {format_date(end, 'D, j M')}"


def outlook(generation: Generation) -> Outlook | None:
    """Where a generation that is not final stands, and when it will be done as far as that can be told; else None."""
    return outlooks([generation]).get(generation.pk)


def outlooks(generations: Sequence[Generation]) -> dict[UUID, Outlook]:
    """The outlooks of those that are not final, with as many queries for many as for one."""
    now = timezone.now()
    expected = forecast.of_queued([item for item in generations if item.state == State.QUEUED])
    told = {
        generation_id: Outlook(at.reason.removesuffix("."), None, _left(at.finish, now))
        for generation_id, at in expected.items()
    }
    running = [item for item in generations if item.state == State.RUNNING]
    progress_of = progress.latest([item.pk for item in running])
    ends = forecast.of_running(running, progress_of)
    for generation in running:
        told[generation.pk] = Outlook("", None, "")
        if (at := progress_of.get(generation.pk)) is not None:
            words = f"step {at.step} of {at.of}" if at.phase == "denoising" else at.phase
            told[generation.pk] = Outlook(words, at.percent, _left(ends.get(generation.pk), now))
    return told


def parameters(generation: Generation, names: Iterable[str] = PARAMETERS) -> list[Parameter]:
    """The request's fields in words, each with a note where the model used another value or none."""
    recipe = generation.get_recipe()
    without_effect = traits_of(recipe.model).without_effect
    rows = []
    for name in names:
        asked = generation.parameters.get(name)
        if asked is None:
            continue
        note = ""
        used = getattr(recipe, name, asked)
        if name in without_effect:
            note = "no effect on this model"
        elif name != "loras" and used != asked:
            note = f"the model runs with {_value(used)}"
        words = _loras(recipe) if name == "loras" else _value(asked)
        rows.append(Parameter(PARAMETERS[name], words, note))
    return rows


def complaint(item: Mapping[str, Any]) -> str:
    """What is wrong with a value, as a sentence: an item of `error_items` for people, who parse no strings."""
    words: str = _WRONG.get(item["type"], item["msg"])
    return words if words.endswith(".") else f"{words}."


def safety(image: GeneratedImage) -> str:
    """What the checker said, and a person after it; a picture that nobody checked is never called safe."""
    if image.review in DECIDED:
        words = "flagged by a reviewer" if image.nsfw else "found safe by a reviewer"
    elif not image.is_checked:
        return "not checked"
    else:
        words = "flagged" if image.nsfw else "not flagged"
    return words if image.nsfw_score is None else f"{words}, score {image.nsfw_score:.2f}"


def timings(generation: Generation) -> list[Part]:
    """The time in the queue and each phase of the run, in the order in which they came; none until they are known."""
    phases: dict[str, float] = {}
    if not generation.phases:
        return []
    if generation.queued_seconds is not None:
        phases["queue"] = max(0.0, generation.queued_seconds)
    phases.update(generation.phases)
    whole = sum(phases.values()) or 1.0
    # A part that rounds to nothing has no place in the bar.
    return [Part(name.replace("_", " "), took, took / whole) for name, took in phases.items() if took >= 0.005]


def seconds(took: float) -> str:
    """A duration as people say it: `0.02 s`, `2.4 s`, `48 s`, `3 min 20 s`."""
    if took < 1:
        return f"{took:.2f} s"
    if took < 10:
        return f"{took:.1f} s"
    minutes, rest = divmod(round(took), 60)
    return f"{minutes} min {rest} s" if minutes > 1 else f"{took:.0f} s"


def _left(end: datetime | None, now: datetime) -> str:
    return "" if end is None else f"about {seconds(max(1.0, round((end - now).total_seconds())))} left"


def _group_key(day: date, today: date) -> str:
    return f"{day:%Y-%m-%d}" if day > today - timedelta(days=7) else f"{day:%Y-%m}"


def _heading(day: date, today: date) -> str:
    if day >= today:
        return "Today"
    if day == today - timedelta(days=1):
        return "Yesterday"
    return format_date(day, "l, j F" if day > today - timedelta(days=7) else "F Y")


def _loras(recipe: Recipe) -> str:
    return ", ".join(f"{lora.id} {lora.weight:g}" for lora in recipe.loras) or "none"


def _value(value: Any) -> str:
    match value:
        case bool():
            return "on" if value else "off"
        case int() | float():
            return f"{value:g}"
        case _:
            return str(value) or "none"
