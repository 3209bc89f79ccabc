"""Departures: an account is deleted with all that is in it, by a job.

The account is closed at once. Its rows and files go in batches, each in one transaction with the count of what went; so
whoever does this and dies is followed by somebody else who goes on. At the end nothing is left but a receipt of counts.
"""

import logging
from collections.abc import Iterable
from datetime import timedelta

from axes.models import AccessAttempt
from django.contrib.admin.models import LogEntry
from django.contrib.contenttypes.models import ContentType
from django.contrib.sessions.models import Session
from django.db import transaction
from django.db.models import Model, Q
from django.utils import timezone

from accounts.models import (
    AccountDeletion,
    ApiToken,
    DataExport,
    User,
)
from generation.broker import progress
from generation.jobs import limits, queue
from generation.library import deletion, files, search
from generation.maintenance import data_export
from generation.maintenance.data_export import LEASE, ShouldStop
from generation.models import (
    FINAL_STATES,
    ContactSheet,
    Generation,
    ShareLink,
    State,
)

logger = logging.getLogger(__name__)

RECEIPT_RETENTION = timedelta(days=7)
"""How long a receipt is kept."""
_BATCH = 50
_WAIT = timedelta(seconds=2)
_HELD_WAIT = timedelta(hours=1)
"""What staff put on legal hold keeps the account's last rows for as long."""
_STOPPING = timedelta(seconds=5)
_NOBODY = "of a deleted account"


class LastAdministrator(Exception):
    """Nobody would be left who can administer the service."""


def is_last_administrator(user: User) -> bool:
    others = User.objects.filter(is_superuser=True, is_active=True).exclude(pk=user.pk)
    return user.is_superuser and not others.exists()


def request(user: User) -> AccountDeletion:
    """Close the account now and queue its deletion. Raises `LastAdministrator`."""
    with transaction.atomic():
        # Locked, so that the last two cannot leave at once.
        list(User.objects.select_for_update().filter(is_superuser=True).order_by("pk").values_list("pk"))
        if is_last_administrator(user):
            raise LastAdministrator
        User.objects.filter(pk=user.pk).update(is_active=False)
        departure, _ = AccountDeletion.objects.get_or_create(user=user)
    return departure


def claim() -> AccountDeletion | None:
    """The next departure that nobody is at, as a lease; None: there is none."""
    now = timezone.now()
    free = AccountDeletion.objects.filter(Q(lease_expires=None) | Q(lease_expires__lt=now), finished=None)
    if not free.exists():
        # Asked all the time, and a transaction would keep SQLite's writers waiting.
        return None
    with transaction.atomic():
        departure = free.select_for_update(skip_locked=True, of=("self",)).first()
        if departure is None:
            return None
        departure.attempt += 1
        departure.lease_expires = now + LEASE
        departure.save(update_fields=["attempt", "lease_expires"])
    return departure


def run(departure: AccountDeletion, stopped: ShouldStop) -> None:
    """Go on with a claimed departure as far as can be gone now; the rest is for whoever claims it next."""
    try:
        if _remove_all(departure, stopped):
            pause = None
        else:
            is_held = Generation.objects.filter(user=departure.user, legal_hold=True).exists()
            pause = _HELD_WAIT if is_held else _WAIT
    except AccountDeletion.DoesNotExist:
        # Somebody else is at it: this process was thought dead.
        return
    except Exception:
        logger.exception("departure %s failed in attempt %d; it will be tried again", departure.pk, departure.attempt)
        pause = LEASE
    if pause is not None:
        mine = AccountDeletion.objects.filter(pk=departure.pk, attempt=departure.attempt, finished=None)
        mine.update(lease_expires=timezone.now() + pause)


def prune() -> None:
    """Forget receipts whose time is over."""
    over = AccountDeletion.objects.filter(finished__lte=timezone.now() - RECEIPT_RETENTION)
    if over.exists():
        over.delete()


