"""Backups as jobs: one process at a time makes that of a place, and the row tells what came of it."""

import logging
import threading
from datetime import timedelta

from django.conf import settings
from django.utils import timezone

from accounts.leased_jobs import LEASE, ShouldStop
from generation.jobs.periodic import periodically
from generation.maintenance.backups import creation
from generation.maintenance.backups.creation import Made
from generation.maintenance.backups.errors import BackupFailed, Interrupted
from generation.maintenance.backups.place import Place
from generation.models import Backup

logger = logging.getLogger(__name__)

_RETRY_DELAY = timedelta(minutes=10)


def run_due(should_stop: ShouldStop) -> None:
    """Make the scheduled backup if it is due and no other process makes it. Raises Django's database errors."""
    place = settings.BACKUP_TO
    if not place:
        return
    last = Backup.objects.filter(place=place).first()
    if last is None or (last.finished and timezone.now() - last.created >= timedelta(hours=settings.BACKUP_HOURS)):
        Backup.objects.get_or_create(place=place, finished=None)
    job = Backup.objects.filter(place=place).claim()
    if job is None:
        return
    try:
        run(job, settings.BACKUP_PASSPHRASE, settings.BACKUP_KEEP, should_stop)
    except Interrupted:
        pass
    except BackupFailed as error:
        logger.error("the backup to %s failed; it is tried again in %s: %s", place, _RETRY_DELAY, error)


def claim(place: str) -> Backup:
    """Lease the backup of this place now, also if it is due or was tried lately. Raises `BackupFailed` while one is made."""
    Backup.objects.get_or_create(place=place, finished=None)
    # The lease of a failed one is only the pause before the next attempt.
    Backup.objects.filter(place=place, finished=None).exclude(problem="").update(lease_expires=None)
    job: Backup | None = Backup.objects.filter(place=place).claim()
    if job is None:
        raise BackupFailed(f"A backup to {place} is being made already; wait for its end.")
    return job


def run(job: Backup, passphrase: str, keep: int, should_stop: ShouldStop) -> Made:
    """Make a claimed backup, and keep the `keep` newest ones of its place; 0 keeps all.

    Raises `BackupFailed` and `Interrupted`; then it can be claimed again, in the first case after a while.
    """
    is_lost = threading.Event()
    job.renew(problem="")

    def renew() -> None:
        if not job.renew():
            is_lost.set()

    try:
        with periodically("renewal of the backup's lease", LEASE.total_seconds() / 4, renew, at_once=False):
            place = Place(job.place, passphrase)
            made = creation.make(place, lambda: should_stop() or is_lost.is_set(), keep)
    except Interrupted:
        job.release()
        raise
    except BackupFailed as error:
        job.release(_RETRY_DELAY, problem=str(error))
        raise
    except Exception as error:
        job.release(_RETRY_DELAY, problem=f"It failed unexpectedly, with {type(error).__name__}; see the log.")
        raise
    job.finish(name=made.name, files=made.manifest.files, size=made.written, problem=made.problem)
    return made
