"""The rows of reviewing: what a picture waits for, who looks at it now, and every decision ever made."""

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from accounts.append_only import AppendOnly


class Review(models.TextChoices):
    """Where a picture stands between the checker and a person."""

    NONE = "", "not reviewed"
    WAITING = "waiting", "waiting"
    ESCALATED = "escalated", "escalated"
    SAFE = "safe", "safe"
    CONFIRMED = "confirmed", "confirmed"


OPEN = (Review.WAITING, Review.ESCALATED)
DECIDED = (Review.SAFE, Review.CONFIRMED)


IN_REVIEW = ~models.Q(review="")
"""What the partial index on the review of pictures holds. Said in queries, too: no database concludes it from other values."""


class Reason(models.TextChoices):
    """Why a picture was confirmed."""

    NUDITY = "nudity", "nudity"
    SEXUAL = "sexual", "sexual"
    VIOLENCE = "violence", "violence"
    OTHER = "other", "other"


class ReviewClaim(models.Model):
    """That a reviewer looks at a picture, until it expires: see `generation.moderation.review`."""

    image = models.OneToOneField(
        "generation.GeneratedImage", models.CASCADE, primary_key=True, related_name="review_claim"
    )
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    key = models.UUIDField(help_text="Of this very claim: a page that is left cannot release a later one.")
    expires = models.DateTimeField()


class ReviewDecision(AppendOnly):
    """What a reviewer decided about a picture; a change of mind is a further row.

    It outlives picture, owner and reviewer, so it holds no words and no pixels of the owner.
    """

    when = models.DateTimeField(default=timezone.now, db_index=True)
    image = models.ForeignKey("generation.GeneratedImage", models.SET_NULL, null=True, related_name="decisions")
    generation = models.UUIDField(db_index=True)
    index = models.PositiveSmallIntegerField(help_text="Of the picture.")
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    reviewer_name = models.CharField("reviewer", max_length=150, help_text="The username at that time.")
    before = models.CharField(max_length=10, choices=Review.choices, blank=True)
    after = models.CharField(max_length=10, choices=Review.choices, blank=True)
    reason = models.CharField(max_length=10, choices=Reason.choices, blank=True)
    note = models.TextField(blank=True, help_text="The reviewer's words.")
    seconds = models.FloatField(null=True, help_text="From the first look to the decision. Empty: not measured.")
    request_id = models.CharField(max_length=64, blank=True)
    score = models.FloatField(null=True, help_text="0 to 1. Empty: the checker did not see it.")
    threshold = models.FloatField(null=True)
    checker = models.CharField(max_length=50, blank=True)
    is_sample = models.BooleanField("sample", default=False, help_text="Chosen by chance, not by the checker.")
    undoes = models.OneToOneField("self", models.PROTECT, null=True, related_name="undone_by")

    class Meta:
        ordering = ("-id",)
        verbose_name = "review decision"
        indexes: ClassVar[Any] = [models.Index(fields=["reviewer", "-id"], name="decisions_of_reviewer")]

    def __str__(self) -> str:
        return f"image {self.index} of {self.generation}: {self.get_after_display()}"
