"""Albums: add and remove generations, choose a cover, and what of an album others may see."""

from collections.abc import Iterable
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import F, QuerySet

from accounts.models import User
from generation.models import Album, AlbumEntry, GeneratedImage, Generation, ShareLink

MAX_ALBUMS = 100
"""Most albums of a user."""

MAX_ENTRIES = 1000
"""Most generations in an album."""


class AlbumRefused(Exception):
    """The message is a sentence for the user."""


def create(user: User, name: str) -> Album:
    """Create an album. Raises `AlbumRefused` if the user has one of this name, or `MAX_ALBUMS`."""
    if Album.objects.filter(user=user).count() >= MAX_ALBUMS:
        raise AlbumRefused(f"You have {MAX_ALBUMS} albums, which is the most. Delete one first.")
    try:
        with transaction.atomic():
            return Album.objects.create(user=user, name=name)
    except IntegrityError:
        raise AlbumRefused(f"You have an album “{name}” already. Choose another name.") from None


def rename(album: Album, name: str) -> None:
    """Rename an album. Raises `AlbumRefused` if its user has another of this name."""
    try:
        with transaction.atomic():
            Album.objects.filter(pk=album.pk).update(name=name)
    except IntegrityError:
        raise AlbumRefused(f"You have an album “{name}” already. Choose another name.") from None


def add(album: Album, ids: Iterable[UUID]) -> int:
    """Add those of the user's generations with these ids that are not in it. Returns their number. Raises `AlbumRefused`."""
    with transaction.atomic():
        # Locked, so that two requests cannot exceed the maximum together.
        Album.objects.select_for_update().get(pk=album.pk)
        present = set(album.entries.values_list("generation_id", flat=True))
        rows = Generation.objects.owned_by(album.user).filter(pk__in=ids)
        new = [pk for pk in rows.values_list("pk", flat=True) if pk not in present]
        if len(present) + len(new) > MAX_ENTRIES:
            raise AlbumRefused(
                f"An album holds at most {MAX_ENTRIES}, and “{album.name}” has {len(present)}. Nothing was added."
            )
        AlbumEntry.objects.bulk_create([AlbumEntry(album=album, generation_id=pk) for pk in new])
        if ShareLink.objects.live().filter(album=album).exists():
            GeneratedImage.objects.filter(generation__in=new).await_review_if_unchecked()
    return len(new)


def remove(album: Album, ids: Iterable[UUID]) -> int:
    """Take generations with these ids out of it. Returns their number."""
    return album.entries.filter(generation__in=list(ids)).delete()[0]


def choose_cover(album: Album, generation_id: UUID) -> bool:
    """Make the first picture of this generation the cover. Returns False if it is not in the album or has no picture."""
    pictures = GeneratedImage.objects.filter(generation=generation_id, index=0).exclude(file="")
    with transaction.atomic():
        # Locked, so that two requests cannot choose two covers.
        Album.objects.select_for_update().get(pk=album.pk)
        chosen = album.entries.filter(generation=generation_id, generation__deleted=None, generation__trashed=None)
        if not (chosen.exists() and pictures.exists()):
            return False
        album.entries.filter(is_cover=True).update(is_cover=False)
        chosen.update(is_cover=True)
    return True


def covers(albums: Iterable[Album]) -> dict[UUID, GeneratedImage]:
    """Return the pictures that stand for these albums, which are `with_covers`, by the album's id, in one query."""
    ids = {album.pk: album.cover_id for album in albums if album.cover_id}  # type: ignore[attr-defined]
    images = GeneratedImage.objects.in_bulk(ids.values())
    return {album_id: images[image_id] for album_id, image_id in ids.items() if image_id in images}


def public_images(album: Album) -> QuerySet[GeneratedImage]:
    """Return the pictures of an album that a share link shows, newest first, each with `entry_id`.

    Those that strangers may not see at all are left out, and those that they would see veiled.
    """
    images: QuerySet[GeneratedImage] = GeneratedImage.objects.shown_to_strangers().unveiled()
    shown = images.filter(generation__album_entries__album=album)
    return shown.annotate(entry_id=F("generation__album_entries__id")).order_by("-generation_id", "index")
