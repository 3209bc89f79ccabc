"""Stored pictures as inputs of new requests."""

import io
import re
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from uuid import UUID

from django.conf import settings
from django.db.models.fields.files import FieldFile

from accounts.models import User
from accounts.requests import whole_number
from generation.images import storage
from generation.images.input_files import read_whole
from generation.images.inputs import Inputs
from generation.images.manifests import Claims
from generation.images.masks import Mask
from generation.images.uploads import InputFile, Upload, read_upload
from generation.models import GeneratedImage, Generation
from generation.parameters import InvalidField

_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_PAGE_END = re.compile(r"/(?:(?P<number>[1-9][0-9]{0,2})\.[a-z]+)?")
"""What follows the id in the address of a generation's page, or of the download of its result of this number."""

_MAX_NUMBER = 1000


@dataclass(frozen=True)
class StoredPicture:
    """The input of a generation, or `image`, one of its results."""

    generation: Generation
    image: GeneratedImage | None

    @property
    def file(self) -> Any:
        return self.image.file if self.image else self.generation.input

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels; of an input as uploaded."""
        if self.image:
            return self.image.width, self.image.height
        return self.generation.input_width, self.generation.input_height

    @property
    def source_id(self) -> int | None:
        """The id of the result that this picture is or was made from."""
        return self.image.pk if self.image else self.generation.source_id

    def read(self, *, whole: bool = False) -> Upload:
        """Read it like an upload, or with `whole` like one with a mask.

        Raises `StorageFailed`, or `InvalidField` if the file is damaged.
        """
        if self.image:
            read = read_whole if whole else read_upload
            content = storage.read(str(self.image.file.name))
            return read(io.BytesIO(content), max_pixels=settings.MAX_UPLOAD_PIXELS)
        row = self.generation
        # A result with a mask has the pixels that are left, not those of the upload.
        size = None if whole else self.size
        return _read_again(row.input, size, row.input_sha256, row.input_format, row.input_credentials)


def generation_with_mask(user: User, generation_id: UUID) -> Generation:
    """Return a generation of this user that has a mask. Raises as `stored_picture` does, with errors on `mask`."""
    generation = _kept(user, generation_id, "mask")
    if not generation.mask:
        reason = "was removed" if generation.mask_sha256 else "does not exist"
        raise InvalidField("mask", f"The mask of that generation {reason}; send one, or none")
    return generation


def generation_with_references(user: User, generation_id: UUID) -> Generation:
    """Return a generation of this user whose further pictures are all stored, with errors on `images[]`."""
    generation = _kept(user, generation_id, "images[]")
    if any(not reference.file for reference in generation.references.all()):
        raise InvalidField("images[]", "The further pictures of that generation were removed; send them again")
    return generation


def _kept(user: User, generation_id: UUID, field: str) -> Generation:
    """Return a generation of this user. Raises `DoesNotExist`, or `InvalidField` if it is trashed or deleted."""
    generation: Generation = Generation.objects.select_related("model").get(user=user, pk=generation_id)
    if generation.deleted:
        raise InvalidField(field, "That generation was deleted, with its pictures; choose another picture")
    if generation.trashed:
        raise InvalidField(field, "That generation is in the trash; restore it first, or choose another picture")
    return generation


def stored_mask(generation: Generation) -> Mask | None:
    """Return the mask of a generation, None if it has none. Raises `StorageFailed`."""
    return Mask.from_file(storage.read(str(generation.mask.name))) if generation.mask else None


def stored_references(generation: Generation) -> list[Upload]:
    """Return the references of a generation, like uploads. Raises `StorageFailed`, or `InvalidField` if a file is damaged."""
    return [
        _read_again(row.file, (row.width, row.height), row.sha256, row.format, row.credentials)
        for row in generation.references.all()
    ]


def _read_again(
    file: FieldFile, size: tuple[int, int] | None, sha256: str, kind: str, claims: dict[str, Any] | None
) -> Upload:
    """Return the upload that a stored input was made from, with the file as it is stored.

    The file may be smaller than the upload, and sizes are planned by that, so `size` is the upload's; None: the file's own.
    What content credentials of the upload are kept is in the file; `claims` is what they claimed.
    """
    name = str(file.name)
    content = storage.read(name)
    upload = read_upload(io.BytesIO(content), max_pixels=settings.MAX_UPLOAD_PIXELS)
    stored = InputFile(content, PurePosixPath(name).suffix)
    return replace(
        upload,
        size=size or upload.size,
        sha256=sha256,
        format=kind,
        stored=stored,
        claims=Claims.model_validate(claims) if claims else None,
        ingredient=None,
        warnings=(),
    )


def stored_inputs(generation: Generation) -> Inputs:
    """Return the inputs of a generation, as far as they are there. Raises `StorageFailed` and `InvalidField`."""
    mask = stored_mask(generation)
    picture = StoredPicture(generation, None).read(whole=mask is not None) if generation.input else None
    return Inputs(picture, mask, stored_references(generation))


def stored_picture(user: User, generation_id: UUID, index: int | None = None) -> StoredPicture:
    """Return the input of a generation of this user, or its result of this index.

    Raises `DoesNotExist`, or `InvalidField` if the picture is trashed, deleted or not stored yet.
    """
    generation = _kept(user, generation_id, "image")
    picture = StoredPicture(generation, None if index is None else generation.images.get(index=index))
    if not picture.file:
        is_removed = index is not None or generation.input_sha256
        reason = "was removed; send it again" if is_removed else "is not there yet"
        raise InvalidField("image", f"The picture of that generation {reason}, or choose another picture")
    return picture


def picture_at(user: User, address: str) -> StoredPicture:
    """Return the picture of this user that an address shows: that of a file or thumbnail, of a page, or of a download.

    Only its path and query matter, since a bucket has a host of its own. Masks are no pictures to change, and no field of a
    form names a reference. Raises `DoesNotExist` if it shows none, and `InvalidField` like `stored_picture`.
    """
    try:
        parts = urlsplit(address)
    except ValueError:
        raise Generation.DoesNotExist from None
    path = unquote(parts.path)
    found = _ID.search(path)
    if found is None:
        raise Generation.DoesNotExist
    generation = Generation.objects.prefetch_related("images").get(user=user, pk=found[0])
    for image in generation.images.all():
        if any(path.endswith(f"/{name}") for name in (image.file.name, image.thumbnail.name)):
            return stored_picture(user, generation.pk, image.index)
    if any(name and path.endswith(f"/{name}") for name in (generation.input.name, generation.input_thumbnail.name)):
        return stored_picture(user, generation.pk)
    page = _PAGE_END.fullmatch(path, found.end())
    if page is None:
        raise Generation.DoesNotExist
    number = page["number"] or parse_qs(parts.query).get("picture", ["1"])[0]
    return stored_picture(user, generation.pk, (whole_number(number, _MAX_NUMBER) or 1) - 1)
