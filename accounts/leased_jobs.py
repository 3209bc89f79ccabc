"""Long jobs that any process may run, one process at a time: a claim is a lease with an attempt number.

If a process dies, its lease expires and the next claim starts another attempt. An attempt that lost its lease cannot change
the row: every update goes through `LeasedJob.lease`.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import Any, ClassVar, Self, TypeVar, cast

from django.db import models, transaction
from django.db.models import Q
from django.utils import timezone

LEASE = timedelta(seconds=60)

ShouldStop = Callable[[], bool]
"""Returns whether the process is stopping, so that the job should be released."""

_Job = TypeVar("_Job", bound="LeasedJob")


class LeasedJobQuerySet(models.QuerySet[_Job]):
    def claim(self) -> _Job | None:
        """Lease the oldest job that no process holds. Returns None if there is none."""
        now = timezone.now()
        free = self.filter(Q(lease_expires=None) | Q(lease_expires__lt=now), finished=None)
        # Usually there is none, and a transaction would block SQLite's other writers.
        if not free.exists():
            return None
        with transaction.atomic():
            job = free.order_by("created", "pk").select_for_update(skip_locked=True, of=("self",)).first()
            if job:
                job.attempt += 1
                job.lease_expires = now + LEASE
                job.save(update_fields=["attempt", "lease_expires"])
        return job


class LeasedJob(models.Model):
    """A job that is run by the process that claims it."""

    created = models.DateTimeField(default=timezone.now)
    finished = models.DateTimeField(null=True, blank=True)
    lease_expires = models.DateTimeField(null=True, blank=True)
    attempt = models.PositiveIntegerField(
        default=0, help_text="Incremented by every claim. Updates of an earlier attempt have no effect."
    )

    objects: ClassVar[Any] = LeasedJobQuerySet.as_manager()

    class Meta:
        abstract = True

    def lease(self) -> models.QuerySet[Self]:
        """Return the row as a queryset, empty once the job is finished, removed, or claimed by another process."""
        rows = type(self).objects.filter(pk=self.pk, attempt=self.attempt, finished=None)
        return cast("models.QuerySet[Self]", rows)

    def renew(self, **fields: Any) -> bool:
        """Extend the lease, and update these fields. Returns False if the lease is lost."""
        return self.lease().update(lease_expires=timezone.now() + LEASE, **fields) > 0

    def release(self, delay: timedelta | None = None, **fields: Any) -> bool:
        """End the lease: the job can be claimed again, after `delay` if given. Returns False if the lease is lost."""
        return self.lease().update(lease_expires=delay and timezone.now() + delay, **fields) > 0

    def finish(self, **fields: Any) -> bool:
        """Mark the job as finished. Returns False if the lease is lost."""
        return self.lease().update(finished=timezone.now(), lease_expires=None, **fields) > 0
