"""Query plans of the search: start from the search index or from the other filters, whichever reads fewer rows.

- SQLite reads the matches of the index, newest first, and stops at the end of the page. If the other filters leave at most
  `SCAN_LIMIT` rows, it reads the words of those rows instead.
- PostgreSQL reads rows, newest first, and checks their words, if the next `LOOKAHEAD` rows hold enough matches for a page.
  Otherwise it fetches all matches from the index and sorts them.

A page costs at most one query more than without words. `tests/tools/bench_history.py` measures searches.
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
"""On a collision of rowids an entry takes the next free one of this many. Two ids of one millisecond collide if their
21 random bits are equal."""
SCAN_LIMIT = 2000
"""SQLite: most rows whose words are read one by one."""
LOOKAHEAD = 2000
"""PostgreSQL: rows are read before the index if this many of them hold enough matches for a page."""
COMMON_MATCHES = 1500
"""PostgreSQL: up to this many matches are fetched and sorted without trying to read rows."""
PAGE = 60
"""PostgreSQL: matches that fill a page; at least the largest page."""


@dataclass
class Phrase:
    """Consecutive words of the index. With `has_prefix`, the last one is a prefix."""

    words: Sequence[str]
    has_prefix: bool = False

    def __str__(self) -> str:
        """Return the phrase in the database's query language."""
        if connection.vendor == "postgresql":
            return "(" + " <-> ".join(f"'{word}'" for word in self.words) + (":*)" if self.has_prefix else ")")
        return '"' + " ".join(self.words) + ('" *' if self.has_prefix else '"')

    @property
    def text(self) -> str:
        """Return the text to look for in the words of an entry, with a space before and after them."""
        return f" {' '.join(self.words)}" + ("" if self.has_prefix else " ")


Query = Sequence[Sequence[Phrase]]
"""A conjunction of disjunctions of phrases."""


@dataclass(frozen=True)
class RowidRange:
    """Bounds of the ids to read: `low` inclusive, `high` exclusive."""

    low: UUID | None = None
    high: UUID | None = None


def matching(
    rows: QuerySet[Generation], query: Query, span: RowidRange, *, is_filtered: bool, oldest_first: bool = False
) -> QuerySet[Generation]:
    """Return the rows that match, newest first unless `oldest_first`.

    `span` bounds the scan of the index and must contain all `rows`. `is_filtered` says that `rows` has other filters, which
    may exclude most matches.
    """
    if connection.vendor == "postgresql":
        return _on_postgresql(rows, query, "pk" if oldest_first else "-pk")
    return _on_sqlite(rows, query, span, is_filtered, "" if oldest_first else "-")


def _on_postgresql(rows: QuerySet[Generation], query: Query, order: str) -> QuerySet[Generation]:
    tsquery = to_query(query)
    entry = SearchEntry.objects.filter(generation=OuterRef("pk")).values("entry")
    # A subquery, since for a join the planner may read all matches first.
    by_row = rows.alias(entry=Subquery(entry)).filter(entry__match=tsquery).order_by(order)
    last = Subquery(rows.order_by(order).values("pk")[LOOKAHEAD : LOOKAHEAD + 1])
    lookahead = (
        {"pk__gt": Coalesce(last, Value(UUID(int=0)), output_field=UUIDField())}
        if order == "-pk"
        else {"pk__lt": Coalesce(last, Value(UUID(int=2**128 - 1)), output_field=UUIDField())}
    )
    # For rare words the index is faster.
    is_common = Exists(SearchEntry.objects.filter(entry__match=tsquery)[COMMON_MATCHES:])
    if len(by_row.filter(is_common, **lookahead).values_list("pk")[:PAGE]) == PAGE:
        return by_row
    return rows.filter(search_entry__entry__match=tsquery).order_by(order)


def _on_sqlite(
    rows: QuerySet[Generation], query: Query, span: RowidRange, is_filtered: bool, sign: str
) -> QuerySet[Generation]:
    if is_filtered:
        ids = list(rows.order_by().values_list("pk", flat=True)[: SCAN_LIMIT + 1])
        if len(ids) <= SCAN_LIMIT:
            return rows.filter(pk__in=_matching_ids(ids, query)).order_by(f"{sign}pk")
    matches = rows.filter(search_entry__entry__match=to_query(query))
    # Bounds of the scan of the index.
    if span.low:
        matches = matches.filter(search_entry__rowid__gte=rowid_of(span.low))
    if span.high:
        matches = matches.filter(search_entry__rowid__lt=rowid_of(span.high) + ROWID_SLOTS)
    return matches.order_by(f"{sign}search_entry__rowid")


def _matching_ids(ids: Sequence[UUID], query: Query) -> RawSQL:
    """Select the ids that match, by reading their entries. May include ids with neighbouring rowids."""
    condition = " AND ".join(
        "(" + " OR ".join("instr(' ' || entry.words || ' ', %s)" for _ in phrases) + ")" for phrases in query
    )
    sql = (
        "SELECT entry.generation_id FROM json_each(%s) AS rowids CROSS JOIN generation_words AS entry"  # noqa: S608  no input
        f" WHERE entry.rowid BETWEEN rowids.value AND rowids.value + {ROWID_SLOTS - 1} AND {condition}"
    )
    rowids = json.dumps([rowid_of(generation_id) for generation_id in ids])
    values = [rowids, *(phrase.text for phrases in query for phrase in phrases)]
    return RawSQL(sql, values)  # noqa: S611  none of it is input


def to_query(query: Query) -> str:
    """Return the query in the database's language."""
    all_of, one_of = (" & ", " | ") if connection.vendor == "postgresql" else (" AND ", " OR ")
    return all_of.join("(" + one_of.join(map(str, phrases)) + ")" for phrases in query)


def rowid_of(generation_id: UUID) -> int:
    """Return 63 bits in the order of the ids: 42 bits of milliseconds, enough until 2109, and 21 random ones."""
    bits = generation_id.int
    return (bits >> 80 & (1 << 42) - 1) << 21 | (bits >> 64 & 0xFFF) << 9 | bits >> 53 & 0x1FF
