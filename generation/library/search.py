"""Full text search in prompts, negative prompts, titles, notes and seeds of generations.

Every word is stored with its user's id as a prefix (`7@night`), so the cost of a search depends on the size of that user's
history alone; seeds are words too (`7@@1207`). For staff, who search all users, the user (`7@`), the seeds (`@@1207`) and the
words of both prompts (`@night`) are stored again. Words are split and normalized here, so any input is a valid query:

- SQLite: a table of FTS5 whose rowid grows with time, so that the newest matches come first and reading stops with the page.
- PostgreSQL: a table of tsvectors with a GIN index.

The application updates the index in the transaction that changes the row.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import Q, QuerySet

from accounts.models import User
from generation.filters import HistoryFilters
from generation.library.search_plan import (
    ROWID_SLOTS,
    Phrase,
    Query,
    RowidRange,
    matching,
    rowid_of,
)
from generation.models import ID_SLACK, AlbumEntry, Generation, first_id

_MAX_WORDS = 2000
_MAX_LETTERS = 60
_MAX_TERMS = 16
_BATCH = 1000
_MIN_PREFIX = 2
"""Fewest letters of a last word that is searched as a prefix."""

# Scripts that put no spaces between words: each letter counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
# Marks that make another letter, not an accent: nukta, kana voicing, virama.
_LETTER_MARKS = (0, 7, 8, 9)


def page(
    rows: QuerySet[Generation], user_id: int, filters: HistoryFilters, size: int, last: UUID | None = None
) -> list[Generation]:
    """Return the user's rows that pass the filters, in their order, those after `last`; `size` + 1 if there is a next page."""
    return list(_sorted(rows, user_id, filters, last).prefetch_related("images", "source")[: size + 1])


def ids(rows: QuerySet[Generation], user_id: int, filters: HistoryFilters, count: int) -> list[UUID]:
    """Return the ids of the user's first `count` rows that pass the filters, in their order."""
    return list(_sorted(rows, user_id, filters).values_list("pk", flat=True)[:count])


def count_newer(rows: QuerySet[Generation], user_id: int, filters: HistoryFilters, newest: UUID, maximum: int) -> int:
    """Return how many of the user's rows that pass the filters are newer than `newest`, counting up to `maximum`."""
    return len(_filtered(rows, user_id, filters, newer_than=newest).values_list("pk")[:maximum])


def neighbours(
    rows: QuerySet[Generation], user_id: int, filters: HistoryFilters, here: UUID, count: int
) -> tuple[list[Generation], list[Generation]]:
    """Return the user's rows that pass the filters just newer and just older than `here`, nearest first."""
    newer = _filtered(rows, user_id, filters, newer_than=here, oldest_first=True)
    older = _filtered(rows, user_id, filters, older_than=here)
    return list(newer[:count]), list(older[:count])


def _sorted(
    rows: QuerySet[Generation], user_id: int, filters: HistoryFilters, last: UUID | None = None
) -> QuerySet[Generation]:
    if filters.sort == "oldest":
        return _filtered(rows, user_id, filters, newer_than=last, oldest_first=True)
    return _filtered(rows, user_id, filters, older_than=last)


