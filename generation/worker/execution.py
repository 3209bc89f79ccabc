"""One attempt at a batch of claimed generations: load the inputs, run the engine, store the pictures.

Each generation ends in one way: succeeded, failed, canceled, released, abandoned, or lost to another attempt.
"""

import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import timedelta
from functools import partial, wraps
from io import BytesIO
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections
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
from generation.engine.errors import DeviceLost, EngineError
from generation.engine.progress import Preview
from generation.images import encoding, storage
from generation.images.uploads import THUMBNAIL_SIDE, thumbnail
from generation.jobs import forecast, queue
from generation.library import files
from generation.models import GeneratedImage, Generation
from generation.parameters import MESSAGES, ErrorCode, OutputFormat
from generation.worker.lease_keeper import LeaseKeeper

logger = logging.getLogger(__name__)

_REDIS_PAUSE_SECONDS = 5.0
_PREVIEW_SECONDS = 1.0
_PREVIEW_QUALITY = 60
_DATABASE_RETRY_SECONDS = 600.0
_MAX_PAUSE_SECONDS = 2.0

P = ParamSpec("P")
T = TypeVar("T")


class WorkerStopping(Exception):
    """Ends a run at a step: the worker is stopping and releases the batch."""


class BatchEmpty(Exception):
    """Ends a run at a step: every generation of the batch is canceled or lost."""


def run(batch: Sequence[Generation], engine: Engine, should_release: Callable[[], bool]) -> None:
    """Run a claimed batch until each generation has ended, or release it at the step where `should_release` is true.

    Raises `DeviceLost`; what had not ended then has lost its worker.
    """
    with request_ids.bind(*(generation.request_id for generation in batch)):
        _BatchRun(batch, should_release).run(engine)


def _with_request_id(
    method: Callable[Concatenate["_BatchMember", P], T],
) -> Callable[Concatenate["_BatchMember", P], T]:
    """Let the log lines of a method carry the request id of its generation alone."""

    @wraps(method)
    def call(member: "_BatchMember", /, *args: P.args, **kwargs: P.kwargs) -> T:
        with request_ids.bind(member.generation.request_id):
            return method(member, *args, **kwargs)

    return call


