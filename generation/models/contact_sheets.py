"""Contact sheets."""

from typing import Any, ClassVar

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from uuid_utils.compat import uuid7

from generation.models.generations import State


class ContactSheetQuerySet(models.QuerySet["ContactSheet"]):
    def counted(self) -> Any:
        """Each with how many of its generations there are to see, `made`, and how many wait or run, `left`."""
        seen = Q(generations__deleted=None, generations__trashed=None)
        live = Q(generations__state__in=(State.QUEUED, State.RUNNING))
        return self.annotate(
            made=models.Count("generations", filter=seen), left=models.Count("generations", filter=live)
        )

    def lately(self, count: int) -> "list[ContactSheet]":
        """The newest, `counted`, without those that are in the trash as a whole; no others are counted."""
        newest = self.filter(pk__in=list(self.values_list("pk", flat=True)[:count]))
        return list(newest.counted().filter(made__gt=0))


class ContactSheet(models.Model):
    """A grid of generations of one picture, in which one or two fields of the request vary."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="contact_sheets", db_index=False)
    created = models.DateTimeField(default=timezone.now)
    columns = models.JSONField(help_text="The field that varies along a row, and its values.")
    rows = models.JSONField(null=True, blank=True, help_text="The field that varies down a column, and its values.")

    objects: ClassVar[Any] = ContactSheetQuerySet.as_manager()

    class Meta:
        ordering = ("-id",)
        indexes: ClassVar = [models.Index(fields=["user", "-id"], name="contact_sheets")]
