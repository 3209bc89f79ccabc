"""Pictures that are stored already, as the input of another request: nobody has to send them again."""

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
class Stored:
    """The input of a generation, or one of its results where there is an `image`."""

    generation: Generation
    image: GeneratedImage | None

    @property
    def file(self) -> Any:
        return self.image.file if self.image else self.generation.input

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels, of an input as they were uploaded."""
        if self.image:
            return self.image.width, self.image.height
        return self.generation.input_width, self.generation.input_height

    @property
    def source_id(self) -> int | None:
        """The result that this picture is, or was."""
        return self.image.pk if self.image else self.generation.source_id

    def read(self) -> Upload:
        """As if it had been uploaded again. Raises `StorageFailed`, or `InvalidField` for what can be read no more."""
        intake = read_upload(io.BytesIO(storage.read(str(self.file.name))), max_pixels=settings.MAX_UPLOAD_PIXELS)
        if self.image:
            return intake
        # What was kept may be smaller than what was sent, and sizes were planned by that.
        row = self.generation
        return replace(intake, size=self.size, sha256=row.input_sha256, format=row.input_format)


def stored(user: User, generation_id: UUID, index: int | None = None) -> Stored:
    """The input of a generation of this user, or its result of this index.

    Raises `DoesNotExist` of the one or the other, and `InvalidField` for what is in the trash, deleted or not there yet.
    """
    generation: Generation = Generation.objects.select_related("model").get(user=user, pk=generation_id)
    if generation.deleted:
        raise InvalidField("image", "That generation was deleted, with its pictures; choose another picture")
    if generation.trashed:
        raise InvalidField("image", "That generation is in the trash; restore it first, or choose another picture")
    found = Stored(generation, None if index is None else generation.images.get(index=index))
    if not found.file:
        raise InvalidField("image", "The picture of that generation is not there yet; choose another picture")
    return found
