"""Watermarks in results: which results get one, and whether it can be read again."""

from typing import NamedTuple

from django.conf import settings
from PIL import Image

from generation.images import encoding, watermark
from generation.images.watermark_payload import Payload, site_of
from generation.models import GeneratedImage, Generation
from generation.parameters import ImageToImageParameters, OutputFormat


class Encoded(NamedTuple):
    """The file of a picture, and what its watermark says of the picture, None without one."""

    content: bytes
    watermark: int | None


def is_wanted(generation: Generation) -> bool:
    """Return whether the results of a generation get a watermark: by the settings, and as staff say of its model."""
    return generation.model.has_watermark


def payload(image: GeneratedImage) -> Payload | None:
    """Return what the watermark of a result has to say, None if it gets none."""
    return Payload.of(_key(), image.recipe_digest) if is_wanted(image.generation) else None


def encode(
    picture: Image.Image, payload: Payload | None, mask: Image.Image | None, parameters: ImageToImageParameters
) -> Encoded:
    """Encode a picture with a watermark where the mask, of mode L, lets it change.

    If it cannot be read from the file, since there is too little of the picture to carry it or too little left of it, the
    picture is encoded as it was.
    """
    format_, quality = parameters.output_format, parameters.output_quality
    if payload:
        marked = watermark.embed(picture, payload, _key(), mask)
        content = encoding.encode(marked, format_, quality)
        # PNG has the very same pixels.
        decoded = marked if format_ is OutputFormat.PNG else encoding.decode(content)
        if payload in watermark.readings(decoded, _key()):
            return Encoded(content, payload.picture)
    return Encoded(encoding.encode(picture, format_, quality), None)


def marked_again(image: GeneratedImage, picture: Image.Image, mask: Image.Image | None) -> Image.Image:
    """Return a picture that was made again with the watermark of the stored one, unchanged if that has none."""
    if image.watermark is None:
        return picture
    return watermark.embed(picture, Payload(site_of(_key()), image.watermark), _key(), mask)


def _key() -> bytes:
    return settings.WATERMARK_KEY.encode()
