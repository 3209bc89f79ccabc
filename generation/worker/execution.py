"""One attempt at a batch of claimed generations: keep the leases, run the engine, heed wishes to stop, store, finish.

Every generation ends here in one way: succeeded, failed, stopped, handed back, or lost to another attempt.
"""

import contextvars
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from io import BytesIO
from typing import Any, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connections
from django.utils import timezone
from PIL import Image
from redis import RedisError

from accounts import request_ids
from generation.broker.progress import ControlFlags, Progress, publish, report
from generation.engine.engine import (
    BatchItem,
    Engine,
    Picture,
    Result,
)
from generation.engine.errors import EngineError
from generation.engine.progress import Preview
from generation.images import encoding, storage
from generation.images.remote import RemoteRefused
from generation.images.uploads import THUMBNAIL_SIDE, thumbnail
from generation.jobs import forecast, queue
from generation.jobs.queue import LeaseStatus
from generation.library import files
from generation.models import GeneratedImage, Generation
from generation.parameters import MESSAGES, ErrorCode, ImageToImageParameters, InvalidField, OutputFormat
from generation.worker import remote_input

logger = logging.getLogger(__name__)

_REDIS_PAUSE_SECONDS = 5.0
_PREVIEW_SECONDS = 1.0
_PREVIEW_QUALITY = 60
_PERSIST_SECONDS = 600.0
_LONGEST_PAUSE_SECONDS = 2.0

T = TypeVar("T")


class WorkerStopping(Exception):
    """Raised out of a step: the worker is stopping and gives the batch back."""


class BatchEmpty(Exception):
    """Raised out of a step: every generation of the batch was stopped or lost, so going on is useless."""


def run(batch: Sequence[Generation], engine: Engine, should_release: Callable[[], bool]) -> None:
    """Bring each generation of this batch to its end. `should_release` is asked at every step."""
    with request_ids.bind(*(generation.request_id for generation in batch)):
        _run(batch, engine, should_release)


def _run(batch: Sequence[Generation], engine: Engine, should_release: Callable[[], bool]) -> None:
    state = _BatchRun(batch, should_release)
    phases: dict[str, float] = {}
    try:
        with state.leases:
            members = []
            for generation in batch:
                with request_ids.bind(generation.request_id):
                    if member := _load_input(generation):
                        members.append((generation, member))
            state.members = [generation for generation, _ in members]
            outcomes = (
                engine.run_batch([member for _, member in members], state.on_step, state.offer) if members else []
            )
            for (generation, _), outcome in zip(members, outcomes, strict=True):
                if generation.pk in state.active:
                    state.on_step(state.of, state.of, "storing")
                if generation.pk in state.active:
                    with request_ids.bind(generation.request_id):
                        phases = _store_result(generation, outcome)
                    del state.active[generation.pk]
        if phases and len(members) == len(batch):
            _record_timings(batch, phases)
    except WorkerStopping:
        for generation in state.remaining():
            with request_ids.bind(generation.request_id):
                _retry_db(partial(queue.release, generation))
    except BatchEmpty:
        pass
    except Exception:
        logger.exception("the batch of generation %s failed unexpectedly", batch[0].pk)
        for generation in state.remaining():
            with request_ids.bind(generation.request_id):
                _fail(generation, ErrorCode.INTERNAL, MESSAGES[ErrorCode.INTERNAL])