def _remove_all(departure: AccountDeletion, stopped: ShouldStop) -> bool:
    """Whether nothing is left. Work that runs takes a moment to stop, so its rows may have to be waited for."""
    user = departure.user
    if user is None:
        # Somebody else removed the account itself.
        AccountDeletion.objects.filter(pk=departure.pk).update(finished=timezone.now(), lease_expires=None)
        return True
    for generation in Generation.objects.filter(user=user, state__in=(State.QUEUED, State.RUNNING)).iterator():
        if generation.state == State.QUEUED or not generation.cancel_requested:
            queue.cancel(generation)
    while not stopped() and _erase(departure, user):
        pass
    for export in DataExport.objects.filter(user=user):
        data_export.remove(export)
        _count(departure, exports=1)
    return not stopped() and _close(departure, user)


def _erase(departure: AccountDeletion, user: User) -> bool:
    """Remove a batch of the user's generations that have ended, rows, tombstones and all; whether there was one.

    Those that were stopped a moment ago are left for now: their worker still gives back what was not done.
    """
    just_stopped = Q(started__isnull=False, cancel_requested__isnull=False, finished__gt=timezone.now() - _STOPPING)
    ended = Generation.objects.filter(user=user, state__in=FINAL_STATES, legal_hold=False).exclude(just_stopped)
    with transaction.atomic():
        rows = list(ended.order_by("pk").select_for_update(of=("self",)).prefetch_related("images")[:_BATCH])
        ids = [row.pk for row in rows]
        names = [name for row in rows for name in deletion.files_of(row)]
        file_deletion = files.delete_later(names)
        _count(
            departure,
            generations=len(rows),
            pictures=sum(bool(image.file) for row in rows for image in row.images.all()),
            files=len(names),
            share_links=ShareLink.objects.filter(generation__in=ids).count(),
        )
        _forget_in_logs(Generation, ids)
        search.unindex(ids)
        Generation.objects.filter(pk__in=ids).delete()
    for generation_id in ids:
        progress.forget(generation_id)
    files.delete_now(file_deletion)
    return bool(rows)


def _close(departure: AccountDeletion, user: User) -> bool:
    """Remove the account itself. False: a request that was on its way has come after all, or one still runs."""
    sessions = _sessions(user)
    with transaction.atomic():
        # Whoever submits takes this lock, too: what comes after finds no account.
        limits.lock_user(user)
        if Generation.objects.filter(user=user).exists() or DataExport.objects.filter(user=user).exists():
            return False
        _count(
            departure,
            tokens=user.tokens.count(),
            sessions=Session.objects.filter(pk__in=sessions).delete()[0],
            contact_sheets=ContactSheet.objects.filter(user=user).count(),
        )
        _forget_in_logs(ApiToken, user.tokens.values_list("pk", flat=True))
        _forget_in_logs(User, [user.pk])
        AccessAttempt.objects.filter(username=user.username).delete()
        user.delete()
        AccountDeletion.objects.filter(pk=departure.pk).update(finished=timezone.now(), lease_expires=None)
    return True


def _sessions(user: User) -> list[str]:
    """The keys of the user's sessions. Only their content says whose they are, so all have to be looked at."""
    key = str(user.pk)
    found = (session for session in Session.objects.iterator(chunk_size=500))
    return [session.session_key for session in found if session.get_decoded().get("_auth_user_id") == key]


def _forget_in_logs(model: type[Model], ids: Iterable[object]) -> None:
    """The admin's log of what staff did names rows: accounts, tokens, and generations by their prompts."""
    kind = ContentType.objects.get_for_model(model)
    LogEntry.objects.filter(content_type=kind, object_id__in=[str(pk) for pk in ids]).update(object_repr=_NOBODY)


def _count(departure: AccountDeletion, **counts: int) -> None:
    """Add to the receipt. Only one process is at a departure at a time, but for one that was thought dead: it is stopped."""
    with transaction.atomic():
        rows = AccountDeletion.objects.select_for_update().filter(
            pk=departure.pk, attempt=departure.attempt, finished=None
        )
        row = rows.get()
        row.counts = row.counts | {kind: row.counts.get(kind, 0) + number for kind, number in counts.items()}
        row.lease_expires = timezone.now() + LEASE
        row.save(update_fields=["counts", "lease_expires"])
