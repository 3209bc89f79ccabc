"""Search: the words of a generation's prompt, negative prompt, title and note, and how a user's newest with them are found.

Every word is kept with its user's id before it (`7@night`), so what a search costs depends on that user's own history, not on
how many others there are. Seeds are among the words (`7@@1207`). Words are cut and folded here, the same for both databases,
so any input is a sound query:

- SQLite: a table of FTS5 whose rowid grows with time, so that the newest matches come first and reading stops with the page.
- PostgreSQL: a table of tsvectors with a GIN index.

The application keeps the index, in the transaction that changes the row: a row and its words never part.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

from django.db import connection, transaction
from django.db.models import QuerySet

from generation.filters import HistoryFilters
from generation.models import ID_SLACK, Generation, first_id

_MAX_WORDS = 2000
_MAX_LETTERS = 60
_MAX_TERMS = 16
_SHORTEST_START = 2
"""The fewest letters that the last word of a search is taken as the start of."""
_ROOM = 32
"""How far from its own rowid an entry is looked for: two of one millisecond hardly ever share 21 bits, and then move up."""

# Scripts that put no spaces between words: each letter counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")
# Marks that make another letter, not an accent: nukta, kana voicing, virama.
_KEPT_MARKS = (0, 7, 8, 9)


def page(
    rows: QuerySet[Generation], user_id: int, filters: HistoryFilters, size: int, before: UUID | None = None
) -> list[Generation]:
    """The user's newest of `rows` that the filters leave, older than `before`; one more than `size` where there is more."""
    found = narrowed(rows, user_id, filters)
    if before:
        found = found.filter(pk__lt=before)
    if _is_search(filters) and connection.vendor == "sqlite":
        # Bounds of the rowid let the scan start where the page does and end with it, and its order is that of the page.
        if before:
            found = found.filter(words__place__lt=_place(before) + _ROOM)
        if (end := filters.created_before) is not None:
            found = found.filter(words__place__lt=_place(first_id(end + ID_SLACK)))
        if (start := filters.created_after) is not None:
            found = found.filter(words__place__gte=_place(first_id(start - ID_SLACK)))
        found = found.order_by("-words__place")
    elif filters.lora and not _is_search(filters):
        found = found.order_by("-lora_uses__generation_id")
    else:
        found = found.order_by("-pk")
    return list(found.prefetch_related("images")[: size + 1])


def narrowed(rows: QuerySet[Generation], user_id: int, filters: HistoryFilters) -> QuerySet[Generation]:
    """Those of the user's `rows` that the filters leave, in no order."""
    found: QuerySet[Generation] = rows.left_by(filters)  # type: ignore[attr-defined]
    if filters.favourite:
        found = found.filter(is_favourite=True)
    if filters.lora is not None:
        found = found.filter(lora_uses__lora=filters.lora, lora_uses__user=user_id)
    if _is_search(filters):
        query = _query(user_id, filters.q, filters.seed)
        found = found.filter(words__entry__match=query) if query else found.none()
    return found


def _is_search(filters: HistoryFilters) -> bool:
    return filters.q != "" or filters.seed is not None


def keep(generation: Generation) -> None:
    """Put its words into the index, in place of those that are there: call it whenever one of its texts is set."""
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(
                "INSERT INTO generation_words (generation_id, generation_words) VALUES (%s, %s::tsvector)"
                " ON CONFLICT (generation_id) DO UPDATE SET generation_words = excluded.generation_words",
                [generation.pk, _vector(generation)],
            )
            return
        place = _place(generation.pk)
        cursor.execute(
            "SELECT rowid, generation_id FROM generation_words WHERE rowid BETWEEN %s AND %s",
            [place, place + _ROOM - 1],
        )
        taken = {kept_id: rowid for rowid, kept_id in cursor.fetchall()}
        if generation.pk.hex in taken:
            cursor.execute(
                "UPDATE generation_words SET words = %s WHERE rowid = %s",
                [" ".join(_words(generation)), taken[generation.pk.hex]],
            )
        else:
            free = next(at for at in range(place, place + _ROOM) if at not in taken.values())
            _insert(cursor, [(free, generation)])


