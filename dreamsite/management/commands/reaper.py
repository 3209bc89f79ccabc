"""`manage.py reaper`: return what lost workers held, for as long as the service runs."""

import logging
import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand
from django.db import InterfaceError, OperationalError, close_old_connections
from redis import RedisError

from generation import reaper

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = "Return expired leases to the queue and ring for forgotten work, every second or as told."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--interval", type=float, default=1.0, help="Seconds between two looks.")

    def handle(self, *args: Any, interval: float, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        while not stop.wait(interval):
            close_old_connections()
            try:
                reaper.reap()
            except (OperationalError, InterfaceError, RedisError) as error:
                logger.warning("the database or Redis cannot be reached; trying again: %r", error)
            except Exception:
                logger.exception("reaping failed; trying again")
