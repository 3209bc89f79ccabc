"""`manage.py reaper`: return what lost workers held, and do the chores of accounts, for as long as the service runs."""

import logging
import signal
import threading
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand
from django.db import InterfaceError, OperationalError, close_old_connections
from redis import RedisError

from generation.maintenance import account_jobs, reaper

logger = logging.getLogger(__name__)

_LAST_CHORE_SECONDS = 3.0


class Command(BaseCommand):
    help = (
        "Return expired leases to the queue and ring for forgotten work, every second or as told; "
        "make exports and delete accounts."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--interval", type=float, default=1.0, help="Seconds between two looks.")

    def handle(self, *args: Any, interval: float, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        # Beside the reaper: an export can take minutes, for which no lease may stay expired.
        chores_thread = threading.Thread(
            target=_repeat, args=(stop, interval, "chores", lambda: account_jobs.run_all(stop.is_set)), daemon=True
        )
        chores_thread.start()
        _repeat(stop, interval, "reaping", reaper.reap)
        # What it does not get to the end of is done by whoever comes next.
        chores_thread.join(_LAST_CHORE_SECONDS)


def _repeat(stop: threading.Event, interval: float, what: str, task: Callable[[], object]) -> None:
    while not stop.wait(interval):
        close_old_connections()
        try:
            task()
        except (OperationalError, InterfaceError, RedisError) as error:
            logger.warning("the database or Redis cannot be reached; trying again: %r", error)
        except Exception:
            logger.exception("%s failed; trying again", what)
