"""Trash (restorable for 7 days), then permanent deletion of pictures and texts.

The row stays as a tombstone for audit: user, times, cost, model, seeds and numbers, the digest of the upload, and the
results of the safety checker. All texts and pictures are deleted.

Trashed generations and their share links are hidden like deleted ones, but their files still exist: a signed URL from before
works until it expires, as a presigned URL of S3 would.
"""

from datetime import datetime, timedelta

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from accounts.models import DataExport
from generation.broker import progress
from generation.library import erasure, files, search
from generation.models import FINAL_STATES, ContactSheet, FileDeletion, Generation
from generation.models.review import Report

TRASH_DAYS = 7
"""How long a trashed generation can be restored."""

_WORDS = ("prompt", "negative_prompt", "image_url")
_MAX_EMPTIED = 100


def trash(rows: QuerySet[Generation]) -> int:
    """Move the finished ones of these rows to the trash. Returns their number."""
    return rows.filter(state__in=FINAL_STATES, deleted=None, trashed=None).update(trashed=timezone.now())


def restorable(rows: QuerySet[Generation]) -> QuerySet[Generation]:
    """Return the rows that can be restored. A legal hold extends the time."""
    return rows.filter(Q(trashed__gt=_trash_cutoff()) | Q(trashed__isnull=False, legal_hold=True), deleted=None)


def restore(rows: QuerySet[Generation]) -> int:
    """Restore the trashed ones of these rows. Returns their number."""
    return restorable(rows).update(trashed=None)


def purge(rows: QuerySet[Generation]) -> int:
    """Let the trashed ones of these rows expire, except for legal holds; the reaper deletes them.

    Returns their number.
    """
    return restorable(rows).filter(legal_hold=False).update(trashed=_trash_cutoff())


def empty_trash() -> int:
    """Delete expired generations in the trash, a bounded number at once. Returns their number.

    Their files are left to the sweep, which stops when the storage is away.
    """
    due = Generation.objects.filter(deleted=None, legal_hold=False, trashed__lte=_trash_cutoff())
    deleted = 0
    for pk in list(due.order_by("trashed").values_list("pk", flat=True)[:_MAX_EMPTIED]):
        # Filters again, since it may have been restored meanwhile.
        deleted += _tombstone(due.filter(pk=pk)) is not None
    return deleted


def delete(generation: Generation) -> bool:
    """Delete a finished generation. Returns False, and changes nothing, if it runs, is on legal hold, or is deleted already.

    If the process dies or the storage is away, the sweep deletes the files later.
    """
    file_deletion = _tombstone(Generation.objects.filter(pk=generation.pk))
    if file_deletion is None:
        return False
    files.delete_now(file_deletion)
    return True


def _trash_cutoff() -> datetime:
    return timezone.now() - timedelta(days=TRASH_DAYS)


def _tombstone(rows: QuerySet[Generation]) -> FileDeletion | None:
    """Empty the row and record its files for deletion. None if there is no row that may be deleted."""
    with transaction.atomic():
        ended = rows.filter(state__in=FINAL_STATES, deleted=None, legal_hold=False)
        row: Generation | None = ended.select_for_update().first()
        if row is None:
            return None
        file_deletion = files.delete_later([*files_of(row), *_drop_exports(row.user_id)])
        _empty(row)
        erasure.begin()
    progress.forget(row.pk)
    return file_deletion


def files_of(row: Generation) -> list[str]:
    """Return the names of all its files; prefetch `images` and `references`."""
    names = row.input_file_names
    for image in row.images.all():
        names += image.file_names
    return names


def _drop_exports(user_id: int) -> list[str]:
    """Remove the user's finished data exports, which have what is deleted. Return their files. A running one starts over."""
    exports = DataExport.objects.filter(user=user_id)
    finished = exports.filter(state=DataExport.State.SUCCEEDED)
    names = list(finished.values_list("file", flat=True))
    finished.delete()
    running = exports.filter(state=DataExport.State.RUNNING)
    running.update(state=DataExport.State.QUEUED, attempt=F("attempt") + 1, lease_expires=None)
    return names


def _empty(row: Generation) -> None:
    row.deleted = timezone.now()
    row.prompt = row.error_message = row.title = row.note = ""
    row.is_favourite = False
    row.parameters = without_words(row.parameters)
    row.recipe = without_words(row.recipe)
    # Warnings quote the client's field names.
    row.warnings = []
    row.input.name = row.input_thumbnail.name = row.mask.name = row.mask_thumbnail.name = ""
    # A signer may be a person.
    row.input_credentials = None
    row.input_bytes = row.output_bytes = 0
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
            "mask",
            "mask_thumbnail",
            "input_credentials",
            "input_bytes",
            "output_bytes",
        ]
    )
    search.index(row)
    Report.objects.filter(image__generation=row).delete()
    row.references.update(file="", thumbnail="", credentials=None)
    row.images.update(file="", thumbnail="", original="", original_thumbnail="")
    row.share_links.all().delete()
    row.album_entries.all().delete()
    if row.contact_sheet:
        _empty_sheet(row.contact_sheet)
    # A request that repeats the key gets the deleted generation, not a new one.
    row.idempotency_keys.update(answer="")
    # The admin's log of what staff did names the row by its prompt.
    kind = ContentType.objects.get_for_model(Generation)
    LogEntry.objects.filter(content_type=kind, object_id=str(row.pk)).update(object_repr=str(row))


def _empty_sheet(sheet: ContactSheet) -> None:
    """Delete a contact sheet without cells that are left, else the prompts of its empty columns and rows."""
    cells = [cell.cell or 0 for cell in sheet.generations.filter(deleted=None).only("cell")]
    if not cells:
        sheet.delete()
        return
    width = len(sheet.columns["values"])
    for axis, used in (
        (sheet.columns, {cell % width for cell in cells}),
        (sheet.rows, {cell // width for cell in cells}),
    ):
        if axis and axis["field"] in _WORDS:
            axis["values"] = [value if number in used else "" for number, value in enumerate(axis["values"])]
    sheet.save(update_fields=["columns", "rows"])


def without_words(fields: dict[str, object]) -> dict[str, object]:
    """Return stored parameters or a stored recipe without what its user wrote."""
    return fields | {name: "" for name in _WORDS if name in fields}
