"""The worker process: wait for a wake-up, claim, run, until a stop signal.

A process works for one pool with one engine, whose models stay loaded. RQ only says that there is work; the rows say which.
"""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from types import FrameType

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connections
from django.utils import timezone
from redis import Redis, RedisError
from rq import Queue, SimpleWorker
from rq.exceptions import StopRequested
from rq.job import Job
from rq.serializers import JSONSerializer
from rq.worker import WorkerStatus
from rq.worker_registration import clean_worker_registry

from generation.broker import queues, workers
from generation.broker.workers import WorkerInfo
from generation.engine.engine import Engine
from generation.engine.errors import DeviceLost, EngineError
from generation.images import certificates, disk
from generation.jobs import control, queue
from generation.jobs.periodic import counters_flushed, periodically
from generation.maintenance import reaper
from generation.models import DiffusionModel, Environment, Generation, State, WorkerCommand
from generation.worker import execution
from generation.worker.canaries import CHECK_SECONDS, Canaries
from generation.worker.control import CommandRunner
from generation.worker.drain import DrainState
from generation.worker.finishing import Finisher
from generation.worker.next_model import NextModel

logger = logging.getLogger(__name__)

REAP_SECONDS = 2.0
_READ_AHEAD_SECONDS = 5.0
_REDIS_PAUSE_SECONDS = 1.0
_DATABASE_PAUSE_SECONDS = 1.0
_LEAVE_SECONDS = 0.5
_DISK_PROBLEM = "The disk is full, so it starts nothing: results could not be stored."


class WorkerSession:
    """A worker of the registry: its name, engine and commands. It ends when Redis is lost or the process stops."""

    def __init__(self, pool: str, engine: Engine, drain_state: DrainState, started: float, problem: str) -> None:
        self.name = workers.new_name()
        self.pool = pool
        self.engine = engine
        self.drain_state = drain_state
        self.commands = CommandRunner()
        self.finisher = Finisher(self._lose_device)
        self.canaries = Canaries(pool, self.name, engine)
        self._started = started
        self._problem = problem
        self._missing: list[str] = []
        self._is_registered = False

    def _lose_device(self, error: DeviceLost) -> None:
        self.drain_state.lose_device(error)
        # This worker may be waiting for work.
        queues.try_wake_workers(self.name)

    def drain(self) -> None:
        """Finish what was made, take no work, and leave the pool's wake-ups to other workers."""
        self.finisher.wait()
        self.drain_state.is_drained = True

    def resume(self) -> None:
        self.drain_state.is_drained = False

    def send_heartbeat(self) -> None:
        """Write the registry's entry, and renew the running commands. Raises `RedisError` and database errors."""
        used, total = self.engine.memory
        info = WorkerInfo(
            name=self.name,
            pool=self.pool,
            host=socket.gethostname(),
            pid=os.getpid(),
            device=self.engine.device,
            memory_used=used,
            memory_total=total,
            started=self._started,
            models=self.engine.warm_models,
            plans=self.engine.memory_plans,
            missing=self._find_missing(),
            environments={
                model: Environment.objects.digest(values) for model, values in self.engine.environments.items()
            },
            loras=self.engine.loaded_loras,
            watermark_key=certificates.own_key_name(),
            is_drained=self.drain_state.is_drained,
            problem=_DISK_PROBLEM if disk.is_full() else "" if self.engine.warm_models else self._problem,
        )
        if not self._is_registered:
            _unregister_earlier_sessions(info)
        workers.heartbeat(info)
        self._is_registered = True
        self.commands.renew()

    def _find_missing(self) -> list[str]:
        """Return the enabled models of the pool that are not on disk; while the database is away, those before."""
        with suppress(OperationalError, InterfaceError):
            enabled = DiffusionModel.objects.filter(enabled=True, pool=self.pool)
            self._missing = [model.pk for model in enabled if not self.engine.has(model.reference())]
        return self._missing

    def _find_lacking(self) -> list[str]:
        """Return the models that are not on this host's disk, but on that of another worker of the pool."""
        if not self._missing:
            return []
        with suppress(RedisError):
            infos = [info for info in workers.registered() if info.pool == self.pool and info.name != self.name]
            others = [info for info in infos if not info.is_stale and not info.is_drained]
            return [model for model in self._missing if any(model not in other.missing for other in others)]
        return []

    def look_for_canary(self) -> None:
        """Wake this worker for a canary that is due. Raises Django's database errors."""
        if not (self.drain_state.is_stopping or self.drain_state.is_drained) and self.canaries.look():
            queues.try_wake_workers(self.name)

    def _is_needed(self) -> bool:
        """Return whether there is something to do that a canary must not delay."""
        return (
            self.drain_state.is_stopping
            or WorkerCommand.objects.filter(worker=self.name, state=WorkerCommand.State.WAITING).exists()
            or Generation.objects.claimable(self.pool, timezone.now()).exists()
        )

    def run_pending(self) -> None:
        """Run the commands for this worker, then batches of its pool until none is queued. The last may not be finished.

        Then, if that was noticed before, one canary that is due.

        Raises `DeviceLost` and database errors.
        """
        while not self.drain_state.is_stopping:
            self.commands.run_pending(self)
            if self.drain_state.is_drained:
                # The wake-up may be one of the pool's: pass it on.
                queues.try_wake_workers(self.pool)
                return
            if self.finisher.database_is_away.is_set():
                # Its lease may have expired, so this worker could claim what it has made and only needs to store.
                self.finisher.wait()
            lacking = self._find_lacking()
            batch = queue.claim(self.pool, self.name, self.engine.fingerprints, lacking)
            if not batch:
                if Generation.objects.filter(pool=self.pool, state=State.QUEUED, model__in=lacking).exists():
                    # Another worker takes the wake-up while this one does not listen.
                    queues.try_wake_workers(self.pool)
                    time.sleep(_LEAVE_SECONDS)
                    return
                if self.canaries.run_due(self._is_needed):
                    # Something may have arrived meanwhile.
                    continue
                return
            execution.run(batch, self.engine, self.drain_state.should_release, self.finisher)
            self.canaries.note_work()


