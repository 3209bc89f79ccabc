"""Generations. The row is authoritative; only `generation.jobs.queue` changes its state."""

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from typing import Any, ClassVar, Literal, Self
from uuid import UUID

from django.conf import settings
from django.db import models
from django.db.models import Case, Q, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts import traces
from generation.filters import GenerationFilters, HistoryFilters
from generation.models.diffusion import DiffusionModel, Lora
from generation.models.environments import Environment
from generation.parameters import ErrorCode, ImageToImageParameters, OutputFormat
from generation.recipes import Recipe

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


def _is_warm(warm: Sequence[str]) -> Q:
    return Q(model_id__in=warm) | Q(affinity_skips__gte=MAX_AFFINITY_SKIPS)


class GenerationQuerySet(models.QuerySet["Generation"]):
    def owned_by(self, user: Any) -> Self:
        """Return the generations of this user that are neither deleted nor in the trash, without proofs."""
        return self.filter(user=user, deleted=None, trashed=None, proves=None)

    def trashed_by(self, user: Any) -> Self:
        """Return the user's trash. `generation.library.deletion` decides which of it can be restored."""
        return self.filter(user=user, deleted=None, trashed__isnull=False)

    def lease(self, generation: "Generation") -> Self:
        """Return the row if this attempt still holds the lease, else nothing. Workers make every change through this query."""
        return self.filter(pk=generation.pk, state=State.RUNNING, attempt=generation.attempt)

    def claimable(self, pool: str, now: datetime) -> Self:
        """Return the queued rows of this pool that a worker may claim."""
        rows = self.filter(Q(deadline=None) | Q(deadline__gt=now), pool=pool, state=State.QUEUED, cancel_requested=None)
        # Without what still waits for its input.
        return rows.filter(input_fetch=None)

    def warm(self, warm: Sequence[str]) -> Self:
        """Return the rows that go before others of their user: for a warm model, or skipped often enough."""
        return self.filter(_is_warm(warm))

    def in_claim_order(self, pool: str, warm: Sequence[str], now: datetime) -> Self:
        """Return the queued rows of this pool, the next to claim first, by the rule of `generation.jobs.fair_share`.

        All of them are sorted: `generation.jobs.user_queues` finds the first one by indexes.
        """
        rows = self.claimable(pool, now).annotate(
            is_returned=Case(When(attempt__gt=0, then=1), default=0),
            decayed_usage=Coalesce("user__share__decayed_usage", Value(0.0)),
            is_cold=Case(When(_is_warm(warm), then=0), default=1),
        )
        return rows.order_by("-is_returned", "-priority", "decayed_usage", "is_cold", "id")

    def filtered_by(self, filters: GenerationFilters | HistoryFilters) -> Self:
        """Apply the filters for state, model, time and flag."""
        rows = self
        if filters.state:
            rows = rows.in_states(*filters.state)
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
        return self.in_states(State.QUEUED, State.RUNNING).order_by("-pk")

    def in_states(self, *states: str) -> Self:
        """Return the rows in one of these states."""
        if not states[1:]:
            return self.filter(state=states[0])
        rows = self.filter(state__in=states)
        if set(states) == {State.QUEUED, State.RUNNING}:
            # They are few. A plan in the order of pages would read all that have ended to find that there are no more.
            return self.filter(pk__in=rows.order_by().values("pk"))
        return rows

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
    # These may be null, since SQLite would write the whole table again for a new column that may not.
    run_warnings = models.PositiveSmallIntegerField(
        null=True, blank=True, help_text="How many of the warnings, the last ones, came from the run."
    )
    result_key = models.CharField(
        max_length=32,
        null=True,
        blank=True,
        help_text="Equal for requests of the same pictures. Empty: not known before a picture was fetched.",
    )
    reused_from = models.ForeignKey(
        "self",
        models.SET_NULL,
        null=True,
        blank=True,
        related_name="+",
        db_index=False,
        help_text="The generation whose pictures were answered again, without a run.",
    )

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
    input_credentials = models.JSONField(
        null=True, blank=True, help_text="What the content credentials of the upload claim, if it has some."
    )

    mask = models.FileField(max_length=200, blank=True, help_text="White may change. PNG of two values.")
    mask_thumbnail = models.FileField(max_length=200, blank=True)
    mask_sha256 = models.CharField(max_length=64, blank=True, help_text="Of the stored mask.")
    open_share = models.FloatField(null=True, blank=True, help_text="How much of the input may change, 0 to 1.")

    # What it takes of its user's limit. Before the files are stored, the most that they may take.
    input_bytes = models.PositiveBigIntegerField(default=0, help_text="Of the inputs, the mask and their thumbnails.")
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
    environment = models.ForeignKey(
        Environment, models.PROTECT, null=True, blank=True, related_name="+", db_index=False, help_text="What made it."
    )
    proves = models.ForeignKey(
        "self",
        models.CASCADE,
        null=True,
        blank=True,
        related_name="proofs",
        db_index=False,
        help_text="The generation that it makes again, to compare.",
    )
    comparison = models.JSONField(null=True, blank=True, help_text="What a proof has found.")
    calls = models.JSONField(
        null=True,
        blank=True,
        help_text="For each picture: how many were made in one call with it, and which of them it was, from 0.",
    )
    request_id = models.CharField(max_length=64, blank=True, help_text="The `X-Request-Id` of the request.")
    client_request_id = models.CharField(
        max_length=64, blank=True, help_text="The id that the client gave the request."
    )
    traceparent = models.CharField(
        max_length=traces.LENGTH, blank=True, help_text="What continues the trace of the request."
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
            models.Index(fields=["user", "pool", "priority", "id"], condition=Q(state="queued"), name="waiting"),
            models.Index(fields=["pool", "id"], condition=Q(state="queued", attempt__gt=0), name="returned"),
            models.Index(
                fields=["pool", "batch_key", "user"], condition=Q(state="queued") & ~Q(batch_key=""), name="batches"
            ),
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
                fields=["user", "result_key", "-id"],
                condition=Q(state="succeeded", result_key__isnull=False),
                name="results",
            ),
            # For the deletion of what was reused.
            models.Index(fields=["reused_from"], condition=Q(reused_from__isnull=False), name="reused"),
            models.Index(fields=["proves", "-id"], condition=Q(proves__isnull=False), name="proofs"),
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

    def goes_first(self, warm: Collection[str]) -> bool:
        """Return whether it is one of the rows that `GenerationQuerySet.warm` finds."""
        return self.model_id in warm or self.affinity_skips >= MAX_AFFINITY_SKIPS

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
    def mask_file_names(self) -> list[str]:
        """Return the files of the mask."""
        return [str(file.name) for file in (self.mask, self.mask_thumbnail) if file]

    @property
    def input_file_names(self) -> list[str]:
        """Return all files of the inputs: picture, mask, references and their thumbnails; prefetch `references`."""
        names = [str(file.name) for file in (self.input, self.input_thumbnail) if file] + self.mask_file_names
        return names + [name for reference in self.references.all() for name in reference.file_names]

    @property
    def image_count(self) -> int:
        """Return the number of requested images."""
        return len(self.recipe["seeds"])

    def get_parameters(self) -> ImageToImageParameters:
        return ImageToImageParameters.model_validate(self.parameters)

    def get_recipe(self) -> Recipe:
        return Recipe.model_validate(self.recipe)

    @property
    def is_part(self) -> bool:
        """Whether a mask lets only a part of the input change."""
        return self.open_share is not None

    @property
    def outside_mask(self) -> Literal["identical", "re-encoded"] | None:
        """Return what becomes of the pixels that may not change; None without a mask."""
        if not self.is_part:
            return None
        return "identical" if self.get_parameters().output_format is OutputFormat.PNG else "re-encoded"

    @property
    def result_size(self) -> tuple[int, int]:
        return self.get_recipe().result_size

    @property
    def effective_values(self) -> dict[str, Any]:
        """Return the numeric values that the model runs with, as JSON types."""
        return self.get_recipe().model_dump(mode="json", exclude=_NOT_IN_EFFECTIVE_VALUES)

    @property
    def receipt(self) -> dict[str, Any] | None:
        """Return what made its pictures, as JSON types; None if that was not recorded. Select or prefetch `environment`."""
        if self.environment is None:
            return None
        return {**self.environment.values, "batch_sizes": [size for size, _ in self.calls or ()]}

    @property
    def places_beside(self) -> tuple[int, int]:
        """Return how many pictures its call of the pipeline made before its own ones, and after them.

        None at all where its pictures were made in several calls, as when memory is short.
        """
        images = self.image_count
        size, position = (self.calls or [[images, 0]])[0]
        is_one_call = self.calls == [[size, position + index] for index in range(images)]
        return (position, size - position - images) if is_one_call else (0, 0)

    @property
    def proof(self) -> dict[str, Any] | None:
        """Return what it proves and has found, as JSON types; None if it is no proof."""
        if self.proves_id is None:
            return None
        found = self.comparison or {"pictures": [], "differences": None}
        identical = all(each["identical"] for each in found["pictures"]) if self.comparison else None
        return {"of": str(self.proves_id), "identical": identical, **found}

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
