"""One generation of a batch: its input, its deadline, its pictures and its end."""

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor, Future
from datetime import timedelta
from functools import partial, wraps
from io import BytesIO
from typing import Concatenate, ParamSpec, TypeVar
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections
from django.db.models.fields.files import FieldFile
from django.utils import timezone
from PIL import Image

from accounts import traces
from generation import tracing
from generation.broker.progress import publish
from generation.engine.batches import BatchItem, ItemRun, Receipt, Result
from generation.engine.errors import EngineError
from generation.images import certificates, credentials, encoding, storage
from generation.images.credentials import File
from generation.images.uploads import THUMBNAIL_SIDE, thumbnail
from generation.jobs import queue
from generation.library import files
from generation.models import GeneratedImage, Generation, State
from generation.parameters import MESSAGES, ErrorCode
from generation.worker import proofs, signing, watermarking

logger = logging.getLogger(__name__)

_DATABASE_RETRY_SECONDS = 600.0
_MAX_PAUSE_SECONDS = 2.0

P = ParamSpec("P")
T = TypeVar("T")


def _with_request_id(
    method: Callable[Concatenate["BatchMember", P], T],
) -> Callable[Concatenate["BatchMember", P], T]:
    """Let the log lines of a method carry the ids of its generation alone."""

    @wraps(method)
    def call(member: "BatchMember", /, *args: P.args, **kwargs: P.kwargs) -> T:
        with traces.continued(member.generation):
            return method(member, *args, **kwargs)

    return call


