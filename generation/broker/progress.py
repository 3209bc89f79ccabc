"""Events, progress and cancel flags of generations.

What is read here may have been written by anybody who can reach Redis: entries that are not as workers write them are left out,
and none names a file.
"""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import from_json
from redis import RedisError
from redis.client import Pipeline

from generation.broker.connection import redis_client
from generation.models import FINAL_STATES

logger = logging.getLogger(__name__)

EVENTS = "dreamsite:events"
"""A stream of generation ids and event names. The events' data is in a stream for each generation."""

_PROGRESS = "dreamsite:progress:"
_CANCEL = "dreamsite:cancel:"
_STREAM = "dreamsite:stream:"
_PREVIEW = "dreamsite:preview:"
_MAX_EVENTS = 10_000
_MAX_STREAM_EVENTS = 1000
_STREAM_SECONDS = 3600
_FINAL_STREAM_SECONDS = 600
_PREVIEW_SECONDS = 60
_PREVIEW_ENTRIES = 24
"""How many of the last events are searched for a preview; a step has an event, and a preview of each picture."""
_PREVIEW_IMAGE = re.compile(r"data:image/webp;base64,[A-Za-z0-9+/]+={0,2}")
_EVENT_NAMES = frozenset({"started", "progress", "preview", "image", *FINAL_STATES})
_PROGRESS_SECONDS = 600
_CANCEL_SECONDS = 3600

_Steps = Annotated[int, Field(ge=0, le=1_000_000)]
_REPORT = TypeAdapter(tuple[_Steps, _Steps, Annotated[str, Field(pattern="^[a-z]{1,20}$")]])
"""The value of `_PROGRESS`: steps done, all steps and the phase."""


@dataclass(frozen=True)
class Progress:
    """The progress of a run: `step` of `of` steps, and the phase."""

    step: int
    of: int
    phase: str

    @property
    def percent(self) -> int:
        return 100 * self.step // self.of if self.of else 0

    @property
    def fraction(self) -> float:
        """0 to 1."""
        return self.step / self.of if self.of else 0.0


@dataclass(frozen=True)
class ControlFlags:
    """The ids of running generations to cancel, and of those whose previews are watched."""

    cancel: frozenset[UUID] = frozenset()
    preview: frozenset[UUID] = frozenset()


def publish(generation_id: UUID, event: str, data: Mapping[str, Any] | None = None) -> None:
    """Send an event to the subscribers of a generation. Best effort: they poll the database too."""
    try:
        with redis_client().pipeline(transaction=False) as pipe:
            _add_event(pipe, generation_id, event, data or {})
            pipe.execute()
    except RedisError:
        logger.warning("no event for generation %s: Redis cannot be reached", generation_id)


def report(ids: Sequence[UUID], progress: Progress) -> ControlFlags:
    """Store and publish the progress of a batch, and return its control flags. One round trip. Raises `RedisError`."""
    text = json.dumps([progress.step, progress.of, progress.phase])
    with redis_client().pipeline(transaction=False) as pipe:
        for generation_id in ids:
            pipe.set(f"{_PROGRESS}{generation_id}", text, ex=_PROGRESS_SECONDS)
            _add_event(pipe, generation_id, "progress", {**asdict(progress), "percent": progress.percent})
        pipe.mget([f"{_CANCEL}{generation_id}" for generation_id in ids])
        pipe.mget([f"{_PREVIEW}{generation_id}" for generation_id in ids])
        *_, cancel, preview = pipe.execute()
    return ControlFlags(_flagged(ids, cancel), _flagged(ids, preview))


def latest(ids: Sequence[UUID]) -> dict[UUID, Progress]:
    """Return the last reported progress by id, without those that reported none; empty while Redis is away."""
    if not ids:
        return {}
    try:
        texts: Any = redis_client().mget([f"{_PROGRESS}{generation_id}" for generation_id in ids])
    except RedisError:
        return {}
    found = {generation_id: _parse_progress(text) for generation_id, text in zip(ids, texts, strict=True) if text}
    return {generation_id: reported for generation_id, reported in found.items() if reported}


