"""The durable record: models and LoRAs that may be used, generations and their pictures.

A Generation's row is the truth about it. State changes are the guarded updates of `generation.queue`.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from random import random
from typing import Any, ClassVar, Self
from uuid import UUID

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Case, Exists, OuterRef, Q, Value, When
from django.db.models.functions import Coalesce
from django.utils import timezone
from uuid_utils.compat import uuid7

from generation.filters import GenerationFilters, HistoryFilters
from generation.parameters import ErrorCode, ImageToImageParameters, RequestRefused, bounds
from generation.recipes import Family, Limits, LoraReference, ModelReference, Recipe
from generation.review_models import Review

REPOSITORY = re.compile(r"^[A-Za-z0-9][A-Za-z0-9_.-]*/[A-Za-z0-9][A-Za-z0-9_.-]*\Z")
COMMIT = re.compile(r"[0-9a-f]{40}")
BUNDLED_OWNER = "dreamsite/"
MAX_PASSED_OVER = 16
"""How often a request for a cold model waits for one of the same user's that is warm."""

ID_SLACK = timedelta(minutes=10)
"""An id is made when a request arrives, `created` once its picture was judged: never so much later."""


def first_id(when: datetime) -> UUID:
    """The least UUID of version 7 that can be made at this time: its first 48 bits are milliseconds."""
    return UUID(int=int(when.timestamp() * 1000) << 80)


class RepositoryModel(models.Model):
    """Weights that staff allow: bundled, in MODELS_DIR, or on the hub at a pinned commit."""

    id = models.CharField(
        "name",
        primary_key=True,
        max_length=200,
        validators=[
            RegexValidator(REPOSITORY, "Use the form owner/name, of letters, digits, dots, dashes and underscores.")
        ],
        help_text="owner/name",
    )
    revision = models.CharField(
        max_length=40,
        blank=True,
        help_text="Commit of the hub repository. Empty for bundled weights and for directories in MODELS_DIR.",
    )
    enabled = models.BooleanField(default=False, help_text="Whether requests may use it.")

    class Meta:
        abstract = True
        ordering = ("id",)

    def __str__(self) -> str:
        return self.id

    def clean(self) -> None:
        super().clean()
        if self.revision and not COMMIT.fullmatch(self.revision):
            raise ValidationError({"revision": "Pin the full commit: 40 hexadecimal digits, no branch or tag."})
        if not self.enabled or self.revision or not REPOSITORY.match(self.id):
            return
        if not self.id.startswith(BUNDLED_OWNER) and not (settings.MODELS_DIR / self.id).is_dir():
            raise ValidationError(
                {"revision": f"Pin a commit before enabling, or put the weights into {self.id} under MODELS_DIR."}
            )


class DiffusionModelQuerySet(models.QuerySet["DiffusionModel"]):
    def allowed_to(self, user: Any) -> Self:
        """Those that are open to all or to a group of this user. Superusers may use all."""
        if user.is_superuser:
            return self
        reserved = DiffusionModel.allowed_groups.through.objects.filter(diffusionmodel=OuterRef("pk"))
        return self.filter(~Exists(reserved) | Exists(reserved.filter(group__user=user)))

    def listed(self) -> Self:
        """What requests may name, the default first, each with the LoRAs that they may add to it."""
        loras = models.Prefetch("loras", Lora.objects.filter(enabled=True))
        return self.filter(enabled=True).order_by("-is_default", "id").prefetch_related(loras)

    def usable(self, model_id: str) -> "DiffusionModel":
        """The enabled model of this name, the default for "". Raises `RequestRefused`."""
        model = self.filter(Q(id=model_id) if model_id else Q(is_default=True), enabled=True).first()
        if model is None and model_id:
            raise RequestRefused(
                ErrorCode.UNKNOWN_MODEL, "There is no such model here; leave model_id empty for the default model."
            )
        if model is None:
            raise RequestRefused(ErrorCode.UNKNOWN_MODEL, "No default model is enabled; name one in model_id.")
        return model


