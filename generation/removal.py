"""Removal: the pictures and words of a generation go for good. Its row stays, a tombstone for audit.

What stays says who asked when for how much, of which model, with which seeds and numbers; the digest of the upload; what the
safety checker said of each picture. What a person wrote or sent, and what was made of it, does not.
"""

from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.utils import timezone

from generation import doorbell, media
from generation.models import FINAL_STATES, Generation, Staging

_WORDS = ("prompt", "negative_prompt", "image_url")


def delete(generation: Generation) -> bool:
    """Delete a generation that has ended. False: it has not, or was deleted before; nothing was changed.

    The files' names are noted in the transaction that empties the row. So when this process dies, or the storage is away,
    the reaper removes what is left.
    """
    with transaction.atomic():
        rows = Generation.objects.filter(pk=generation.pk, state__in=FINAL_STATES, deleted=None)
        row: Generation | None = rows.select_for_update().first()
        if row is None:
            return False
        note = Staging.objects.create(generation=row.pk, attempt=row.attempt + 1, names=_files(row))
        _empty(row)
    doorbell.forget(row.pk)
    if media.discard(note.names):
        note.delete()
    return True


def _files(row: Generation) -> list[str]:
    files = [row.input, row.input_thumbnail]
    for image in row.images.all():
        files += [image.file, image.thumbnail]
    return [str(file.name) for file in files if file]


def _empty(row: Generation) -> None:
    row.deleted = timezone.now()
    row.prompt = row.error_message = ""
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
            "parameters",
            "recipe",
            "warnings",
            "input",
            "input_thumbnail",
        ]
    )
    row.images.update(file="", thumbnail="")
    # A key that comes again finds a generation that is gone, not a new one.
    row.idempotency_keys.update(answer="")
    # The admin's log of what staff did names the row by its prompt.
    kind = ContentType.objects.get_for_model(Generation)
    LogEntry.objects.filter(content_type=kind, object_id=str(row.pk)).update(object_repr=str(row))


def _without_words(fields: dict[str, object]) -> dict[str, object]:
    return fields | {name: "" for name in _WORDS if name in fields}
