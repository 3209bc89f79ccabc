"""The input of a request with an `image_url`: fetch it, validate it like an upload, and store it."""

from io import BytesIO

from django.conf import settings

from generation.images import remote
from generation.images.uploads import read_upload
from generation.jobs import submission
from generation.models import Generation
from generation.parameters import InvalidField
from generation.recipes import refit

is_allowed = remote.is_public
"""Whether an IP address may be fetched from."""

_SECONDS = 20.0


def fetch_input(generation: Generation) -> bool:
    """Fetch and store the input, and update recipe, cost and warnings to its size.

    Return False if this attempt lost its lease. Raises `RemoteRefused`, `InvalidField` for an invalid picture,
    `StorageFailed` and Django's database errors.
    """
    content = remote.fetch(
        generation.get_parameters().image_url, max_bytes=settings.MAX_UPLOAD_BYTES, seconds=_SECONDS, allow=is_allowed
    )
    picture = read_upload(BytesIO(content), max_pixels=settings.MAX_UPLOAD_PIXELS)
    recipe, warnings = refit(generation.get_recipe(), picture.size, generation.model.limits())
    return submission.attach_input(generation, picture, recipe, warnings)


def reason(error: remote.RemoteRefused | InvalidField) -> str:
    """Return the reason for the user why there is no picture."""
    return (
        error.message if isinstance(error, remote.RemoteRefused) else f"The picture at image_url was refused: {error}."
    )
