"""Results as workers store them, with content credentials and a watermark."""

import io
from typing import Any

from django.conf import settings
from PIL import Image

from accounts.models import User
from generation.images import credentials, encoding, storage, watermark
from generation.images.credentials import File, Origin
from generation.images.input_files import encode_input, encode_lossless
from generation.images.uploads import read_upload
from generation.images.watermark_payload import Payload
from generation.models import GeneratedImage
from generation.parameters import OutputFormat
from tests.support.generations import make_generation
from tests.support.pictures import scene


def make_marked(user: User, source: bytes = b"", **fields: Any) -> GeneratedImage:
    """Create a generation with one picture that is signed and has a watermark, and return that.

    `source` is an upload that it was made of.
    """
    picture = scene(384, 256)
    image: GeneratedImage = make_generation(user, picture=picture, **fields).images.get()
    key = settings.WATERMARK_KEY.encode()
    payload = Payload.of(key, image.recipe_digest)
    content = encoding.encode(watermark.embed(picture, payload, key), OutputFormat.PNG, 90)
    origin = Origin(str(image.generation_id), 0, image.generation.model_id, "ab" * 32, image.seed, True)
    assert image.generation.finished
    content = credentials.sign(content, "image/png", image.generation.finished, origin, _stored(source, picture))
    image.watermark = payload.picture
    image.file = storage.store(f"test/{image.generation_id}/marked.png", content)
    image.save(update_fields=["watermark", "file"])
    return image


def _stored(source: bytes, picture: Image.Image) -> File:
    if not source:
        return File(encode_lossless(picture), "image/webp")
    stored = encode_input(read_upload(io.BytesIO(source), max_pixels=settings.MAX_UPLOAD_PIXELS))
    return File(stored.content, encoding.media_type(stored.suffix))


def content_of(image: GeneratedImage) -> bytes:
    return storage.read(str(image.file))


def encoded_again(content: bytes, quality: int = 70, box: tuple[int, int, int, int] | None = None) -> bytes:
    """Return a picture as another program saves it as JPEG: a part of it, and without all that was beside its pixels."""
    file = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").crop(box).save(file, "JPEG", quality=quality)
    return file.getvalue()
