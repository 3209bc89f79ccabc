"""The filters of `GET /generations` and of the history page: names, bounds and descriptions."""

from collections.abc import Iterable
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Literal, Self
from uuid import UUID

from django.utils import timezone
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from generation.days import start_of_day
from generation.parameters import MAX_SEED, storable
from generation.responses import StateName

# Databases and UUIDs of version 7 can represent these, and a day before and after them.
_EARLIEST = datetime(1971, 1, 1, tzinfo=UTC)
_LATEST = datetime(9998, 1, 1, tzinfo=UTC)


def _parse_time(text: str) -> datetime:
    try:
        time = datetime.fromisoformat(text)
    except ValueError:
        raise PydanticCustomError(
            "datetime_parsing",
            "Input should be a date or time of ISO 8601, such as 2026-11-22T12:00:00Z; the + of an offset is written %2B",
        ) from None
    return _clamp(time if time.tzinfo else time.replace(tzinfo=UTC))


def _clamp(time: datetime) -> datetime:
    return min(max(time, _EARLIEST), _LATEST)


def _parse_bool(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        raise PydanticCustomError("bool_parsing", "Input should be true or false")
    return text.lower() == "true"


# The bounds come before the validator, so that messages give the length in characters.
ModelId = Annotated[str, Field(min_length=1, max_length=200), AfterValidator(storable)]
Text = Annotated[str, Field(min_length=1, max_length=4000), AfterValidator(storable)]
Time = Annotated[datetime, BeforeValidator(_parse_time)]
Bool = Annotated[bool, BeforeValidator(_parse_bool)]


class BaseFilters(BaseModel):
    """The filters of both. A generation must match all that are given."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    state: Annotated[
        tuple[StateName, ...],
        Field(description="In this state; repeat it for several states.", examples=[["queued"]]),
    ] = ()
    model_id: Annotated[ModelId | None, Field(description="By this model.")] = None

    @classmethod
    def from_query(cls, query: Iterable[tuple[str, list[str]]]) -> Self:
        """Parse a query of names and their values. Of several values the last counts, except for `state`.

        Raises pydantic's `ValidationError`: see `generation.parameters.error_items`.
        """
        return cls.model_validate({name: values if name == "state" else values[-1] for name, values in query})


class GenerationFilters(BaseFilters):
    """The filters of the API. Unknown names and empty values are errors."""

    created_after: Annotated[
        Time | None, Field(description="Created after this time. A time without an offset is UTC.")
    ] = None
    created_before: Annotated[Time | None, Field(description="Created before this time.")] = None
    nsfw: Annotated[
        Bool | None, Field(description="true: with a flagged picture; false: without one, checked or not.")
    ] = None
    prompt: Annotated[Text | None, Field(description="With this text in the prompt, in upper or lower case.")] = None
    limit: Annotated[int, Field(ge=1, le=100, description="The number of records on a page.")] = 20
    cursor: Annotated[
        str | None,
        Field(min_length=1, max_length=200, description="The page. Follow `next` and `previous`, which have it."),
    ] = None


class HistoryFilters(BaseFilters):
    """The filters of the history page. Empty values are ignored, since forms send empty fields, too."""

    q: Annotated[
        str,
        Field(max_length=200, description="Words of the prompt, negative prompt, title or note."),
        AfterValidator(storable),
    ] = ""
    lora: Annotated[ModelId | None, Field(description="With this LoRA.")] = None
    sheet: Annotated[UUID | None, Field(description="Of this contact sheet.")] = None
    days: Annotated[int | None, Field(ge=1, le=366, description="On one of the last days; 1 is today.")] = None
    album: Annotated[UUID | None, Field(description="In this album.")] = None
    since: Annotated[date | None, Field(description="On this day or later.")] = None
    until: Annotated[date | None, Field(description="On this day or earlier.")] = None
    favourite: Annotated[Bool, Field(description="Only favourites.")] = False
    flagged: Annotated[Bool, Field(description="Only with a flagged picture.")] = False
    seed: Annotated[int | None, Field(ge=0, le=MAX_SEED, description="With this seed.")] = None
    sort: Annotated[Literal["newest", "oldest"], Field(description="Which come first.")] = "newest"

    @property
    def is_active(self) -> bool:
        """Whether they leave anything out; the order does not."""
        return self.model_copy(update={"sort": "newest"}) != HistoryFilters()

    @property
    def created_after(self) -> datetime | None:
        """The last time before the first day."""
        days = [self.since] if self.since else []
        if self.days:
            days.append(timezone.localdate() - timedelta(days=self.days - 1))
        return _clamp(start_of_day(max(days))) - timedelta(microseconds=1) if days else None

    @property
    def created_before(self) -> datetime | None:
        """The end of the last day."""
        return _clamp(start_of_day(self.until)) + timedelta(days=1) if self.until else None

    @property
    def nsfw(self) -> bool | None:
        return self.flagged or None

    @classmethod
    def from_query(cls, query: Iterable[tuple[str, list[str]]]) -> Self:
        nonempty = ((name, [value for value in values if value]) for name, values in query)
        return super().from_query((name, values) for name, values in nonempty if values)
