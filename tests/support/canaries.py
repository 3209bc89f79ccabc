"""Canaries with small real files, as workers store them."""

from typing import Any

from django.utils import timezone
from PIL import Image

from generation.images import storage
from generation.models import Canary, Environment
from tests.support.generations import ENVIRONMENT, bundled_model
from tests.support.pictures import encoded

RECIPE = {"model": {"id": "dreamsite/tiny-edit", "revision": ""}, "prompt": "make it night", "width": 64, "height": 48}


def make_canary(colour: str = "teal", before: Canary | None = None, /, **values: Any) -> Canary:
    """Create a finished canary of the bundled model. `values` replace those of its environment.

    It is accepted if it is compared with none before, else it waits.
    """
    canary = Canary.objects.create(
        model=bundled_model(),
        worker="here-1",
        environment=Environment.objects.of(ENVIRONMENT | values),
        recipe=RECIPE,
        width=64,
        height=48,
        before=before,
        largest_difference=37 if before else None,
        psnr=41.25 if before else None,
        finished=timezone.now(),
        accepted=None if before else timezone.now(),
    )
    canary.file = storage.store(f"canaries/{canary.pk}-1.png", encoded(Image.new("RGB", (64, 48), colour)))
    canary.save()
    return canary


def make_failed_canary(problem: str) -> Canary:
    """Create a canary of the bundled model that failed."""
    environment = Environment.objects.of({"device": "A processor, AVX512"})
    now = timezone.now()
    return Canary.objects.create(model=bundled_model(), environment=environment, problem=problem, finished=now)