class DiffusionModel(RepositoryModel):
    """A model that requests may name, and what staff allow on it."""

    family = models.CharField(
        max_length=20, choices=[(family.value, family.value) for family in Family], help_text="How the model is driven."
    )
    is_default = models.BooleanField("default", default=False, help_text="Used by requests that name no model.")
    pool = models.CharField(max_length=50, default="default", help_text="The workers that run it.")
    allowed_groups = models.ManyToManyField(
        "auth.Group",
        blank=True,
        related_name="+",
        help_text="Who may use it; empty: everybody. To others it does not exist.",
    )
    max_steps = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[
            MinValueValidator(1),
            MaxValueValidator(int(bounds(ImageToImageParameters.model_fields["num_inference_steps"])["le"])),
        ],
    )
    max_images = models.PositiveIntegerField(
        null=True,
        blank=True,
        validators=[
            MinValueValidator(1),
            MaxValueValidator(int(bounds(ImageToImageParameters.model_fields["num_images_per_prompt"])["le"])),
        ],
    )
    max_side = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(64)], help_text="Longest side of a result, in pixels."
    )

    cost_weight = models.FloatField(
        default=1.0,
        validators=[MinValueValidator(0.001)],
        help_text="What a step of a megapixel costs, against the bundled model's.",
    )
    load_seconds = models.FloatField(null=True, editable=False, help_text="As last measured.")
    batching_verified = models.CharField(
        max_length=40, blank=True, editable=False, help_text="What `manage.py verify_batching` found to be sound."
    )

    objects: ClassVar[Any] = DiffusionModelQuerySet.as_manager()

    class Meta(RepositoryModel.Meta):
        verbose_name = "model"
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["is_default"], condition=Q(is_default=True), name="one_default_model")
        ]

    def clean(self) -> None:
        super().clean()
        if self.is_default and not self.enabled:
            raise ValidationError({"enabled": "The default model must be enabled."})
        if self.pool not in settings.POOLS:
            raise ValidationError({"pool": f"There is no such pool; choose one of {', '.join(settings.POOLS)}."})

    def reference(self) -> ModelReference:
        return ModelReference(id=self.id, revision=self.revision, family=Family(self.family))

    @property
    def may_batch(self) -> bool:
        """Whether batches of these very weights were found to give the pictures of solo runs."""
        return self.batching_verified == (self.revision or "bundled")

    def limits(self) -> Limits:
        return Limits(num_inference_steps=self.max_steps, num_images_per_prompt=self.max_images, side=self.max_side)


class LoraQuerySet(models.QuerySet["Lora"]):
    def listed(self, user: Any) -> Self:
        """What this user's requests may name, each with those of its base models that they may; without one it is of no use."""
        bases = DiffusionModel.objects.allowed_to(user).filter(enabled=True)
        prefetched = models.Prefetch("base_models", bases)
        return self.filter(enabled=True, base_models__in=bases).distinct().prefetch_related(prefetched)

    def references(self, weights: dict[str, float], model: DiffusionModel) -> list[LoraReference]:
        """The allowed LoRAs of these names, with their weights. Raises `RequestRefused`."""
        if not weights:
            return []
        found = {lora.id: lora for lora in self.filter(id__in=list(weights), enabled=True, base_models=model)}
        for name in weights:
            if name not in found:
                raise RequestRefused(
                    ErrorCode.UNKNOWN_LORA,
                    f"LoRA repository '{name}' not found among those that {model.id} may use.",
                )
        return [
            LoraReference(id=name, revision=found[name].revision, weight_name=found[name].weight_name, weight=weight)
            for name, weight in weights.items()
        ]


class Lora(RepositoryModel):
    """A LoRA that requests may name."""

    weight_name = models.CharField(
        max_length=200,
        blank=True,
        validators=[RegexValidator(r"^[\w.-]+\.safetensors\Z", "Name a .safetensors file.")],
        help_text="The file in the repository, where it holds several.",
    )
    base_models = models.ManyToManyField(DiffusionModel, related_name="loras", help_text="The models it was made for.")

    objects: ClassVar[Any] = LoraQuerySet.as_manager()

    class Meta(RepositoryModel.Meta):
        verbose_name = "LoRA"


class State(models.TextChoices):
    QUEUED = "queued"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELED = "canceled"


class Band(models.IntegerChoices):
    """A `Priority` as the database sorts it."""

    LOW = 0
    NORMAL = 1
    HIGH = 2


FINAL_STATES = (State.SUCCEEDED, State.FAILED, State.CANCELED)