class _BatchMember:
    """A claimed generation: its input, its deadline and its end. Every change of the row is fenced by the attempt.

    While the database is away, changes are retried for `_DATABASE_RETRY_SECONDS`; then they raise its last error.
    """

    def __init__(self, generation: Generation) -> None:
        self.generation = generation
        self.id: UUID = generation.pk
        latest = timezone.now() + timedelta(seconds=settings.MAX_SECONDS)
        self.deadline = min(latest, generation.deadline) if generation.deadline else latest

    @_with_request_id
    def load_input(self) -> BatchItem | None:
        """Return what the engine needs. None: there is no readable input, so it failed."""
        generation = self.generation
        try:
            return BatchItem(generation.get_recipe(), Image.open(BytesIO(storage.read(str(generation.input.name)))))
        except storage.StorageFailed:
            logger.exception("the input of generation %s cannot be read", self.id)
            self.fail(0.0, ErrorCode.STORAGE_FAILED)
        except Exception:
            logger.exception("the input of generation %s cannot be understood", self.id)
            self.fail(0.0, ErrorCode.INTERNAL)
        return None

    @_with_request_id
    def store(self, result: Result | EngineError, share_done: float) -> dict[str, float]:
        """Store the pictures and finish, or fail. Return the seconds of each phase, empty without pictures."""
        if isinstance(result, EngineError):
            logger.warning("generation %s failed: %r", self.id, result.__cause__ or result)
            self.fail(share_done, result.code, result.message)
            return {}
        start = time.perf_counter()
        images = self._images(result.pictures)
        self._save(queue.flag_confirmed, images)
        names = [name for image in images for name in (str(image.file.name), str(image.thumbnail.name))]
        self._save(partial(files.stage, names))
        output_bytes = 0
        try:
            for image, picture in zip(images, result.pictures, strict=True):
                output_bytes += self._store_image(image, picture.image)
        except storage.StorageFailed:
            logger.exception("the pictures of generation %s cannot be stored", self.id)
            self._save(files.discard)
            self.fail(1.0, ErrorCode.STORAGE_FAILED)
            return {}
        timings = {**result.timings, "storing": time.perf_counter() - start}
        phases = {phase: round(seconds, 4) for phase, seconds in timings.items()}
        if not self._save(queue.finish, images, result.warnings, phases, output_bytes):
            logger.warning(
                "attempt %d of generation %s came too late; its result is dropped", self.generation.attempt, self.id
            )
            self._save(files.discard)
            return {}
        return phases

    @_with_request_id
    def fail(self, share_done: float, code: ErrorCode, message: str = "") -> None:
        """End it as failed, with the message of the code unless there is another. `share_done` is as in `cancel`."""
        self._save(queue.fail, code, message or MESSAGES[code], share_done)

    @_with_request_id
    def cancel(self, code: ErrorCode, share_done: float) -> None:
        """End it as canceled; `share_done` is how much of the run was done, 0 to 1."""
        self._save(queue.finish_canceled, code, share_done)

    @_with_request_id
    def release(self) -> None:
        self._save(queue.release)

    @_with_request_id
    def abandon(self) -> None:
        self._save(queue.abandon)

    @_with_request_id
    def log_lost_lease(self) -> None:
        logger.warning("attempt %d of generation %s lost its lease", self.generation.attempt, self.id)

    def _images(self, pictures: Sequence[Picture]) -> list[GeneratedImage]:
        """Return the unsaved rows of these pictures, with the names of their files."""
        generation = self.generation
        stem = partial(storage.output_stem, self.id, generation.created, generation.attempt)
        suffix = encoding.suffix(generation.get_parameters().output_format)
        return [
            GeneratedImage(
                generation=generation,
                index=index,
                seed=picture.seed,
                file=f"{stem(index)}{suffix}",
                thumbnail=f"{stem(index)}-small.webp",
                width=picture.image.width,
                height=picture.image.height,
                nsfw=picture.nsfw,
                nsfw_score=picture.score,
                checker=picture.checker,
                threshold=picture.threshold,
            )
            for index, picture in enumerate(pictures)
        ]

    def _store_image(self, image: GeneratedImage, picture: Image.Image) -> int:
        """Store the files of a picture and publish its event. Return their bytes. Raises `StorageFailed`."""
        parameters = self.generation.get_parameters()
        content = encoding.encode(picture, parameters.output_format, parameters.output_quality)
        storage.store(str(image.file.name), content)
        small = thumbnail(picture, THUMBNAIL_SIDE)
        storage.store(str(image.thumbnail.name), small)
        data = {name: getattr(image, name) for name in ("index", "seed", "nsfw", "width", "height")}
        publish(self.id, "image", {**data, "attempt": self.generation.attempt})
        return len(content) + len(small)

    def _save(self, change: Callable[Concatenate[Generation, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return `change(generation, ...)`, retried while the database is away. Raises its last error."""
        end = time.monotonic() + _DATABASE_RETRY_SECONDS
        pause = 0.1
        while True:
            try:
                return change(self.generation, *args, **kwargs)
            except (OperationalError, InterfaceError) as error:
                if time.monotonic() > end:
                    raise
                logger.warning("the database cannot be reached; trying again: %r", error)
            time.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)
            close_old_connections()


class _BatchRun:
    """A run of the engine with a batch: between its steps it reports progress and ends what must not go on."""

    def __init__(self, batch: Sequence[Generation], should_release: Callable[[], bool]) -> None:
        self._batch = batch
        self._should_release = should_release
        self._leases = LeaseKeeper(batch)
        members = [_BatchMember(generation) for generation in batch]
        self._active = {member.id: member for member in members}
        """The members that have not ended."""
        self._members: list[_BatchMember] = []
        """The members that the engine runs, in its order."""
        self._step, self._of = 0, 1
        self._start = time.monotonic()
        self._preview_ids: frozenset[UUID] = frozenset()
        self._last_preview = 0.0
        self._redis_retry = 0.0

    def run(self, engine: Engine) -> None:
        try:
            with self._leases.keep():
                phases = self._run(engine)
            if phases and len(self._members) == len(self._batch):
                _record_timings(self._batch, phases)
        except WorkerStopping:
            for member in self._active.values():
                member.release()
        except BatchEmpty:
            pass
        except DeviceLost:
            for member in self._active.values():
                member.abandon()
            raise
        except Exception:
            logger.exception("the batch of generation %s failed unexpectedly", self._batch[0].pk)
            for member in self._active.values():
                member.fail(self._share_done(member), ErrorCode.INTERNAL)

    def _run(self, engine: Engine) -> dict[str, float]:
        """Load, run and store the batch. Return the seconds of each phase. Raises `WorkerStopping` or `BatchEmpty`."""
        items = []
        for member in list(self._active.values()):
            item = member.load_input()
            if item is None:
                del self._active[member.id]
            else:
                self._members.append(member)
                items.append(item)
        results = engine.run_batch(items, self._on_step, self._on_preview) if items else []
        shares_done = {member.id: self._share_done(member) for member in self._members}
        phases: dict[str, float] = {}
        for member, result in zip(self._members, results, strict=True):
            if member.id in self._active:
                self._on_step(self._of, self._of, "storing")
            if member.id in self._active:
                phases = member.store(result, shares_done[member.id])
                del self._active[member.id]
        return phases

    def _on_step(self, step: int, of: int, phase: str) -> None:
        """Report progress, and end members that are canceled, late or lost. Raises `WorkerStopping` or `BatchEmpty`."""
        self._step, self._of = step, of
        self._leases.record_progress(phase)
        if phase != "storing" and self._should_release():
            raise WorkerStopping
        now = timezone.now()
        flags = self._report(Progress(step, of, phase))
        self._preview_ids = flags.preview
        cancel_ids = flags.cancel | self._leases.cancel_requested
        for member in list(self._active.values()):
            if member.id in self._leases.lost:
                member.log_lost_lease()
            elif member.id in cancel_ids:
                member.cancel(ErrorCode.CANCELED, self._share_done(member))
            elif now >= member.deadline:
                member.cancel(ErrorCode.DEADLINE, self._share_done(member))
            else:
                continue
            del self._active[member.id]
        if not self._active:
            raise BatchEmpty

    def _share_done(self, member: _BatchMember) -> float:
        """Return how much of its run a member has used, 0 to 1: by the steps, or by the time if that is more.

        Only the time tells of a long loading. Without a recorded run of the model, or a database, the steps alone count.
        """
        seconds = (time.monotonic() - self._start) / len(self._batch)
        usual = None
        with suppress(OperationalError, InterfaceError):
            usual = forecast.RunTimeEstimator().run_seconds(member.generation.get_recipe())
        return max(self._step / self._of, min(1.0, seconds / usual) if usual else 0.0)

    def _on_preview(self, make: Callable[[], list[Preview]]) -> None:
        """Publish previews for clients that watch, at most every `_PREVIEW_SECONDS`."""
        if not self._preview_ids or time.monotonic() - self._last_preview < _PREVIEW_SECONDS:
            return
        self._last_preview = time.monotonic()
        for preview in make():
            member = self._members[preview.item]
            if member.id in self._preview_ids & self._active.keys():
                data = {"index": preview.image, "step": self._step, "of": self._of}
                publish(member.id, "preview", {**data, "image": _data_url(preview.picture)})

    def _report(self, progress: Progress) -> ControlFlags:
        """Report to Redis. After an error, skip it for `_REDIS_PAUSE_SECONDS`, so that the steps do not wait for it."""
        if time.monotonic() < self._redis_retry:
            return ControlFlags()
        try:
            return report(list(self._active), progress)
        except RedisError:
            self._redis_retry = time.monotonic() + _REDIS_PAUSE_SECONDS
            return ControlFlags()


def _data_url(picture: Image.Image) -> str:
    return encoding.data_url(encoding.encode(picture, OutputFormat.WEBP, _PREVIEW_QUALITY), "preview.webp")


def _record_timings(batch: Sequence[Generation], phases: dict[str, float]) -> None:
    """Record how long the run took, for forecasts. A busy database is not waited for."""
    try:
        forecast.record(batch, phases)
    except (OperationalError, InterfaceError):
        logger.warning("the timings of generation %s were not recorded: the database is busy", batch[0].pk)
