"""Albums."""

from typing import Any, ClassVar, Self
from uuid import uuid4

from django.conf import settings
from django.db import models
from django.db.models import OuterRef, Q, Subquery
from django.utils import timezone
from uuid_utils.compat import uuid7

from generation.models.generated_images import GeneratedImage
from generation.models.generations import Generation


class AlbumQuerySet(models.QuerySet["Album"]):
    def with_covers(self) -> Self:
        """Annotate each album with `visible_count`, of its generations, and with `cover_id`, the id of its cover's picture.

        That is the first picture of the chosen generation, or else of the newest one that has a picture.
        """
        visible = Q(entries__generation__deleted=None, entries__generation__trashed=None)
        in_album = GeneratedImage.objects.filter(
            generation__album_entries__album=OuterRef("pk"),
            generation__deleted=None,
            generation__trashed=None,
            index=0,
        )
        first = in_album.exclude(file="").order_by("-generation__album_entries__is_cover", "-generation_id")
        return self.annotate(
            visible_count=models.Count("entries", filter=visible),
            cover_id=Subquery(first.values("pk")[:1]),
        )


class Album(models.Model):
    """A named collection of a user's generations. A generation can be in several."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="albums", db_index=False)
    name = models.CharField(max_length=100)
    created = models.DateTimeField(default=timezone.now)

    objects: ClassVar[Any] = AlbumQuerySet.as_manager()

    class Meta:
        ordering = ("name", "id")
        constraints: ClassVar = [models.UniqueConstraint(fields=["user", "name"], name="unique_album_name")]

    def __str__(self) -> str:
        return self.name


class AlbumEntry(models.Model):
    """A generation in an album. Its id is random, since the addresses of a shared album contain it."""

    id = models.UUIDField(primary_key=True, default=uuid4, editable=False)
    album = models.ForeignKey(Album, models.CASCADE, related_name="entries", db_index=False)
    generation = models.ForeignKey(Generation, models.CASCADE, related_name="album_entries")
    is_cover = models.BooleanField("cover", default=False)

    class Meta:
        constraints: ClassVar = [
            # Its index serves the pages of an album, too.
            models.UniqueConstraint(fields=["album", "generation"], name="unique_generation_in_album"),
            models.UniqueConstraint(fields=["album"], condition=Q(is_cover=True), name="unique_cover"),
        ]
