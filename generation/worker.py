"""The warm worker: hear the bell, claim, make, until it is told to end.

One process, one pool, one engine that stays loaded. RQ calls `answer_bell`; what is to be done is in the database.
"""

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

from django.conf import settings
from django.db import InterfaceError, OperationalError, close_old_connections, connections
from redis import Redis, RedisError
from rq import SimpleWorker
from rq.exceptions import StopRequested
from rq.serializers import JSONSerializer

from generation import attempt, doorbell, queue, reaper
from generation.engine.engine import Engine, EngineSettings
from generation.engine.errors import EngineError
from generation.models import DiffusionModel

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
    """

    # RQ's own limit is a minute, for which nothing would be done after Redis is back.
    max_connection_wait_time = _REDIS_PAUSE_SECONDS
    drains_since: float | None = None
    must_let_go = False

    def __init__(self, pool: str, engine: Engine) -> None:
        # A client of its own: RQ waits for bells by the minute, and changes the timeouts of the client it is given.
        connection = Redis.from_url(settings.REDIS_URL, socket_timeout=None)
        super().__init__(
            [doorbell.bells(pool, connection)],
            name=doorbell.worker_name(),
            connection=connection,
            serializer=JSONSerializer,
        )
        self.pool = pool
        self.engine = engine

    def must_hand_back(self) -> bool:
        if self.drains_since is None:
            return False
        return self.must_let_go or time.monotonic() - self.drains_since >= settings.DRAIN_SECONDS

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        WarmWorker.drains_since = time.monotonic()
        # RQ notes the request in Redis, which may be away.
        with suppress(RedisError):
            super().request_stop(signum, frame)  # type: ignore[no-untyped-call]

    def request_force_stop(self, signum: int, frame: FrameType | None) -> None:
        if self.drains_since is not None and time.monotonic() - self.drains_since >= _ONE_SIGNAL_SECONDS:
            WarmWorker.must_let_go = True


_worker: WarmWorker | None = None


def run(pool: str, settings_: EngineSettings) -> None:
    """Load and warm the engine, announce it, and answer bells until SIGTERM or SIGINT."""
    engine = Engine(settings_)
    _warm_default(pool, engine)
    connections.close_all()
    with _repeated(REAP_SECONDS, reaper.reap), suppress(StopRequested):
        while _work(pool, engine):
            # RQ's loop ends when Redis is away; the engine stays warm until it is back.
            time.sleep(_REDIS_PAUSE_SECONDS)


def _warm_default(pool: str, engine: Engine) -> None:
    """Load the default model. One that cannot be loaded fails its own requests, not the worker."""
    default = DiffusionModel.objects.filter(is_default=True, enabled=True, pool=pool).first()
    if default is None:
        return
    try:
        engine.warm(default.reference())
    except EngineError as error:
        logger.error("the default model %s cannot be loaded: %r", default.pk, error.__cause__ or error)


def _work(pool: str, engine: Engine) -> bool:
    """Answer bells until told to end or until Redis is away; whether to go on then."""
    global _worker
    try:
        worker = _worker = WarmWorker(pool, engine)
        with _announced(worker):
            doorbell.ring(pool)
            if worker.drains_since is None:
                worker.work(logging_level="WARNING")
    except RedisError:
        logger.warning("Redis cannot be reached; trying again")
    return WarmWorker.drains_since is None


def answer_bell() -> None:
    """Make what is queued in this worker's pool until nothing is left. Called by RQ, in the worker's process."""
    if _worker is None:
        raise RuntimeError("bells are answered by `manage.py worker`, which loads the engine first")
    close_old_connections()
    try:
        while _worker.drains_since is None:
            batch = queue.claim(_worker.pool, _worker.name, _worker.engine.warm_models)
            if not batch:
                break
            attempt.make(batch, _worker.engine, _worker.must_hand_back)
    except (OperationalError, InterfaceError) as error:
        # The row is the truth, and the reaper rings again: nothing is lost.
        logger.warning("the database cannot be reached: %r", error)
        time.sleep(_DATABASE_PAUSE_SECONDS)
    finally:
        close_old_connections()


@contextmanager
def _announced(worker: WarmWorker) -> Iterator[None]:
    """Keep saying that this worker is ready."""
    with _repeated(
        doorbell.ANNOUNCEMENT_SECONDS / 3,
        lambda: doorbell.announce(worker.name, worker.pool, worker.engine.warm_models),
    ):
        try:
            yield
        finally:
            with suppress(RedisError):
                doorbell.retire(worker.name)


@contextmanager
def _repeated(seconds: float, task: Callable[[], object]) -> Iterator[None]:
    """Do this at once and then every so many seconds, in a thread, whatever it raises."""
    ended = threading.Event()

    def repeat() -> None:
        while True:
            try:
                task()
            except (RedisError, OperationalError, InterfaceError) as error:
                logger.warning("the database or Redis cannot be reached; trying again: %r", error)
            except Exception:
                logger.exception("a task of the worker failed; trying again")
            finally:
                connections.close_all()
            if ended.wait(seconds):
                return

    thread = threading.Thread(target=repeat, name=f"every {seconds:g} s", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
