"""Files in the storage that no row names: those being written, and those to delete."""

from typing import ClassVar

from django.db import models
from django.utils import timezone


class FileNames(models.Model):
    names = models.JSONField()
    created = models.DateTimeField(default=timezone.now)

    class Meta:
        abstract = True


class StagedFiles(FileNames):
    """Files that are being written. The transaction in which a row takes their names deletes this record.

    `generation.library.files` writes it before the first byte is stored, so a crash leaves no unknown file.
    """

    owner = models.UUIDField(
        null=True, help_text="The generation, data export or fetch they are for, which may not exist yet."
    )
    attempt = models.PositiveIntegerField(default=0, help_text="The owner's attempt that writes them. 0: a submission.")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["owner", "attempt"], name="unique_staged_files")]


class SharedFile(models.Model):
    """A file that many rows name, as in demo data. It is not deleted with one of these rows."""

    name = models.CharField(max_length=200, primary_key=True)


class PendingErasure(models.Model):
    """Words of a deleted generation that may still be in SQLite's files; see `generation.library.erasure`."""

    is_merging = models.BooleanField(default=False, help_text="Deleted before the merge of the index that runs.")


class FileDeletion(FileNames):
    """Files to delete. The record is created in the transaction that removes their names from a row."""
