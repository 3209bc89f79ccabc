"""Generations and their pictures. The row is authoritative; only `generation.jobs.queue` changes its state."""

import json
from collections.abc import Sequence
from datetime import datetime, timedelta
from hashlib import sha256
from random import random
from typing import Any, ClassVar, Self
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models import Case, Q, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone
from uuid_utils.compat import uuid7

from generation.filters import GenerationFilters, HistoryFilters
from generation.models.diffusion import DiffusionModel, Lora
from generation.models.review import Review
from generation.parameters import ErrorCode, ImageToImageParameters
from generation.recipes import Recipe, traits_of

_NOT_IN_EFFECTIVE_VALUES = {"model", "loras", "prompt", "negative_prompt", "safety_check"}

MAX_AFFINITY_SKIPS = 16
"""How often a request for a cold model can be skipped in favour of a request of the same user for a warm one."""

ID_SLACK = timedelta(minutes=10)
"""The maximum time from the creation of an id, when the request arrives, to `created`, when its picture is checked."""


def first_id(when: datetime) -> UUID:
    """Return the smallest UUID of version 7 of this time; its first 48 bits are milliseconds."""
    return UUID(int=int(when.timestamp() * 1000) << 80)


class State(models.TextChoices):
    """The state of a generation."""

    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class PriorityLevel(models.IntegerChoices):
    """A `Priority` as a number, for sorting in the database."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


FINAL_STATES = (State.SUCCEEDED, State.FAILED, State.CANCELED)


class GenerationQuerySet(models.QuerySet["Generation"]):
    def owned_by(self, user: Any) -> Self:
        """Return the generations of this user that are neither deleted nor in the trash."""
        return self.filter(user=user, deleted=None, trashed=None)

    def trashed_by(self, user: Any) -> Self:
        """Return the user's trash. `generation.library.deletion` decides which of it can be restored."""
        return self.filter(user=user, deleted=None, trashed__isnull=False)

    def lease(self, generation: "Generation") -> Self:
        """Return the row if this attempt still holds the lease, else nothing. Workers make every change through this query."""
        return self.filter(pk=generation.pk, state=State.RUNNING, attempt=generation.attempt)

    def in_claim_order(self, pool: str, warm: Sequence[str], now: datetime) -> Self:
        """Return the queued rows of this pool, the next to claim first, by the rule of `generation.jobs.fair_share`."""
        cold = Case(When(Q(model_id__in=warm) | Q(affinity_skips__gte=MAX_AFFINITY_SKIPS), then=0), default=1)
        rows = self.filter(Q(deadline=None) | Q(deadline__gt=now), pool=pool, state=State.QUEUED, cancel_requested=None)
        # Without what still waits for its input.
        rows = rows.filter(input_fetch=None)
        return rows.annotate(
            is_returned=Case(When(attempt__gt=0, then=1), default=0),
            decayed_usage=Coalesce("user__share__decayed_usage", Value(0.0)),
            is_cold=cold,
        ).order_by("-is_returned", "-priority", "decayed_usage", "is_cold", "id")

    def filtered_by(self, filters: GenerationFilters | HistoryFilters) -> Self:
        """Apply the filters for state, model, time and flag."""
        rows = self
        if filters.state:
            rows = rows.filter(state__in=filters.state) if filters.state[1:] else rows.filter(state=filters.state[0])
        if filters.model_id is not None:
            rows = rows.filter(model_id=filters.model_id)
        # The bounds on the id are for the index, which has no other time.
        if (after := filters.created_after) is not None:
            rows = rows.filter(pk__gte=first_id(after - ID_SLACK), created__gt=after)
        if (before := filters.created_before) is not None:
            rows = rows.filter(pk__lt=first_id(before + ID_SLACK), created__lt=before)
        if filters.nsfw is not None:
            rows = rows.filter(is_flagged=filters.nsfw)
        return rows

    def live(self) -> Self:
        """Return the queued and running rows, newest first."""
        return self.filter(state__in=(State.QUEUED, State.RUNNING)).order_by("-pk")

    def last_prompts(self, count: int, scanned: int = 200) -> list[str]:
        """Return the last different prompts, newest first, of the last `scanned` requests."""
        prompts = self.exclude(prompt="").order_by("-pk").values_list("prompt", flat=True)[:scanned]
        return list(dict.fromkeys(prompts))[:count]

    def page(self, size: int, before: UUID | None = None) -> "list[Generation]":
        """Return `size` rows older than `before`, newest first, and one more if there is a next page.

        UUIDs of version 7 sort by creation time, so the index on (user, id) serves every page.
        """
        rows = self.filter(pk__lt=before) if before else self
        return list(rows.order_by("-pk").prefetch_related("images")[: size + 1])


