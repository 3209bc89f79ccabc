"""What the list of generations is narrowed by, each without scanning the table."""

import re
from collections.abc import Iterator
from datetime import date, datetime, time, timedelta
from typing import Any

from django.contrib import admin
from django.contrib.auth import get_user_model
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone
from django.utils.dateformat import format as format_date

from accounts.admin_tools.text_input_filter import TextInputFilter
from accounts.models import ApiToken
from generation.models import GeneratedImage, Generation, first_id
from generation.models.review import DECIDED, IN_REVIEW, OPEN
from generation.parameters import ErrorCode

_PERIOD = re.compile(r"(\d{4})(?:-(\d\d)(?:-(\d\d))?)?\Z", re.ASCII)
Rows = QuerySet[Generation]


class Flagged(admin.SimpleListFilter):
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


class Reviewed(admin.SimpleListFilter):
    title = "review"
    parameter_name = "review"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("waiting", "Waiting"), ("safe", "Found safe"), ("confirmed", "Confirmed"), ("any", "Decided")]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        wanted = {"waiting": OPEN, "safe": ("safe",), "confirmed": ("confirmed",), "any": DECIDED}.get(
            self.value() or ""
        )
        if wanted is None:
            return queryset
        # From the few pictures that are in review, by their own index.
        return queryset.filter(pk__in=GeneratedImage.objects.filter(IN_REVIEW, review__in=wanted).values("generation"))


class Held(admin.SimpleListFilter):
    title = "legal hold"
    parameter_name = "legal_hold"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [("yes", "On hold")]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        return queryset.filter(legal_hold=True) if self.value() == "yes" else queryset


class ByError(admin.SimpleListFilter):
    title = "error"
    parameter_name = "error"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(code.value, code.value.replace("_", " ")) for code in ErrorCode]

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        if self.value() not in set(ErrorCode):
            return queryset
        # Said twice, since the index is of rows with an error alone, and no database concludes it.
        return queryset.filter(error_code=self.value()).exclude(error_code="")


class OfUser(TextInputFilter):
    """People may be too many to be listed."""

    title = "user"
    parameter_name = "user"
    label = "Username"

    def filter(self, queryset: Any, text: str) -> Any:
        # Found first, so that the index on user and id serves the page.
        user = get_user_model().objects.filter(username=text).first()
        return queryset.filter(user=user) if user else queryset.none()


class OfToken(TextInputFilter):
    title = "token"
    parameter_name = "token"
    label = "Beginning of the token"

    def filter(self, queryset: Any, text: str) -> Any:
        tokens = list(
            ApiToken.objects.filter(prefix__startswith=text.removesuffix("…")).values_list("pk", flat=True)[:20]
        )
        return queryset.filter(token__in=tokens)


class ByDate(admin.SimpleListFilter):
    """Years, then months, then days: bounds of the ids, which begin with the time, so that the table is not scanned."""

    title = "date"
    parameter_name = "date"
    template = "admin/generation/generation/date_filter.html"

    def __init__(self, request: HttpRequest, params: dict[str, Any], model: Any, model_admin: Any) -> None:
        self.first, self.last = _ends()
        super().__init__(request, params, model, model_admin)

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return []

    def has_output(self) -> bool:
        return self.first is not None

    def choices(self, changelist: Any) -> Iterator[Any]:
        """The way back first, then the next finer periods in which there can be generations."""

        def link(period: str, words: str, chosen: bool = False) -> dict[str, Any]:
            query = changelist.get_query_string(
                {self.parameter_name: period} if period else None, [self.parameter_name]
            )
            return {"query_string": query, "display": words, "selected": chosen}

        chosen = period(self.value() or "")
        value = (self.value() or "") if chosen else ""
        yield link("", "Any date", not value)
        parts = value.split("-") if value else []
        for depth in range(1, len(parts) + 1):
            text = "-".join(parts[:depth])
            yield link(text, _words(text), depth == len(parts))
        for text in _finer(value, self.first, self.last):
            yield link(text, _words(text))

    def queryset(self, request: HttpRequest, queryset: Rows) -> Rows:
        chosen = period(self.value() or "")
        return queryset.filter(pk__gte=first_id(chosen[0]), pk__lt=first_id(chosen[1])) if chosen else queryset


def period(text: str) -> tuple[datetime, datetime] | None:
    """Beginning and end of a year, month or day such as `2026`, `2026-11`, `2026-11-24`; None: it is none."""
    if not (found := _PERIOD.match(text)):
        return None
    year, month, day = (int(part) if part else None for part in found.groups())
    try:
        start = date(year or 0, month or 1, day or 1)
        if day:
            end = start + timedelta(days=1)
        elif month:
            end = date(start.year + month // 12, month % 12 + 1, 1)
        else:
            end = date(start.year + 1, 1, 1)
        # Ids know of no time before 1970.
        return (_midnight(start), _midnight(end)) if start.year >= 1970 else None
    except (ValueError, OverflowError):
        return None


def _ends() -> tuple[date | None, date | None]:
    """The days of the oldest and the newest generation."""
    rows = Generation.objects.values_list("created", flat=True)
    found = [rows.order_by(order).first() for order in ("pk", "-pk")]
    first, last = (timezone.localdate(when) if when else None for when in found)
    return first, last


def _finer(text: str, first: date | None, last: date | None) -> list[str]:
    """The years of all, the months of a year, the days of a month, between these days, the newest first."""
    if first is None or last is None:
        return []
    match text.count("-") if text else -1:
        case -1:
            return [f"{year:04d}" for year in range(last.year, first.year - 1, -1)]
        case 0:
            every = (f"{text}-{month:02d}" for month in range(12, 0, -1))
        case 1:
            every = (f"{text}-{day:02d}" for day in range(31, 0, -1))
        case _:
            return []
    return [finer for finer in every if _holds(finer, first, last)]


def _holds(text: str, first: date, last: date) -> bool:
    found = period(text)
    return bool(found and timezone.localdate(found[0]) <= last and timezone.localdate(found[1]) > first)


def _words(text: str) -> str:
    found = period(text)
    return format_date(timezone.localtime(found[0]), ("Y", "F Y", "l, j F Y")[text.count("-")]) if found else text


def _midnight(day: date) -> datetime:
    return timezone.make_aware(datetime.combine(day, time.min))
