"""Filters of the admin's list of generations, each of which uses an index."""

import re
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

from django.contrib import admin
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
_REVIEWS = {"waiting": OPEN, "safe": ("safe",), "confirmed": ("confirmed",), "any": DECIDED}
_MAX_TOKENS = 20
Rows = QuerySet[Generation]


class FlaggedFilter(admin.SimpleListFilter):
    title = "flagged"
    parameter_name = "flagged"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "Yes"), ("no", "No")]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        match self.value():
            case "yes":
                return queryset.filter(is_flagged=True)
            case "no":
                return queryset.filter(is_flagged=False)
            case _:
                return queryset


class ReviewStateFilter(admin.SimpleListFilter):
    title = "review"
    parameter_name = "review"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "Waiting"), ("safe", "Safe"), ("confirmed", "Confirmed"), ("any", "Decided")]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        reviews = _REVIEWS.get(self.value() or "")
        if reviews is None:
            return queryset
        # The subquery reads the partial index of the few pictures in review.
        return queryset.filter(pk__in=GeneratedImage.objects.filter(IN_REVIEW, review__in=reviews).values("generation"))


class LegalHoldFilter(admin.SimpleListFilter):
    title = "legal hold"
    parameter_name = "legal_hold"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "On hold")]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(legal_hold=True) if self.value() == "yes" else queryset


class ErrorFilter(admin.SimpleListFilter):
    title = "error"
    parameter_name = "error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(code.value, code.value.replace("_", " ")) for code in ErrorCode]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        if self.value() not in set(ErrorCode):
            return queryset
        # The second condition lets the database use the partial index of rows with an error.
        return queryset.filter(error_code=self.value()).exclude(error_code="")


class UserFilter(TextInputFilter):
    title = "user"
    parameter_name = "user"
    label = "Username"

    def filter(self, queryset: Any, text: str) -> Any:
        # Looked up first, so that the index on user and id serves the page.
        user = get_user_model().objects.filter(username=text).first()
        return queryset.filter(user=user) if user else queryset.none()


class TokenFilter(TextInputFilter):
    title = "token"
    parameter_name = "token"
    label = "Beginning of the token"

    def filter(self, queryset: Any, text: str) -> Any:
        tokens = ApiToken.objects.filter(prefix__startswith=text.removesuffix("…"))
        return queryset.filter(token__in=list(tokens.values_list("pk", flat=True)[:_MAX_TOKENS]))


class DateFilter(admin.SimpleListFilter):
    """A filter by year, then month, then day, as a range of ids, which begin with the time."""

    title = "date"
    parameter_name = "date"
    template = "admin/generation/generation/date_filter.html"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        self.first, self.last = _first_and_last_day()
        super().__init__(request, params, model, model_admin)

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return []

    def has_output(self) -> bool:
        return self.first is not None

    def choices(self, changelist: Any) -> Iterator[Any]:
        """Yield the wider periods, then the next finer ones in which there can be generations."""

        def choice(text: str, label: str, is_selected: bool = False) -> dict[str, Any]:
            parameters = {self.parameter_name: text} if text else None
            query = changelist.get_query_string(parameters, [self.parameter_name])
            return {"query_string": query, "display": label, "selected": is_selected}

        value = self.value() or ""
        value = value if period(value) else ""
        yield choice("", "Any date", not value)
        parts = value.split("-") if value else []
        for depth in range(1, len(parts) + 1):
            text = "-".join(parts[:depth])
            yield choice(text, _label(text), depth == len(parts))
        for text in _finer_periods(value, self.first, self.last):
            yield choice(text, _label(text))

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        if (bounds := period(self.value() or "")) is None:
            return queryset
        start, end = bounds
        return queryset.filter(pk__gte=first_id(start), pk__lt=first_id(end))


def period(text: str) -> tuple[datetime, datetime] | None:
    """Return start and end of a year, month or day such as `2026`, `2026-11`, `2026-11-24`; None if it is invalid."""
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
    bounds = period(text)
    return format_date(timezone.localtime(bounds[0]), ("Y", "F Y", "l, j F Y")[text.count("-")]) if bounds else text