def _filtered(
    rows: QuerySet[Generation],
    user_id: int,
    filters: HistoryFilters,
    *,
    older_than: UUID | None = None,
    newer_than: UUID | None = None,
    oldest_first: bool = False,
) -> QuerySet[Generation]:
    """Return the user's rows that pass the filters, newest first unless `oldest_first`."""
    selection: QuerySet[Generation] = rows.filtered_by(filters)  # type: ignore[attr-defined]
    if filters.favourite:
        selection = selection.filter(is_favourite=True)
    if filters.sheet is not None:
        selection = selection.filter(contact_sheet=filters.sheet)
    if filters.lora is not None:
        selection = selection.filter(lora_uses__lora=filters.lora, lora_uses__user=user_id)
    if filters.album is not None:
        # An album is small. Its ids are read first, so that no plan reads the whole history for them.
        entries = AlbumEntry.objects.filter(album=filters.album)
        selection = selection.filter(pk__in=list(entries.values_list("generation", flat=True)))
    if older_than:
        selection = selection.filter(pk__lt=older_than)
    if newer_than:
        selection = selection.filter(pk__gt=newer_than)
    if filters.q == "" and filters.seed is None:
        # The order of the index that serves the query.
        order = "lora_uses__generation_id" if filters.lora else "pk"
        return selection.order_by(order if oldest_first else f"-{order}")
    query = _query(user_id, filters.q, filters.seed)
    if not query:
        return selection.none()
    start, end = filters.created_after, filters.created_before
    lows = [newer_than, first_id(start - ID_SLACK) if start else None]
    highs = [older_than, first_id(end + ID_SLACK) if end else None]
    span = RowidRange(max(filter(None, lows), default=None), min(filter(None, highs), default=None))
    others = (
        filters.state,
        filters.model_id,
        filters.favourite,
        filters.flagged,
        filters.sheet,
        filters.lora,
        filters.album,
    )
    return matching(selection, query, span, is_filtered=any(others), oldest_first=oldest_first)


def search_all(
    rows: QuerySet[Generation], text: str, start: datetime | None = None, end: datetime | None = None
) -> QuerySet[Generation]:
    """Return the rows that match every word of `text`, newest first: as a username, a seed, or a word of the prompts.

    `start` and `end` bound the scan of the index and must contain all `rows`.
    """
    terms = _terms(text)
    if not terms:
        return rows.none()
    has_username = Q(*(("username__iexact", chunk) for chunk, _ in terms), _connector=Q.OR)
    users = list(User.objects.filter(has_username).values_list("pk", "username"))
    query = []
    for chunk, words in terms:
        phrases = [Phrase([f"@{word}" for word in words])]
        phrases += [Phrase([_user(pk)]) for pk, name in users if name.casefold() == chunk.casefold()]
        if chunk.isascii() and chunk.isdigit():
            phrases.append(Phrase([_seed("", chunk.lstrip("0") or "0")]))
        query.append(phrases)
    # A number is a whole seed: as a prefix it would cost as much as a common word.
    if _ends_in_prefix(text, terms) and not terms[-1][0].isdigit():
        query[-1][0].has_prefix = True
    span = RowidRange(first_id(start) if start else None, first_id(end) if end else None)
    return matching(rows, query, span, is_filtered=bool(rows.query.has_filters()))


def index(generation: Generation) -> None:
    """Add the generation to the index or update its entry. Call it whenever one of its texts changes."""
    with transaction.atomic(savepoint=False), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "INSERT INTO generation_words (generation_id, generation_words) VALUES (%s, %s::tsvector)"
                " ON CONFLICT (generation_id) DO UPDATE SET generation_words = excluded.generation_words",
                [generation.pk, _vector(generation)],
            )
            return
        first = rowid_of(generation.pk)
        cursor.execute(
            "SELECT generation_id, rowid FROM generation_words WHERE rowid BETWEEN %s AND %s",
            [first, first + ROWID_SLOTS - 1],
        )
        rowids: dict[str, int] = dict(cursor.fetchall())
        if generation.pk.hex in rowids:
            cursor.execute(
                "UPDATE generation_words SET words = %s WHERE rowid = %s",
                [" ".join(_words(generation)), rowids[generation.pk.hex]],
            )
        else:
            free = next(rowid for rowid in range(first, first + ROWID_SLOTS) if rowid not in rowids.values())
            _insert(cursor, [(free, generation)])


def index_many(generations: Iterable[Generation]) -> None:
    """Add many generations, ordered by id, to an index without entries of that time."""
    entries = _with_rowids(generations)
    with transaction.atomic(), connection.cursor() as cursor:
        while batch := list(islice(entries, _BATCH)):
            _insert(cursor, batch)


def _with_rowids(generations: Iterable[Generation]) -> Iterator[tuple[int, Generation]]:
    """Pair each generation with a free rowid: its own, or after a collision the next one."""
    rowid = 0
    for generation in generations:
        rowid = max(rowid_of(generation.pk), rowid + 1)
        yield rowid, generation


