"""Watermarks in results: which results get one, and whether it can be read again."""

from django.conf import settings
from PIL import Image

from generation.images import encoding, watermark
from generation.images.watermark_payload import Payload, site_of
from generation.models import DiffusionModel, GeneratedImage, Generation
from generation.parameters import OutputFormat


def is_wanted(generation: Generation) -> bool:
    """Return whether the results of a generation get a watermark: by the settings, and as staff say of its model."""
    return DiffusionModel.objects.get(pk=generation.model_id).has_watermark


def mark(image: GeneratedImage, picture: Image.Image, mask: Image.Image | None) -> Image.Image:
    """Return a picture with a watermark where the mask, of mode L, lets it change; the unsaved row `image` has what it says.

    If it cannot be read from the file that will be stored, since there is too little of the picture to carry it or too little
    left of it, the picture is returned as it was.
    """
    key = settings.WATERMARK_KEY.encode()
    payload = Payload.of(key, image.recipe_digest)
    marked = watermark.embed(picture, payload, key, mask)
    if payload not in watermark.readings(_as_stored(image.generation, marked), key):
        return picture
    image.watermark = payload.picture
    return marked


def marked_again(image: GeneratedImage, picture: Image.Image, mask: Image.Image | None) -> Image.Image:
    """Return a picture that was made again with the watermark of the stored one, unchanged if that has none."""
    if image.watermark is None:
        return picture
    key = settings.WATERMARK_KEY.encode()
    return watermark.embed(picture, Payload(site_of(key), image.watermark), key, mask)


def _as_stored(generation: Generation, picture: Image.Image) -> Image.Image:
    parameters = generation.get_parameters()
    if parameters.output_format is OutputFormat.PNG:
        return picture
    return encoding.decode(encoding.encode(picture, parameters.output_format, parameters.output_quality))
