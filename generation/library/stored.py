"""Stored pictures as inputs of new requests."""

import io
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from django.conf import settings

from accounts.models import User
from generation.images import storage
from generation.images.uploads import Upload, read_upload
from generation.models import GeneratedImage, Generation
from generation.parameters import InvalidField


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

    def read(self) -> Upload:
        """Read it like an upload. Raises `StorageFailed`, or `InvalidField` if the file is damaged."""
        upload = read_upload(io.BytesIO(storage.read(str(self.file.name))), max_pixels=settings.MAX_UPLOAD_PIXELS)
        if self.image:
            return upload
        # The stored input may be smaller than the upload, and sizes are planned by the upload.
        row = self.generation
        return replace(upload, size=self.size, sha256=row.input_sha256, format=row.input_format)


def stored_picture(user: User, generation_id: UUID, index: int | None = None) -> StoredPicture:
    """Return the input of a generation of this user, or its result of this index.

    Raises `DoesNotExist`, or `InvalidField` if the picture is trashed, deleted or not stored yet.
    """
    generation: Generation = Generation.objects.select_related("model").get(user=user, pk=generation_id)
    if generation.deleted:
        raise InvalidField("image", "That generation was deleted, with its pictures; choose another picture")
    if generation.trashed:
        raise InvalidField("image", "That generation is in the trash; restore it first, or choose another picture")
    picture = StoredPicture(generation, None if index is None else generation.images.get(index=index))
    if not picture.file:
        raise InvalidField("image", "The picture of that generation is not there yet; choose another picture")
    return picture