def unindex(ids: Iterable[UUID]) -> None:
    """Remove the entries of these generations, if there are any."""
    with transaction.atomic(), connection.cursor() as cursor:
        for generation_id in ids:
            if connection.vendor == "postgresql":
                cursor.execute("DELETE FROM generation_words WHERE generation_id = %s", [generation_id])
            else:
                first = rowid_of(generation_id)
                cursor.execute(
                    "DELETE FROM generation_words WHERE rowid BETWEEN %s AND %s AND generation_id = %s",
                    [first, first + ROWID_SLOTS - 1, generation_id.hex],
                )


def _insert(cursor: Any, entries: Sequence[tuple[int, Generation]]) -> None:
    """Insert entries of generations with these rowids, which PostgreSQL has none of."""
    if connection.vendor == "postgresql":
        cursor.executemany(
            "INSERT INTO generation_words (generation_id, generation_words) VALUES (%s, %s::tsvector)",
            [(generation.pk, _vector(generation)) for _, generation in entries],
        )
    else:
        cursor.executemany(
            "INSERT INTO generation_words (rowid, words, generation_id) VALUES (%s, %s, %s)",
            [(rowid, " ".join(_words(generation)), generation.pk.hex) for rowid, generation in entries],
        )


def _words(generation: Generation) -> Iterator[str]:
    """Return the words that the user finds it by, then those that staff find it by."""
    prompts = (generation.prompt, str(generation.parameters.get("negative_prompt") or ""))
    for word in _split_words("\n".join((generation.title, *prompts, generation.note)))[:_MAX_WORDS]:
        yield f"{generation.user_id}@{word}"
    for seed in generation.recipe["seeds"]:
        yield _seed(generation.user_id, seed)
        yield _seed("", seed)
    yield _user(generation.user_id)
    for word in _split_words("\n".join(prompts))[:_MAX_WORDS]:
        yield f"@{word}"


def _vector(generation: Generation) -> str:
    """Return the words with their positions as a tsvector literal."""
    return " ".join(f"'{word}':{position}" for position, word in enumerate(_words(generation), start=1))


def _seed(user_id: int | str, seed: int | str) -> str:
    # Words of texts contain no @.
    return f"{user_id}@@{seed}"


def _user(user_id: int) -> str:
    return f"{user_id}@"


def _query(user_id: int, text: str, seed: int | None = None) -> Query:
    """Return the query for the seed and all words of the text, the last one perhaps as a prefix. Empty: no words.

    Words without a space between them, such as `black-and-white`, are one phrase.
    """
    terms = _terms(text)
    if text and not terms:
        return []
    phrases = [Phrase([f"{user_id}@{word}" for word in words]) for _, words in terms]
    if _ends_in_prefix(text, terms):
        phrases[-1].has_prefix = True
    if seed is not None:
        phrases.insert(0, Phrase([_seed(user_id, seed)]))
    return [[phrase] for phrase in phrases]


def _terms(text: str) -> list[tuple[str, list[str]]]:
    """Split the text at spaces. Returns each part with its words."""
    return [(chunk, words) for chunk in text.split() if (words := _split_words(chunk))][:_MAX_TERMS]


def _ends_in_prefix(text: str, terms: Sequence[tuple[str, list[str]]]) -> bool:
    """Return whether the last word is searched as a prefix."""
    return bool(terms) and len(terms[-1][1][-1]) >= _MIN_PREFIX and not text[-1].isspace()


def _split_words(text: str) -> list[str]:
    """Split a text into words of letters and digits, without case and accents. They need no escaping in queries."""
    folded = text.casefold()
    if not folded.isascii():
        letters = unicodedata.normalize("NFKD", folded)
        bare = "".join(letter for letter in letters if unicodedata.combining(letter) in _LETTER_MARKS)
        folded = unicodedata.normalize("NFC", bare).casefold()
    return [word[:_MAX_LETTERS] for word in _WORD.findall(folded)]
