"""Share links: addresses under which anyone can see one picture, until the link expires or is revoked.

While the generation is in the trash, its links do not work.
"""

import re
import secrets
from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from generation.images import storage
from generation.images.blur import blurred
from generation.images.encoding import decode, encode
from generation.models import GeneratedImage, Generation, ShareLink
from generation.parameters import OutputFormat

MAX_LIVE = 20
"""Most live links to one generation."""

PREVIEW_SIDE = 1200
"""Longest side of a link preview in pixels. Sites that show previews ask for less."""

_CODE = re.compile(r"[A-Za-z0-9_-]{43}")
_PREVIEW_QUALITY = 85


class TooManyLinks(Exception):
    """The generation has `MAX_LIVE` live links already."""


def share(generation: Generation, index: int, lasts: timedelta | None, with_recipe: bool) -> ShareLink:
    """Create a link to the picture of this index, which must exist. Without `lasts` it does not expire.

    Raises `TooManyLinks`.
    """
    if live_links(generation).count() >= MAX_LIVE:
        raise TooManyLinks
    expires = timezone.now() + lasts if lasts else None
    code = secrets.token_urlsafe(32)
    return ShareLink.objects.create(
        generation=generation, index=index, code=code, with_recipe=with_recipe, expires=expires
    )


def live_links(generation: Generation) -> QuerySet[ShareLink]:
    """Return the links to this generation that are neither expired nor revoked, newest first."""
    links: QuerySet[ShareLink] = ShareLink.objects.live().filter(generation=generation)
    return links


def revoke(links: QuerySet[ShareLink]) -> int:
    """Revoke the live ones of these links. Returns their number."""
    return ShareLink.objects.live().filter(pk__in=links.values("pk")).update(revoked=timezone.now())


def find(code: str) -> tuple[ShareLink, GeneratedImage] | None:
    """Return the live link with this code and its picture, or None if anonymous visitors may not see one."""
    if not _CODE.fullmatch(code):
        return None
    rows = ShareLink.objects.live().filter(code=code, generation__deleted=None, generation__trashed=None)
    link = rows.select_related("generation").first()
    image = link and link.generation.images.filter(index=link.index).exclude(file="").first()
    return (link, image) if link and image and image.may_be_shared else None


def preview(image: GeneratedImage) -> bytes:
    """Return the picture as JPEG of at most `PREVIEW_SIDE` pixels a side, blurred if it is flagged.

    Raises `StorageFailed`.
    """
    picture = decode(storage.read(str(image.file)))
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    return encode(blurred(picture) if image.nsfw else picture, OutputFormat.JPEG, _PREVIEW_QUALITY)


def preview_size(image: GeneratedImage) -> tuple[int, int]:
    """Return width and height of the preview in pixels."""
    scale = min(1.0, PREVIEW_SIDE / max(image.width, image.height))
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))
