"""Downloads of generations: file names and content of their pictures, their recipes, and zips of both."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import IO, Any

from django.utils.text import slugify
from zipstream import ZipStream

from generation.images import credentials, encoding, storage
from generation.models import GeneratedImage, Generation

RECIPES = "recipes.json"
_WORDS_IN_NAME = 40
_PIECE_BYTES = 64 * 1024


@dataclass(frozen=True)
class Picture:
    """A picture of a generation: its unique and stable name in downloads, and its name in the storage."""

    name: str
    stored: str

    def read(self) -> bytes:
        """Raises `StorageFailed`."""
        return storage.read(self.stored)


def pictures(generation: Generation) -> list[Picture]:
    """Return the inputs and the results in order, as far as they are stored; prefetch `images` and `references`."""
    stem = _stem(generation)
    inputs = {"input": generation.input, "mask": generation.mask}
    inputs |= {f"input-{reference.index + 2}": reference.file for reference in generation.references.all()}
    files = [(name, str(file.name)) for name, file in inputs.items() if file]
    files += [(f"{image.index + 1}", str(image.file.name)) for image in generation.images.all() if image.file]
    return [Picture(f"{stem}-{part}.{stored.rpartition('.')[2]}", stored) for part, stored in files]


def picture_of(image: GeneratedImage) -> Picture:
    """Return one result, named as by `pictures`."""
    stored = str(image.file.name)
    return Picture(f"{_stem(image.generation)}-{image.index + 1}.{stored.rpartition('.')[2]}", stored)


def told_recipe(generation: Generation) -> dict[str, Any]:
    """Return what files tell of a recipe whose owner wants that, as JSON types."""
    return {
        "model_id": generation.model_id,
        "parameters": generation.parameters,
        "effective": generation.effective_values,
        "loras": generation.recipe["loras"],
        "seeds": generation.recipe["seeds"],
    }


def recipe(generation: Generation) -> dict[str, Any]:
    """Return how its pictures were made, and its user's title and note, as JSON types."""
    names = {picture.stored: picture.name for picture in pictures(generation)}
    return {
        "id": str(generation.pk),
        "title": generation.title,
        "note": generation.note,
        "is_favourite": generation.is_favourite,
        "state": str(generation.state),
        "error": {"code": generation.error_code, "msg": generation.error_message} if generation.error_code else None,
        **told_recipe(generation),
        "warnings": generation.warnings,
        "cost": generation.cost,
        "input": {
            "file": names.get(str(generation.input.name)),
            "sha256": generation.input_sha256,
            "format": generation.input_format,
            "width": generation.input_width,
            "height": generation.input_height,
            "content_credentials": generation.input_credentials,
        },
        "mask": _mask(generation, names),
        "further_inputs": [
            {
                "file": names.get(str(reference.file.name)),
                **{name: getattr(reference, name) for name in ("sha256", "format", "width", "height")},
                "content_credentials": reference.credentials,
            }
            for reference in generation.references.all()
        ],
        "images": [
            {
                "file": names.get(str(image.file.name)),
                "seed": image.seed,
                "width": image.width,
                "height": image.height,
                "nsfw": image.nsfw,
                "nsfw_score": image.nsfw_score,
                "checker": image.checker,
                "watermark": image.has_watermark,
            }
            for image in generation.images.all()
        ],
        "created": _moment(generation.created),
        "started": _moment(generation.started),
        "finished": _moment(generation.finished),
        "timings": {
            "queued": generation.queued_seconds,
            "running": generation.running_seconds,
            "phases": generation.phases,
        },
        "receipt": generation.receipt,
        "proof": generation.proof,
        "reused_from": generation.reused_from_id and str(generation.reused_from_id),
    }


def _mask(generation: Generation, names: dict[str, str]) -> dict[str, Any] | None:
    if not generation.mask_sha256:
        return None
    return {
        "file": names.get(str(generation.mask.name)),
        "sha256": generation.mask_sha256,
        "open_share": generation.open_share,
    }


def stream_zip(generations: Iterable[Generation]) -> Iterator[bytes]:
    """Stream a zip of their pictures and of `RECIPES`, with a piece of one picture at a time in memory.

    Pictures that cannot be read are listed in `RECIPES` under `missing`.
    """
    stream = ZipStream()
    recipes, missing = [], []
    for generation in generations:
        recipes.append(recipe(generation))
        for picture in pictures(generation):
            try:
                file = _open(picture, generation)
            except storage.StorageFailed:
                missing.append(picture.name)
                continue
            with file:
                stream.add(iter(partial(file.read, _PIECE_BYTES), b""), picture.name)
                yield from stream.all_files()
    listing = json.dumps({"generations": recipes, "missing": missing}, indent=2, ensure_ascii=False)
    stream.add(listing.encode(), RECIPES)
    yield from stream.finalize()


def _open(picture: Picture, generation: Generation) -> IO[bytes]:
    """Return the file of a picture. Raises `StorageFailed`."""
    is_result = any(picture.stored == str(image.file.name) for image in generation.images.all())
    if generation.user.tells_recipe and is_result:
        return BytesIO(told(picture.read(), picture.stored, generation))
    return storage.open_file(picture.stored)


def told(content: bytes, name: str, generation: Generation) -> bytes:
    """Return the content of a result, a file of this name, with its recipe in its credentials."""
    return credentials.tell(content, encoding.media_type(name), told_recipe(generation))


def _stem(generation: Generation) -> str:
    """Return the day, a few words and the random end of the id: readable, sorted by time, unique."""
    words = slugify(generation.title or generation.prompt)[:_WORDS_IN_NAME].strip("-_")
    return "-".join(part for part in (f"{generation.created:%Y-%m-%d}", words, generation.pk.hex[-8:]) if part)


def _moment(when: Any) -> str | None:
    return when.isoformat() if when else None
