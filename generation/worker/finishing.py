"""The thread that finishes a batch while the worker's own thread makes the images of the next one."""

import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait

from django.db import InterfaceError, OperationalError, connections

from generation.engine.errors import DeviceLost

logger = logging.getLogger(__name__)


class Finisher:
    """Finishes one batch at a time in a thread of its own. At the end of its context nothing is left to finish.

    `on_device_lost` is called in that thread. While `database_is_away` is set, what was made waits for the database.
    """

    def __init__(self, on_device_lost: Callable[[DeviceLost], None]) -> None:
        self.database_is_away = threading.Event()
        self._executor = ThreadPoolExecutor(1, "finishing")
        self._on_device_lost = on_device_lost
        self._current: Future[None] | None = None

    def __enter__(self) -> "Finisher":
        return self

    def __exit__(self, *_: object) -> None:
        self._executor.shutdown()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until nothing is being finished, at most for `seconds`. Return whether that is so."""
        return self._current is None or not wait([self._current], seconds).not_done

    def start(self, finish: Callable[[], None]) -> None:
        """Call `finish` in the thread, after what is being finished."""
        self._current = self._executor.submit(self._run, finish)

    def _run(self, finish: Callable[[], None]) -> None:
        try:
            finish()
        except DeviceLost as error:
            self._on_device_lost(error)
        except (OperationalError, InterfaceError) as error:
            # The rows stay leased, and the reaper returns them to the queue.
            logger.warning("the database cannot be reached: %r", error)
        except Exception:
            logger.exception("a batch cannot be finished")
        finally:
            connections.close_all()
