"""Retention rules."""

from typing import ClassVar

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models

from generation.models.generations import FINAL_STATES


class RetentionRule(models.Model):
    """A rule for deleting data of old generations, and its progress: see `generation.maintenance.retention`."""

    class What(models.TextChoices):
        """The data to delete."""

        UPLOADS = "uploads", "the uploaded pictures"
        CONTENT = "content", "all pictures and words"
        ROWS = "rows", "everything, the rows too"

    what = models.CharField(
        max_length=10,
        choices=What.choices,
        help_text="Pictures and texts are deleted as by their user: numbers, seeds and flags remain for staff.",
    )
    state = models.CharField(
        max_length=10,
        blank=True,
        choices=[(state.value, state.value) for state in FINAL_STATES],
        help_text="Empty: all final states.",
    )
    days = models.PositiveIntegerField(
        "age in days",
        validators=[MinValueValidator(1), MaxValueValidator(36_500)],
        help_text="Days since the request.",
    )
    enabled = models.BooleanField(
        default=False, help_text="Whether the periodic job applies the rule. Preview it first."
    )

    last_id = models.UUIDField(null=True, editable=False, help_text="The last id that was processed.")
    is_finished = models.BooleanField(default=True, editable=False)
    started = models.DateTimeField(null=True, editable=False, help_text="Start of the current round.")
    deleted_count = models.PositiveIntegerField(
        default=0, editable=False, help_text="Number of generations with deleted data in this round."
    )

    class Meta:
        ordering = ("what", "days", "id")
        constraints: ClassVar = [models.UniqueConstraint(fields=["what", "state"], name="unique_retention_rule")]

    def __str__(self) -> str:
        return (
            f"{self.get_what_display()} of {self.state or 'all'} after {self.days} day{'s' if self.days != 1 else ''}"
        )
