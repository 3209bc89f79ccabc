"""Generations in the queue, without a worker process."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from io import BytesIO

from django.db import connections
from django.utils import timezone
from PIL import Image

from accounts.models import ApiToken
from generation.images.inputs import InputFiles, read_files
from generation.jobs import queue, submission
from generation.jobs.limits import OverLimit
from generation.models import GeneratedImage, Generation
from generation.parameters import ImageToImageParameters
from tests.support.pictures import encoded


def submit(token: ApiToken, files: InputFiles | None = None, /, **fields: str) -> Generation:
    """Submit a request with these files; by default the picture is one of 32 x 24 teal pixels."""
    return _submit(token, files, fields, is_anew=False)


def submit_anew(token: ApiToken, /, **fields: str) -> Generation:
    """Submit a request that is made although its pictures are kept."""
    return _submit(token, None, fields, is_anew=True)


def _submit(token: ApiToken, files: InputFiles | None, fields: dict[str, str], *, is_anew: bool) -> Generation:
    files = files or InputFiles(BytesIO(encoded(Image.new("RGB", (32, 24), "teal"))))
    inputs, _ = read_files(files, max_pixels=1_000_000)
    parameters = ImageToImageParameters.from_form({"prompt": "make it night", **fields})
    request = submission.Request(token.user, token, parameters, inputs, is_anew=is_anew)
    return submission.submit(submission.build(request), inputs)


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