class _BatchRun:
    """What the steps of a batch look after: signs of life, progress, wishes to stop, deadlines."""

    def __init__(self, batch: Sequence[Generation], should_release: Callable[[], bool]) -> None:
        self.active = {generation.pk: generation for generation in batch}
        self.leases = _LeaseKeeper(batch)
        self.members: Sequence[Generation] = batch
        """Those that the engine was given, in its order."""
        self.step, self.of = 0, 1
        self._watched: frozenset[UUID] = frozenset()
        self._shown = 0.0
        self._must_hand_back = should_release
        self._redis_rests_until = 0.0
        latest = timezone.now() + timedelta(seconds=settings.MAX_SECONDS)
        self._deadlines = {
            generation.pk: min(latest, generation.deadline) if generation.deadline else latest for generation in batch
        }

    def remaining(self) -> list[Generation]:
        return list(self.active.values())

    def on_step(self, step: int, of: int, phase: str) -> None:
        """The engine's callback. Raises `HandBack` or `NothingLeft`."""
        self.step, self.of = step, of
        self.leases.show_life(phase)
        if phase != "storing" and self._must_hand_back():
            raise WorkerStopping
        now = timezone.now()
        flags = self._tell(Progress(step, of, phase))
        self._watched = flags.preview
        to_stop = flags.cancel | self.leases.to_stop
        for generation in self.remaining():
            if generation.pk in self.leases.lost:
                with request_ids.bind(generation.request_id):
                    logger.warning("attempt %d of generation %s lost its lease", generation.attempt, generation.pk)
                del self.active[generation.pk]
            elif generation.pk in to_stop:
                self._stop(generation, ErrorCode.CANCELED, step / of)
            elif now >= self._deadlines[generation.pk]:
                self._stop(generation, ErrorCode.DEADLINE, step / of)
        if not self.active:
            raise BatchEmpty

    def offer(self, decode: Callable[[], list[Preview]]) -> None:
        """The engine's offer of previews: taken now and then, while somebody looks."""
        if not self._watched or time.monotonic() - self._shown < _PREVIEW_SECONDS:
            return
        self._shown = time.monotonic()
        for preview in decode():
            generation = self.members[preview.item]
            if generation.pk in self._watched & self.active.keys():
                at = {"index": preview.image, "step": self.step, "of": self.of}
                publish(generation.pk, "preview", {**at, "image": _data_url(preview.picture)})

    def _tell(self, progress: Progress) -> ControlFlags:
        """Report to Redis; while it is away the steps do not wait for it."""
        if time.monotonic() < self._redis_rests_until:
            return ControlFlags()
        try:
            return report(list(self.active), progress)
        except RedisError:
            self._redis_rests_until = time.monotonic() + _REDIS_PAUSE_SECONDS
            return ControlFlags()

    def _stop(self, generation: Generation, code: ErrorCode, share_done: float) -> None:
        with request_ids.bind(generation.request_id):
            _retry_db(lambda: queue.finish_canceled(generation, code, share_done))
        del self.active[generation.pk]


class _LeaseKeeper:
    """Renews the claims from a thread while the run shows signs of life, so that a hung one is noticed and retried."""

    def __init__(self, batch: Sequence[Generation]) -> None:
        self.lost: set[UUID] = set()
        self.to_stop: set[UUID] = set()
        self._batch = batch
        self._last_life = time.monotonic()
        self._silence = settings.STALL_SECONDS
        self._ended = threading.Event()
        # A thread begins without the ids that log lines carry.
        context = contextvars.copy_context()
        self._thread = threading.Thread(target=context.run, args=(self._keep,), name="leases", daemon=True)

    def __enter__(self) -> "_LeaseKeeper":
        self._thread.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self._ended.set()
        self._thread.join()

    def show_life(self, phase: str) -> None:
        self._last_life = time.monotonic()
        # Weights may have to be fetched first, which shows no steps.
        self._silence = settings.MAX_SECONDS if phase == "loading" else settings.STALL_SECONDS

    def _keep(self) -> None:
        while not self._ended.wait(settings.LEASE_SECONDS / 3):
            if time.monotonic() - self._last_life > self._silence:
                # A hung driver cannot be called back. A new process can take what this one leaves.
                logger.critical("generation %s shows no life; this worker ends", self._batch[0].pk)
                os._exit(1)
            for generation in self._batch:
                with request_ids.bind(generation.request_id):
                    self._renew(generation)
            connections.close_all()

    def _renew(self, generation: Generation) -> None:
        try:
            hold = queue.renew(generation)
        except Exception:
            logger.exception("the lease of generation %s could not be renewed; trying again", generation.pk)
            return
        if hold is LeaseStatus.LOST:
            self.lost.add(generation.pk)
        elif hold is LeaseStatus.CANCEL_REQUESTED:
            self.to_stop.add(generation.pk)


