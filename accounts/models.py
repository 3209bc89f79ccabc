"""Users, their API tokens, the jobs of their accounts, and the audit log."""

import hashlib
import hmac
import secrets
from datetime import datetime, timedelta
from typing import ClassVar
from uuid import uuid4

from django.contrib.auth.models import AbstractUser
from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from accounts import security_log, usernames
from accounts.append_only import AppendOnly
from accounts.leased_jobs import LeasedJob

TOKEN_START = "dream_"
PREFIX_LENGTH = len(TOKEN_START) + 8
LAST_USED_RESOLUTION = timedelta(minutes=1)


class FoldedUsername(models.CharField[str, str]):
    """The user's name as `usernames.fold` makes it; set whenever the row is saved."""

    def pre_save(self, model_instance: models.Model, add: bool) -> str:
        folded = usernames.fold(str(model_instance.username))  # type: ignore[attr-defined]
        setattr(model_instance, self.attname, folded)
        return folded


class User(AbstractUser):
    """A user. The limits are set by staff in the admin; empty ones are those of the settings."""

    max_running = models.PositiveIntegerField(
        "running at once", null=True, blank=True, help_text="Empty: the default limit. 0: none."
    )
    max_queued = models.PositiveIntegerField(
        "queued at once", null=True, blank=True, help_text="Empty: the default limit. 0: none."
    )
    max_per_minute = models.PositiveIntegerField(
        "requests per minute", null=True, blank=True, help_text="Empty: the default limit. 0: none."
    )
    max_daily_cost = models.FloatField(
        "cost per day",
        null=True,
        blank=True,
        validators=[MinValueValidator(0)],
        help_text="Steps x megapixels x images x model weight. Empty: the default limit. 0: none.",
    )
    max_bytes = models.PositiveBigIntegerField(
        "stored bytes",
        null=True,
        blank=True,
        help_text="Of inputs, results and exports, those in the trash included. Empty: the default limit. 0: none.",
    )

    # Case folding and normalization may triple the length.
    folded_username = FoldedUsername(max_length=450, unique=True, editable=False)

    blur_flagged = models.BooleanField("blur flagged pictures", default=True)
    tells_recipe = models.BooleanField(
        "downloads tell their recipe",
        default=False,
        db_default=False,
        help_text="Prompt and settings, in their credentials.",
    )
    theme = models.CharField(
        max_length=5, choices=[("auto", "system"), ("light", "light"), ("dark", "dark")], default="auto"
    )
    default_model = models.CharField(
        max_length=200, blank=True, help_text="The model that the studio starts with. Empty: the default model."
    )

    notify_of_tokens = models.BooleanField(default=True)
    notify_of_exports = models.BooleanField(default=True)
    notify_of_alerts = models.BooleanField(default=True)
    alerts_mailed = models.DateTimeField(
        null=True, editable=False, help_text="When the last mail about alerts was noted."
    )

    class Meta(AbstractUser.Meta):
        permissions: ClassVar = [("suspend_user", "Can suspend user")]
        # Every claim looks for them.
        indexes: ClassVar = [models.Index(fields=["id"], condition=models.Q(max_running=0), name="may_run_nothing")]

    def clean(self) -> None:
        super().clean()
        # A form leaves it out if it is wrong for another reason.
        same = User.objects.filter(folded_username=usernames.fold(self.username or ""))
        if same.exclude(pk=self.pk).exists():
            raise ValidationError({"username": usernames.TAKEN})


class ApiTokenManager(models.Manager["ApiToken"]):
    def issue(self, user: User, name: str, expires: datetime | None = None) -> tuple["ApiToken", str]:
        """Create a token. Returns it with its text, which is shown once and not stored."""
        raw = TOKEN_START + secrets.token_urlsafe(32)
        token = self.create(user=user, name=name, prefix=raw[:PREFIX_LENGTH], digest=_digest(raw), expires=expires)
        security_log.log("token.issue", user=user.get_username(), token=token.prefix)
        return token, raw

    def revoke_all(self, user: User) -> int:
        """Revoke all tokens of the user. Returns how many still worked."""
        count = self.usable().filter(user=user).count()
        self.filter(user=user, revoked=None).update(revoked=timezone.now())
        security_log.log("token.revoke_all", user=user.get_username(), count=count)
        return count

    def usable(self) -> "models.QuerySet[ApiToken]":
        """Return the tokens that work now, with their users."""
        is_valid = Q(expires__isnull=True) | Q(expires__gt=timezone.now())
        return self.select_related("user").filter(is_valid, revoked=None, user__is_active=True)

    def authenticate(self, raw: str) -> "ApiToken | None":
        """Return the usable token with this text and its user, or None. Updates `last_used` at most once a minute."""
        if not (raw.startswith(TOKEN_START) and raw.isascii() and raw.isprintable()):
            return None
        now = timezone.now()
        token = self.usable().filter(prefix=raw[:PREFIX_LENGTH]).first()
        if token is None or not hmac.compare_digest(token.digest, _digest(raw)):
            return None
        if token.last_used is None or now - token.last_used >= LAST_USED_RESOLUTION:
            self.filter(pk=token.pk).update(last_used=now)
        return token


