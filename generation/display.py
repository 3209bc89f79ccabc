"""Texts about generations for pages: day headings, states, parameters, safety, timings."""

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
from generation.parameters import ErrorCode
from generation.recipes import Recipe, traits_of
from generation.responses import ContentCredentials, Verification

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
"""The labels of the request fields that pages show, in display order."""

SHARED = ("negative_prompt", "num_inference_steps", "guidance_scale", "image_guidance_scale", "strength", "loras")
"""The request fields that a shared recipe shows."""

_SOURCE_TYPES = {
    "compositeWithTrainedAlgorithmicMedia": "changed by a model",
    "trainedAlgorithmicMedia": "made by a model",
    "algorithmicallyEnhanced": "enhanced by a program",
    "digitalCapture": "taken by a digital camera",
    "computationalCapture": "taken by a digital camera, from several exposures",
    "digitalCreation": "drawn with a program",
    "humanEdits": "edited by a person",
    "composite": "composed of several pictures",
    "screenCapture": "a screenshot",
}
"""IPTC's terms for the kind of origin (https://cv.iptc.org/newscodes/digitalsourcetype), in words."""


@dataclass(frozen=True)
class Group:
    """Generations under one heading; `key` is the same for the same heading on the next page."""

    key: str
    heading: str
    tiles: "list[tuple[Generation, LiveStatus | None]]"


@dataclass(frozen=True)
class Parameter:
    """A request field; `used` is what the model runs with, None if the field has no effect on it."""

    label: str
    value: str
    used: str | None

    @property
    def note(self) -> str:
        """Return what the model does with the value if it is not what was asked for."""
        if self.used is None:
            return "no effect on this model"
        return f"the model runs with {self.used}" if self.used != self.value else ""


@dataclass(frozen=True)
class Part:
    """A phase of the total time; `share` is from 0 to 1."""

    name: str
    seconds: float
    share: float


@dataclass(frozen=True)
class LiveStatus:
    """The status of an unfinished generation: reason or step, percent if known, and remaining time.

    `preview` is a data URL; empty if there is none.
    """

    text: str
    percent: int | None
    remaining: str
    preview: str = ""


def grouped(generations: Iterable[Generation], live_statuses: Mapping[UUID, LiveStatus]) -> Iterator[Group]:
    """Group generations, sorted by time, under day or month headings."""
    today = timezone.localdate()
    for key, group in groupby(
        generations, lambda generation: _group_key(timezone.localdate(generation.created), today)
    ):
        members = [(generation, live_statuses.get(generation.pk)) for generation in group]
        yield Group(key, _heading(timezone.localdate(members[0][0].created), today), members)


def state(generation: Generation) -> str:
    """Return the state as text, with the duration if known."""
    if generation.deleted:
        return f"deleted {timezone.localtime(generation.deleted):%Y-%m-%d %H:%M} ({generation.state_word})"
    if generation.trashed:
        return f"in the trash since {timezone.localtime(generation.trashed):%Y-%m-%d %H:%M} ({generation.state_word})"
    duration = generation.running_seconds
    match generation.state:
        case State.QUEUED if generation.crash_count:
            return "queued again: its worker was lost"
        case State.QUEUED:
            return "fetching the picture" if generation.awaits_input else "queued"
        case State.RUNNING:
            if generation.cancel_requested:
                return "stopping"
            return "generating" if generation.attempt < 2 else f"generating, attempt {generation.attempt}"
        case State.SUCCEEDED if generation.reused_from_id:
            return "succeeded at once, with pictures of an earlier request"
        case State.SUCCEEDED:
            return "succeeded" if duration is None else f"succeeded in {seconds(duration)}"
        case State.CANCELED:
            if generation.error_code == ErrorCode.DEADLINE_BEFORE_START:
                return "timed out before it started"
            word = generation.state_word
            return word if duration is None else f"{word} after {seconds(duration)}"
        case State.FAILED:
            return "failed" if duration is None else f"failed after {seconds(duration)}"
        case _:
            raise ValueError(f"unknown state {generation.state!r}")


def name(generation: Generation) -> str:
    """Return a short name: the title, or else the beginning of the prompt."""
    return Truncator(generation.title or generation.prompt or "No prompt").chars(48)


