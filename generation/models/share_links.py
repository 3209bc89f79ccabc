"""Share links."""

from typing import Any, ClassVar, Self

from django.db import models
from django.db.models import Q
from django.utils import timezone

from generation.models.generations import Generation


class ShareLinkQuerySet(models.QuerySet["ShareLink"]):
    def live(self) -> Self:
        """Return the links that are neither expired nor revoked."""
        return self.filter(Q(expires=None) | Q(expires__gt=timezone.now()), revoked=None)


class ShareLink(models.Model):
    """An address under which anyone can see one picture of a generation, until it expires or is revoked."""

    generation = models.ForeignKey(Generation, models.CASCADE, related_name="share_links")
    index = models.PositiveSmallIntegerField(default=0, help_text="Index of the picture.")
    code = models.CharField(max_length=43, unique=True, editable=False, help_text="The random part of the address.")
    with_recipe = models.BooleanField(
        default=False, help_text="Whether the page includes prompt, model, seed and values."
    )
    created = models.DateTimeField(default=timezone.now)
    expires = models.DateTimeField(null=True, blank=True)
    revoked = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = ShareLinkQuerySet.as_manager()

    class Meta:
        ordering = ("-created",)