class DataExport(LeasedJob):
    """A job that writes a user's data to a file, and that file: see `generation.maintenance.data_export`."""

    class State(models.TextChoices):
        QUEUED = "queued"
        RUNNING = "running"
        SUCCEEDED = "succeeded"
        FAILED = "failed"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(User, models.CASCADE, related_name="exports")
    state = models.CharField(max_length=10, choices=State.choices, default=State.QUEUED)
    done = models.PositiveIntegerField(default=0, help_text="Generations in the file so far.")
    of = models.PositiveIntegerField(default=0, help_text="Generations in total.")
    file = models.FileField(max_length=200, blank=True)
    size = models.PositiveBigIntegerField(default=0, help_text="Bytes.")

    class Meta:
        ordering = ("-id",)
        constraints: ClassVar = [
            models.UniqueConstraint(
                fields=["user"], condition=Q(state__in=("queued", "running")), name="one_unfinished_export_per_user"
            )
        ]


class AccountDeletion(LeasedJob):
    """A job that deletes an account, and its anonymous receipt: see `generation.maintenance.account_deletion`.

    The id is random, since whoever knows the address of the receipt can see it.
    """

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    user = models.OneToOneField(User, models.SET_NULL, null=True, related_name="deletion")
    counts = models.JSONField(default=dict, help_text="Number of deleted rows and files by kind.")

    class Meta:
        ordering = ("created",)


class ApiToken(models.Model):
    """An API token. Only its SHA-256 digest is stored; the prefix finds the row and identifies the token on pages."""

    user = models.ForeignKey(User, models.CASCADE, related_name="tokens")
    name = models.CharField(max_length=100)
    prefix = models.CharField(max_length=PREFIX_LENGTH, unique=True, editable=False)
    digest = models.CharField(max_length=64, editable=False)
    created = models.DateTimeField(auto_now_add=True)
    expires = models.DateTimeField(null=True, blank=True)
    revoked = models.DateTimeField(null=True, blank=True)
    last_used = models.DateTimeField(null=True, blank=True, editable=False)

    objects: ClassVar[ApiTokenManager] = ApiTokenManager()

    class Meta:
        ordering = ("-created",)
        verbose_name = "API token"

    def __str__(self) -> str:
        return f"{self.name} ({self.prefix}…)"

    @property
    def is_usable(self) -> bool:
        return self.revoked is None and (self.expires is None or self.expires > timezone.now())

    def revoke(self) -> None:
        """Revoke the token now. An earlier revocation keeps its time."""
        if ApiToken.objects.filter(pk=self.pk, revoked=None).update(revoked=timezone.now()):
            security_log.log("token.revoke", user=self.user.get_username(), token=self.prefix)


class OutgoingMail(LeasedJob):
    """A mail that is to be sent, and for a while after it was: see `accounts.mail`."""

    class Kind(models.TextChoices):
        """What it is about: the name of its template, and what the setting EMAIL_NOTICES calls it."""

        # No mail yet, but a request for links of `PASSWORD_RESET`, of which only the address is known.
        FORGOTTEN_PASSWORD = "forgotten_password"
        PASSWORD_RESET = "password_reset"
        CONFIRMATION = "confirmation"
        # To the address that the user had.
        CHANGED_ADDRESS = "changed_address"
        TOKEN = "tokens"
        EXPORT = "exports"
        ALERTS = "alerts"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    kind = models.CharField(max_length=20, choices=Kind.choices)
    user = models.ForeignKey(User, models.CASCADE, null=True, related_name="mails")
    address = models.EmailField(blank=True, help_text="The recipient. Empty: the address that the user has then.")
    details = models.JSONField(default=dict, help_text="What its template needs, without secrets.")

    class Meta:
        ordering = ("created", "id")


class Attempt(models.Model):
    """A submission of a page that is open to anybody, for `accounts.attempts` to count: digests of address and network."""

    when = models.DateTimeField(default=timezone.now, db_index=True)
    address = models.CharField(max_length=64, db_index=True)
    network = models.CharField(max_length=64, db_index=True)


class AuditEntry(AppendOnly):
    """An action of staff: see `accounts.audit`. It has no texts of users, since it outlives their accounts.

    The database refuses to change it, so it refers to no row that can be deleted.
    """

    when = models.DateTimeField(default=timezone.now, db_index=True)
    actor_id = models.BigIntegerField(null=True, help_text="The id of the user. Empty: a command.")
    actor_name = models.CharField("actor", max_length=150, help_text="The username at that time.")
    action = models.CharField(max_length=60, db_index=True, help_text="The action, such as `generation.cancel`.")
    kind = models.CharField(
        max_length=60, help_text="The table of the target, such as `generation.generation`, or `worker`."
    )
    target = models.CharField(max_length=200, help_text="The id or name of the target.")
    before = models.JSONField(null=True)
    after = models.JSONField(null=True)
    request_id = models.CharField(max_length=64, help_text="The `X-Request-Id` of the request.")
    digest = models.CharField(max_length=64, help_text="The SHA-256 of this entry and the digest of the one before.")

    class Meta:
        ordering = ("-id",)
        verbose_name = "audit entry"
        verbose_name_plural = "audit entries"
        indexes: ClassVar = [models.Index(fields=["kind", "target", "-id"], name="audit_of_target")]

    def __str__(self) -> str:
        return f"{self.action} {self.target}"


def _digest(raw: str) -> str:
    # A token has 256 random bits, so a fast hash is safe.
    return hashlib.sha256(raw.encode("utf-8", "surrogatepass")).hexdigest()
