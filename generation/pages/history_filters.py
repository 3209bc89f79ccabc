"""The row above the grid that narrows the history down: what can be chosen, what is, and the address of each choice."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db.models import Exists, OuterRef
from django.http import QueryDict
from django.utils import timezone
from django.utils.dateformat import format as format_date

from accounts.models import User
from generation.filters import HistoryFilters
from generation.models import DiffusionModel, Generation, Lora, LoraUse, State, first_id

PAGING = ("before", "under")
STATES = {
    State.QUEUED: "queued",
    State.RUNNING: "generating",
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
    State.CANCELED: "canceled",
}


@dataclass(frozen=True)
class Choice:
    """A link to the page with this chosen, or with it given up where it is."""

    label: str
    href: str
    is_chosen: bool = False


@dataclass(frozen=True)
class Menu:
    """Choices of which one at most is taken; `label` says which."""

    label: str
    is_on: bool
    choices: Sequence[Choice]


@dataclass(frozen=True)
class Year:
    number: int
    months: Sequence[Choice]


@dataclass(frozen=True)
class Chips:
    """`others` are the fields that a form of the row must hand on, by the name of the form."""

    menus: Sequence[Menu]
    switches: Sequence[Choice]
    dates: str
    seed: str
    years: Sequence[Year]
    others: dict[str, list[tuple[str, str]]]
    is_on: bool


def chips(user: User, query: QueryDict, filters: HistoryFilters) -> Chips:
    """The row for this page of this user's history; a fixed number of queries."""
    of_user = Generation.objects.filter(user=user, deleted=None, model=OuterRef("pk"))
    models = list(DiffusionModel.objects.filter(Exists(of_user)).order_by("pk").values_list("pk", flat=True))
    uses = LoraUse.objects.filter(user=user, lora=OuterRef("pk"))
    loras = list(Lora.objects.filter(Exists(uses)).order_by("pk").values_list("pk", flat=True))
    menus = [
        _menu(query, "state", "State", [(str(state), words) for state, words in STATES.items()]),
        _menu(query, "model_id", "Model", [(pk, pk) for pk in _with(models, filters.model_id)]),
        _menu(query, "lora", "LoRA", [(pk, pk) for pk in _with(loras, filters.lora)]),
    ]
    return Chips(
        menus=[menu for menu in menus if menu.is_on or menu.choices[1:]],
        switches=[
            _switch(query, "favourite", "★ Favourites"),
            _switch(query, "flagged", "Flagged"),
            # It is chosen on the tiles and the sheet; here it can be given up.
            *([Choice("One contact sheet", address(query, sheet=None), is_chosen=True)] if filters.sheet else []),
        ],
        dates=_dates(filters),
        seed="" if filters.seed is None else f"Seed {filters.seed}",
        years=list(_years(user, query)),
        others={
            "search": _fields(query, "q"),
            "dates": _fields(query, "since", "until"),
            "seed": _fields(query, "seed"),
        },
        is_on=filters != HistoryFilters(),
    )


def address(query: QueryDict, **changes: object) -> str:
    """The query with these changes, from its first page; None leaves a name out. Never empty: `?` is all of the history."""
    changed = query.copy()
    for name in (*PAGING, *changes):
        changed.pop(name, None)
    for name, value in changes.items():
        if value is not None:
            changed[name] = str(value)
    for name in [name for name, values in changed.lists() if not any(values)]:
        del changed[name]
    return "?" + changed.urlencode()


def _menu(query: QueryDict, name: str, label: str, values: Iterable[tuple[str, str]]) -> Menu:
    chosen = query.get(name, "")
    choices = [
        Choice(words, address(query, **{name: None if value == chosen else value}), value == chosen)
        for value, words in values
    ]
    taken = next((choice.label for choice in choices if choice.is_chosen), "")
    return Menu(taken.rpartition("/")[2] or label, bool(chosen), choices)


def _switch(query: QueryDict, name: str, label: str) -> Choice:
    is_on = query.get(name) == "true"
    return Choice(label, address(query, **{name: None if is_on else "true"}), is_on)


def _with(values: list[Any], chosen: str | None) -> list[Any]:
    return values if chosen is None or chosen in values else [*values, chosen]


def _fields(query: QueryDict, *without: str) -> list[tuple[str, str]]:
    left_out = (*PAGING, *without)
    return [(name, value) for name, values in query.lists() if name not in left_out for value in values if value]


def _dates(filters: HistoryFilters) -> str:
    match filters.since, filters.until:
        case None, None:
            return ""
        case since, None:
            return f"since {_day(since)}"
        case None, until:
            return f"until {_day(until)}"
        case since, until:
            return _day(since) if since == until else f"{_day(since)} to {_day(until)}"


def _day(day: date | None) -> str:
    return format_date(day, "j M Y") if day else ""


def _years(user: User, query: QueryDict) -> Iterable[Year]:
    """The months from the newest back to that of the first generation: each leads to where it ends on the whole list."""
    first: datetime | None = Generation.objects.owned_by(user).order_by("pk").values_list("created", flat=True).first()
    if first is None:
        return
    start, today = timezone.localdate(first), timezone.localdate()
    for year in range(today.year, start.year - 1, -1):
        months = range(today.month if year == today.year else 12, (start.month if year == start.year else 1) - 1, -1)
        yield Year(
            year, [Choice(format_date(date(year, month, 1), "M"), _jump(query, year, month)) for month in months]
        )


def _jump(query: QueryDict, year: int, month: int) -> str:
    after = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=timezone.get_current_timezone())
    return address(query, since=None, until=None, before=first_id(after))
