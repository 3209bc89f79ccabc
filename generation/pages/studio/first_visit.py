"""What the studio shows while its user has made nothing: sample photos, and ideas made of them by the bundled model."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accounts.models import User
from generation.models import Generation
from generation.recipes import BUNDLED_OWNER
from generation.responses import ModelDescription

IDEAS_MODEL = f"{BUNDLED_OWNER}/tiny-edit"
"""The model that made the pictures of the ideas, with the recommended steps and seed 7."""


@dataclass(frozen=True)
class SamplePhoto:
    """A photo, `file` below the static files, with a few words on what it shows."""

    file: str
    name: str


@dataclass(frozen=True)
class Idea:
    """A prompt, the photo before it and the picture after it; `file` is below the static files."""

    prompt: str
    photo: SamplePhoto
    file: str


CAT = SamplePhoto("sample.jpg", "a cat")
RED_PANDA = SamplePhoto("dreamsite/samples/red-panda.jpg", "a red panda")
ISLAND = SamplePhoto("dreamsite/samples/island.jpg", "an island")
PHOTOS = (CAT, RED_PANDA, ISLAND)

IDEAS = (
    Idea("turn it into a pencil sketch", CAT, "dreamsite/samples/cat-pencil-sketch.webp"),
    Idea("make it a snowy winter day", RED_PANDA, "dreamsite/samples/red-panda-snow.webp"),
    Idea("make it night", ISLAND, "dreamsite/samples/island-night.webp"),
    Idea("make it a pop art poster", CAT, "dreamsite/samples/cat-pop-art.webp"),
    Idea("make it a cartoon", RED_PANDA, "dreamsite/samples/red-panda-cartoon.webp"),
    Idea("add a sunset", ISLAND, "dreamsite/samples/island-sunset.webp"),
)


def context(user: User, models: Sequence[ModelDescription]) -> dict[str, Any]:
    """Return sample photos, and ideas if their model is among `models`. Empty if the user has made something."""
    if Generation.objects.filter(user=user).exists():
        return {}
    ideas = IDEAS if any(model.id == IDEAS_MODEL for model in models) else ()
    return {"sample_photos": PHOTOS, "sample_ideas": ideas, "ideas_model": IDEAS_MODEL}
