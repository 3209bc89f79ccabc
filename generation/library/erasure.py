"""What SQLite's files keep of deleted rows: words in the log of writes and in segments of the full text index.

`secure_delete` overwrites what is deleted in the database's pages. Two places are left to `step`:

- FTS5 marks entries as deleted, and drops them when segments are merged. From SQLite 3.42 on it can delete at once; the
  migration that creates the index sets its option `secure-delete` then.
- The write-ahead log has pages as they were, until it is truncated.

PostgreSQL does both by itself, in its own time: autovacuum, and the recycling of its log.
"""

from typing import Any

from django.db import OperationalError, connection

from generation.models import PendingErasure

_MERGED_PAGES = 500
"""Pages of the index, of 4 kB, that one step may write."""


def begin() -> None:
    """Note that words were deleted, in the transaction that deletes them."""
    if connection.vendor == "sqlite":
        PendingErasure.objects.create()


def step() -> None:
    """Erase a bounded part of what was deleted, if there is any. The reaper calls it in every round."""
    if not PendingErasure.objects.exists():
        return
    if _merge_index() and _truncate_log():
        PendingErasure.objects.filter(is_merging=True).delete()


def _merge_index() -> bool:
    """Merge segments of the index. Return whether all that was deleted before the first step is dropped.

    See "The 'merge' command" in https://www.sqlite.org/fts5.html: a negative number of pages begins a merge of everything, and
    what changes less than two rows is the end of it.
    """
    is_first = not PendingErasure.objects.filter(is_merging=True).exists()
    if is_first:
        PendingErasure.objects.update(is_merging=True)
    with connection.cursor() as cursor:
        # The index knows, not the version of SQLite: an index that an older one created lacks the option.
        if cursor.execute("SELECT v FROM generation_words_config WHERE k = 'secure-delete' AND v").fetchone():
            return True
        before = _total_changes(cursor)
        pages = -_MERGED_PAGES if is_first else _MERGED_PAGES
        cursor.execute("INSERT INTO generation_words (generation_words, rank) VALUES ('merge', %s)", [pages])
        return _total_changes(cursor) - before < 2


def _total_changes(cursor: Any) -> int:
    changes: int = cursor.execute("SELECT total_changes()").fetchone()[0]
    return changes


def _truncate_log() -> bool:
    """Write the log into the database and empty it. Return False if somebody reads or writes now."""
    with connection.cursor() as cursor:
        timeout = cursor.execute("PRAGMA busy_timeout").fetchone()[0]
        # Writers wait for it, so it does not wait for readers.
        cursor.execute("PRAGMA busy_timeout = 0")
        try:
            is_busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        except OperationalError:
            return False
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {timeout}")
    return not is_busy
