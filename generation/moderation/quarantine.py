"""Quarantine of confirmed pictures: the files move to new secret names, so that earlier URLs stop working.

Share links to them stop. `CONFIRMED_PICTURES` sets what history and API show their owner from then on: `owner`, the picture
itself, with new URLs; `blur`, a blurred copy; `block`, a grey one. Undoing the decision restores the picture; earlier URLs stay
dead.

If the process dies or the storage is away, the reaper applies the decision later.
"""

import logging
from functools import partial
from pathlib import PurePosixPath
from secrets import token_urlsafe
from uuid import UUID

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone
from PIL import Image

from generation.images import encoding, storage
from generation.images.blur import blurred
from generation.images.credentials import File, derive
from generation.library import files
from generation.models import GeneratedImage, StagedFiles
from generation.models.generated_images import NOT_MOVED
from generation.models.review import Review
from generation.parameters import OutputFormat

logger = logging.getLogger(__name__)

_AT_ONCE = 100
_GREY = (128, 128, 128)
_QUALITY = 80


def apply(image_id: int) -> bool:
    """Quarantine or restore the files of this picture as its review requires. Returns False if the storage is away."""
    image = GeneratedImage.objects.exclude(file="").filter(pk=image_id).first()
    if image is None:
        return True
    try:
        if image.review == Review.CONFIRMED and image.quarantined is None:
            _move_out(image)
        elif image.review != Review.CONFIRMED and image.original:
            _restore(image)
    except storage.StorageFailed:
        logger.exception("the files of picture %s cannot be moved; the reaper will retry", image_id)
        return False
    return True


def apply_all() -> None:
    """Apply decisions that were not applied when they were made, a bounded number at once."""
    rows = GeneratedImage.objects.filter(NOT_MOVED).order_by("pk")
    for image_id in list(rows.values_list("pk", flat=True)[:_AT_ONCE]):
        if not apply(image_id):
            return


def _move_out(image: GeneratedImage) -> None:
    """Move the picture, and put a placeholder in its place if the setting asks for one."""
    file, thumbnail = image.original_names
    contents = [storage.read(file), storage.read(thumbnail)]
    secret = partial(_secret_name, image.generation_id)
    names = [secret(file), secret(thumbnail)]
    fields: dict[str, object] = {"file": names[0], "thumbnail": names[1]}
    if settings.CONFIRMED_PICTURES != "owner":
        covers = [secret("cover.webp"), secret("cover.webp")]
        fields = {"original": names[0], "original_thumbnail": names[1], "file": covers[0], "thumbnail": covers[1]}
        contents += [_placeholder(name, content) for name, content in zip(names, contents, strict=True)]
        names += covers
    staged = files.stage(names)
    for name, content in zip(names, contents, strict=True):
        storage.store(name, content)
    as_read = GeneratedImage.objects.filter(pk=image.pk, file=str(image.file.name), review=Review.CONFIRMED)
    _swap(image, as_read.filter(quarantined=None), {**fields, "quarantined": timezone.now()}, staged)


def _restore(image: GeneratedImage) -> None:
    """Put the picture back in place of its placeholder."""
    file, thumbnail = image.original_names
    fields: dict[str, object] = {"file": file, "thumbnail": thumbnail, "original": "", "original_thumbnail": ""}
    as_read = GeneratedImage.objects.filter(pk=image.pk, original=str(image.original.name)).exclude(
        review=Review.CONFIRMED
    )
    _swap(image, as_read, fields, None)


def _swap(
    image: GeneratedImage, as_read: QuerySet[GeneratedImage], fields: dict[str, object], staged: StagedFiles | None
) -> None:
    """Let the row name other files, unless it changed since it was read. Delete the files that it does not name then."""
    old = [name for name in image.file_names if name not in fields.values()]
    with transaction.atomic():
        # A sweep that came first has deleted the new files: then the row must not name them.
        are_stored = staged is None or bool(staged.delete()[0])
        is_swapped = are_stored and bool(as_read.update(**fields))
        file_deletion = files.delete_later(old if is_swapped else staged.names if staged else [])
    files.delete_now(file_deletion)


def _secret_name(generation_id: UUID, name: str) -> str:
    return f"outputs/confirmed/{generation_id}/{token_urlsafe(24)}{PurePosixPath(name).suffix}"


def _placeholder(name: str, content: bytes) -> bytes:
    """Return a picture of the same size that is blurred beyond recognition, or grey."""
    picture = encoding.decode(content)
    is_grey = settings.CONFIRMED_PICTURES == "block"
    placeholder = Image.new("RGB", picture.size, _GREY) if is_grey else blurred(picture)
    encoded = encoding.encode(placeholder, OutputFormat.WEBP, _QUALITY)
    return derive(encoded, "image/webp", "c2pa.filtered", File(content, encoding.media_type(name)))