def keep_new(generations: Sequence[Generation]) -> None:
    """Put the words of many into the index, of whom none is in it, and whose ids lie apart: for filling it."""
    with transaction.atomic(), connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            rows = [(generation.pk, _vector(generation)) for generation in generations]
            cursor.executemany(
                "INSERT INTO generation_words (generation_id, generation_words) VALUES (%s, %s::tsvector)", rows
            )
        else:
            _insert(cursor, [(_place(generation.pk), generation) for generation in generations])


def forget(ids: Iterable[UUID]) -> None:
    """Take the words of these out of the index, in which they need not be."""
    with transaction.atomic(), connection.cursor() as cursor:
        for generation_id in ids:
            if connection.vendor == "postgresql":
                cursor.execute("DELETE FROM generation_words WHERE generation_id = %s", [generation_id])
            else:
                place = _place(generation_id)
                cursor.execute(
                    "DELETE FROM generation_words WHERE rowid BETWEEN %s AND %s AND generation_id = %s",
                    [place, place + _ROOM - 1, generation_id.hex],
                )


def _insert(cursor: Any, placed: Sequence[tuple[int, Generation]]) -> None:
    cursor.executemany(
        "INSERT INTO generation_words (rowid, words, generation_id) VALUES (%s, %s, %s)",
        [(place, " ".join(_words(generation)), generation.pk.hex) for place, generation in placed],
    )


def _place(generation_id: UUID) -> int:
    """63 bits whose order is that of the ids: 42 bits of milliseconds, which last until 2109, and 21 random ones."""
    bits = generation_id.int
    return (bits >> 80 & (1 << 42) - 1) << 21 | (bits >> 64 & 0xFFF) << 9 | bits >> 53 & 0x1FF


def _words(generation: Generation) -> Iterator[str]:
    """The words of all its texts, each with the user."""
    texts = (
        generation.title,
        generation.prompt,
        str(generation.parameters.get("negative_prompt") or ""),
        generation.note,
    )
    for word in _cut("\n".join(texts))[:_MAX_WORDS]:
        yield f"{generation.user_id}@{word}"
    for seed in generation.recipe["seeds"]:
        yield _seed(generation.user_id, seed)


def _vector(generation: Generation) -> str:
    """The words with their positions, as PostgreSQL writes a tsvector."""
    return " ".join(f"'{word}':{position}" for position, word in enumerate(_words(generation), start=1))


def _seed(user_id: int, seed: int) -> str:
    # No word of a text begins like this.
    return f"{user_id}@@{seed}"


def _query(user_id: int, text: str, seed: int | None = None) -> str:
    """A query for the seed and all words of the text, the last one perhaps unfinished, in the database's language.

    Empty: there is no word in the text.

    What stands together without a space, such as `black-and-white`, is looked for in this order.
    """
    terms = [words for chunk in text.split() if (words := _cut(chunk))][:_MAX_TERMS]
    if text and not terms:
        return ""
    is_start = bool(terms) and len(terms[-1][-1]) >= _SHORTEST_START and not text[-1].isspace()
    phrases = [[f"{user_id}@{word}" for word in words] for words in terms]
    if seed is not None:
        phrases.insert(0, [_seed(user_id, seed)])
    if connection.vendor == "postgresql":
        written = ["(" + " <-> ".join(f"'{word}'" for word in words) + ")" for words in phrases]
        if is_start:
            written[-1] = written[-1].removesuffix(")") + ":*)"
        return " & ".join(written)
    written = ['"' + " ".join(words) + '"' for words in phrases]
    return " AND ".join(written) + (" *" if is_start else "")


def _cut(text: str) -> list[str]:
    """The words of a text without case and accents: letters and digits alone, which no query language gives a meaning."""
    folded = text.casefold()
    if not folded.isascii():
        letters = unicodedata.normalize("NFKD", folded)
        bare = "".join(letter for letter in letters if unicodedata.combining(letter) in _KEPT_MARKS)
        folded = unicodedata.normalize("NFC", bare).casefold()
    return [word[:_MAX_LETTERS] for word in _WORD.findall(folded)]
