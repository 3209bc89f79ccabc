"""The warm worker: hear the bell, claim, run the engine, store the files, finish.

One process, one pool, one engine that stays loaded. RQ calls `answer_bell`; what is to be done is in the database.
"""

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import BytesIO
from typing import Any

from django.conf import settings
from django.db import close_old_connections, connections
from PIL import Image
from redis import RedisError
from rq import SimpleWorker
from rq.serializers import JSONSerializer

from generation import media, queue
from generation.engine.engine import Engine, EngineSettings, Picture
from generation.engine.errors import EngineError
from generation.intake import thumbnail
from generation.models import DiffusionModel, GeneratedImage, Generation
from generation.parameters import ErrorCode

logger = logging.getLogger(__name__)


class HandBack(Exception):
    """Raised out of a step: the worker is stopping and gives the generation back."""


class LeaseLost(Exception):
    """Raised out of a step: another attempt holds the row, so going on is useless."""


class WarmWorker(SimpleWorker):
    """An RQ worker with a loaded engine. `SimpleWorker`, since only it keeps state between jobs."""

    engine: Engine

    def __init__(self, pool: str, engine: Engine) -> None:
        connection = queue.redis()
        super().__init__(
            [queue.bells(pool)], name=queue.worker_name(), connection=connection, serializer=JSONSerializer
        )
        self.pool = pool
        self.engine = engine

    @property
    def is_stopping(self) -> bool:
        return self._stop_requested


_worker: WarmWorker | None = None


def run(pool: str, settings_: EngineSettings) -> None:
    """Load and warm the engine, announce it, and answer bells until SIGTERM or SIGINT."""
    global _worker
    engine = Engine(settings_)
    default = DiffusionModel.objects.filter(is_default=True, enabled=True, pool=pool).first()
    if default is not None:
        engine.warm(default.reference())
    connections.close_all()
    _worker = WarmWorker(pool, engine)
    with _announced(_worker):
        queue.ring(pool)
        _worker.work(logging_level="WARNING")


def answer_bell() -> None:
    """Run what is queued in this worker's pool until nothing is left. Called by RQ, in the worker's process."""
    if _worker is None:
        raise RuntimeError("bells are answered by `manage.py worker`, which loads the engine first")
    close_old_connections()
    try:
        while not _worker.is_stopping and (generation := queue.claim(_worker.pool, _worker.name)) is not None:
            _make(generation, _worker)
    finally:
        close_old_connections()


def _make(generation: Generation, worker: WarmWorker) -> None:
    """Bring one claimed generation to its end: succeeded, failed, handed back, or lost to another attempt."""
    stored: list[str] = []
    try:
        with _Lease(generation) as lease:

            def on_step(step: int, of: int, phase: str) -> None:
                if worker.is_stopping:
                    raise HandBack
                lease.show_life()

            picture = Image.open(BytesIO(media.read(str(generation.input.name))))
            result = worker.engine.run(generation.effective, picture, on_step)
            clock = time.perf_counter()
            images = [_store(generation, index, made, stored) for index, made in enumerate(result.pictures)]
            phases = {**result.timings, "storing": time.perf_counter() - clock}
            if not queue.finish(generation, images, result.warnings, _rounded(phases)):
                raise LeaseLost
    except HandBack:
        queue.hand_back(generation)
        media.discard(stored)
    except LeaseLost:
        logger.warning(
            "attempt %d of generation %s lost its lease; its result is dropped", generation.attempt, generation.pk
        )
        media.discard(stored)
    except EngineError as error:
        logger.warning("generation %s failed: %r", generation.pk, error.__cause__ or error)
        queue.fail(generation, error.code, error.message)
    except media.StorageFailed:
        logger.exception("the files of generation %s cannot be stored or read", generation.pk)
        media.discard(stored)
        queue.fail(generation, ErrorCode.STORAGE_FAILED, "The pictures could not be stored or read; try again later.")
    except Exception:
        logger.exception("generation %s failed in an unforeseen way", generation.pk)
        media.discard(stored)
        queue.fail(generation, ErrorCode.INTERNAL, "Image-to-image pipeline error.")


def _store(generation: Generation, index: int, made: Picture, stored: list[str]) -> GeneratedImage:
    """Write one picture and its thumbnail; their names go onto `stored` as soon as they exist."""
    # The attempt is part of the name, so that an undead worker cannot write over a later attempt's files.
    name = f"outputs/{generation.created:%Y/%m/%d}/{generation.pk}/{generation.attempt}-{index}"
    png = BytesIO()
    made.image.save(png, "PNG")
    stored.append(media.store(f"{name}.png", png.getvalue()))
    stored.append(media.store(f"{name}-small.webp", thumbnail(made.image, queue.THUMBNAIL_SIDE)))
    return GeneratedImage(
        generation=generation,
        index=index,
        seed=made.seed,
        file=stored[-2],
        thumbnail=stored[-1],
        width=made.image.width,
        height=made.image.height,
        nsfw=made.nsfw,
        nsfw_score=made.score,
        checker=made.checker,
        threshold=made.threshold,
    )


class _Lease:
    """Renews the claim from a thread while the run shows signs of life, so that a hung one is noticed and retried."""

    def __init__(self, generation: Generation) -> None:
        self._generation = generation
        self._last_life = time.monotonic()
        self._ended = threading.Event()
        self._lost = False
        self._thread = threading.Thread(target=self._keep, name="lease", daemon=True)

    def __enter__(self) -> "_Lease":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        self._thread.join()

    def show_life(self) -> None:
        """Called at every step. Raises `LeaseLost` when another attempt holds the row."""
        self._last_life = time.monotonic()
        if self._lost:
            raise LeaseLost

    def _keep(self) -> None:
        while not self._ended.wait(settings.LEASE_SECONDS / 3):
            if time.monotonic() - self._last_life > settings.STALL_SECONDS:
                logger.error("generation %s shows no life; its lease is left to expire", self._generation.pk)
                break
            try:
                self._lost = not queue.renew(self._generation)
            except Exception:
                logger.exception("the lease of generation %s could not be renewed; trying again", self._generation.pk)
            finally:
                connections.close_all()
            if self._lost:
                break


@contextmanager
def _announced(worker: WarmWorker) -> Iterator[None]:
    """Keep saying that this worker is ready, from a thread, until it ends."""
    ended = threading.Event()

    def announce() -> None:
        while True:
            try:
                queue.announce(worker.name, worker.pool, worker.engine.warm_models)
            except RedisError:
                logger.warning("worker %s cannot announce itself; trying again", worker.name)
            if ended.wait(queue.ANNOUNCEMENT_SECONDS / 3):
                return

    thread = threading.Thread(target=announce, name="announce", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        with suppress(RedisError):
            queue.retire(worker.name)


def _rounded(phases: dict[str, float]) -> dict[str, float]:
    return {phase: round(seconds, 4) for phase, seconds in phases.items()}