class GenerationQuerySet(models.QuerySet["Generation"]):
    def owned_by(self, user: Any) -> Self:
        """What this user has: neither deleted nor in the trash."""
        return self.filter(user=user, deleted=None, trashed=None)

    def trashed_by(self, user: Any) -> Self:
        """What this user put into the trash and is not deleted yet: see `generation.removal` for what can be restored."""
        return self.filter(user=user, deleted=None, trashed__isnull=False)

    def lease(self, generation: "Generation") -> Self:
        """The row while this attempt still holds it. Every change a worker makes goes through here: the fence."""
        return self.filter(pk=generation.pk, state=State.RUNNING, attempt=generation.attempt)

    def in_turn(self, pool: str, warm: Sequence[str], now: datetime) -> Self:
        """What may start in this pool, the next first: see `generation.turns` for the rule."""
        cold = Case(When(Q(model_id__in=warm) | Q(passed_over__gte=MAX_PASSED_OVER), then=0), default=1)
        rows = self.filter(Q(deadline=None) | Q(deadline__gt=now), pool=pool, state=State.QUEUED, cancel_requested=None)
        return rows.annotate(
            is_returned=Case(When(attempt__gt=0, then=1), default=0),
            served=Coalesce("user__share__served", Value(0.0)),
            is_cold=cold,
        ).order_by("-is_returned", "-band", "served", "is_cold", "id")

    def left_by(self, filters: GenerationFilters | HistoryFilters) -> Self:
        """Those that state, model, time and flag of the filters leave."""
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
        """What waits or runs, the newest first."""
        return self.filter(state__in=(State.QUEUED, State.RUNNING)).order_by("-pk")

    def last_prompts(self, count: int, looked_at: int = 200) -> list[str]:
        """The last different prompts, the newest first, of so many requests."""
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

    band = models.SmallIntegerField(choices=Band.choices, default=Band.NORMAL)
    cost = models.FloatField(default=0.0, help_text="Steps x megapixels x images x model weight.")
    batch_key = models.CharField(max_length=64, blank=True, help_text="Equal for those that may share a batch.")
    passed_over = models.PositiveSmallIntegerField(default=0, help_text="How often a warm model was preferred.")
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
    exploration = models.ForeignKey(
        "Exploration", models.SET_NULL, null=True, blank=True, related_name="generations", db_index=False
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
    held = models.BooleanField(
        "on legal hold", default=False, help_text="Nothing of it is removed, whoever wants it, until staff release it."
    )
    phases = models.JSONField(default=dict, help_text="Seconds by phase.")
    request_id = models.CharField(max_length=64, blank=True, help_text="The `X-Request-Id` that it came with.")

    attempt = models.PositiveIntegerField(
        default=0, help_text="Grows with every claim; a result of an older one is refused."
    )
    losses = models.PositiveIntegerField(default=0, help_text="How often its worker was lost.")
    lease_expires = models.DateTimeField(null=True, blank=True)
    worker = models.CharField(max_length=100, blank=True)

    error_code = models.CharField(max_length=40, blank=True)
    error_message = models.TextField(blank=True)

    objects: ClassVar[Any] = GenerationQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        indexes: ClassVar = [
            models.Index(fields=["user", "-id"], name="history"),
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
            models.Index(fields=["-id"], condition=Q(held=True), name="on_hold"),
            models.Index(fields=["source"], condition=Q(source__isnull=False), name="derived"),
            models.Index(fields=["exploration", "cell"], condition=Q(exploration__isnull=False), name="contact_sheet"),
            # What staff look for, among everybody's.
            models.Index(fields=["model", "-id"], name="by_model"),
            models.Index(fields=["-id"], condition=Q(is_flagged=True), name="all_flagged"),
            models.Index(fields=["error_code", "-id"], condition=~Q(error_code=""), name="by_error"),
            models.Index(fields=["input_sha256"], condition=~Q(input_sha256=""), name="by_input"),
        ]
        permissions: ClassVar = [("review_generation", "Can review generations")]

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

    @property
    def wanted(self) -> ImageToImageParameters:
        return ImageToImageParameters.model_validate(self.parameters)

    @property
    def effective(self) -> Recipe:
        return Recipe.model_validate(self.recipe)

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


class Match(models.Lookup[Any]):
    """Whether an entry of the index of words is found by a query in the database's own language."""

    lookup_name = "match"

    def as_sql(self, compiler: Any, connection: Any) -> tuple[str, Any]:
        left, left_values = self.process_lhs(compiler, connection)
        right, right_values = self.process_rhs(compiler, connection)
        operator = "%s @@ %s::tsquery" if connection.vendor == "postgresql" else "%s MATCH %s"
        return operator % (left, right), [*left_values, *right_values]


class EntryField(models.TextField[str, str]):
    """What the database's full text search looks into."""


EntryField.register_lookup(Match)


class Words(models.Model):
    """The index of words, by which `generation.search` finds generations. It alone writes the table, which its migration makes.

    SQLite: a table of FTS5, whose hidden column of its own name is the index. PostgreSQL: a table with a tsvector.
    """

    generation = models.OneToOneField(
        Generation, models.DO_NOTHING, primary_key=True, related_name="words", db_constraint=False
    )
    place = models.BigIntegerField(db_column="rowid", help_text="Of SQLite alone: grows with time, as ids do.")
    entry = EntryField(db_column="generation_words")

    class Meta:
        managed = False
        db_table = "generation_words"


class ExplorationQuerySet(models.QuerySet["Exploration"]):
    def counted(self) -> Self:
        """Each with how many of its generations there are, `made`, and how many wait or run, `left`."""
        live = Q(generations__state__in=(State.QUEUED, State.RUNNING))
        return self.annotate(made=models.Count("generations"), left=models.Count("generations", filter=live))

    def lately(self, count: int) -> "list[Exploration]":
        """The newest, `counted`: no others are, however many there are."""
        return list(self.filter(pk__in=list(self.values_list("pk", flat=True)[:count])).counted())


class Exploration(models.Model):
    """A grid of generations of one picture, in which one or two fields of the request vary."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="explorations", db_index=False)
    created = models.DateTimeField(default=timezone.now)
    columns = models.JSONField(help_text="The field that varies along a row, and its values.")
    rows = models.JSONField(null=True, blank=True, help_text="The field that varies down a column, and its values.")

    objects: ClassVar[Any] = ExplorationQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        indexes: ClassVar = [models.Index(fields=["user", "-id"], name="explorations")]


class ShareLink(models.Model):
    """An address under which anybody may see one picture of a generation, until it expires or is revoked."""

    generation = models.ForeignKey(Generation, models.CASCADE, related_name="share_links")
    index = models.PositiveSmallIntegerField(default=0, help_text="Of the picture.")
    code = models.CharField(max_length=43, unique=True, editable=False, help_text="The random part of the address.")
    with_recipe = models.BooleanField(default=False, help_text="Whether prompt, model, seed and values are shown too.")
    created = models.DateTimeField(default=timezone.now)
    expires = models.DateTimeField(null=True, blank=True)
    revoked = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ("-created",)


class Share(models.Model):
    """What a user was lately served, for fair turns: see `generation.turns`. Its row is also the lock on their limits."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="share")
    served = models.FloatField(default=0.0)


class Pace(models.Model):
    """How fast a model was here at one size and batch, as a moving average."""

    model = models.ForeignKey(DiffusionModel, models.CASCADE, related_name="paces")
    pixels = models.PositiveIntegerField()
    images = models.PositiveSmallIntegerField()
    step_seconds = models.FloatField()
    other_seconds = models.FloatField(help_text="Encoding, decoding, safety and storing.")

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["model", "pixels", "images"], name="one_pace")]


