"""Rows of the queue other than generations: usage, queues of users, run times, idempotency keys, pauses, samples, commands."""

import math
from typing import ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from generation.models.diffusion import DiffusionModel
from generation.models.generations import Generation, PriorityLevel


class UserShare(models.Model):
    """A user's recent usage, for `generation.jobs.fair_share`. The row is also the lock on the user's limits."""

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="share")
    decayed_usage = models.FloatField(default=0.0)

    def set_usage(self, decayed_usage: float) -> None:
        """Change the usage, also where claims look for the next user. Call it under the lock of the row."""
        self.decayed_usage = decayed_usage
        self.save(update_fields=["decayed_usage"])
        self.queues.update(decayed_usage=decayed_usage)


class UserQueue(models.Model):
    """The new requests of a user that wait in a pool with one priority: see `generation.jobs.user_queues`.

    Users whose requests wait always have it; it stays for a while when they no longer do.
    """

    share = models.ForeignKey(UserShare, models.CASCADE, related_name="queues", db_index=False)
    pool = models.CharField(max_length=50)
    priority = models.SmallIntegerField(choices=PriorityLevel.choices)
    decayed_usage = models.FloatField(help_text="The usage of its user's share, repeated for the index.")

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["share", "pool", "priority"], name="unique_queue_of_user")
        ]
        indexes: ClassVar = [models.Index(fields=["pool", "-priority", "decayed_usage", "id"], name="next_user")]


class RunTiming(models.Model):
    """Run times of a model at one size and batch size, as moving averages in seconds."""

    model = models.ForeignKey(DiffusionModel, models.CASCADE, related_name="run_timings")
    pixels = models.PositiveIntegerField()
    images = models.PositiveSmallIntegerField()
    step_seconds = models.FloatField()
    other_seconds = models.FloatField(help_text="Encoding, decoding, safety and storing.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["model", "pixels", "images"], name="unique_run_timing")
        ]


class IdempotencyKey(models.Model):
    """A request that can be sent again without being accepted twice: see `generation.jobs.idempotency`."""

    token = models.ForeignKey("accounts.ApiToken", models.CASCADE, null=True, related_name="+", db_index=False)
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        models.CASCADE,
        null=True,
        related_name="+",
        db_index=False,
        help_text="The user, if the request had no token.",
    )
    key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="SHA-256 of the parsed request.")
    generation = models.ForeignKey(Generation, models.CASCADE, related_name="idempotency_keys")
    created = models.DateTimeField(default=timezone.now, db_index=True)
    answer = models.TextField(blank=True, help_text="The body of the first response, to repeat it.")

    class Meta:
        constraints: ClassVar = [
            models.UniqueConstraint(fields=["token", "key"], name="unique_key_per_token"),
            models.UniqueConstraint(fields=["user", "key"], condition=Q(token=None), name="unique_key_per_user"),
        ]


class PausedPool(models.Model):
    """A pool whose workers start nothing new. It is a row, so the pause survives a loss of Redis."""

    pool = models.CharField(max_length=50, primary_key=True)
    since = models.DateTimeField(default=timezone.now)
    by = models.CharField(max_length=150, help_text="The username of the operator who paused it.")

    class Meta:
        default_permissions = ()


class QueueSample(models.Model):
    """The backlog of a pool at a minute: see `generation.jobs.backlog`."""

    pool = models.CharField(max_length=50)
    minute = models.DateTimeField()
    depth = models.PositiveIntegerField()
    oldest_seconds = models.FloatField(help_text="How long the oldest request had waited.")

    class Meta:
        default_permissions = ()
        constraints: ClassVar = [models.UniqueConstraint(fields=["minute", "pool"], name="unique_sample_per_minute")]


class WorkerCommandQuerySet(models.QuerySet["WorkerCommand"]):
    def opened(self) -> Self:
        """Return the commands that wait or run."""
        return self.filter(state__in=(WorkerCommand.State.WAITING, WorkerCommand.State.RUNNING))


class WorkerCommand(models.Model):
    """A command of staff to one worker, which runs it between two batches, downloads beside them, and stores the result."""

    class Action(models.TextChoices):
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
        CANCELED = "canceled"

    worker = models.CharField(max_length=100)
    host = models.CharField(max_length=100, help_text="The worker's host; another of its workers may go on.")
    pool = models.CharField(max_length=50)
    action = models.CharField(max_length=20, choices=Action.choices)
    target = models.CharField(
        max_length=200, blank=True, help_text="The name of a model or LoRA, for commands that have one."
    )
    by = models.CharField(max_length=150, help_text="The username of the operator who sent it.")
    state = models.CharField(max_length=10, choices=State.choices, default=State.WAITING)
    message = models.CharField(max_length=500, blank=True, help_text="The result.")
    done_bytes = models.BigIntegerField(default=0, help_text="Of a download: what is on disk.")
    total_bytes = models.BigIntegerField(default=0, help_text="Of a download; 0 until it is known.")
    bytes_per_second = models.FloatField(default=0.0, help_text="Of a download, lately.")
    crash_count = models.PositiveSmallIntegerField(default=0, help_text="How many workers were lost with it.")
    created = models.DateTimeField(default=timezone.now)
    finished = models.DateTimeField(null=True, blank=True)
    expires = models.DateTimeField(
        null=True, blank=True, help_text="The end of its lease if it runs; when it is given up if it waits."
    )

    objects: ClassVar = WorkerCommandQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        default_permissions = ()
        indexes: ClassVar = [
            models.Index(fields=["worker", "id"], condition=Q(state="waiting"), name="waiting_commands")
        ]

    def __str__(self) -> str:
        return f"{self.action} {self.target}".strip()

    @property
    def is_open(self) -> bool:
        """Whether it waits or runs."""
        return self.state in (self.State.WAITING, self.State.RUNNING)

    @property
    def is_download(self) -> bool:
        return self.action in DOWNLOADS

    @property
    def seconds_left(self) -> float | None:
        """The rest of a download at its present speed; None if that is unknown."""
        if not (self.is_open and self.bytes_per_second and self.total_bytes):
            return None
        return (self.total_bytes - self.done_bytes) / self.bytes_per_second

    @property
    def progress(self) -> str:
        """How far a download is: `3.2 of 24.1 GB, about 5 min left`."""
        if not self.total_bytes:
            return "waiting for its worker" if self.state == self.State.WAITING else "asking the hub"
        text = amount(self.done_bytes, self.total_bytes)
        return text if self.seconds_left is None else f"{text}, about {_duration(self.seconds_left)} left"


DOWNLOADS = (WorkerCommand.Action.DOWNLOAD, WorkerCommand.Action.DOWNLOAD_LORA)
"""The actions that run beside the worker's batches, and that another worker of the host continues."""

_UNITS = ((1e9, "GB", 1), (1e6, "MB", 0), (1e3, "kB", 0))


def amount(done: int, total: int) -> str:
    """Write a number of bytes and their total: `3.2 of 24.1 GB`."""
    size, unit, digits = next((unit for unit in _UNITS if total >= unit[0]), _UNITS[-1])
    return f"{done / size:.{digits}f} of {total / size:.{digits}f} {unit}"


def _duration(seconds: float) -> str:
    """Write a duration roughly: `40 s`, `5 min`, `2 h 10 min`."""
    if seconds < 90:
        return f"{max(1, math.ceil(seconds))} s"
    minutes = math.ceil(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