class Generation(models.Model):
    """A request for pictures, from submission to its final state."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="generations", db_index=False)
    token = models.ForeignKey("accounts.ApiToken", models.SET_NULL, null=True, blank=True, related_name="+")
    in_studio = models.BooleanField("from the studio", default=False)
    model = models.ForeignKey(DiffusionModel, models.PROTECT, related_name="+", db_index=False)
    pool = models.CharField(max_length=50)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)

    priority = models.SmallIntegerField(choices=PriorityLevel.choices, default=PriorityLevel.NORMAL)
    cost = models.FloatField(default=0.0, help_text="Steps x megapixels x images x model weight.")
    batch_key = models.CharField(max_length=64, blank=True, help_text="Equal for generations that can share a batch.")
    affinity_skips = models.PositiveSmallIntegerField(default=0, help_text="How often it was skipped for a warm model.")
    deadline = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.DateTimeField(null=True, blank=True)

    # Copies from the parameters, for searching.
    prompt = models.TextField()
    loras = models.ManyToManyField(Lora, through="LoraUse", related_name="+")
    parameters = models.JSONField(help_text="The validated request.")
    recipe = models.JSONField(help_text="The values that the model runs with.")
    warnings = models.JSONField(default=list)

    # Edited by the user.
    title = models.CharField(max_length=200, blank=True)
    note = models.TextField(blank=True)
    is_favourite = models.BooleanField("favourite", default=False)
    source = models.ForeignKey(
        "GeneratedImage",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="derived",
        db_index=False,
        help_text="The result that was used as its input.",
    )
    contact_sheet = models.ForeignKey(
        "ContactSheet", models.SET_NULL, null=True, blank=True, related_name="generations", db_index=False
    )
    cell = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="Position on the contact sheet, row by row."
    )

    # Empty until the picture is fetched, if the request contains a URL.
    input = models.FileField(max_length=200, blank=True)
    input_thumbnail = models.FileField(max_length=200, blank=True)
    input_sha256 = models.CharField(max_length=64, blank=True, help_text="Of the uploaded bytes.")
    input_format = models.CharField(max_length=10, blank=True)
    input_width = models.PositiveIntegerField(default=0)
    input_height = models.PositiveIntegerField(default=0)

    # What it takes of its user's limit. Before the files are stored, the most that they may take.
    input_bytes = models.PositiveBigIntegerField(default=0, help_text="Of the input and its thumbnail.")
    output_bytes = models.PositiveBigIntegerField(default=0, help_text="Of the results and their thumbnails.")

    created = models.DateTimeField(default=timezone.now)
    started = models.DateTimeField(null=True, blank=True)
    finished = models.DateTimeField(null=True, blank=True)
    is_flagged = models.BooleanField("flagged", default=False, help_text="Whether one of its pictures is flagged.")
    trashed = models.DateTimeField(
        null=True, blank=True, help_text="When its user moved it to the trash. It is deleted later."
    )
    deleted = models.DateTimeField(
        null=True, blank=True, help_text="When its pictures and texts were deleted. The row remains."
    )
    legal_hold = models.BooleanField(
        "on legal hold", default=False, help_text="Prevents any deletion of its data until staff lift the hold."
    )
    phases = models.JSONField(default=dict, help_text="Seconds by phase.")
    request_id = models.CharField(max_length=64, blank=True, help_text="The `X-Request-Id` of the request.")
    client_request_id = models.CharField(
        max_length=64, blank=True, help_text="The id that the client gave the request."
    )

    attempt = models.PositiveIntegerField(
        default=0, help_text="Incremented by every claim; results of earlier attempts are rejected."
    )
    crash_count = models.PositiveIntegerField(default=0, help_text="How often its worker crashed.")
    lease_expires = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=100, blank=True)

    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)

    objects: ClassVar[Any] = GenerationQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        indexes: ClassVar = [
            models.Index(fields=["user", "-id"], name="history"),
            # Covers the queries of `generation.jobs.usage` and of the limits.
            models.Index(fields=["user", "id", "token", "model", "cost"], name="usage"),
            # Covers the sum of what is stored for a user; with `deleted`, since SQLite else reads it from the row.
            models.Index(
                fields=["user", "deleted", "input_bytes", "output_bytes"], condition=Q(deleted=None), name="stored"
            ),
            models.Index(fields=["pool", "id"], condition=Q(state="queued"), name="queued"),
            models.Index(fields=["lease_expires"], condition=Q(state="running"), name="leased"),
            models.Index(fields=["user"], condition=Q(state="running"), name="running"),
            models.Index(fields=["user"], condition=Q(state="queued"), name="waiting"),
            models.Index(fields=["deadline"], condition=Q(state="queued"), name="deadlines"),
            models.Index(fields=["state", "-id"], name="by_state"),
            models.Index(fields=["user", "state", "-id"], name="history_by_state"),
            models.Index(fields=["user", "model", "-id"], name="history_by_model"),
            models.Index(fields=["user", "-id"], condition=Q(is_favourite=True), name="favourites"),
            models.Index(fields=["user", "-id"], condition=Q(is_flagged=True), name="flagged"),
            models.Index(fields=["trashed"], condition=Q(trashed__isnull=False, deleted=None), name="trash"),
            models.Index(
                fields=["user", "-trashed", "-id"],
                condition=Q(trashed__isnull=False, deleted=None),
                name="trash_by_user",
            ),
            models.Index(fields=["-id"], condition=Q(legal_hold=True), name="on_hold"),
            models.Index(fields=["source"], condition=Q(source__isnull=False), name="derived"),
            models.Index(
                fields=["contact_sheet", "cell"], condition=Q(contact_sheet__isnull=False), name="contact_sheet"
            ),
            # For the filters of staff, across all users.
            models.Index(fields=["model", "-id"], name="by_model"),
            models.Index(fields=["-id"], condition=Q(is_flagged=True), name="all_flagged"),
            # Flags and errors occur only in some states: searches for other pairs must not scan row by row.
            models.Index(fields=["state", "-id"], condition=Q(is_flagged=True), name="flagged_by_state"),
            models.Index(fields=["error_code", "-id", "state"], condition=~Q(error_code=""), name="by_error"),
            # For staff, and for the user's other generations of the same input.
            models.Index(fields=["input_sha256", "user", "-id"], condition=~Q(input_sha256=""), name="by_input"),
        ]
        permissions: ClassVar = [
            ("review_generation", "Can review generations"),
            ("operate", "Can operate workers, pools and retention"),
        ]

    def __str__(self) -> str:
        return f"{'deleted' if self.deleted else self.prompt[:60]} ({self.id})"

    @property
    def is_final(self) -> bool:
        return self.state in FINAL_STATES

    @property
    def awaits_input(self) -> bool:
        """Return whether its picture is still to be fetched."""
        return self.state == State.QUEUED and not self.input and bool(self.parameters["image_url"])

    @property
    def missed_deadline(self) -> bool:
        """Return whether it was canceled because it had no more time, not because somebody wanted it."""
        return self.state == State.CANCELED and self.error_code in (ErrorCode.DEADLINE, ErrorCode.DEADLINE_BEFORE_START)

    @property
    def state_word(self) -> str:
        """Return the state as pages say it: a missed deadline has a word of its own."""
        return "timed out" if self.missed_deadline else str(self.state)

    @property
    def is_removed(self) -> bool:
        """Return whether it is deleted or in the trash, and so hidden from its user and from share links."""
        return self.deleted is not None or self.trashed is not None

    @property
    def has_flagged_input(self) -> bool:
        """Return whether its input is a result that is flagged; select `source`."""
        return self.source is not None and self.source.nsfw

    @property
    def has_flagged_thumbnail(self) -> bool:
        """Return whether what lists show of it is flagged: its first result, or else its input; prefetch `images`."""
        first = next(iter(self.images.all()), None)
        return first.nsfw if first else self.has_flagged_input

    @property
    def image_count(self) -> int:
        """Return the number of requested images."""
        return len(self.recipe["seeds"])

    def get_parameters(self) -> ImageToImageParameters:
        return ImageToImageParameters.model_validate(self.parameters)

    def get_recipe(self) -> Recipe:
        return Recipe.model_validate(self.recipe)

    @property
    def effective_values(self) -> dict[str, Any]:
        """Return the numeric values that the model runs with, as JSON types."""
        return self.get_recipe().model_dump(mode="json", exclude=_NOT_IN_EFFECTIVE_VALUES)

    @property
    def queued_seconds(self) -> float | None:
        return (self.started - self.created).total_seconds() if self.started else None

    @property
    def running_seconds(self) -> float | None:
        return (self.finished - self.started).total_seconds() if self.started and self.finished else None


class LoraUse(models.Model):
    """The use of a LoRA in a generation. `user` repeats the generation's user, for the index on a user's newest."""

    generation = models.ForeignKey(Generation, models.CASCADE, related_name="lora_uses", db_index=False)
    lora = models.ForeignKey(Lora, models.CASCADE, related_name="+", db_index=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_index=False)

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["generation", "lora"], name="unique_lora_per_generation")
        ]
        indexes: ClassVar = [models.Index(fields=["user", "lora", "-generation"], name="history_by_lora")]


class GeneratedImageQuerySet(models.QuerySet["GeneratedImage"]):
    def shown_to_strangers(self) -> Self:
        """Return the pictures that share links may show: the one rule of everything that others than the owner see.

        Left out are those of suspended or leaving users, those deleted, in the trash or on legal hold, and those that a
        reviewer confirmed or escalated.
        """
        is_kept = Q(generation__deleted=None, generation__trashed=None, generation__legal_hold=False)
        shown = self.filter(is_kept, generation__user__is_active=True)
        return shown.exclude(file="").exclude(review__in=(Review.CONFIRMED, Review.ESCALATED))

    def unveiled(self) -> Self:
        """Return the pictures that strangers see without a veil: see `GeneratedImage.is_veiled`."""
        return self.filter(~Q(checker="") | Q(review=Review.SAFE), nsfw=False)

    def await_review_if_unchecked(self) -> int:
        """Let reviewers see those that neither a checker nor a reviewer has seen, since others may see them now."""
        return self.filter(checker="", review=Review.NONE).update(review=Review.UNCHECKED)


class GeneratedImage(models.Model):
    """A picture of a generation. Flagged ones are stored unchanged; they are hidden when served."""

    generation = models.ForeignKey(Generation, models.CASCADE, related_name="images", db_index=False)
    index = models.PositiveSmallIntegerField()
    seed = models.BigIntegerField(db_index=True)
    file = models.FileField(max_length=200)
    thumbnail = models.FileField(max_length=200)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    nsfw = models.BooleanField(
        default=False, help_text="The checker's result, or the reviewer's decision if there is one."
    )
    nsfw_score = models.FloatField(null=True, blank=True, help_text="From 0 to 1. Empty: not checked.")
    checker = models.CharField(max_length=50, blank=True, help_text="Empty: not checked.")
    threshold = models.FloatField(null=True, blank=True)
    review = models.CharField(max_length=10, choices=Review.choices, default=Review.NONE, blank=True)
    is_sample = models.BooleanField("sample", default=False, help_text="Chosen at random for review.")
    quarantined = models.DateTimeField(
        null=True, blank=True, help_text="When the links from before the confirmation stopped working."
    )
    # The picture itself while `file` is a placeholder: see `generation.moderation.quarantine`.
    original = models.FileField(max_length=200, blank=True)
    original_thumbnail = models.FileField(max_length=200, blank=True)

    objects: ClassVar[Any] = GeneratedImageQuerySet.as_manager()

    class Meta:
        ordering = ("index",)
        constraints: ClassVar = [models.UniqueConstraint(fields=["generation", "index"], name="unique_image_index")]
        indexes: ClassVar = [
            models.Index(fields=["review", "is_sample", "generation"], condition=~Q(review=""), name="in_review"),
            models.Index(fields=["nsfw_score", "id"], condition=Q(review="waiting"), name="lowest_scores"),
        ]

    def __str__(self) -> str:
        return f"image {self.index} of {self.generation_id}"

    @property
    def is_checked(self) -> bool:
        return self.checker != ""

    @property
    def original_names(self) -> tuple[str, str]:
        """Return the files of the picture and its thumbnail, even while placeholders replace them."""
        return str((self.original or self.file).name), str((self.original_thumbnail or self.thumbnail).name)

    @property
    def file_names(self) -> list[str]:
        """Return all files of this row."""
        return [str(file.name) for file in (self.file, self.thumbnail, self.original, self.original_thumbnail) if file]

    @property
    def extension(self) -> str:
        """Return the extension of the file's name, such as `png`."""
        return str(self.file.name).rpartition(".")[2]

    @property
    def is_veiled(self) -> bool:
        """Return whether strangers see it blurred at first: it is flagged, or neither a checker nor a reviewer saw it."""
        return self.nsfw or not (self.is_checked or self.review == Review.SAFE)

    @property
    def is_flagged_by_checker(self) -> bool:
        """Return whether the checker flagged the picture, regardless of reviews."""
        return self.nsfw_score is not None and self.threshold is not None and self.nsfw_score >= self.threshold

    @property
    def recipe_digest(self) -> str:
        """Return a digest of all that decides the pixels: input, model, values and seed.

        It is the same whoever asks for the picture, with however many others, and whatever fields without effect say.
        """
        recipe = self.generation.get_recipe()
        without_effect = traits_of(recipe.model).without_effect
        values = recipe.model_dump(mode="json", exclude={"model", "seeds", "safety_check", *without_effect})
        parts = [self.generation.input_sha256, recipe.model.id, recipe.model.revision, self.seed, values]
        return sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def await_review(self, share: float) -> None:
        """Mark an unsaved image for review if it is flagged, and a random `share` (0 to 1) of the others."""
        self.is_sample = not self.nsfw and random() < share  # noqa: S311  not a secret
        if self.nsfw or self.is_sample:
            self.review = Review.WAITING
