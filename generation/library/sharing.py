"""Share links: addresses under which anybody may see one picture, until they expire or are revoked.

A link ends too when its generation goes into the trash; taken out of there, it works again.
"""

import re
import secrets
from datetime import timedelta

from django.db.models import Q, QuerySet
from django.utils import timezone
from PIL import Image

from generation.images import storage
from generation.images.encoding import decode, encode
from generation.models import GeneratedImage, Generation, ShareLink
from generation.parameters import OutputFormat

MAX_LIVE = 20
"""How many links to one generation may live at a time."""

PREVIEW_SIDE = 1200
"""Longest side of a preview in pixels, more than what shows link previews asks for."""

_CODE = re.compile(r"[A-Za-z0-9_-]{43}")
_PREVIEW_QUALITY = 85
_VEILED_SIDE = 8


class TooManyLinks(Exception):
    """As many links as there may be live already."""


def share(generation: Generation, index: int, lasts: timedelta | None, with_recipe: bool) -> ShareLink:
    """A new link to the picture of this index, which must exist; `lasts` is None for ever. Raises `TooManyLinks`."""
    if living(generation).count() >= MAX_LIVE:
        raise TooManyLinks
    expires = timezone.now() + lasts if lasts else None
    code = secrets.token_urlsafe(32)
    return ShareLink.objects.create(
        generation=generation, index=index, code=code, with_recipe=with_recipe, expires=expires
    )


def living(generation: Generation) -> QuerySet[ShareLink]:
    """The links to this generation that are neither expired nor revoked, the newest first."""
    return generation.share_links.filter(_is_living())


def revoke(links: QuerySet[ShareLink]) -> int:
    """End those of the links that live. Returns how many they were."""
    return links.filter(_is_living()).update(revoked=timezone.now())


def shown(code: str) -> tuple[ShareLink, GeneratedImage] | None:
    """What is shown under this code to whoever asks; None where nothing is, for whatever reason."""
    if not _CODE.fullmatch(code):
        return None
    rows = ShareLink.objects.filter(_is_living(), code=code, generation__deleted=None, generation__trashed=None)
    link = rows.select_related("generation").first()
    image = link and link.generation.images.filter(index=link.index).exclude(file="").first()
    return (link, image) if link and image and image.may_be_shared else None


def preview(image: GeneratedImage) -> bytes:
    """The picture as JPEG of at most `PREVIEW_SIDE` pixels a side; one that is flagged is blurred beyond recognition.

    Raises `media.StorageFailed`.
    """
    picture = decode(storage.read(str(image.file)))
    picture.thumbnail((PREVIEW_SIDE, PREVIEW_SIDE))
    if image.nsfw:
        size = picture.size
        picture = picture.convert("L")
        picture.thumbnail((_VEILED_SIDE, _VEILED_SIDE))
        picture = picture.resize(size, Image.Resampling.BICUBIC).convert("RGB")
    return encode(picture, OutputFormat.JPEG, _PREVIEW_QUALITY)


def preview_size(image: GeneratedImage) -> tuple[int, int]:
    """Width and height of the preview, in pixels."""
    scale = min(1.0, PREVIEW_SIDE / max(image.width, image.height))
    return max(1, round(image.width * scale)), max(1, round(image.height * scale))


def _is_living() -> Q:
    return Q(revoked=None) & (Q(expires=None) | Q(expires__gt=timezone.now()))