class WarmWorker(SimpleWorker):
    """An RQ worker that runs what is pending for its session whenever a job arrives, in its own process.

    Redis is not trusted: no job is read, and RQ's commands and tasks, which act on what they find there, are left out.

    It listens to a queue of its own, which carries the wake-ups for commands, and to that of its pool unless it is drained.
    RQ's list of queues is fixed, so `work` returns after the job that drained or resumed it, and another RQ worker starts.

    The first SIGTERM or SIGINT lets the running batch finish within `DRAIN_SECONDS`, a second one releases it at once.
    """

    # RQ's default is a minute, for which the worker would idle after Redis is back.
    max_connection_wait_time = _REDIS_PAUSE_SECONDS

    def __init__(self, session: WorkerSession) -> None:
        # A separate client, since RQ blocks on it and changes its timeouts.
        connection = Redis.from_url(settings.REDIS_URL, socket_timeout=None)
        self.is_listening_to_pool = not session.drain_state.is_drained
        names = [session.name, session.pool] if self.is_listening_to_pool else [session.name]
        super().__init__(
            [queues.rq_queue(name, connection) for name in names],
            name=session.name,
            connection=connection,
            job_class=queues.WakeUp,
            serializer=JSONSerializer,
            log_job_description=False,
        )
        self.session = session

    @property
    def has_wrong_queues(self) -> bool:
        return self.is_listening_to_pool == self.session.drain_state.is_drained

    def execute_job(self, job: Job, queue: Queue) -> None:
        """Run what is pending, whatever the job is."""
        # RQ lets a busy worker finish when a stop signal comes.
        self.set_state(WorkerStatus.BUSY)
        queues.take(job, queue)
        _run_pending(self.session)
        if self.has_wrong_queues or self.session.drain_state.has_lost_device:
            raise StopRequested

    def run_maintenance_tasks(self) -> None:
        """Remove dead workers from RQ's list. RQ's own tasks also call what abandoned jobs name for their failure."""
        for rq_queue in self.queues:
            clean_worker_registry(rq_queue)
        self.last_cleaned_at = timezone.now()  # type: ignore[assignment]  # None only at first

    def subscribe(self) -> None:
        """Listen to no commands, such as to shut down: staff send theirs as rows of the database."""

    def check_for_suspension(self, burst: bool) -> None:
        """Ignore RQ's suspension of all workers: staff pause pools by rows of the database."""

    def _install_signal_handlers(self) -> None:
        super()._install_signal_handlers()  # type: ignore[no-untyped-call]
        # An earlier RQ worker of this process may have received the signal.
        self._stop_requested = self.session.drain_state.is_stopping

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        self.session.drain_state.request_stop()
        # RQ writes the request to Redis, which may be away.
        with suppress(RedisError):
            super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:
        self.session.drain_state.request_stop()


