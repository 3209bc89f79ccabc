"""`manage.py reaper`: repair, prune, fetch inputs, make exports and backups, delete accounts and send mail, until stopped."""

import signal
import threading
from argparse import ArgumentParser
from contextlib import ExitStack
from typing import Any

from django.core.management.base import BaseCommand

from accounts import mail
from dreamsite import checks
from generation.jobs.periodic import counters_flushed, periodically
from generation.maintenance import account_jobs, reaper
from generation.maintenance.backups import jobs
from generation.maintenance.input_fetcher import InputFetcher
from generation.staff.operations import attention

_JOB_STOP_SECONDS = 3.0
"""How long an interrupted export, deletion, backup or mail may take to stop. A later process resumes it in any case."""

_FETCH_SECONDS = 0.3
"""How long a request with an `image_url` waits before its picture is fetched, at most."""


class Command(BaseCommand):
    help = (
        "Requeue expired leases, wake workers, remove old data, fetch inputs, make data exports and backups, delete accounts"
        " and send mail, periodically."
    )
    requires_system_checks = [checks.SETTINGS]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--interval", type=float, default=1.0, help="Seconds between two runs.")

    def handle(self, *args: Any, interval: float, **options: Any) -> None:
        stop = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: stop.set())
        fetcher = InputFetcher()
        # Threads of their own: an export can take minutes, a backup hours, and neither leases nor fetches must wait for them.
        with (
            ExitStack() as of_mail,
            counters_flushed(),
            periodically("reaping", interval, reaper.reap),
            periodically("fetching", min(interval, _FETCH_SECONDS), fetcher.start_due),
            periodically(
                "account jobs",
                interval,
                lambda: account_jobs.run_all(stop.is_set),
                join_seconds=_JOB_STOP_SECONDS,
            ),
            periodically("backups", interval, lambda: jobs.run_due(stop.is_set), join_seconds=_JOB_STOP_SECONDS),
        ):
            if mail.is_on():
                # A mail server may let one wait, too.
                of_mail.enter_context(
                    periodically(
                        "sending mail", interval, lambda: mail.send_due(stop.is_set), join_seconds=_JOB_STOP_SECONDS
                    )
                )
                of_mail.enter_context(
                    periodically("mailing alerts", attention.CHECK_SECONDS, attention.mail_alerts, at_once=False)
                )
            stop.wait()
        fetcher.release_all()