def _load_input(generation: Generation) -> BatchItem | None:
    """What the engine needs, or None, and the generation failed or is another's, when there is no input to be read."""
    try:
        if not generation.input and not _retry_db(partial(remote_input.fetch_input, generation)):
            return None
        return BatchItem(generation.get_recipe(), Image.open(BytesIO(storage.read(str(generation.input.name)))))
    except (RemoteRefused, InvalidField) as error:
        logger.warning("the input of generation %s was not fetched: %r", generation.pk, error)
        _fail(generation, ErrorCode.IMAGE_URL_REFUSED, remote_input.reason(error))
    except storage.StorageFailed:
        logger.exception("the input of generation %s cannot be read", generation.pk)
        _fail(generation, ErrorCode.STORAGE_FAILED, MESSAGES[ErrorCode.STORAGE_FAILED])
    except Exception:
        logger.exception("the input of generation %s cannot be understood", generation.pk)
        _fail(generation, ErrorCode.INTERNAL, MESSAGES[ErrorCode.INTERNAL])
    return None


def _store_result(generation: Generation, outcome: Result | EngineError) -> dict[str, float]:
    """Store and finish one generation, or fail it; the seconds of its phases, none when it has no pictures."""
    if isinstance(outcome, EngineError):
        logger.warning("generation %s failed: %r", generation.pk, outcome.__cause__ or outcome)
        _fail(generation, outcome.code, outcome.message)
        return {}
    clock = time.perf_counter()
    # The attempt is part of the name, so that an undead worker cannot write over a later attempt's files.
    folder = f"outputs/{generation.created:%Y/%m/%d}/{generation.pk}/{generation.attempt}"
    images = [_image(generation, index, made, f"{folder}-{index}") for index, made in enumerate(outcome.pictures)]
    names = [name for image in images for name in (str(image.file.name), str(image.thumbnail.name))]
    _retry_db(lambda: files.stage(names, generation))
    try:
        for image, made in zip(images, outcome.pictures, strict=True):
            _store(image, made.image, generation.get_parameters())
            told = {name: getattr(image, name) for name in ("index", "seed", "nsfw", "width", "height")}
            publish(generation.pk, "image", {**told, "name": str(image.file.name)})
    except storage.StorageFailed:
        logger.exception("the pictures of generation %s cannot be stored", generation.pk)
        _retry_db(lambda: files.discard(generation))
        _fail(generation, ErrorCode.STORAGE_FAILED, MESSAGES[ErrorCode.STORAGE_FAILED])
        return {}
    phases = {
        phase: round(seconds, 4)
        for phase, seconds in {**outcome.timings, "storing": time.perf_counter() - clock}.items()
    }
    if not _retry_db(lambda: queue.finish(generation, images, outcome.warnings, phases)):
        logger.warning(
            "attempt %d of generation %s came too late; its result is dropped", generation.attempt, generation.pk
        )
        _retry_db(lambda: files.discard(generation))
        return {}
    return phases


def _image(generation: Generation, index: int, made: Picture, name: str) -> GeneratedImage:
    return GeneratedImage(
        generation=generation,
        index=index,
        seed=made.seed,
        file=name + encoding.suffix(generation.get_parameters().output_format),
        thumbnail=f"{name}-small.webp",
        width=made.image.width,
        height=made.image.height,
        nsfw=made.nsfw,
        nsfw_score=made.score,
        checker=made.checker,
        threshold=made.threshold,
    )


def _store(image: GeneratedImage, picture: Image.Image, wanted: ImageToImageParameters) -> None:
    storage.store(str(image.file.name), encoding.encode(picture, wanted.output_format, wanted.output_quality))
    storage.store(str(image.thumbnail.name), thumbnail(picture, THUMBNAIL_SIDE))


def _data_url(picture: Image.Image) -> str:
    return encoding.data_url(encoding.encode(picture, OutputFormat.WEBP, _PREVIEW_QUALITY), "preview.webp")


def _fail(generation: Generation, code: ErrorCode, message: str) -> None:
    _retry_db(lambda: queue.fail(generation, code, message))


def _record_timings(batch: Sequence[Generation], phases: dict[str, float]) -> None:
    """Learn from what was made, if the database has time for it now."""
    try:
        forecast.record(batch, phases)
    except (OperationalError, InterfaceError):
        logger.warning("the pace of generation %s was not noted: the database is busy", batch[0].pk)


def _retry_db(change: Callable[[], T]) -> T:
    """Do this to the database, again and again while it is away, for ten minutes. Raises its last error then."""
    until = time.monotonic() + _PERSIST_SECONDS
    pause = 0.1
    while True:
        try:
            return change()
        except (OperationalError, InterfaceError) as error:
            if time.monotonic() > until:
                raise
            logger.warning("the database cannot be reached; trying again: %r", error)
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
        close_old_connections()