def last_day(generation: Generation) -> str:
    """Return when a generation in the trash will be deleted: `today`, `tomorrow`, `on Tue, 1 Dec`."""
    if generation.trashed is None:
        raise ValueError("the generation is not in the trash")
    end = timezone.localdate(generation.trashed + timedelta(days=deletion.TRASH_DAYS))
    match (end - timezone.localdate()).days:
        case 0:
            return "today"
        case 1:
            return "tomorrow"
        case _:
            return f"on {format_date(end, 'D, j M')}"


def live_status(generation: Generation) -> LiveStatus | None:
    """Return the live status of an unfinished generation, None for a finished one."""
    return live_statuses([generation]).get(generation.pk)


def live_statuses(generations: Sequence[Generation], *, with_previews: bool = False) -> dict[UUID, LiveStatus]:
    """Return the live statuses of the unfinished generations, with a constant number of queries."""
    now = timezone.now()
    expected = forecast.of_queued([item for item in generations if item.state == State.QUEUED])
    result = {
        generation_id: LiveStatus(at.reason.removesuffix("."), None, _remaining(at.finish, now))
        for generation_id, at in expected.items()
    }
    running = [item for item in generations if item.state == State.RUNNING]
    progress_of = progress.latest([item.pk for item in running])
    ends = forecast.of_running(running, progress_of)
    previews = progress.previews([item.pk for item in running]) if with_previews else {}
    for generation in running:
        status, percent, remaining = "", None, ""
        if (at := progress_of.get(generation.pk)) is not None:
            status = f"step {at.step} of {at.of}" if at.phase == "denoising" else at.phase
            percent, remaining = at.percent, _remaining(ends.get(generation.pk), now)
        result[generation.pk] = LiveStatus(status, percent, remaining, previews.get(generation.pk, ""))
    return result


def parameters(generation: Generation, names: Iterable[str] = PARAMETERS) -> list[Parameter]:
    """Return the request fields as texts, with what the model uses of each."""
    recipe = generation.get_recipe()
    without_effect = traits_of(recipe.model).without_effect
    result = []
    for name in names:
        requested = generation.parameters.get(name)
        if requested is None:
            continue
        value = _loras(recipe) if name == "loras" else _value(requested)
        used = value if name == "loras" else _value(getattr(recipe, name, requested))
        result.append(Parameter(PARAMETERS[name], value, None if name in without_effect else used))
    return result


def mask(generation: Generation) -> tuple[str, str] | None:
    """Return what its mask lets change, and what becomes of the rest; None without a mask."""
    if generation.open_share is None:
        return None
    is_exact = generation.outside_mask == "identical"
    rest = "the rest is the input's, pixel by pixel" if is_exact else "the rest is the input's, encoded again"
    return f"{_percent(generation.open_share)} may change", rest


def _percent(share: float) -> str:
    """Return a share that is neither nothing nor all, in words."""
    percent = round(100 * share)
    if percent < 1:
        return "less than 1 %"
    return "more than 99 %" if percent > 99 else f"{percent} %"


def error_sentence(item: Mapping[str, Any]) -> str:
    """Return an item of `error_items` as a sentence for a form."""
    message: str = item["msg"]
    return message if message.endswith(".") else f"{message}."


def safety(image: GeneratedImage) -> str:
    """Return the reviewer's decision or else the checker's result. An unchecked picture is never called safe."""
    if image.review in DECIDED:
        result = "flagged by a reviewer" if image.nsfw else "marked safe by a reviewer"
    elif not image.is_checked:
        return "not checked"
    else:
        result = "flagged" if image.nsfw else "not flagged"
    return result if image.nsfw_score is None else f"{result}, score {image.nsfw_score:.2f}"


def watermark(images: Sequence[GeneratedImage]) -> str:
    """Return which pictures of a generation carry a watermark."""
    count = sum(image.has_watermark for image in images)
    if count in (0, len(images)):
        return "yes" if count else "none"
    return f"in {count} of {len(images)} pictures"


def upload_credentials(generation: Generation) -> list[tuple[str, str]]:
    """Return what the content credentials of its uploads claim, each with the name of the picture; prefetch `references`."""
    found = [("Its origin", generation.input_credentials)]
    found += [(f"Origin of further picture {row.index + 1}", row.credentials) for row in generation.references.all()]
    return [(name, credentials(ContentCredentials.model_validate(claims))) for name, claims in found if claims]


