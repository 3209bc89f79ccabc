"""Generations and their pictures. A Generation's row is the truth about it: `generation.jobs.queue` alone changes its state."""

from collections.abc import Sequence
from datetime import datetime, timedelta
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
from generation.parameters import ImageToImageParameters
from generation.recipes import Recipe

_NOT_EFFECTIVE_VALUES = {"model", "loras", "prompt", "negative_prompt", "safety_check"}

MAX_AFFINITY_SKIPS = 16
"""How often a request for a cold model waits for one of the same user's that is warm."""


ID_SLACK = timedelta(minutes=10)
"""An id is made when a request arrives, `created` once its picture was judged: never so much later."""


def first_id(when: datetime) -> UUID:
    """The least UUID of version 7 that can be made at this time: its first 48 bits are milliseconds."""
    return UUID(int=int(when.timestamp() * 1000) << 80)


class State(models.TextChoices):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class PriorityLevel(models.IntegerChoices):
    """A `Priority` as the database sorts it."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


FINAL_STATES = (State.SUCCEEDED, State.FAILED, State.CANCELED)


class GenerationQuerySet(models.QuerySet["Generation"]):
    def owned_by(self, user: Any) -> Self:
        """Return the user's generations that are neither deleted nor trashed."""
        return self.filter(user=user, deleted=None, trashed=None)

    def trashed_by(self, user: Any) -> Self:
        """Return the user's trash. `deletion.restorable` filters what can be restored."""
        return self.filter(user=user, deleted=None, trashed__isnull=False)

    def lease(self, generation: "Generation") -> Self:
        """The row while this attempt still holds it. Every change a worker makes goes through here: the fence."""
        return self.filter(pk=generation.pk, state=State.RUNNING, attempt=generation.attempt)

    def in_turn(self, pool: str, warm: Sequence[str], now: datetime) -> Self:
        """What may start in this pool, the next first: see `generation.jobs.fair_share` for the rule."""
        cold = Case(When(Q(model_id__in=warm) | Q(affinity_skips__gte=MAX_AFFINITY_SKIPS), then=0), default=1)
        rows = self.filter(Q(deadline=None) | Q(deadline__gt=now), pool=pool, state=State.QUEUED, cancel_requested=None)
        return rows.annotate(
            is_returned=Case(When(attempt__gt=0, then=1), default=0),
            decayed_usage=Coalesce("user__share__decayed_usage", Value(0.0)),
            is_cold=cold,
        ).order_by("-is_returned", "-priority", "decayed_usage", "is_cold", "id")

    def left_by(self, filters: GenerationFilters | HistoryFilters) -> Self:
        """Apply state, model, time and flag of the filters."""
        rows = self
        if filters.state:
            rows = rows.filter(state__in=filters.state) if filters.state[1:] else rows.filter(state=filters.state[0])
        if filters.model_id is not None:
            rows = rows.filter(model_id=filters.model_id)
        # The bounds of the id are for the index, which knows no other time.
        if (after := filters.created_after) is not None:
            rows = rows.filter(pk__gte=first_id(after - ID_SLACK), created__gt=after)
        if (before := filters.created_before) is not None:
            rows = rows.filter(pk__lt=first_id(before + ID_SLACK), created__lt=before)
        if filters.nsfw is not None:
            rows = rows.filter(is_flagged=filters.nsfw)
        return rows

    def live(self) -> Self:
        """Return queued and running generations, newest first."""
        return self.filter(state__in=(State.QUEUED, State.RUNNING)).order_by("-pk")

    def last_prompts(self, count: int, looked_at: int = 200) -> list[str]:
        """Return up to `count` distinct prompts of the last `looked_at` requests, newest first."""
        prompts = self.exclude(prompt="").order_by("-pk").values_list("prompt", flat=True)[:looked_at]
        return list(dict.fromkeys(prompts))[:count]

    def page(self, size: int, before: UUID | None = None) -> "list[Generation]":
        """Newest first, older than `before`; one more than `size` where there is a next page.

        Ids are UUIDs of version 7, whose order is that of their making, so one index on (user, id) serves any depth.
        """
        rows = self.filter(pk__lt=before) if before else self
        return list(rows.order_by("-pk").prefetch_related("images")[: size + 1])


