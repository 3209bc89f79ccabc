"""Removal: first into the trash, whence it can be restored; then the pictures and words go for good.

Its row stays, a tombstone for audit. What stays says who asked when for how much, of which model, with which seeds and
numbers; the digest of the upload; what the safety checker said of each picture. What a person wrote or sent, and what was
made of it, does not.

What is in the trash is hidden as if it were deleted, share links included, but its bytes are there: a signed URL that was
given out before works until it expires, as a presigned one of S3 would.
"""

from datetime import datetime, timedelta

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from generation.broker import progress
from generation.library import files, search
from generation.models import FINAL_STATES, FileDeletion, Generation

TRASH_DAYS = 7
"""How long what was put into the trash can be restored."""

_WORDS = ("prompt", "negative_prompt", "image_url")
_EMPTIED_AT_ONCE = 100


def trash(rows: QuerySet[Generation]) -> int:
    """Put those of the rows that have ended into the trash. Returns how many that were."""
    return rows.filter(state__in=FINAL_STATES, deleted=None, trashed=None).update(trashed=timezone.now())


def restorable(rows: QuerySet[Generation]) -> QuerySet[Generation]:
    """Those of the rows that can still be restored: for as long as staff must keep one, it is not gone."""
    return rows.filter(Q(trashed__gt=_trash_cutoff()) | Q(trashed__isnull=False, legal_hold=True), deleted=None)


def restore(rows: QuerySet[Generation]) -> int:
    """Take those of the rows that are in the trash out of it. Returns how many that were."""
    return restorable(rows).update(trashed=None)


def purge(rows: QuerySet[Generation]) -> int:
    """End the time in the trash of those of the rows that are in it and not on hold; the reaper deletes them.

    Returns how many they are.
    """
    return restorable(rows).filter(legal_hold=False).update(trashed=_trash_cutoff())


def empty_trash() -> int:
    """Delete what has been in the trash for its time, a bounded number at once. Returns how many that were.

    Their files are left to the reaper's sweep, which knows what to do when the storage is away.
    """
    due = Generation.objects.filter(deleted=None, legal_hold=False, trashed__lte=_trash_cutoff())
    deleted = 0
    for pk in list(due.order_by("trashed").values_list("pk", flat=True)[:_EMPTIED_AT_ONCE]):
        # Not one that was restored since.
        deleted += _tombstone(due.filter(pk=pk)) is not None
    return deleted


def delete(generation: Generation) -> bool:
    """Delete a generation that has ended. False: it has not, is on legal hold, or was deleted before; nothing was changed.

    The files' names are noted in the transaction that empties the row. So when this process dies, or the storage is away,
    the reaper removes what is left.
    """
    file_deletion = _tombstone(Generation.objects.filter(pk=generation.pk))
    if file_deletion is None:
        return False
    files.delete_now(file_deletion)
    return True


def _trash_cutoff() -> datetime:
    return timezone.now() - timedelta(days=TRASH_DAYS)


def _tombstone(rows: QuerySet[Generation]) -> FileDeletion | None:
    """Empty the row and note its files; None where nothing has ended, was not deleted and is not on hold."""
    with transaction.atomic():
        ended = rows.filter(state__in=FINAL_STATES, deleted=None, legal_hold=False)
        row: Generation | None = ended.select_for_update().first()
        if row is None:
            return None
        file_deletion = files.delete_later(files_of(row))
        _empty(row)
    progress.forget(row.pk)
    return file_deletion


def files_of(row: Generation) -> list[str]:
    """The names of all its files in the storage; its images should be prefetched."""
    names = [str(file.name) for file in (row.input, row.input_thumbnail) if file]
    for image in row.images.all():
        names += image.every_name
    return names


def _empty(row: Generation) -> None:
    row.deleted = timezone.now()
    row.prompt = row.error_message = row.title = row.note = ""
    row.is_favourite = False
    row.parameters = _without_words(row.parameters)
    row.recipe = _without_words(row.recipe)
    # They name fields as the client wrote them.
    row.warnings = []
    row.input.name = row.input_thumbnail.name = ""
    row.save(
        update_fields=[
            "deleted",
            "prompt",
            "error_message",
            "title",
            "note",
            "is_favourite",
            "parameters",
            "recipe",
            "warnings",
            "input",
            "input_thumbnail",
        ]
    )
    search.index(row)
    row.images.update(file="", thumbnail="", original="", original_thumbnail="")
    row.share_links.all().delete()
    # A contact sheet holds the prompts that varied on it.
    if row.contact_sheet and not row.contact_sheet.generations.filter(deleted=None).exists():
        row.contact_sheet.delete()
    # A key that comes again finds a generation that is gone, not a new one.
    row.idempotency_keys.update(answer="")
    # The admin's log of what staff did names the row by its prompt.
    kind = ContentType.objects.get_for_model(Generation)
    LogEntry.objects.filter(content_type=kind, object_id=str(row.pk)).update(object_repr=str(row))


def _without_words(fields: dict[str, object]) -> dict[str, object]:
    return fields | {name: "" for name in _WORDS if name in fields}
