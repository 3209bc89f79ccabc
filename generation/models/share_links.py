"""Share links."""

from typing import Any, ClassVar, Self

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone

from generation.models.albums import Album
from generation.models.generations import Generation


class ShareLinkQuerySet(models.QuerySet["ShareLink"]):
    def live(self) -> Self:
        """Return the links that are neither expired nor revoked."""
        return self.filter(Q(expires=None) | Q(expires__gt=timezone.now()), revoked=None)


class ShareLink(models.Model):
    """An address under which anyone can see one picture of a generation, or an album, until it expires or is revoked."""

    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="share_links", db_index=False)
    generation = models.ForeignKey(Generation, models.CASCADE, null=True, blank=True, related_name="share_links")
    album = models.ForeignKey(Album, models.CASCADE, null=True, blank=True, related_name="share_links")
    index = models.PositiveSmallIntegerField(default=0, help_text="Index of the picture.")
    code = models.CharField(max_length=43, unique=True, editable=False, help_text="The random part of the address.")
    with_recipe = models.BooleanField(
        default=False, help_text="Whether the page includes prompt, model, seed and values."
    )
    with_input = models.BooleanField(default=False, help_text="Whether the page compares the picture with its input.")
    with_download = models.BooleanField(default=False, help_text="Whether the page offers the picture as a download.")
    views = models.PositiveIntegerField(default=0, help_text="How often others loaded the page.")
    created = models.DateTimeField(default=timezone.now)
    expires = models.DateTimeField(null=True, blank=True)
    revoked = models.DateTimeField(null=True, blank=True)

    objects: ClassVar[Any] = ShareLinkQuerySet.as_manager()

    class Meta:
        ordering = ("-created",)
        indexes: ClassVar = [models.Index(fields=["user", "-created"], name="share_links")]
        constraints: ClassVar = [
            models.CheckConstraint(
                condition=Q(generation=None, album__isnull=False) | Q(generation__isnull=False, album=None),
                name="share_link_of_one_thing",
            )
        ]
