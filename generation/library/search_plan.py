"""How rows that hold the words of a search are read: from the side that leaves fewer, the words or the other filters.

- SQLite reads the matches of the words from the newest on, and stops with the page. Where the filters leave few rows, those
  may be matches one and all, or none of them: then it is they that are read, and each one's words are looked at.
- PostgreSQL reads the rows from the newest on and looks at each one's words, where among the next ones there are enough for a
  page. Else the matches are not too many to be fetched from the index, and sorted.

Either way a page costs one query more than without words, or none.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import connection
from django.db.models import Exists, OuterRef, QuerySet, Subquery, UUIDField, Value
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce

from generation.models import Generation, SearchEntry

ROWID_SLOTS = 32
"""How far from its own rowid an entry is looked for: two of one millisecond hardly ever share 21 bits, and then move up."""
SCAN_LIMIT = 2000
"""Of so many rows the words are looked at one by one, on SQLite."""
LOOKAHEAD = 2000
"""Among so many rows a page must be full for them to be read one by one, on PostgreSQL."""
COMMON_MATCHES = 1500
"""So many matches are fetched and sorted sooner than rows are read."""
PAGE = 60
"""More than a page has."""


@dataclass
class Phrase:
    """Words as they are kept, in this order; the last one may be the start of one."""

    words: Sequence[str]
    is_start: bool = False

    def __str__(self) -> str:
        """In the database's language."""
        if connection.vendor == "postgresql":
            return "(" + " <-> ".join(f"'{word}'" for word in self.words) + (":*)" if self.is_start else ")")
        return '"' + " ".join(self.words) + ('" *' if self.is_start else '"')

    @property
    def text(self) -> str:
        """What is found in a space, the words of an entry, and a space."""
        return f" {' '.join(self.words)}" + ("" if self.is_start else " ")


Wanted = Sequence[Sequence[Phrase]]
"""One of each of these."""


@dataclass(frozen=True)
class RowidRange:
    """The ids to look at: from `low` on, to before `high`."""

    low: UUID | None = None
    high: UUID | None = None


def matching(
    rows: QuerySet[Generation], wanted: Wanted, span: RowidRange, *, are_narrowed: bool, oldest_first: bool = False
) -> QuerySet[Generation]:
    """Those of `rows` that hold what is wanted, in the order of their ids.

    All of `rows` are of the span; it is said for the index of words. `are_narrowed`: few of those of the words may be left.
    """
    if connection.vendor == "postgresql":
        return _on_postgresql(rows, wanted, "pk" if oldest_first else "-pk")
    return _on_sqlite(rows, wanted, span, are_narrowed, "" if oldest_first else "-")


def _on_postgresql(rows: QuerySet[Generation], wanted: Wanted, order: str) -> QuerySet[Generation]:
    query = to_query(wanted)
    entry = SearchEntry.objects.filter(generation=OuterRef("pk")).values("entry")
    # As a subquery, of which the database makes no join: it would read the matches first, whatever their number.
    each = rows.alias(its_words=Subquery(entry)).filter(its_words__match=query).order_by(order)
    last = Subquery(rows.order_by(order).values("pk")[LOOKAHEAD : LOOKAHEAD + 1])
    near = (
        {"pk__gt": Coalesce(last, Value(UUID(int=0)), output_field=UUIDField())}
        if order == "-pk"
        else {"pk__lt": Coalesce(last, Value(UUID(int=2**128 - 1)), output_field=UUIDField())}
    )
    # Asked of the index first: what is rare is not looked for among those rows.
    are_many = Exists(SearchEntry.objects.filter(entry__match=query)[COMMON_MATCHES:])
    if len(each.filter(are_many, **near).values_list("pk")[:PAGE]) == PAGE:
        return each
    return rows.filter(search_entry__entry__match=query).order_by(order)


def _on_sqlite(
    rows: QuerySet[Generation], wanted: Wanted, span: RowidRange, are_narrowed: bool, sign: str
) -> QuerySet[Generation]:
    if are_narrowed:
        few = list(rows.order_by().values_list("pk", flat=True)[: SCAN_LIMIT + 1])
        if len(few) <= SCAN_LIMIT:
            return rows.filter(pk__in=_of_these(few, wanted)).order_by(f"{sign}pk")
    found = rows.filter(search_entry__entry__match=to_query(wanted))
    # The scan of the index starts and ends there.
    if span.low:
        found = found.filter(search_entry__rowid__gte=rowid_of(span.low))
    if span.high:
        found = found.filter(search_entry__rowid__lt=rowid_of(span.high) + ROWID_SLOTS)
    return found.order_by(f"{sign}search_entry__rowid")


def _of_these(ids: Sequence[UUID], wanted: Wanted) -> RawSQL:
    """The ids, of these and of their neighbours, of those that hold what is wanted, by their entries' own words."""
    holds = " AND ".join(
        "(" + " OR ".join("instr(' ' || entry.words || ' ', %s)" for _ in phrases) + ")" for phrases in wanted
    )
    sql = (
        "SELECT entry.generation_id FROM json_each(%s) AS few CROSS JOIN generation_words AS entry"  # noqa: S608  no input
        f" WHERE entry.rowid BETWEEN few.value AND few.value + {ROWID_SLOTS - 1} AND {holds}"
    )
    values = [json.dumps([rowid_of(found) for found in ids]), *(one.text for each in wanted for one in each)]
    return RawSQL(sql, values)  # noqa: S611  none of it is input


def to_query(wanted: Wanted) -> str:
    """A query for what is wanted, in the database's language."""
    all_of, one_of = (" & ", " | ") if connection.vendor == "postgresql" else (" AND ", " OR ")
    return all_of.join("(" + one_of.join(map(str, phrases)) + ")" for phrases in wanted)


def rowid_of(generation_id: UUID) -> int:
    """63 bits whose order is that of the ids: 42 bits of milliseconds, which last until 2109, and 21 random ones."""
    bits = generation_id.int
    return (bits >> 80 & (1 << 42) - 1) << 21 | (bits >> 64 & 0xFFF) << 9 | bits >> 53 & 0x1FF
