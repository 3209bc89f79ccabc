"""Filters of the admin's list of generations, each of which uses an index."""

import re
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.admin.views.main import ChangeList
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateformat import format as format_date

from accounts.admin_tools.text_input_filter import TextInputFilter
from accounts.models import ApiToken
from generation.days import start_of_day
from generation.models import GeneratedImage, Generation, first_id
from generation.models.review import DECIDED, IN_REVIEW, OPEN
from generation.parameters import ErrorCode

_PERIOD = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?\Z", re.ASCII)
LAST_DAY = "24h"
"""The value of the date filter for the last 24 hours."""

_DAY = timedelta(hours=24)
_REVIEWS = {"waiting": OPEN, "safe": ("safe",), "confirmed": ("confirmed",), "any": DECIDED}
_MAX_TOKENS = 20
_CHOICES = "admin/generation/generation/_choices_filter.html"
_TEXT = "admin/generation/generation/_text_filter.html"

_COUNTED = ("state", "model_id", "is_flagged", "error_code")

NEWEST = 1000
"""How many of the newest rows the counts of filters are of."""

Rows = QuerySet[Generation]


class GenerationList(ChangeList):
    """The page of the list, which reads the newest rows once for all filters that count values."""

    def __init__(self, *args: Any) -> None:
        self._newest: dict[str, list[dict[str, Any]]] = {}
        super().__init__(*args)

    def newest(self, request: HttpRequest, column: str, without: list[str | None] | None) -> list[Any]:
        """Return a column of the `NEWEST` newest rows and one more, filtered, but not by the parameters `without`."""
        key = str(without)
        if key not in self._newest:
            rows = self.get_queryset(request, exclude_parameters=without)
            rows = rows.select_related(None).prefetch_related(None).values(*_COUNTED)
            self._newest[key] = list(rows[: NEWEST + 1])
        return [row[column] for row in self._newest[key]]


class OccurringFilter(admin.SimpleListFilter):
    """A filter by the values of a column that occur among the newest rows which the other filters let pass, with counts."""

    template = "admin/generation/generation/_occurring_filter.html"
    column = ""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return []

    def has_output(self) -> bool:
        return True

    def parameter(self, value: Any) -> str:
        """Return how the address gives this value of the column."""
        return str(value)

    def label(self, value: str) -> str:
        """Return what the page calls this value of the address."""
        return value.replace("_", " ")

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield `any`, then each value with its count, the most frequent first."""
        without = self.expected_parameters() if self.value() else None
        values = changelist.newest(self.request, self.column, without)
        counts = Counter(self.parameter(value) for value in values[:NEWEST] if value != "")
        if (current := self.value()) and current not in counts:
            counts[current] = 0
        name, is_partial = self.parameter_name, len(values) > NEWEST
        yield {
            "query_string": changelist.get_query_string(remove=[name]),
            "display": "any",
            "selected": not current,
            "newest": NEWEST if is_partial else None,
        }
        for value, count in counts.most_common():
            query = changelist.get_query_string({name: value})
            yield {"query_string": query, "display": self.label(value), "selected": value == current, "count": count}

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(**{self.column: self.value()}) if self.value() else queryset


class StateFilter(OccurringFilter):
    title = "state"
    parameter_name = "state__exact"
    column = "state"


class ModelFilter(OccurringFilter):
    title = "model"
    parameter_name = "model__id__exact"
    column = "model_id"

    def label(self, value: str) -> str:
        return value


class FlaggedFilter(OccurringFilter):
    title = "flag"
    parameter_name = "flagged"
    column = "is_flagged"

    def label(self, value: str) -> str:
        return "flagged" if value == "yes" else "not flagged"

    def parameter(self, value: Any) -> str:
        return "yes" if value else "no"

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(is_flagged=self.value() == "yes") if self.value() in ("yes", "no") else queryset


class ReviewStateFilter(admin.SimpleListFilter):
    title = "review"
    parameter_name = "review"
    template = _CHOICES

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "waiting"), ("safe", "safe"), ("confirmed", "confirmed"), ("any", "decided")]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        reviews = _REVIEWS.get(self.value() or "")
        if reviews is None:
            return queryset
        # The subquery reads the partial index of the few pictures in review.
        return queryset.filter(pk__in=GeneratedImage.objects.filter(IN_REVIEW, review__in=reviews).values("generation"))


class LegalHoldFilter(admin.SimpleListFilter):
    title = "legal hold"
    parameter_name = "legal_hold"
    template = _CHOICES

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "on hold")]

    def has_output(self) -> bool:
        # A preset sets it, if there are any.
        return self.value() is not None

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(legal_hold=True) if self.value() == "yes" else queryset


class ErrorFilter(OccurringFilter):
    title = "error"
    parameter_name = "error"
    column = "error_code"

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        if self.value() not in set(ErrorCode):
            return queryset
        # The second condition lets the database use the partial index of rows with an error.
        return queryset.filter(error_code=self.value()).exclude(error_code="")


class UserFilter(TextInputFilter):
    title = "user"
    parameter_name = "user"
    template = _TEXT
    label = "Username"

    def filter(self, queryset: Any, text: str) -> Any:
        # Looked up first, so that the index on user and id serves the page.
        user = get_user_model().objects.filter(username=text).first()
        return queryset.filter(user=user) if user else queryset.none()


class TokenFilter(TextInputFilter):
    title = "token"
    parameter_name = "token"
    template = _TEXT
    label = "Beginning of the token"

    def filter(self, queryset: Any, text: str) -> Any:
        tokens = ApiToken.objects.filter(prefix__startswith=text.removesuffix("…"))
        return queryset.filter(token__in=list(tokens.values_list("pk", flat=True)[:_MAX_TOKENS]))


class DateFilter(admin.SimpleListFilter):
    """A filter by the last 24 hours, or year, then month, then day, as a range of ids, which begin with the time."""

    title = "date"
    parameter_name = "date"
    template = _CHOICES

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return []

    def has_output(self) -> bool:
        return True

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield the last 24 hours and the wider periods, then the next finer ones in which there can be generations."""

        def choice(text: str, label: str, is_selected: bool = False) -> dict[str, Any]:
            parameters = {self.parameter_name: text} if text else None
            query = changelist.get_query_string(parameters, [self.parameter_name])
            return {"query_string": query, "display": label, "selected": is_selected}

        value = self.value() or ""
        value = value if period(value) else ""
        yield choice("", "any", not value)
        yield choice(LAST_DAY, _label(LAST_DAY), value == LAST_DAY)
        value = value if value != LAST_DAY else ""
        parts = value.split("-") if value else []
        for depth in range(1, len(parts) + 1):
            text = "-".join(parts[:depth])
            yield choice(text, _label(text), depth == len(parts))
        for text in _finer_periods(value, *_first_and_last_day()):
            yield choice(text, _label(text))

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return within(queryset, self.value() or "")