def previews(ids: Sequence[UUID]) -> dict[UUID, str]:
    """Ask for previews of these generations, and return the last one of each that has any, of its first picture.

    They are data URLs. Empty while Redis is away.
    """
    if not ids:
        return {}
    try:
        with redis_client().pipeline(transaction=False) as pipe:
            for generation_id in ids:
                key, seconds = preview_flag(generation_id)
                pipe.set(key, 1, ex=seconds)
                pipe.xrevrange(stream_key(generation_id), count=_PREVIEW_ENTRIES)
            answers: list[Any] = pipe.execute()
    except RedisError:
        return {}
    found = {generation_id: _last_preview(entries) for generation_id, entries in zip(ids, answers[1::2], strict=True)}
    return {generation_id: preview for generation_id, preview in found.items() if preview}


def request_cancel(generation_id: UUID) -> None:
    """Ask the worker to cancel at its next step. Best effort: the worker reads the row with every renewal of its lease."""
    try:
        redis_client().set(f"{_CANCEL}{generation_id}", 1, ex=_CANCEL_SECONDS)
    except RedisError:
        logger.warning("the cancel request of generation %s is delayed: Redis cannot be reached", generation_id)


def forget(generation_id: UUID) -> None:
    """Delete all keys of a deleted generation. Best effort: they expire by themselves."""
    try:
        redis_client().delete(*(f"{prefix}{generation_id}" for prefix in (_PROGRESS, _CANCEL, _STREAM)))
    except RedisError:
        logger.warning("the keys of generation %s are left to expire: Redis cannot be reached", generation_id)


def event_data(event: str, text: str | bytes) -> dict[str, Any] | None:
    """Return the data of an event, None if it is not as workers publish it."""
    try:
        # Unlike `json`, it refuses deep nesting and halves of characters, which cannot be written to a page.
        data = from_json(text, allow_inf_nan=False)
    except ValueError:
        return None
    if event not in _EVENT_NAMES or not isinstance(data, dict):
        return None
    if event == "preview" and not _PREVIEW_IMAGE.fullmatch(str(data.get("image"))):
        return None
    numbers = {"preview": ("index",), "image": ("index", "attempt")}.get(event, ())
    return data if all(isinstance(data.get(number), int) for number in numbers) else None


def stream_key(generation_id: UUID) -> str:
    """Return the key of a generation's event stream. Its entries have `event`, and `data` as a JSON object."""
    return f"{_STREAM}{generation_id}"


def preview_flag(generation_id: UUID) -> tuple[str, int]:
    """Return the key of the flag that asks for previews, and its time to live in seconds."""
    return f"{_PREVIEW}{generation_id}", _PREVIEW_SECONDS


def _add_event(pipe: Pipeline, generation_id: UUID, event: str, data: Mapping[str, Any]) -> None:
    stream = stream_key(generation_id)
    pipe.xadd(stream, {"event": event, "data": json.dumps(data)}, maxlen=_MAX_STREAM_EVENTS, approximate=True)
    pipe.expire(stream, _FINAL_STREAM_SECONDS if event in FINAL_STATES else _STREAM_SECONDS)
    # Added last, so that whoever it wakes finds the data.
    pipe.xadd(EVENTS, {"id": str(generation_id), "event": event}, maxlen=_MAX_EVENTS, approximate=True)


def _last_preview(entries: Sequence[tuple[bytes, Mapping[bytes, bytes]]]) -> str:
    """Return the first preview of the first picture among these entries of a stream; empty if there is none."""
    for _, entry in entries:
        data = event_data("preview", entry[b"data"]) if entry.get(b"event") == b"preview" and b"data" in entry else None
        if data and data["index"] == 0:
            return str(data["image"])
    return ""


def _parse_progress(text: bytes) -> Progress | None:
    try:
        return Progress(*_REPORT.validate_json(text))
    except ValidationError:
        return None


def _flagged(ids: Sequence[UUID], flags: Sequence[bytes | None]) -> frozenset[UUID]:
    return frozenset(generation_id for generation_id, flag in zip(ids, flags, strict=True) if flag is not None)
