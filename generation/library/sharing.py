"""Share links: addresses under which anyone can see one picture or an album, until the link expires or is revoked.

What they show at the time is decided by `GeneratedImageQuerySet.shown_to_strangers` alone.
"""

import re
import secrets
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import F, Q, QuerySet
from django.utils import timezone

from accounts import security_log
from accounts.models import User
from generation.images import storage
from generation.images.blur import blurred
from generation.images.credentials import File, derive
from generation.images.encoding import decode, encode, media_type
from generation.library import albums
from generation.models import Album, GeneratedImage, Generation, ShareLink
from generation.parameters import OutputFormat

MAX_LIVE = 20
"""Most live links to one generation or album."""

PREVIEW_SIDE = 1200
"""Longest side of a link preview in pixels. Sites that show previews ask for less."""

_CODE = re.compile(r"[A-Za-z0-9_-]{43}")
_PREVIEW_QUALITY = 85


class TooManyLinks(Exception):
    """The generation or album has `MAX_LIVE` live links already."""


@dataclass(frozen=True)
class Choices:
    """What a link shows beside the picture. An album has neither an input nor a download."""

    with_recipe: bool = False
    with_input: bool = False
    with_download: bool = False


def share(generation: Generation, index: int, lasts: timedelta | None, choices: Choices = Choices()) -> ShareLink:
    """Create a link to the picture of this index, which must exist. Without `lasts` it does not expire.

    Raises `TooManyLinks`.
    """
    if live_links(generation).count() >= MAX_LIVE:
        raise TooManyLinks
    GeneratedImage.objects.filter(generation=generation, index=index).await_review_if_unchecked()
    return _create(lasts, user_id=generation.user_id, generation=generation, index=index, **asdict(choices))


def share_album(album: Album, lasts: timedelta | None, with_recipe: bool) -> ShareLink:
    """Create a link to an album. Without `lasts` it does not expire. Raises `TooManyLinks`."""
    if live_links(album).count() >= MAX_LIVE:
        raise TooManyLinks
    GeneratedImage.objects.filter(generation__album_entries__album=album).await_review_if_unchecked()
    return _create(lasts, user_id=album.user_id, album=album, with_recipe=with_recipe)


def live_links(target: Generation | Album) -> QuerySet[ShareLink]:
    """Return the links to a generation or album that are neither expired nor revoked, newest first."""
    links: QuerySet[ShareLink] = ShareLink.objects.live()
    return links.filter(album=target) if isinstance(target, Album) else links.filter(generation=target)


def links_showing(generation: Generation, live: bool = False) -> QuerySet[ShareLink]:
    """Return the links to a generation and to the albums that it is in, newest first; only those that are `live`, or all."""
    in_albums = Album.objects.filter(entries__generation=generation)
    links: QuerySet[ShareLink] = ShareLink.objects.live() if live else ShareLink.objects.all()
    return links.filter(Q(generation=generation) | Q(album__in=in_albums))


def working_links(user: User) -> QuerySet[ShareLink]:
    """Return the user's links that are live and not to something in the trash, newest first."""
    links: QuerySet[ShareLink] = ShareLink.objects.live().filter(user=user, generation__trashed=None)
    return links


def revoke(links: QuerySet[ShareLink]) -> int:
    """Revoke the live ones of these links. Returns their number."""
    count: int = ShareLink.objects.live().filter(pk__in=links.values("pk")).update(revoked=timezone.now())
    if count:
        security_log.log("share.revoke", count=count)
    return count


def find(code: str) -> ShareLink | None:
    """Return the live link with this code; None if there is none, or its user is suspended or leaves."""
    if not _CODE.fullmatch(code):
        return None
    rows = ShareLink.objects.live().filter(code=code, user__is_active=True)
    link: ShareLink | None = rows.select_related("generation", "album").first()
    return link


def image_of(link: ShareLink) -> GeneratedImage | None:
    """Return the picture of a link to a generation, or None if strangers may not see it."""
    images: QuerySet[GeneratedImage] = GeneratedImage.objects.shown_to_strangers()
    return images.filter(generation=link.generation_id, index=link.index).first() if link.generation_id else None


def image_of_album(link: ShareLink, entry_id: UUID, index: int) -> GeneratedImage | None:
    """Return a picture of a link to an album: that of this index of the generation of this entry. None if it shows none."""
    images = albums.public_images(link.album) if link.album else GeneratedImage.objects.none()
    image: GeneratedImage | None = images.filter(generation__album_entries=entry_id, index=index).first()
    return image


def shows_input(link: ShareLink) -> bool:
    """Return whether the page of a link to a generation shows the input.

    It does not if that was not chosen or was removed, or if it is itself a result that strangers may not see, or see veiled.
    """
    row = link.generation
    if not (link.with_input and row and row.input):
        return False
    shown: QuerySet[GeneratedImage] = GeneratedImage.objects.shown_to_strangers().unveiled()
    return row.source_id is None or shown.filter(pk=row.source_id).exists()


def count_view(link: ShareLink) -> None:
    """Count that somebody loaded the page of the link. Nothing else is stored about it."""
    ShareLink.objects.filter(pk=link.pk).update(views=F("views") + 1)


def _create(lasts: timedelta | None, **fields: Any) -> ShareLink:
    expires = timezone.now() + lasts if lasts else None
    link: ShareLink = ShareLink.objects.create(code=secrets.token_urlsafe(32), expires=expires, **fields)
    target = f"album {link.album_id}" if link.album_id else f"generation {link.generation_id}"
    security_log.log("share.create", user=link.user.get_username(), link=link.pk, target=target)
    return link


def preview(image: GeneratedImage) -> bytes:
    """Return the picture as JPEG of at most `PREVIEW_SIDE` pixels a side, blurred if it is veiled.

    Raises `StorageFailed`.
    """
    name = str(image.file)
    content = storage.read(name)
    picture = decode(content)
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    encoded = encode(blurred(picture) if image.is_veiled else picture, OutputFormat.JPEG, _PREVIEW_QUALITY)
    action = "c2pa.filtered" if image.is_veiled else "c2pa.resized"
    return derive(encoded, "image/jpeg", action, File(content, media_type(name)))


def preview_size(image: GeneratedImage) -> tuple[int, int]:
    """Return width and height of the preview in pixels."""
    scale = min(1.0, PREVIEW_SIDE / max(image.width, image.height))
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))
