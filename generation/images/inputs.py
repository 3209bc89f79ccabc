"""The pictures of a request, checked: the one that changes, its mask, and further ones that the model reads."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from generation.images import masks
from generation.images.ingredients import MAX_KEPT_BYTES
from generation.images.input_files import read_whole
from generation.images.masks import Mask
from generation.images.uploads import Upload, read_upload
from generation.parameters import InvalidField


@dataclass(frozen=True)
class InputFiles:
    """The pictures of a request as they were sent. With `has_openai_mask`, transparent parts of the mask may change."""

    picture: IO[bytes] | None
    mask: IO[bytes] | None = None
    references: Sequence[IO[bytes]] = ()
    has_openai_mask: bool = False


@dataclass(frozen=True)
class Inputs:
    """The pictures of a request. `picture` is None while it is still to be fetched; then `mask` has its own size."""

    picture: Upload | None = None
    mask: Mask | None = None
    references: Sequence[Upload] = ()

    @property
    def digest(self) -> str:
        """Return a text that is the same for the same pictures."""
        parts = [f"{upload.sha256} {upload.size}" for upload in (self.picture, *self.references) if upload]
        return " ".join(parts + ([self.mask.sha256] if self.mask else []))

    @property
    def warnings(self) -> list[str]:
        """Return what is not kept of the pictures, each sentence once."""
        uploads = [upload for upload in (self.picture, *self.references) if upload]
        return list(dict.fromkeys(warning for upload in uploads for warning in upload.warnings))

    @property
    def most_kept_bytes(self) -> int:
        """Return the most bytes that each result has of the content credentials of the pictures."""
        uploads = [upload for upload in (self.picture, *self.references) if upload]
        return MAX_KEPT_BYTES * sum(upload.claims is not None for upload in uploads)


def read_files(
    files: InputFiles, *, max_pixels: int, mask_invert: bool = False, is_stored: bool = True
) -> tuple[Inputs, list[str]]:
    """Check and decode the pictures of a request. Return them, and warnings about the mask. Raises `InvalidField`.

    Without `is_stored`, as for a dry run, the file that keeps all pixels beside a mask is not made: it takes seconds.
    """
    mask, picture = None, None
    warnings: list[str] = []
    if files.mask:
        sent = masks.read_mask(files.mask, max_pixels=max_pixels)
        if files.has_openai_mask and not sent.is_by_alpha:
            warnings.append(masks.OPAQUE_WARNING)
        mask, more = usable(sent, mask_invert=mask_invert, has_openai_mask=files.has_openai_mask)
        warnings += more
    if files.picture:
        picture = (read_whole if mask and is_stored else read_upload)(files.picture, max_pixels=max_pixels)
    inputs, more = fitted(Inputs(picture, mask, read_references(files.references, max_pixels=max_pixels)))
    return inputs, warnings + more


def read_references(files: Sequence[IO[bytes]], *, max_pixels: int) -> list[Upload]:
    """Check and decode further pictures. Raises `InvalidField` on `images[]`."""
    try:
        return [read_upload(file, max_pixels=max_pixels) for file in files]
    except InvalidField as error:
        raise InvalidField("images[]", error.message) from error


def usable(mask: Mask, *, mask_invert: bool, has_openai_mask: bool = False) -> tuple[Mask | None, list[str]]:
    """Return the mask as the request means it, None if all may change, and a warning then.

    Raises `InvalidField` if nothing may.
    """
    is_inverse = mask_invert != (has_openai_mask and mask.is_by_alpha)
    meant = mask.inverted() if is_inverse else mask
    if meant.is_empty:
        message = masks.empty_message(mask_invert=mask_invert, has_openai_mask=has_openai_mask)
        raise InvalidField("mask", message)
    return (None, [masks.FULL_WARNING]) if meant.is_full else (meant, [])


def fitted(inputs: Inputs) -> tuple[Inputs, list[str]]:
    """Return the pictures with the mask in the size of the picture, once both are there, and a warning if it had another."""
    if not (inputs.mask and inputs.picture):
        return inputs, []
    size = inputs.picture.size
    mask = inputs.mask.fitted(size)
    return Inputs(inputs.picture, mask, inputs.references), masks.fitting_warning(inputs.mask, size)
