"""What the content credentials of a result tell of it."""

import hashlib
import json

from generation.engine.batches import Receipt
from generation.images.credentials import Origin
from generation.models import GeneratedImage


def origin(image: GeneratedImage, receipt: Receipt) -> Origin:
    """Return what made a picture."""
    digests = json.dumps(receipt.environment["files"], sort_keys=True)
    return Origin(
        generation=str(image.generation_id),
        index=image.index,
        model=image.generation.model_id,
        model_digest=hashlib.sha256(digests.encode()).hexdigest(),
        seed=image.seed,
        watermark=image.has_watermark,
    )