def within(rows: Rows, text: str) -> Rows:
    """Return the rows of a period, all for an invalid one."""
    if (bounds := period(text)) is None:
        return rows
    start, end = bounds
    return rows.filter(pk__gte=first_id(start), pk__lt=first_id(end))


def period(text: str) -> tuple[datetime, datetime] | None:
    """Return start and end of a year, month or day such as `2026`, `2026-11`, `2026-11-24`; None if it is invalid.

    The last 24 hours, `24h`, end tomorrow: ids that other hosts make may be a little ahead.
    """
    if text == LAST_DAY:
        return timezone.now() - _DAY, timezone.now() + _DAY
    if not (match := _PERIOD.match(text)):
        return None
    year, month, day = (int(part) if part else None for part in match.groups())
    try:
        start = date(year or 0, month or 1, day or 1)
        if day:
            end = start + timedelta(days=1)
        elif month:
            end = date(start.year + month // 12, month % 12 + 1, 1)
        else:
            end = date(start.year + 1, 1, 1)
        # Ids cannot express times before 1970.
        return (start_of_day(start), start_of_day(end)) if start.year >= 1970 else None
    except (ValueError, OverflowError):
        return None


def _first_and_last_day() -> tuple[date | None, date | None]:
    """Return the days of the oldest and the newest generation."""
    created = Generation.objects.values_list("created", flat=True)
    first, last = (
        timezone.localdate(when) if when else None
        for when in (created.order_by(order).first() for order in ("pk", "-pk"))
    )
    return first, last


def _finer_periods(text: str, first: date | None, last: date | None) -> list[str]:
    """Return all years, the months of a year or the days of a month between two days, newest first."""
    if first is None or last is None:
        return []
    match text.count("-") if text else -1:
        case -1:
            return [f"{year:04d}" for year in range(last.year, first.year - 1, -1)]
        case 0:
            periods = (f"{text}-{month:02d}" for month in range(12, 0, -1))
        case 1:
            periods = (f"{text}-{day:02d}" for day in range(31, 0, -1))
        case _:
            return []
    return [each for each in periods if _overlaps(each, first, last)]


def _overlaps(text: str, first: date, last: date) -> bool:
    bounds = period(text)
    return bool(bounds and timezone.localdate(bounds[0]) <= last and timezone.localdate(bounds[1]) > first)


def _label(text: str) -> str:
    if text == LAST_DAY:
        return "last 24 hours"
    bounds = period(text)
    return format_date(timezone.localtime(bounds[0]), ("Y", "F Y", "l, j F Y")[text.count("-")]) if bounds else text