def credentials(claims: ContentCredentials) -> str:
    """Return what content credentials claim, and whether the picture is the one that was signed."""
    if claims.state == "own":
        return "made here, and unchanged since"
    if claims.state == "unreadable":
        return "content credentials that cannot be read"
    day = f" on {claims.signed.day} {claims.signed:%B %Y}" if claims.signed else ""
    signed = f"signed by {claims.signer or 'somebody without a name'}{day}"
    kind = digital_source_type(claims.digital_source_type)
    parts = [signed, f"with {claims.generator}" if claims.generator else "", kind]
    ends = {
        "foreign": "unchanged since",
        "altered": "but it is not the picture that was signed",
        "invalid": "but the signature is not valid",
    }
    return ", ".join(part for part in (*parts, ends[claims.state]) if part)


def timings(generation: Generation) -> list[Part]:
    """Return the time in the queue and in each phase of the run, in order; an empty list before the end of the run."""
    phases: dict[str, float] = {}
    if not generation.phases:
        return []
    if generation.queued_seconds is not None:
        phases["queue"] = max(0.0, generation.queued_seconds)
    phases.update(generation.phases)
    total = sum(phases.values()) or 1.0
    # Omit parts that round to 0.00 s.
    return [
        Part(name.replace("_", " "), duration, duration / total)
        for name, duration in phases.items()
        if duration >= 0.005
    ]


@dataclass(frozen=True)
class Receipt:
    """What made the pictures of a generation, as labels and values, and the digests of its files by their paths."""

    facts: list[tuple[str, str]]
    files: list[tuple[str, str]]


def receipt(generation: Generation) -> Receipt | None:
    """Return the receipt of a generation; None if none was recorded."""
    values = generation.receipt
    if values is None:
        return None
    sizes = sorted(set(values["batch_sizes"]))
    facts = [
        ("Software", ", ".join(f"{name} {version}" for name, version in values["packages"].items())),
        ("Pipeline", values["pipeline"]),
        ("Scheduler", values["scheduler"]),
        ("Number type", values["dtype"]),
        ("Device", values["device"]),
        ("Threads", str(values["threads"])),
        ("Memory plan", values["memory_plan"]),
        ("Safety checker", values["safety_checker"]),
        ("Watermark", _watermark_in(values)),
        ("Batch size", ", ".join(map(str, sizes))),
    ]
    return Receipt(facts, [*values["files"].items(), *values["loras"].items()])


def _watermark_in(receipt: Mapping[str, Any]) -> str:
    if not receipt["watermark"]:
        return "off"
    key = receipt.get("watermark_key")
    return f"on, key {key}" if key else "on"


def proof(row: Generation) -> str:
    """Return what a proof has found, or how far it is, as a sentence."""
    if row.error_message:
        return f"Not proved: {row.error_message}"
    if row.comparison is None:
        return f"Being made again: {state(row)}."
    differing = [each for each in row.comparison["pictures"] if not each["identical"]]
    if not differing:
        return "Bit-exact: made again, all pixels are the same."
    psnr = min(each["psnr"] for each in differing)
    largest = max(each["largest_difference"] for each in differing)
    return f"Not bit-exact: PSNR {psnr:g} dB, the largest difference is {largest} of 255."


def seconds(duration: float) -> str:
    """Format a duration: `0.02 s`, `2.4 s`, `48 s`, `3 min 20 s`."""
    if duration < 1:
        return f"{duration:.2f} s"
    if duration < 10:
        return f"{duration:.1f} s"
    minutes, remainder = divmod(round(duration), 60)
    return f"{minutes} min {remainder} s" if minutes > 1 else f"{duration:.0f} s"


def _remaining(end: datetime | None, now: datetime) -> str:
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


def verified(told: Verification) -> str:
    """Return the heading over what is told of where a picture comes from."""
    if told.origin == "here":
        return "Made here, deleted" if told.deleted else "Made here, changed since" if told.altered else "Made here"
    if told.origin == "elsewhere":
        return "Signed elsewhere"
    return "Changed since it was signed" if told.altered else "Origin not known"


def digital_source_type(address: str) -> str:
    """Return what a term of IPTC says of a picture: in words, or its own name if it is another one."""
    name = address.rpartition("/")[2]
    return _SOURCE_TYPES.get(name, name)