class Generation(models.Model):
    """One request for pictures, from its acceptance to its final state."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="generations", db_index=False)
    token = models.ForeignKey("accounts.ApiToken", models.SET_NULL, null=True, blank=True, related_name="+")
    in_studio = models.BooleanField("asked in the studio", default=False)
    model = models.ForeignKey(DiffusionModel, models.PROTECT, related_name="+", db_index=False)
    pool = models.CharField(max_length=50)
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)

    priority = models.SmallIntegerField(choices=PriorityLevel.choices, default=PriorityLevel.NORMAL)
    cost = models.FloatField(default=0.0, help_text="Steps x megapixels x images x model weight.")
    batch_key = models.CharField(max_length=64, blank=True, help_text="Equal for those that may share a batch.")
    affinity_skips = models.PositiveSmallIntegerField(default=0, help_text="How often a warm model was preferred.")
    deadline = models.DateTimeField(null=True, blank=True)
    cancel_requested = models.DateTimeField(null=True, blank=True)

    # Copied from the parameters, to be searched.
    prompt = models.TextField()
    loras = models.ManyToManyField(Lora, through="LoraUse", related_name="+")
    parameters = models.JSONField(help_text="The request as it was understood.")
    recipe = models.JSONField(help_text="What the model is run with.")
    warnings = models.JSONField(default=list)

    # Its user's own.
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
        help_text="The result that was its input.",
    )
    contact_sheet = models.ForeignKey(
        "ContactSheet", models.SET_NULL, null=True, blank=True, related_name="generations", db_index=False
    )
    cell = models.PositiveSmallIntegerField(null=True, blank=True, help_text="Its place on the contact sheet, by rows.")

    # Empty until a worker has fetched the picture, where the request named an address.
    input = models.FileField(max_length=200, blank=True)
    input_thumbnail = models.FileField(max_length=200, blank=True)
    input_sha256 = models.CharField(max_length=64, blank=True, help_text="Of the uploaded bytes.")
    input_format = models.CharField(max_length=10, blank=True)
    input_width = models.PositiveIntegerField(default=0)
    input_height = models.PositiveIntegerField(default=0)

    created = models.DateTimeField(default=timezone.now)
    started = models.DateTimeField(null=True, blank=True)
    finished = models.DateTimeField(null=True, blank=True)
    is_flagged = models.BooleanField("flagged", default=False, help_text="Whether one of its pictures is.")
    trashed = models.DateTimeField(
        null=True, blank=True, help_text="When its user put it into the trash, from which it is deleted in the end."
    )
    deleted = models.DateTimeField(
        null=True, blank=True, help_text="When its pictures and words were removed. The row stays."
    )
    legal_hold = models.BooleanField(
        "on legal hold", default=False, help_text="Nothing of it is removed, whoever wants it, until staff release it."
    )
    phases = models.JSONField(default=dict, help_text="Seconds by phase.")
    request_id = models.CharField(max_length=64, blank=True, help_text="The `X-Request-Id` that it came with.")

    attempt = models.PositiveIntegerField(
        default=0, help_text="Grows with every claim; a result of an older one is refused."
    )
    crash_count = models.PositiveIntegerField(default=0, help_text="How often its worker was lost.")
    lease_expires = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=100, blank=True)

    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)

    objects: ClassVar[Any] = GenerationQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        indexes: ClassVar = [
            models.Index(fields=["user", "-id"], name="history"),
            # All that `generation.jobs.usage` and the limits ask of the rows of some days.
            models.Index(fields=["user", "id", "token", "model", "cost"], name="usage"),
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
                name="trash_of_a_user",
            ),
            models.Index(fields=["-id"], condition=Q(legal_hold=True), name="on_hold"),
            models.Index(fields=["source"], condition=Q(source__isnull=False), name="derived"),
            models.Index(
                fields=["contact_sheet", "cell"], condition=Q(contact_sheet__isnull=False), name="contact_sheet"
            ),
            # What staff look for, among everybody's.
            models.Index(fields=["model", "-id"], name="by_model"),
            models.Index(fields=["-id"], condition=Q(is_flagged=True), name="all_flagged"),
            # Flags and errors go with some states alone: the other pairs must not be looked for row by row.
            models.Index(fields=["state", "-id"], condition=Q(is_flagged=True), name="flagged_by_state"),
            models.Index(fields=["error_code", "-id", "state"], condition=~Q(error_code=""), name="by_error"),
            models.Index(fields=["input_sha256"], condition=~Q(input_sha256=""), name="by_input"),
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
    def is_removed(self) -> bool:
        """Deleted or in the trash: to its user, and to whoever has a link, there is none."""
        return self.deleted is not None or self.trashed is not None

    @property
    def images_wanted(self) -> int:
        return len(self.recipe["seeds"])

    def get_parameters(self) -> ImageToImageParameters:
        return ImageToImageParameters.model_validate(self.parameters)

    def get_recipe(self) -> Recipe:
        return Recipe.model_validate(self.recipe)

    @property
    def effective_values(self) -> dict[str, Any]:
        """The numbers that the model is run with, as JSON types."""
        return self.get_recipe().model_dump(mode="json", exclude=_NOT_EFFECTIVE_VALUES)

    @property
    def queued_seconds(self) -> float | None:
        return (self.started - self.created).total_seconds() if self.started else None

    @property
    def running_seconds(self) -> float | None:
        return (self.finished - self.started).total_seconds() if self.started and self.finished else None


class LoraUse(models.Model):
    """That a generation was asked for with a LoRA; its user is repeated, for one index to find a user's newest."""

    generation = models.ForeignKey(Generation, models.CASCADE, related_name="lora_uses", db_index=False)
    lora = models.ForeignKey(Lora, models.CASCADE, related_name="+", db_index=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="+", db_index=False)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["generation", "lora"], name="one_use_of_a_lora")]
        indexes: ClassVar = [models.Index(fields=["user", "lora", "-generation"], name="history_by_lora")]


