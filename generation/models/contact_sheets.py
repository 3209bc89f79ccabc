"""Contact sheets."""

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from generation.models.generations import State


class ContactSheetQuerySet(models.QuerySet["ContactSheet"]):
    def with_counts(self) -> Any:
        """Annotate each sheet with `visible_count` and `unfinished_count`, the numbers of its generations in these states."""
        visible = Q(generations__deleted=None, generations__trashed=None)
        live = Q(generations__state__in=(State.QUEUED, State.RUNNING))
        return self.annotate(
            visible_count=models.Count("generations", filter=visible),
            unfinished_count=models.Count("generations", filter=live),
        )

    def recent(self, count: int) -> "list[ContactSheet]":
        """Return the newest `count` sheets, without sheets that have no visible generations, `with_counts`."""
        newest = self.filter(pk__in=list(self.values_list("pk", flat=True)[:count]))
        return list(newest.with_counts().filter(visible_count__gt=0))


class ContactSheet(models.Model):
    """A grid of generations from one picture, with one or two request fields varied."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="contact_sheets", db_index=False)
    created = models.DateTimeField(default=timezone.now)
    columns = models.JSONField(help_text="The field that varies along a row, and its values.")
    rows = models.JSONField(null=True, blank=True, help_text="The field that varies down a column, and its values.")

    objects: ClassVar[Any] = ContactSheetQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        indexes: ClassVar = [models.Index(fields=["user", "-id"], name="contact_sheets")]