def run(pool: str, engine: Engine) -> None:
    """Load the default model, then work until SIGTERM or SIGINT. Ends the process with status 1 when its device is lost."""
    started = time.time()
    drain_state = DrainState()
    problem = ""
    with _device_watched(drain_state):
        problem = _warm_default(pool, engine)
    connections.close_all()
    next_model = NextModel(pool, engine)
    with (
        counters_flushed(),
        periodically("reaping", REAP_SECONDS, partial(reaper.reap, only_if_due=True)),
        # Reading a large file may take long, and a stopping worker need not wait for it.
        periodically("reading ahead", _READ_AHEAD_SECONDS, next_model.read_ahead, join_seconds=0.0),
        suppress(StopRequested),
    ):
        while not drain_state.is_stopping:
            _work_until_redis_is_lost(WorkerSession(pool, engine, drain_state, started, problem))
    if drain_state.has_lost_device:
        # At a normal exit torch would call the device, which may hang.
        os._exit(1)


def _run_pending(session: WorkerSession) -> None:
    """Run the pending commands and batches of a session. An error ends neither the session nor the process."""
    close_old_connections()
    try:
        with _device_watched(session.drain_state):
            session.run_pending()
    except (OperationalError, InterfaceError) as error:
        # The rows stay queued or leased, and the reaper wakes a worker for them later.
        logger.warning("the database cannot be reached: %r", error)
        time.sleep(_DATABASE_PAUSE_SECONDS)
    except Exception:
        logger.exception("the pending work cannot be run")
    finally:
        close_old_connections()


@contextmanager
def _device_watched(drain_state: DrainState) -> Iterator[None]:
    """End this block and the process's work when the device is lost."""
    try:
        yield
    except DeviceLost as error:
        drain_state.lose_device(error)


def _warm_default(pool: str, engine: Engine) -> str:
    """Load the default model if it belongs to this pool. Return an error message, empty on success.

    A model that cannot be loaded fails its own requests, but not the worker. Raises `DeviceLost`.
    """
    default = DiffusionModel.objects.filter(is_default=True, enabled=True, pool=pool).first()
    if default is None:
        return ""
    try:
        engine.warm(default.reference())
    except EngineError as error:
        logger.error("the default model %s cannot be loaded: %r", default.pk, error.__cause__ or error)
        return f"The default model {default.pk} could not be loaded. {error.message}"
    return ""


def _work_until_redis_is_lost(session: WorkerSession) -> None:
    """Register the worker and run RQ's loop. Return when the loop ends; the engine stays loaded."""
    try:
        with _registered(session):
            queues.wake_workers(session.pool)
            while not session.drain_state.is_stopping:
                worker = WarmWorker(session)
                worker.work(logging_level="WARNING")
                if not worker.has_wrong_queues:
                    break
    except RedisError:
        logger.warning("Redis cannot be reached; trying again")
    if not session.drain_state.is_stopping:
        time.sleep(_REDIS_PAUSE_SECONDS)


@contextmanager
def _registered(session: WorkerSession) -> Iterator[None]:
    """Keep the worker registered by heartbeats. At the end let it finish, remove it, and fail its unfinished commands."""
    try:
        with ExitStack() as tasks:
            tasks.enter_context(periodically("heartbeat", workers.HEARTBEAT_SECONDS, session.send_heartbeat))
            tasks.enter_context(session.finisher)
            if settings.CANARIES:
                looking = periodically(
                    "looking for canaries", CHECK_SECONDS, session.look_for_canary, at_once=False, join_seconds=0.0
                )
                tasks.enter_context(looking)
            yield
    finally:
        # After the last heartbeat, which would write the entry again.
        with suppress(RedisError):
            _unregister(session.name)
        with suppress(OperationalError, InterfaceError):
            control.abandon(session.name)


def _unregister(name: str) -> None:
    """Remove a worker's entry and the queue of its commands. Raises `RedisError`."""
    workers.remove(name)
    queues.rq_queue(name).delete()


def _unregister_earlier_sessions(worker: WorkerInfo) -> None:
    """Remove the other entries of this process: Redis was away when their sessions ended. Raises `RedisError`."""
    process = (worker.host, worker.pid, worker.started)
    for other in workers.registered():
        if other.name != worker.name and (other.host, other.pid, other.started) == process:
            _unregister(other.name)