class GeneratedImage(models.Model):
    """One picture of a generation. Flagged ones keep their pixels; hiding is done when serving."""

    generation = models.ForeignKey(Generation, models.CASCADE, related_name="images", db_index=False)
    index = models.PositiveSmallIntegerField()
    seed = models.BigIntegerField(db_index=True)
    file = models.FileField(max_length=200)
    thumbnail = models.FileField(max_length=200)
    width = models.PositiveIntegerField()
    height = models.PositiveIntegerField()
    nsfw = models.BooleanField(default=False, help_text="What holds: the checker's verdict until a reviewer decides.")
    nsfw_score = models.FloatField(null=True, blank=True, help_text="0 to 1. Empty: not checked.")
    checker = models.CharField(max_length=50, blank=True, help_text="Empty: not checked.")
    threshold = models.FloatField(null=True, blank=True)
    review = models.CharField(max_length=10, choices=Review.choices, default=Review.NONE, blank=True)
    is_sample = models.BooleanField("sample", default=False, help_text="Chosen by chance to be reviewed.")
    quarantined = models.DateTimeField(
        null=True, blank=True, help_text="When the links from before it was confirmed stopped working."
    )
    # Where the picture is while `file` is a cover: see `generation.moderation.quarantine`.
    original = models.FileField(max_length=200, blank=True)
    original_thumbnail = models.FileField(max_length=200, blank=True)

    class Meta:
        ordering = ("index",)
        constraints: ClassVar = [models.UniqueConstraint(fields=["generation", "index"], name="one_image_an_index")]
        indexes: ClassVar = [
            models.Index(fields=["review", "generation"], condition=~Q(review=""), name="in_review"),
        ]

    def __str__(self) -> str:
        return f"image {self.index} of {self.generation_id}"

    @property
    def is_checked(self) -> bool:
        return self.checker != ""

    @property
    def original_names(self) -> tuple[str, str]:
        """The files of the picture and its thumbnail themselves, whatever covers them."""
        return str((self.original or self.file).name), str((self.original_thumbnail or self.thumbnail).name)

    @property
    def every_name(self) -> list[str]:
        """All files that this row names."""
        return [str(file.name) for file in (self.file, self.thumbnail, self.original, self.original_thumbnail) if file]

    @property
    def may_be_shared(self) -> bool:
        """Whether strangers may be shown what `file` is: not what was confirmed, unless that is a blurred cover by now."""
        if self.review != Review.CONFIRMED:
            return True
        return settings.CONFIRMED_PICTURES == "blur" and bool(self.original)

    @property
    def is_flagged_by_checker(self) -> bool:
        """The checker's own verdict, whatever people said since."""
        return self.nsfw_score is not None and self.threshold is not None and self.nsfw_score >= self.threshold

    def await_review(self, share: float) -> None:
        """Let a person look at it, before it is saved first: what is flagged, and this share of the rest by chance."""
        self.is_sample = not self.nsfw and random() < share  # noqa: S311  no secret hangs on it
        if self.nsfw or self.is_sample:
            self.review = Review.WAITING
