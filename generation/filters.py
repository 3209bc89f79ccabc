"""What generations can be narrowed down to, by `GET /generations` and by the history page: names, bounds and help texts."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from typing import Annotated, Self
from uuid import UUID

from django.utils import timezone
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from generation.parameters import MAX_SEED, storable
from generation.responses import StateName

# Inside of what databases and ids of version 7 can be compared with, whatever is added or taken.
_EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)
_LATEST = datetime(9998, 1, 1, tzinfo=UTC)


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise PydanticCustomError(
            "datetime_parsing",
            "Input should be a date or time of ISO 8601, such as 2026-11-22T12:00:00Z; the + of an offset is written %2B",
        ) from None
    return min(max(moment if moment.tzinfo else moment.replace(tzinfo=UTC), _EARLIEST), _LATEST)


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise PydanticCustomError("bool_parsing", "Input should be true or false")
    return text.lower() == "true"


# The bounds before the validator: a message then speaks of characters.
ModelId = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(storable)]
Words = Annotated[str, Field(min_length=1, max_length=4000), AfterValidator(storable)]
Moment = Annotated[datetime, BeforeValidator(_moment)]
Truth = Annotated[bool, BeforeValidator(_truth)]


class BaseFilters(BaseModel):
    """What both have. All that is asked for must hold; what is left out does not count."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Annotated[
        tuple[StateName, ...],
        Field(description="In one of these states; repeat it for several.", examples=[["queued"]]),
    ] = ()
    model_id: Annotated[ModelId | None, Field(description="Made by this model.")] = None

    @classmethod
    def from_query(cls, query: Iterable[tuple[str, list[str]]]) -> Self:
        """Read a query of names and their values; of a repeated one that is not `state` the last counts.

        Raises pydantic's `ValidationError`: see `generation.parameters.error_items`.
        """
        return cls.model_validate({name: values if name == "state" else values[-1] for name, values in query})


class GenerationFilters(BaseFilters):
    """Of the API. An empty value is wrong, as is a name that does not exist."""

    created_after: Annotated[Moment | None, Field(description="Later than this. A time without an offset is UTC.")] = (
        None
    )
    created_before: Annotated[Moment | None, Field(description="Earlier than this.")] = None
    nsfw: Annotated[
        Truth | None, Field(description="true: with a flagged picture; false: without one, checked or not.")
    ] = None
    prompt: Annotated[Words | None, Field(description="With this in the prompt, in upper or lower case.")] = None
    limit: Annotated[int, Field(ge=1, le=100, description="How many on a page.")] = 20
    cursor: Annotated[
        str | None,
        Field(min_length=1, max_length=200, description="The page; follow `next` and `previous`, which hold it."),
    ] = None


class HistoryFilters(BaseFilters):
    """Of the history page. Its forms send fields that were left empty: those do not count."""

    q: Annotated[
        str,
        Field(max_length=200, description="Words of the prompt, negative prompt, title or note."),
        AfterValidator(storable),
    ] = ""
    lora: Annotated[ModelId | None, Field(description="Made with this LoRA.")] = None
    sheet: Annotated[UUID | None, Field(description="Of this contact sheet.")] = None
    since: Annotated[date | None, Field(description="On this day or later.")] = None
    until: Annotated[date | None, Field(description="On this day or earlier.")] = None
    favourite: Annotated[Truth, Field(description="Only favourites.")] = False
    flagged: Annotated[Truth, Field(description="Only with a flagged picture.")] = False
    seed: Annotated[int | None, Field(ge=0, le=MAX_SEED, description="Made with this seed.")] = None

    @property
    def created_after(self) -> datetime | None:
        """The moment before the first day."""
        return _midnight(self.since) - timedelta(microseconds=1) if self.since else None

    @property
    def created_before(self) -> datetime | None:
        """The end of the last day."""
        return _midnight(self.until) + timedelta(days=1) if self.until else None

    @property
    def nsfw(self) -> bool | None:
        return self.flagged or None

    @classmethod
    def from_query(cls, query: Iterable[tuple[str, list[str]]]) -> Self:
        given = ((name, [value for value in values if value]) for name, values in query)
        return super().from_query((name, values) for name, values in given if values)


def _midnight(day: date) -> datetime:
    moment = datetime.combine(day, time(), timezone.get_current_timezone())
    return min(max(moment, _EARLIEST), _LATEST)
