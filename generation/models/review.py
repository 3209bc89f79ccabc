"""Reviews of pictures: their status, the current claims of reviewers, and all decisions."""

from collections.abc import Collection
from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.utils import timezone

from accounts.append_only import AppendOnly


class Review(models.TextChoices):
    """The review status of a picture."""

    NONE = "", "not reviewed"
    WAITING = "waiting", "waiting"
    ESCALATED = "escalated", "escalated"
    REPORTED = "reported", "reported"
    UNCHECKED = "unchecked", "shared, not checked"
    SAFE = "safe", "safe"
    CONFIRMED = "confirmed", "confirmed"


OPEN = (Review.WAITING, Review.ESCALATED, Review.REPORTED, Review.UNCHECKED)
DECIDED = (Review.SAFE, Review.CONFIRMED)


IN_REVIEW = ~models.Q(review="")
"""The condition of the partial index on `review`. Queries must repeat it, since no database infers it from other values."""


class Reason(models.TextChoices):
    """The reason for confirming a picture."""

    NUDITY = "nudity", "nudity"
    SEXUAL = "sexual", "sexual"
    VIOLENCE = "violence", "violence"
    OTHER = "other", "other"


class ReviewClaim(models.Model):
    """A reviewer's temporary claim of a picture: see `generation.moderation.review`."""

    image = models.OneToOneField(
        "generation.GeneratedImage", models.CASCADE, primary_key=True, related_name="review_claim"
    )
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+")
    key = models.UUIDField(help_text="Identifies the claim, so that an old page cannot release a later one.")
    expires = models.DateTimeField()


class Report(models.Model):
    """What somebody with or without an account wrote about a shared picture. It is deleted with the picture."""

    image = models.ForeignKey("generation.GeneratedImage", models.CASCADE, related_name="reports")
    when = models.DateTimeField(default=timezone.now)
    reason = models.TextField()
    sender = models.CharField(max_length=64, help_text="A digest of the network address, which bounds their number.")

    class Meta:
        ordering = ("-id",)
        indexes: ClassVar[Any] = [models.Index(fields=["sender", "when"], name="reports_by_sender")]

    def __str__(self) -> str:
        return f"report about {self.image}"


class ReviewDecision(AppendOnly):
    """A reviewer's decision about a picture; a changed decision is another row.

    It outlives the picture, its owner and the reviewer, so it contains no texts or pixels of the owner.
    """

    when = models.DateTimeField(default=timezone.now, db_index=True)
    image = models.ForeignKey("generation.GeneratedImage", models.SET_NULL, null=True, related_name="decisions")
    generation = models.UUIDField(db_index=True)
    index = models.PositiveSmallIntegerField(help_text="Index of the picture.")
    reviewer = models.ForeignKey(settings.AUTH_USER_MODEL, models.SET_NULL, null=True, related_name="+")
    reviewer_name = models.CharField("reviewer", max_length=150, help_text="The username at the time of the decision.")
    before = models.CharField(max_length=10, choices=Review.choices, blank=True)
    after = models.CharField(max_length=10, choices=Review.choices, blank=True)
    reason = models.CharField(max_length=10, choices=Reason.choices, blank=True)
    note = models.TextField(blank=True, help_text="A comment of the reviewer.")
    seconds = models.FloatField(
        null=True, help_text="Seconds from opening the picture to the decision. Empty: not measured."
    )
    recipe_digest = models.CharField(
        max_length=64, blank=True, db_index=True, help_text="Equal for pictures that are made in the same way."
    )
    request_id = models.CharField(max_length=64, blank=True)
    score = models.FloatField(null=True, help_text="From 0 to 1. Empty: not checked.")
    threshold = models.FloatField(null=True)
    checker = models.CharField(max_length=50, blank=True)
    is_sample = models.BooleanField("sample", default=False, help_text="Chosen at random, not by the checker.")
    undoes = models.OneToOneField("self", models.PROTECT, null=True, related_name="undone_by")

    class Meta:
        ordering = ("-id",)
        verbose_name = "review decision"
        indexes: ClassVar[Any] = [models.Index(fields=["reviewer", "-id"], name="decisions_by_reviewer")]

    def __str__(self) -> str:
        return f"image {self.index} of {self.generation}: {self.get_after_display()}"

    @classmethod
    def confirmed_digests(cls, digests: Collection[str]) -> set[str]:
        """Return those of these digests whose last decision confirmed a picture."""
        rows = cls.objects.filter(recipe_digest__in=digests).order_by("pk").values_list("recipe_digest", "after")
        return {digest for digest, after in dict(rows).items() if after == Review.CONFIRMED}
