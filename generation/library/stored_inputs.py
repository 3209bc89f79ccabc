"""Store the inputs of generations: picture, mask and references, each with its thumbnail."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from generation.images import storage
from generation.images.input_files import encode_input
from generation.images.inputs import Inputs
from generation.images.sizes import MAX_INPUT_SIDE
from generation.images.uploads import THUMBNAIL_SIDE, InputFile, Upload, raw_bytes, thumbnail
from generation.library import files
from generation.models import Generation, InputFetch, ReferencePicture

RESERVED_BYTES = raw_bytes(MAX_INPUT_SIDE, MAX_INPUT_SIDE)
"""What counts for a picture that is still to be fetched: about the most that a reduced one may take."""


@dataclass(frozen=True)
class _EncodedPicture:
    """A picture as it is stored, and the content of its thumbnail."""

    file: InputFile
    thumbnail: bytes

    @classmethod
    def of(cls, upload: Upload) -> Self:
        return cls(encode_input(upload), thumbnail(upload.picture, THUMBNAIL_SIDE))

    @property
    def length(self) -> int:
        return len(self.file.content) + len(self.thumbnail)


@dataclass(frozen=True)
class EncodedInputs:
    """The pictures of a request, encoded once for all its generations."""

    inputs: Inputs
    picture: _EncodedPicture | None
    mask: _EncodedPicture | None
    references: Sequence[_EncodedPicture]

    @classmethod
    def of(cls, inputs: Inputs) -> Self:
        mask = None
        if inputs.mask:
            small = thumbnail(inputs.mask.picture.convert("L"), THUMBNAIL_SIDE)
            mask = _EncodedPicture(InputFile(inputs.mask.content, ".png"), small)
        picture = _EncodedPicture.of(inputs.picture) if inputs.picture else None
        return cls(inputs, picture, mask, [_EncodedPicture.of(upload) for upload in inputs.references])

    def store(
        self, generation: Generation, fetch: InputFetch | None = None, results: Sequence[str] = ()
    ) -> list[ReferencePicture]:
        """Stage and store the files of a generation, for its submission or its fetch. Return the unsaved rows of references.

        `results` are files that are stored after them, and only staged here. The generation has the names then, and the bytes
        of all its inputs; a mask counts once its picture is there. Raises `StorageFailed`.
        """
        folder = f"inputs/{generation.created:%Y/%m/%d}/{generation.pk}"
        # As with outputs: an attempt that lost its lease must not write over the input that a later one fetched.
        stem = f"{folder}-{fetch.attempt}" if fetch else folder
        contents: dict[str, bytes] = {}

        def add(name: str, picture: _EncodedPicture) -> tuple[str, str]:
            names = f"{name}{picture.file.suffix}", f"{name}-small.webp"
            contents.update(zip(names, (picture.file.content, picture.thumbnail), strict=True))
            return names

        length = sum(reference.length for reference in self.references)
        if self.picture:
            generation.input.name, generation.input_thumbnail.name = add(stem, self.picture)
            length += self.picture.length + (self.mask.length if self.mask else 0)
        if self.mask:
            generation.mask.name, generation.mask_thumbnail.name = add(f"{stem}-mask", self.mask)
        references = [
            _reference(generation, index, upload, *add(f"{stem}-reference-{index}", encoded))
            for index, (upload, encoded) in enumerate(zip(self.inputs.references, self.references, strict=True))
        ]
        files.stage([*contents, *results], fetch or generation)
        for name, content in contents.items():
            storage.store(name, content)
        generation.input_bytes += length - (RESERVED_BYTES if fetch else 0)
        return references


def _reference(generation: Generation, index: int, upload: Upload, file: str, small: str) -> ReferencePicture:
    width, height = upload.size
    return ReferencePicture(
        generation=generation,
        index=index,
        file=file,
        thumbnail=small,
        sha256=upload.sha256,
        format=upload.format,
        width=width,
        height=height,
        credentials=upload.claims and upload.claims.model_dump(mode="json"),
    )
