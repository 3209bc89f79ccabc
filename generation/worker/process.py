"""The warm worker: hear the bell, claim, make, until it is told to end.

One process, one pool, one engine that stays loaded. RQ calls `answer_bell`; what is to be done is in the database.
"""

import logging
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connections
from redis import Redis, RedisError
from rq import SimpleWorker
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer

from generation.broker import queues, workers
from generation.broker.workers import WorkerInfo
from generation.engine.engine import Engine, EngineSettings
from generation.engine.errors import EngineError
from generation.jobs import control, queue
from generation.jobs.periodic import periodically
from generation.maintenance import reaper
from generation.models import DiffusionModel
from generation.worker import execution
from generation.worker.control import CommandRunner

logger = logging.getLogger(__name__)

REAP_SECONDS = 2.0
_REDIS_PAUSE_SECONDS = 1.0
_DATABASE_PAUSE_SECONDS = 1.0
_ONE_SIGNAL_SECONDS = 1.0
"""A supervisor and its own supervisor may both send the same signal."""


class WarmWorker(SimpleWorker):
    """An RQ worker with a loaded engine. `SimpleWorker`, since only it keeps state between jobs.

    The first SIGTERM or SIGINT lets it finish what runs within `DRAIN_SECONDS`, a second one lets go of it at once. Both
    are said to the class: after Redis was away there is a new worker, and the old one may have got the signal.

    Staff can drain it too: it finishes what runs and then takes nothing, until it is to resume. It hears a bell of its own
    beside the pool's, for what staff want of it.
    """

    # RQ's own limit is a minute, for which nothing would be done after Redis is back.
    max_connection_wait_time = _REDIS_PAUSE_SECONDS
    drains_since: float | None = None
    drain_is_forced = False
    is_drained = False

    def __init__(self, pool: str, engine: Engine, started: float, problem: str = "") -> None:
        # A client of its own: RQ waits for bells by the minute, and changes the timeouts of the client it is given.
        connection = Redis.from_url(settings.REDIS_URL, socket_timeout=None)
        name = workers.new_name()
        super().__init__(
            [queues.rq_queue(name, connection), queues.rq_queue(pool, connection)],
            name=name,
            connection=connection,
            serializer=JSONSerializer,
        )
        self.pool = pool
        self.engine = engine
        self.started = started
        self.problem = problem
        self.duties = CommandRunner()
        self._listen()

    def drain(self) -> None:
        """Take nothing new, and leave the pool's bells to others."""
        WarmWorker.is_drained = True
        self._listen()

    def resume(self) -> None:
        WarmWorker.is_drained = False
        self._listen()

    def _listen(self) -> None:
        own, pool = self.queues
        # Twice its own: where there is one queue alone, RQ fetches in another way, and is confused by a change of ways.
        self._ordered_queues = [own, own] if self.is_drained else [own, pool]

    def send_heartbeat(self) -> None:
        """Say that it is here, and ready if it is. Raises `RedisError`."""
        used, total = self.engine.memory
        workers.heartbeat(
            WorkerInfo(
                name=self.name,
                pool=self.pool,
                host=socket.gethostname(),
                pid=os.getpid(),
                device=self.engine.device,
                memory_used=used,
                memory_total=total,
                started=self.started,
                models=self.engine.warm_models,
                is_drained=self.is_drained,
                problem="" if self.engine.warm_models else self.problem,
            )
        )

    def should_release(self) -> bool:
        if self.drains_since is None:
            return False
        return self.drain_is_forced or time.monotonic() - self.drains_since >= settings.DRAIN_SECONDS

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        WarmWorker.drains_since = time.monotonic()
        # RQ notes the request in Redis, which may be away.
        with suppress(RedisError):
            super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:
        if self.drains_since is not None and time.monotonic() - self.drains_since >= _ONE_SIGNAL_SECONDS:
            WarmWorker.drain_is_forced = True


_worker: WarmWorker | None = None


def run(pool: str, settings_: EngineSettings) -> None:
    """Load and warm the engine, announce it, and answer bells until SIGTERM or SIGINT."""
    started = time.time()
    engine = Engine(settings_)
    problem = _warm_default(pool, engine)
    connections.close_all()
    with periodically(REAP_SECONDS, reaper.reap), suppress(StopRequested):
        while _work(pool, engine, started, problem):
            # RQ's loop ends when Redis is away; the engine stays warm until it is back.
            time.sleep(_REDIS_PAUSE_SECONDS)


def _warm_default(pool: str, engine: Engine) -> str:
    """Load the default model; what went wrong, in words. One that cannot be loaded fails its own requests, not the worker."""
    default = DiffusionModel.objects.filter(is_default=True, enabled=True, pool=pool).first()
    if default is None:
        return ""
    try:
        engine.warm(default.reference())
    except EngineError as error:
        logger.error("the default model %s cannot be loaded: %r", default.pk, error.__cause__ or error)
        return f"The default model {default.pk} could not be loaded. {error.message}"
    return ""


def _work(pool: str, engine: Engine, started: float, problem: str) -> bool:
    """Answer bells until told to end or until Redis is away; whether to go on then."""
    global _worker
    try:
        worker = _worker = WarmWorker(pool, engine, started, problem)
        with _announced(worker):
            queues.wake_workers(pool)
            if worker.drains_since is None:
                worker.work(logging_level="WARNING")
    except RedisError:
        logger.warning("Redis cannot be reached; trying again")
    return WarmWorker.drains_since is None


def run_pending() -> None:
    """Do what staff want of this worker, and make what is queued in its pool until nothing is left.

    Called by RQ, in the worker's process.
    """
    if _worker is None:
        raise RuntimeError("bells are answered by `manage.py worker`, which loads the engine first")
    close_old_connections()
    try:
        while _worker.drains_since is None:
            _worker.duties.carry_out(_worker)
            if _worker.is_drained:
                # The bell that it heard may have been for work.
                queues.try_wake_workers(_worker.pool)
                break
            batch = queue.claim(_worker.pool, _worker.name, _worker.engine.warm_models)
            if not batch:
                break
            execution.run(batch, _worker.engine, _worker.should_release)
    except (OperationalError, InterfaceError) as error:
        # The row is the truth, and the reaper rings again: nothing is lost.
        logger.warning("the database cannot be reached: %r", error)
        time.sleep(_DATABASE_PAUSE_SECONDS)
    finally:
        close_old_connections()


@contextmanager
def _announced(worker: WarmWorker) -> Iterator[None]:
    """Keep saying that this worker is here, and what it is doing for staff."""

    def tell() -> None:
        worker.send_heartbeat()
        worker.duties.renew()

    try:
        with periodically(workers.HEARTBEAT_SECONDS, tell):
            yield
    finally:
        # After the last announcement, which would outlive it.
        with suppress(RedisError):
            workers.remove(worker.name)
            queues.rq_queue(worker.name).delete()
        with suppress(OperationalError, InterfaceError):
            control.abandon(worker.name)
