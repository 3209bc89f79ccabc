"""Results as workers store them, with content credentials and a watermark; and pictures that others have signed."""

import io
from datetime import UTC, datetime
from typing import Any

import c2pa
from django.conf import settings
from PIL import Image

from accounts.models import User
from generation.images import certificates, credentials, encoding, storage, watermark
from generation.images.credentials import File, Origin
from generation.images.input_files import encode_lossless
from generation.images.manifests import ACTIONS, SETTINGS
from generation.images.watermark_payload import Payload
from generation.models import GeneratedImage
from generation.parameters import OutputFormat
from tests.support.generations import make_generation
from tests.support.pictures import scene

CAPTURED = datetime(2026, 11, 30, 8, 15, tzinfo=UTC)


def make_marked(user: User, **fields: Any) -> GeneratedImage:
    """Create a generation with one picture that is signed and has a watermark, and return that."""
    picture = scene(384, 256)
    image: GeneratedImage = make_generation(user, picture=picture, **fields).images.get()
    key = settings.WATERMARK_KEY.encode()
    payload = Payload.of(key, image.recipe_digest)
    content = encoding.encode(watermark.embed(picture, payload, key), OutputFormat.PNG, 90)
    origin = Origin(str(image.generation_id), 0, image.generation.model_id, "ab" * 32, image.seed, True)
    source = File(encode_lossless(picture), "image/webp")
    assert image.generation.finished
    content = credentials.sign(content, "image/png", image.generation.finished, origin, source)
    image.watermark = payload.picture
    image.file = storage.store(f"test/{image.generation_id}/marked.png", content)
    image.save(update_fields=["watermark", "file"])
    return image


def content_of(image: GeneratedImage) -> bytes:
    return storage.read(str(image.file))


def encoded_again(content: bytes, quality: int = 70, box: tuple[int, int, int, int] | None = None) -> bytes:
    """Return a picture as another program saves it as JPEG: a part of it, and without all that was beside its pixels."""
    file = io.BytesIO()
    Image.open(io.BytesIO(content)).convert("RGB").crop(box).save(file, "JPEG", quality=quality)
    return file.getvalue()


def signed_by_others(content: bytes, media_type: str) -> bytes:
    """Return a picture with a manifest of a camera, whose certificates are below a root of its own."""
    ours, settings.WATERMARK_KEY = settings.WATERMARK_KEY, "what the certificates of others follow from"
    identity = certificates.current()
    settings.WATERMARK_KEY = ours
    captured = {
        "action": "c2pa.created",
        "when": f"{CAPTURED:%Y-%m-%dT%H:%M:%SZ}",
        "digitalSourceType": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture",
    }
    manifest = {
        "claim_generator_info": [{"name": "A camera", "version": "7"}],
        "format": media_type,
        "assertions": [{"label": ACTIONS, "data": {"actions": [captured]}}],
    }
    info = c2pa.C2paSignerInfo(identity.algorithm, identity.chain, identity.key, None)  # type: ignore[no-untyped-call]
    file = io.BytesIO()
    with (
        c2pa.Context(c2pa.Settings.from_dict(SETTINGS)) as context,
        c2pa.Builder(manifest, context) as builder,
        c2pa.Signer.from_info(info) as signer,
    ):
        builder.sign(signer, media_type, io.BytesIO(content), file)
    return file.getvalue()
