"""The filter bar above the history's grid: the choices, which of them are active, and the address of each."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db.models import Exists, OuterRef
from django.http import QueryDict
from django.utils import timezone
from django.utils.dateformat import format as format_date

from accounts.models import User
from generation.days import start_of_day
from generation.filters import HistoryFilters
from generation.models import Album, DiffusionModel, Generation, Lora, LoraUse, State, first_id

PAGING = ("before", "after", "heading")
DATES = ("since", "until", "days")
STATES = {
    State.QUEUED: "queued",
    State.RUNNING: "generating",
    State.SUCCEEDED: "succeeded",
    State.FAILED: "failed",
    State.CANCELED: "canceled",
}


@dataclass(frozen=True)
class Choice:
    """A link that sets a filter, or clears it if it is set."""

    label: str
    href: str
    is_chosen: bool = False


@dataclass(frozen=True)
class Menu:
    """Choices of which at most one is set; `label` names that one, or else the menu."""

    label: str
    is_active: bool
    choices: Sequence[Choice]


@dataclass(frozen=True)
class Year:
    number: int
    months: Sequence[Choice]


@dataclass(frozen=True)
class FilterBar:
    """The filters of the history. Texts are empty for filters that are not set.

    `hidden_fields` has the other filters, as names and values, that each form of the bar must send along.
    """

    menus: Sequence[Menu]
    album_menu: Menu | None
    switches: Sequence[Choice]
    orders: Sequence[Choice]
    albums: Sequence[Album]
    album: Album | None
    dates: str
    seed: str
    years: Sequence[Year]
    hidden_fields: dict[str, list[tuple[str, str]]]
    is_active: bool


def filter_bar(user: User, query: QueryDict, filters: HistoryFilters) -> FilterBar:
    """Return the filter bar for a page of this user's history, with a constant number of queries."""
    rows = Generation.objects.filter(user=user, deleted=None, model=OuterRef("pk"))
    models = list(DiffusionModel.objects.filter(Exists(rows)).order_by("pk").values_list("pk", flat=True))
    uses = LoraUse.objects.filter(user=user, lora=OuterRef("pk"))
    loras = list(Lora.objects.filter(Exists(uses)).order_by("pk").values_list("pk", flat=True))
    albums = list(Album.objects.filter(user=user))
    menus = [
        _menu(query, "state", "State", [(str(state), label) for state, label in STATES.items()]),
        _menu(query, "model_id", "Model", [(pk, pk) for pk in _with(models, filters.model_id)]),
        _menu(query, "lora", "LoRA", [(pk, pk) for pk in _with(loras, filters.lora)]),
    ]
    switches = [
        _switch(query, "favourite", "★ Favourites"),
        _switch(query, "flagged", "Flagged"),
        _last_days(query, 1, "Today"),
        _last_days(query, 7, "7 days"),
    ]
    if filters.sheet:
        # Tiles and sheets link to this filter; the bar can only clear it.
        switches.append(Choice("One contact sheet", address(query, sheet=None), is_chosen=True))
    return FilterBar(
        menus=[menu for menu in menus if menu.is_active or len(menu.choices) > 1],
        album_menu=album_menu(query, albums),
        switches=switches,
        albums=albums,
        album=next((album for album in albums if album.pk == filters.album), None),
        orders=[
            Choice("Newest first", address(query, sort=None), filters.sort == "newest"),
            Choice("Oldest first", address(query, sort="oldest"), filters.sort == "oldest"),
        ],
        dates=_dates(filters),
        seed="" if filters.seed is None else f"Seed {filters.seed}",
        years=list(_years(user, query)),
        hidden_fields={
            "search": _other_fields(query, "q"),
            "dates": _other_fields(query, *DATES),
            "seed": _other_fields(query, "seed"),
        },
        is_active=filters.is_active,
    )


def album_menu(query: QueryDict, albums: Sequence[Album]) -> Menu | None:
    """Return the menu of the filter by album; None without albums."""
    return _menu(query, "album", "Album", [(str(album.pk), album.name) for album in albums]) if albums else None


def address(query: QueryDict, **changes: object) -> str:
    """Return the first page's address for the query with these changes; None removes a name.

    It is never empty: `?` is the whole history.
    """
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
    current = query.get(name, "")
    choices = [
        Choice(choice_label, address(query, **{name: None if value == current else value}), value == current)
        for value, choice_label in values
    ]
    current_label = next((choice.label for choice in choices if choice.is_chosen), "")
    if name in ("model_id", "lora"):
        # Their ids are long; the part after the owner is enough.
        current_label = current_label.rpartition("/")[2]
    return Menu(current_label or label, bool(current), choices)


def _switch(query: QueryDict, name: str, label: str) -> Choice:
    is_on = query.get(name) == "true"
    return Choice(label, address(query, **{name: None if is_on else "true"}), is_on)


def _last_days(query: QueryDict, days: int, label: str) -> Choice:
    """Return a switch for the last days, instead of other dates."""
    is_on = query.get("days") == str(days)
    others: dict[str, None] = dict.fromkeys(DATES)
    return Choice(label, address(query, **others | {"days": None if is_on else days}), is_on)


def _with(values: list[Any], value: str | None) -> list[Any]:
    return values if value is None or value in values else [*values, value]


def _other_fields(query: QueryDict, *names: str) -> list[tuple[str, str]]:
    """Return the query's names and values, except the form's own fields, `names`, and paging."""
    excluded = (*PAGING, *names)
    return [(name, value) for name, values in query.lists() if name not in excluded for value in values if value]


def _dates(filters: HistoryFilters) -> str:
    if filters.days and filters.days not in (1, 7):
        return f"last {filters.days} days"
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
    """Yield the months from this one back to that of the first generation; each links to where it begins in the order."""
    first: datetime | None = Generation.objects.owned_by(user).order_by("pk").values_list("created", flat=True).first()
    if first is None:
        return
    start, today = timezone.localdate(first), timezone.localdate()
    for year in range(today.year, start.year - 1, -1):
        months = range(today.month if year == today.year else 12, (start.month if year == start.year else 1) - 1, -1)
        yield Year(
            year,
            [Choice(format_date(date(year, month, 1), "M"), _month_address(query, year, month)) for month in months],
        )


def _month_address(query: QueryDict, year: int, month: int) -> str:
    others: dict[str, None] = dict.fromkeys(DATES)
    if query.get("sort") == "oldest":
        return address(query, **others, after=first_id(start_of_day(date(year, month, 1))))
    return address(query, **others, before=first_id(start_of_day(date(year + month // 12, month % 12 + 1, 1))))
