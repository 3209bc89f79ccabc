"""Pictures that wait for review."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from accounts.models import User
from generation.models import GeneratedImage
from tests.support.generations import make_generation

DESK = "/admin/review/"
BATCH = f"{DESK}batch/"


def flagged(user: User, **fields: Any) -> GeneratedImage:
    image: GeneratedImage = make_generation(user, flagged=[0], **fields).images.get()
    return image


def ago(**delta: int) -> Any:
    return timezone.now() - timedelta(**delta)


def scored(user: User, *scores: float) -> list[GeneratedImage]:
    """Make a flagged picture with each of these scores."""
    images = [flagged(user) for _ in scores]
    for image, score in zip(images, scores, strict=True):
        GeneratedImage.objects.filter(pk=image.pk).update(nsfw_score=score)
    return images
