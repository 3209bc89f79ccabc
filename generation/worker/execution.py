"""One attempt at a batch of claimed generations: load the inputs, make the images, then finish them in another thread.

Each generation ends in one way: succeeded, failed, canceled, released, abandoned, or lost to another attempt.
"""

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from uuid import UUID

from django.db import InterfaceError, OperationalError
from django.utils import timezone
from PIL import Image
from redis import RedisError

from accounts import traces
from generation import tracing
from generation.broker.progress import ControlFlags, Progress, publish, report
from generation.engine.batches import BatchItem, MadeImages
from generation.engine.engine import Engine
from generation.engine.errors import DeviceLost, EngineError
from generation.engine.progress import Preview
from generation.images import encoding
from generation.jobs import forecast, queue
from generation.models import Generation
from generation.parameters import ErrorCode, OutputFormat
from generation.worker.batch_member import BatchMember
from generation.worker.finishing import Finisher
from generation.worker.lease_keeper import LeaseKeeper

logger = logging.getLogger(__name__)

_REDIS_PAUSE_SECONDS = 5.0
_PREVIEW_SECONDS = 1.0
_PREVIEW_QUALITY = 60
_FINISHER_WAIT_SECONDS = 1.0


class WorkerStopping(Exception):
    """Ends a run at a step: the worker is stopping and releases the batch."""


class BatchEmpty(Exception):
    """Ends a run at a step: every generation of the batch is canceled or lost."""


def run(batch: Sequence[Generation], engine: Engine, should_release: Callable[[], bool], finisher: Finisher) -> None:
    """Make the images of a claimed batch, and leave it to the finisher until each generation has ended.

    It is released at the step where `should_release` is true. Raises `DeviceLost`; what had not ended then has lost its worker.
    """
    batch_run = _BatchRun(batch, engine, should_release, finisher)
    # What has lost a worker may lose another one, and must not take a second batch with it.
    is_alone = any(generation.crash_count for generation in batch)
    with traces.continued(*batch):
        if batch_run.make_images(is_alone):
            finisher.start(batch_run.finish)
    if is_alone:
        finisher.wait()


class _BatchRun:
    """A run of the engine with a batch: between its steps it reports progress and ends what must not go on.

    Two threads run it, one after the other: `make_images`, then `finish`.
    """

    def __init__(
        self, batch: Sequence[Generation], engine: Engine, should_release: Callable[[], bool], finisher: Finisher
    ) -> None:
        self._batch = batch
        self._engine = engine
        self._should_release = should_release
        self._finisher = finisher
        self._leases = LeaseKeeper(batch)
        self._kept_leases = ExitStack()
        self._phases = tracing.Phases()
        members = [BatchMember(generation, self._phases, finisher.database_is_away) for generation in batch]
        self._active = {member.id: member for member in members}
        """The members that have not ended."""
        self._members: list[BatchMember | None] = []
        """The members that the engine runs, in its order; None for what only fills the call of a proof."""
        self._made = MadeImages([], 1, {})
        self._step, self._of, self._phase = 0, 1, "loading"
        self._start = time.monotonic()
        self._made_at: float | None = None
        self._preview_ids: frozenset[UUID] = frozenset()
        self._last_preview = 0.0
        self._redis_retry = 0.0

    def make_images(self, is_alone: bool) -> bool:
        """Make the images, and wait until the finisher is free. Return whether there is something to finish.

        With `is_alone`, wait for the finisher before, too. Raises `DeviceLost`.
        """
        with self._ended_by_errors(), ExitStack() as leases:
            leases.enter_context(self._leases.keep())
            if is_alone:
                self._wait_for_finisher()
                self._start = time.monotonic()
            if items := self._load_inputs():
                self._made = self._engine.make_images(items, self._on_step, self._on_preview)
                self._made_at = time.monotonic()
                self._wait_for_finisher()
                self._kept_leases = leases.pop_all()
                return True
        return False

    def finish(self) -> None:
        """Check the safety of the images and store them. Raises `DeviceLost`."""
        with traces.continued(*self._batch), self._ended_by_errors():
            with self._kept_leases:
                phases = self._finish()
            if phases and len(self._members) == len(self._batch):
                _record_timings(self._batch, phases)
        # No worker was woken while a limit kept them from starting.
        queue.wake_for_users(self._batch)

    @contextmanager
    def _ended_by_errors(self) -> Iterator[None]:
        """End the members that have not ended if an error ends this block. Raises `DeviceLost`."""
        try:
            yield
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

    def _load_inputs(self) -> list[BatchItem]:
        """Return what the engine needs of each member that has a readable input. The others have failed."""
        items: list[BatchItem] = []
        for member in list(self._active.values()):
            loaded, own = member.load_input()
            if not loaded:
                del self._active[member.id]
            self._members += [member if index == own else None for index in range(len(loaded))]
            items += loaded
        return items

    def _wait_for_finisher(self) -> None:
        """Wait until the batch before this one is finished; if that hangs, its own leases end the process.

        Raises `WorkerStopping` or `BatchEmpty`.
        """
        while not self._finisher.wait(_FINISHER_WAIT_SECONDS):
            self._on_step(self._step, self._of, self._phase)

    def _finish(self) -> dict[str, float]:
        """Return the seconds of each phase, empty without pictures. Raises `WorkerStopping` or `BatchEmpty`."""
        encoder = ThreadPoolExecutor(1, "encoding")
        try:
            return self._judge_and_store(encoder)
        finally:
            encoder.shutdown(cancel_futures=True)

    def _judge_and_store(self, encoder: Executor) -> dict[str, float]:
        """Judge the pictures while the encoder makes their files, and store them. Return and raise as `_finish`."""
        for member, made in zip(self._members, self._made.runs, strict=True):
            if member is not None and member.id in self._active and made.error is None:
                member.encode(made, encoder)
        finished = zip(self._members, self._engine.finish(self._made, self._on_step), strict=True)
        results = [(member, result) for member, result in finished if member is not None]
        shares_done = {
            member.id: self._share_done(member) for member, error in results if isinstance(error, EngineError)
        }
        phases: dict[str, float] = {}
        for member, result in results:
            if member.id in self._active:
                self._on_step(self._of, self._of, "storing")
            if member.id in self._active:
                if isinstance(result, EngineError):
                    member.fail_by(result, shares_done[member.id])
                else:
                    phases = member.store(result, self._leases.record_progress)
                del self._active[member.id]
        return phases

    def _on_step(self, step: int, of: int, phase: str) -> None:
        """Report progress, and end members that are canceled, late or lost. Raises `WorkerStopping` or `BatchEmpty`."""
        self._step, self._of, self._phase = step, of, phase
        self._leases.record_progress(phase)
        self._phases.enter(phase)
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

    def _share_done(self, member: BatchMember) -> float:
        """Return how much of its run a member has used, 0 to 1: by the steps, or by the time if that is more.

        Only the time tells of a long loading. Without a recorded run of the model, or a database, the steps alone count.
        """
        seconds = ((self._made_at or time.monotonic()) - self._start) / len(self._batch)
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
            if member is not None and member.id in self._preview_ids & self._active.keys():
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