class Staging(models.Model):
    """Files that no row speaks of: noted before their first byte is written, or when their row was deleted.

    The transaction that makes them a row's own removes the note. What is left after a crash says which files to remove.
    """

    generation = models.UUIDField(help_text="Its row may not exist yet.")
    attempt = models.PositiveIntegerField(help_text="0: the input.")
    names = models.JSONField()
    created = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints: ClassVar = [models.UniqueConstraint(fields=["generation", "attempt"], name="one_staging")]


class IdempotencyKey(models.Model):
    """A request that its client may send again without making it twice: see `generation.idempotency`."""

    token = models.ForeignKey("accounts.ApiToken", models.CASCADE, null=True, related_name="+", db_index=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.CASCADE,
        null=True,
        related_name="+",
        db_index=False,
        help_text="Whose it is, where it came without a token.",
    )
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of the request as it was understood.")
    generation = models.ForeignKey(Generation, models.CASCADE, related_name="idempotency_keys")
    created = models.DateTimeField(default=timezone.now, db_index=True)
    answer = models.TextField(blank=True, help_text="The body that was answered, for whoever asks again.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["token", "key"], name="one_use_of_a_key"),
            models.UniqueConstraint(fields=["user", "key"], condition=Q(token=None), name="one_use_of_a_users_key"),
        ]


class PausedPool(models.Model):
    """A pool whose workers start nothing new. The row is the pause, so no loss of Redis lifts it."""

    pool = models.CharField(max_length=50, primary_key=True)
    since = models.DateTimeField(default=timezone.now)
    by = models.CharField(max_length=150, help_text="The username of who paused it.")

    class Meta:
        default_permissions = ()
        permissions = (("operate", "Can operate workers, pools and retention"),)


