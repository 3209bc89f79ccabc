"""`manage.py reaper`: repair, prune, fetch inputs, make data exports and delete accounts, until it is stopped."""

import signal
import threading
from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from dreamsite import checks
from generation.jobs.periodic import periodically
from generation.maintenance import account_jobs, reaper
from generation.maintenance.input_fetcher import InputFetcher

_ACCOUNT_JOBS_STOP_SECONDS = 3.0
"""How long an interrupted export or deletion may take to stop. A later process resumes it in any case."""


_FETCH_SECONDS = 0.3
"""How long a request with an `image_url` waits before its picture is fetched, at most."""


class Command(BaseCommand):
    help = (
        "Requeue expired leases, wake workers, remove old data, fetch inputs, make data exports and delete accounts,"
        " periodically."
    )
    requires_system_checks = [checks.SETTINGS]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--interval", type=float, default=1.0, help="Seconds between two runs.")

    def handle(self, *args: Any, interval: float, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        fetcher = InputFetcher()
        # Three threads: an export can take minutes, and neither expired leases nor fetches must wait for it.
        with (
            periodically("reaping", interval, reaper.reap),
            periodically("fetching", min(interval, _FETCH_SECONDS), fetcher.start_due),
            periodically(
                "account jobs",
                interval,
                lambda: account_jobs.run_all(stop.is_set),
                join_seconds=_ACCOUNT_JOBS_STOP_SECONDS,
            ),
        ):
            stop.wait()
        fetcher.release_all()
