"""Further input pictures of a generation, for models that read several."""

from typing import ClassVar

from django.db import models

from generation.models.generations import Generation


class ReferencePicture(models.Model):
    """A picture beside the first, in the order of the request. Its bytes count in the generation's `input_bytes`."""

    generation = models.ForeignKey(Generation, models.CASCADE, related_name="references", db_index=False)
    index = models.PositiveSmallIntegerField()
    file = models.FileField(max_length=200, blank=True)
    thumbnail = models.FileField(max_length=200, blank=True)
    sha256 = models.CharField(max_length=64, blank=True, help_text="Of the uploaded bytes.")
    format = models.CharField(max_length=10, blank=True)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    credentials = models.JSONField(
        null=True, blank=True, help_text="What the content credentials of the upload claim, if it has some."
    )

    class Meta:
        ordering = ("index",)
        # For staff, who search by the digest of an upload.
        indexes: ClassVar = [models.Index(fields=["sha256"], name="by_reference")]
        constraints: ClassVar = [models.UniqueConstraint(fields=["generation", "index"], name="unique_reference_index")]

    @property
    def file_names(self) -> list[str]:
        """Return all files of this row."""
        return [str(file.name) for file in (self.file, self.thumbnail) if file]

    def __str__(self) -> str:
        return f"reference {self.index} of {self.generation_id}"
