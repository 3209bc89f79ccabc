"""The run of a proof: make the pictures of a generation again, beside as many as the first time, and compare."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from PIL import Image

from generation.engine.batches import BatchItem, Picture, Receipt
from generation.images import encoding, storage
from generation.images.differences import difference
from generation.models import Generation, differences
from generation.worker import watermarking


def beside_others(item: BatchItem, original: Generation) -> tuple[list[BatchItem], int]:
    """Return the items of a call that has the size of the original's, and which of them is this one.

    The number of the pictures in a call, and the place among them, may decide the last bits; what the others show does not.
    """
    before, after = original.places_beside
    other = replace(item, recipe=item.recipe.model_copy(update={"seeds": item.recipe.seeds[:1]}))
    return [*[other] * before, item, *[other] * after], before


def compare(
    original: Generation,
    pictures: Sequence[Picture],
    mask: Image.Image | None,
    receipt: Receipt,
) -> dict[str, Any]:
    """Return the comparison of new pictures with the stored ones as JSON types: see `generation.responses.Proof`.

    `mask`, of mode L, is that of the original, `receipt` is new. Raises `StorageFailed` if a stored one cannot be read.
    """
    parameters = original.get_parameters()
    compared = []
    for image, picture in zip(original.images.all(), pictures, strict=True):
        made = watermarking.marked_again(image, picture.image, mask)
        content = encoding.encode(made, parameters.output_format, parameters.output_quality)
        stored = storage.read(image.original_names[0])
        largest, psnr = difference(encoding.decode(stored), encoding.decode(content))
        compared.append(
            {
                "identical": largest == 0,
                "psnr": None if math.isinf(psnr) else round(psnr, 2),
                "largest_difference": largest,
            }
        )
    then, now = original.receipt, {**receipt.environment, "batch_sizes": [place.size for place in receipt.calls]}
    if then is None:
        return {"pictures": compared, "differences": None}
    # What receipts did not have then is not known to differ.
    recorded = {name: value for name, value in now.items() if name in then}
    return {"pictures": compared, "differences": differences(then, recorded)}
