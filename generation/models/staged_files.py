"""Files that no row names."""

from typing import ClassVar

from django.db import models
from django.utils import timezone


class StagedFiles(models.Model):
    """Files that no row speaks of: noted before their first byte is written, or when their row was deleted.

    The transaction that makes them a row's own removes the note. What is left after a crash says which files to remove.
    """

    generation = models.UUIDField(help_text="Its row may not exist yet.")
    attempt = models.PositiveIntegerField(help_text="0: the input.")
    names = models.JSONField()
    created = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["generation", "attempt"], name="one_staging")]