class Order(models.Model):
    """What staff want of one worker; it does that between its batches, and writes down what came of it."""

    class Verb(models.TextChoices):
        DRAIN = "drain"
        RESUME = "resume"
        WARM = "warm"
        EVICT = "evict"
        DOWNLOAD = "download"
        DOWNLOAD_LORA = "download LoRA"

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"

    worker = models.CharField(max_length=100)
    pool = models.CharField(max_length=50)
    verb = models.CharField(max_length=20, choices=Verb.choices)
    target = models.CharField(
        max_length=200, blank=True, help_text="The name of the model or LoRA, where it is about one."
    )
    by = models.CharField(max_length=150, help_text="The username of who gave it.")
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    message = models.CharField(max_length=500, blank=True, help_text="How far it is, or what came of it.")
    created = models.DateTimeField(default=timezone.now)
    finished = models.DateTimeField(null=True, blank=True)
    expires = models.DateTimeField(null=True, blank=True, help_text="While it runs: when its worker counts as lost.")

    class Meta:
        ordering = ("-id",)
        default_permissions = ()
        indexes: ClassVar = [models.Index(fields=["worker", "id"], condition=Q(state="waiting"), name="orders")]

    def __str__(self) -> str:
        return f"{self.verb} {self.target}".strip()


class RetentionRule(models.Model):
    """What is removed of generations of some age, and how far that has come: see `generation.retention`."""

    class What(models.TextChoices):
        UPLOADS = "uploads", "the uploaded pictures"
        CONTENT = "content", "all pictures and words"
        ROWS = "rows", "everything, the rows too"

    what = models.CharField(
        max_length=10,
        choices=What.choices,
        help_text="Pictures and words go as if their user deleted it: numbers, seeds and flags stay for staff.",
    )
    state = models.CharField(
        max_length=10,
        blank=True,
        choices=[(state.value, state.value) for state in FINAL_STATES],
        help_text="Empty: whichever way they ended.",
    )
    days = models.PositiveIntegerField(
        "age in days",
        validators=[MinValueValidator(1), MaxValueValidator(36_500)],
        help_text="Counted from the request.",
    )
    enabled = models.BooleanField(default=False, help_text="Whether the periodic job applies it. Preview it first.")

    reached = models.UUIDField(null=True, editable=False, help_text="The id up to which it was applied.")
    is_through = models.BooleanField(default=True, editable=False)
    began = models.DateTimeField(null=True, editable=False, help_text="When it last began with the oldest.")
    removed = models.PositiveIntegerField(
        default=0, editable=False, help_text="Of how many generations something was removed since then."
    )

    class Meta:
        ordering = ("what", "days", "id")
        constraints: ClassVar = [models.UniqueConstraint(fields=["what", "state"], name="one_rule_a_kind")]

    def __str__(self) -> str:
        return (
            f"{self.get_what_display()} of {self.state or 'all'} after {self.days} day{'s' if self.days != 1 else ''}"
        )


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
    links_ended = models.DateTimeField(
        null=True, blank=True, help_text="When the links from before it was confirmed stopped working."
    )
    # Where the picture is while `file` is a cover: see `generation.confirmed`.
    kept = models.FileField(max_length=200, blank=True)
    kept_thumbnail = models.FileField(max_length=200, blank=True)

    class Meta:
        ordering = ("index",)
        constraints: ClassVar = [models.UniqueConstraint(fields=["generation", "index"], name="one_image_an_index")]
        indexes: ClassVar = [
            models.Index(fields=["review", "generation"], condition=~Q(review=""), name="in_review"),
        ]

    def __str__(self) -> str:
        return f"image {self.index} of {self.generation_id}"

    @property
    def download_name(self) -> str:
        return f"{self.seed}.{str(self.file.name).rpartition('.')[2]}"

    @property
    def is_checked(self) -> bool:
        return self.checker != ""

    @property
    def original_names(self) -> tuple[str, str]:
        """The files of the picture and its thumbnail themselves, whatever covers them."""
        return str((self.kept or self.file).name), str((self.kept_thumbnail or self.thumbnail).name)

    @property
    def every_name(self) -> list[str]:
        """All files that this row names."""
        return [str(file.name) for file in (self.file, self.thumbnail, self.kept, self.kept_thumbnail) if file]

    @property
    def may_be_shared(self) -> bool:
        """Whether strangers may be shown what `file` is: not what was confirmed, unless that is a blurred cover by now."""
        if self.review != Review.CONFIRMED:
            return True
        return settings.CONFIRMED_PICTURES == "blur" and bool(self.kept)

    @property
    def is_flagged_by_checker(self) -> bool:
        """The checker's own verdict, whatever people said since."""
        return self.nsfw_score is not None and self.threshold is not None and self.nsfw_score >= self.threshold

    def await_review(self, share: float) -> None:
        """Let a person look at it, before it is saved first: what is flagged, and this share of the rest by chance."""
        self.is_sample = not self.nsfw and random() < share  # noqa: S311  no secret hangs on it
        if self.nsfw or self.is_sample:
            self.review = Review.WAITING