class BatchMember:
    """A claimed generation: its input, its deadline and its end. Every change of the row is fenced by the attempt.

    While the database is away, changes are retried for `_DATABASE_RETRY_SECONDS`; then they raise its last error. Until one
    succeeds, `database_is_away` is set.
    """

    def __init__(self, generation: Generation, phases: tracing.Phases, database_is_away: threading.Event) -> None:
        self.generation = generation
        self._database_is_away = database_is_away
        self.id: UUID = generation.pk
        self._phases = phases
        self._storing: int | None = None
        self._mask: Image.Image | None = None
        self._source = File(b"", "")
        self._images: list[GeneratedImage] = []
        self._encoded: list[Future[watermarking.Encoded]] = []
        self._references: list[File] = []
        latest = timezone.now() + timedelta(seconds=settings.MAX_SECONDS)
        self.deadline = min(latest, generation.deadline) if generation.deadline else latest

    @_with_request_id
    def load_input(self) -> tuple[list[BatchItem], int]:
        """Return what the engine needs, and which of these items is its own. None at all: it failed.

        The other items are those of a proof: see `proofs`.
        """
        generation = self.generation.proves or self.generation
        if generation.deleted:
            self.fail(0.0, ErrorCode.DELETED)
            return [], 0
        try:
            self._source = _stored_file(generation.input)
            self._references = [_stored_file(reference.file) for reference in generation.references.all()]
            self._mask = _picture(_stored_file(generation.mask)).convert("L") if generation.mask else None
            item = BatchItem(
                generation.get_recipe(),
                _picture(self._source),
                self._mask,
                [_picture(reference) for reference in self._references],
            )
            return proofs.beside_others(item, generation) if self.generation.proves else ([item], 0)
        except storage.StorageFailed:
            logger.exception("the input of generation %s cannot be read", self.id)
            self.fail(0.0, ErrorCode.STORAGE_FAILED)
        except Exception:
            logger.exception("the input of generation %s cannot be understood", self.id)
            self.fail(0.0, ErrorCode.INTERNAL)
        return [], 0

    @_with_request_id
    def encode(self, made: ItemRun, encoder: Executor) -> None:
        """Let the encoder begin with the files of these images, for `store`: they can be judged meanwhile."""
        if self.generation.proves:
            return
        self._images = self._rows(made)
        parameters = self.generation.get_parameters()
        # Here, since it asks the database, which is not for the encoder's thread.
        payloads = self._save(lambda _: [watermarking.payload(image) for image in self._images])
        self._encoded = [
            encoder.submit(watermarking.encode, picture, payload, self._mask, parameters)
            for picture, payload in zip(made.images, payloads, strict=True)
        ]

    @_with_request_id
    def store(self, result: Result, record_progress: Callable[[str], None]) -> dict[str, float]:
        """Store the pictures that `encode` began with, and finish. Return the seconds of each phase, empty if that failed.

        `record_progress` is called with the phase after each picture: a large one takes long to encode.
        """
        start, self._storing = time.perf_counter(), time.time_ns()
        receipt = self._receipt(result)
        if self.generation.proves:
            self._compare(self.generation.proves, result, receipt)
            return {}
        images = self._images
        for image, picture in zip(images, result.pictures, strict=True):
            image.nsfw, image.nsfw_score = picture.nsfw, picture.score
            image.checker, image.threshold = picture.checker, picture.threshold
        self._save(queue.flag_confirmed, images)
        names = [name for image in images for name in (str(image.file.name), str(image.thumbnail.name))]
        self._save(partial(files.stage, names))
        output_bytes = 0
        try:
            for image, picture, encoded in zip(images, result.pictures, self._encoded, strict=True):
                small = thumbnail(picture.image, THUMBNAIL_SIDE)
                content, image.watermark = encoded.result()
                output_bytes += self._store_image(image, content, small, receipt)
                record_progress("storing")
        except storage.StorageFailed:
            logger.exception("the pictures of generation %s cannot be stored", self.id)
            self._save(partial(files.discard, names=names))
            self.fail(1.0, ErrorCode.STORAGE_FAILED)
            return {}
        timings = {**result.timings, "storing": time.perf_counter() - start}
        phases = {phase: round(seconds, 4) for phase, seconds in timings.items()}
        if not self._save(queue.finish, images, result.warnings, phases, output_bytes, *receipt):
            self._save(partial(files.discard, names=names))
            self._log_too_late()
            return {}
        self._trace(State.SUCCEEDED)
        return phases

    def _receipt(self, result: Result) -> Receipt:
        """Return what made the pictures of a result, the watermark included."""
        environment, calls = result.receipt
        is_marked = watermarking.is_wanted(self.generation)
        key = certificates.own_key_name() if is_marked else None
        return Receipt({**environment, "watermark": is_marked, "watermark_key": key}, calls)

    def _compare(self, original: Generation, result: Result, receipt: Receipt) -> None:
        """End a proof with the comparison of its pictures, which are not kept."""
        try:
            comparison = proofs.compare(original, result.pictures, self._mask, receipt)
        except storage.StorageFailed:
            logger.exception("the pictures of generation %s cannot be read", original.pk)
            self.fail(1.0, ErrorCode.STORAGE_FAILED)
            return
        # The warnings quote the prompt, which a proof does not keep.
        phases = {phase: round(seconds, 4) for phase, seconds in result.timings.items()}
        if self._save(queue.finish, [], [], phases, 0, *receipt, comparison):
            self._trace(State.SUCCEEDED)
        else:
            self._log_too_late()

    def _log_too_late(self) -> None:
        attempt = self.generation.attempt
        logger.warning("attempt %d of generation %s came too late; its result is dropped", attempt, self.id)
        self._trace("lost")

    @_with_request_id
    def fail_by(self, error: EngineError, share_done: float) -> None:
        """End it as failed by this error of the engine."""
        logger.warning("generation %s failed: %r", self.id, error.__cause__ or error)
        self.fail(share_done, error.code, error.message)

    @_with_request_id
    def fail(self, share_done: float, code: ErrorCode, message: str = "") -> None:
        """End it as failed, with the message of the code unless there is another. `share_done` is as in `cancel`."""
        self._save(queue.fail, code, message or MESSAGES[code], share_done)
        self._trace(State.FAILED, code)

    @_with_request_id
    def cancel(self, code: ErrorCode, share_done: float) -> None:
        """End it as canceled; `share_done` is how much of the run was done, 0 to 1."""
        self._save(queue.finish_canceled, code, share_done)
        self._trace(State.CANCELED)

    @_with_request_id
    def release(self) -> None:
        self._save(queue.release)
        self._trace("released")

    @_with_request_id
    def abandon(self) -> None:
        self._save(queue.abandon)
        self._trace("abandoned")

    @_with_request_id
    def log_lost_lease(self) -> None:
        logger.warning("attempt %d of generation %s lost its lease", self.generation.attempt, self.id)
        self._trace("lost")

    def _trace(self, end: str, code: ErrorCode | None = None) -> None:
        generation = self.generation
        attributes = {
            "dreamsite.generation_id": str(self.id),
            "dreamsite.model": generation.model_id,
            "dreamsite.pool": generation.pool,
            "dreamsite.worker": generation.worker,
            "dreamsite.attempt": generation.attempt,
            "dreamsite.end": str(end),
            **({"error.type": str(code)} if code else {}),
        }
        # The wait before another attempt began when the first one was lost, which the row does not say.
        accepted = generation.created if generation.attempt == 1 else None
        tracing.record_run(generation.traceparent, accepted, self._phases, self._storing, attributes)

    def _rows(self, made: ItemRun) -> list[GeneratedImage]:
        """Return the unsaved rows of these images, with the names of their files."""
        generation = self.generation
        stem = partial(storage.output_stem, self.id, generation.created, generation.attempt)
        suffix = encoding.suffix(generation.get_parameters().output_format)
        return [
            GeneratedImage(
                generation=generation,
                index=index,
                seed=seed,
                file=f"{stem(index)}{suffix}",
                thumbnail=f"{stem(index)}-small.webp",
                width=picture.width,
                height=picture.height,
            )
            for index, (picture, seed) in enumerate(zip(made.images, made.recipe.seeds, strict=True))
        ]

    def _store_image(self, image: GeneratedImage, content: bytes, small: bytes, receipt: Receipt) -> int:
        """Store a picture and its thumbnail, and publish its event. Return their bytes. Raises `StorageFailed`."""
        origin, made = signing.origin(image, receipt), timezone.now()
        name, small_name = str(image.file.name), str(image.thumbnail.name)
        signed = credentials.sign(content, encoding.media_type(name), made, origin, self._source, self._references)
        small = credentials.sign_thumbnail(small, encoding.media_type(small_name), made, origin)
        storage.store(name, signed)
        storage.store(small_name, small)
        data = {name: getattr(image, name) for name in ("index", "seed", "nsfw", "width", "height")}
        publish(self.id, "image", {**data, "attempt": self.generation.attempt})
        return len(signed) + len(small)

    def _save(self, change: Callable[Concatenate[Generation, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return `change(generation, ...)`, retried while the database is away. Raises its last error."""
        end = time.monotonic() + _DATABASE_RETRY_SECONDS
        pause = 0.1
        while True:
            try:
                result = change(self.generation, *args, **kwargs)
            except (OperationalError, InterfaceError) as error:
                self._database_is_away.set()
                if time.monotonic() > end:
                    raise
                logger.warning("the database cannot be reached; trying again: %r", error)
            else:
                self._database_is_away.clear()
                return result
            time.sleep(pause)
            pause = min(2 * pause, _MAX_PAUSE_SECONDS)
            close_old_connections()


def _stored_file(file: FieldFile) -> File:
    """Raises `StorageFailed`."""
    name = str(file.name)
    return File(storage.read(name), encoding.media_type(name))


def _picture(file: File) -> Image.Image:
    """Raises what Pillow raises for a damaged file."""
    return Image.open(BytesIO(file.content))
