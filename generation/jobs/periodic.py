"""Something done again and again beside something else, such as keeping a lease."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import chain, repeat

from django.db import InterfaceError, OperationalError, connections
from redis import RedisError

logger = logging.getLogger(__name__)


@contextmanager
def periodically(seconds: float, task: Callable[[], object], *, at_once: bool = True) -> Iterator[None]:
    """Do this every so many seconds, and first at once, in a thread, whatever it raises."""
    ended = threading.Event()

    def run() -> None:
        for pause in chain([0.0] if at_once else [], repeat(seconds)):
            if ended.wait(pause):
                return
            try:
                task()
            except (RedisError, OperationalError, InterfaceError) as error:
                logger.warning("the database or Redis cannot be reached; trying again: %r", error)
            except Exception:
                logger.exception("what is done every %g s failed; trying again", seconds)
            finally:
                connections.close_all()

    thread = threading.Thread(target=run, name=f"every {seconds:g} s", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
