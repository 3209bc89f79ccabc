"""The picture of a request that named an address instead of sending one: fetched, judged, and made the row's own."""

from io import BytesIO

from django.conf import settings

from generation.images import remote
from generation.images.uploads import read_upload
from generation.jobs import submission
from generation.models import Generation
from generation.parameters import InvalidField
from generation.recipes import refit

ALLOWED = remote.is_public
"""The addresses that may be fetched from."""

_SECONDS = 20.0


def fetch_input(generation: Generation) -> bool:
    """Give the generation its input, and the recipe, cost and warnings that follow from its size.

    False: another attempt holds the row. Raises `RemoteRefused`, `InvalidField` for what is no picture, `StorageFailed` and
    Django's database errors.
    """
    content = remote.fetch(
        generation.get_parameters().image_url, max_bytes=settings.MAX_UPLOAD_BYTES, seconds=_SECONDS, allow=ALLOWED
    )
    picture = read_upload(BytesIO(content), max_pixels=settings.MAX_UPLOAD_PIXELS)
    recipe, warnings = refit(generation.get_recipe(), picture.size, generation.model.limits())
    return submission.attach_input(generation, picture, recipe, warnings)


def reason(error: remote.RemoteRefused | InvalidField) -> str:
    """Why there is no picture, in words."""
    return error.message if isinstance(error, remote.RemoteRefused) else f"What image_url names was refused: {error}."
