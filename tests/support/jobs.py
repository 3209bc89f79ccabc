"""Generations in the queue, without a worker process."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import BytesIO

from django.db import connections
from django.utils import timezone
from PIL import Image

from accounts.models import ApiToken
from generation.images.uploads import read_upload
from generation.jobs import queue, submission
from generation.jobs.limits import OverLimit
from generation.models import GeneratedImage, Generation
from generation.parameters import ImageToImageParameters


def submit(token: ApiToken, **fields: str) -> Generation:
    png = BytesIO()
    Image.new("RGB", (32, 24), "teal").save(png, "PNG")
    png.seek(0)
    picture = read_upload(png, max_pixels=10_000)
    parameters = ImageToImageParameters.from_form({"prompt": "make it night", **fields})
    return submission.submit(submission.build(submission.Request(token.user, token, parameters, picture)), picture)


def submit_at_once(token: ApiToken, count: int) -> int:
    """Submit `count` requests in threads, and return how many were accepted; limits may refuse the others."""

    def attempt(_: int) -> bool:
        try:
            submit(token)
        except OverLimit:
            return False
        finally:
            connections.close_all()
        return True

    with ThreadPoolExecutor(16) as pool:
        return sum(pool.map(attempt, range(count)))


def claim(worker: str = "worker-1", pool: str = "default", warm: Sequence[str] = ()) -> Generation | None:
    """Claim the next row, with batches of at most one."""
    batch = queue.claim(pool, worker, dict.fromkeys(warm, ""))
    assert len(batch) <= 1
    return batch[0] if batch else None


def claimed(token: ApiToken) -> Generation:
    submit(token)
    generation = claim()
    assert generation is not None
    return generation


def expire(generation: Generation) -> None:
    Generation.objects.filter(pk=generation.pk).update(lease_expires=timezone.now() - timedelta(seconds=1))


def image_of(generation: Generation) -> GeneratedImage:
    return GeneratedImage(generation=generation, index=0, seed=1, file="a.png", thumbnail="a.webp", width=1, height=1)
