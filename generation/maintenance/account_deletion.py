"""Deletion of an account with all its data.

The account is deactivated at once. A job then deletes rows and files in batches, each in one transaction with the counts of
the receipt, so another process can continue where one died. In the end only the receipt is left.
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

from accounts.leased_jobs import LEASE, ShouldStop
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
from generation.models import (
    FINAL_STATES,
    Album,
    ContactSheet,
    Generation,
    ShareLink,
    State,
)

logger = logging.getLogger(__name__)

RECEIPT_RETENTION = timedelta(days=7)
_BATCH_SIZE = 50
_RETRY_DELAY = timedelta(seconds=2)
_LEGAL_HOLD_DELAY = timedelta(hours=1)
"""How long to wait while a legal hold keeps some of the account's rows."""
_REFUND_DELAY = timedelta(seconds=5)
"""How long after a run was canceled its worker may still refund its user's share."""
_ANONYMIZED = "of a deleted account"


class LastAdministrator(Exception):
    """The account is the only active superuser, so it cannot be deleted."""


def is_last_administrator(user: User) -> bool:
    others = User.objects.filter(is_superuser=True, is_active=True).exclude(pk=user.pk)
    return user.is_superuser and not others.exists()


def request(user: User) -> AccountDeletion:
    """Deactivate the account and queue its deletion. Raises `LastAdministrator`."""
    with transaction.atomic():
        # Locked, so that the last two cannot do this at the same time.
        list(User.objects.select_for_update().filter(is_superuser=True).order_by("pk").values_list("pk"))
        if is_last_administrator(user):
            raise LastAdministrator
        User.objects.filter(pk=user.pk).update(is_active=False)
        job, _ = AccountDeletion.objects.get_or_create(user=user)
    return job


def run(job: AccountDeletion, should_stop: ShouldStop) -> None:
    """Delete as much as possible now. The next claim continues with the rest."""
    try:
        if _delete_all(job, should_stop):
            return
        is_on_hold = Generation.objects.filter(user=job.user, legal_hold=True).exists()
        delay = _LEGAL_HOLD_DELAY if is_on_hold else _RETRY_DELAY
    except AccountDeletion.DoesNotExist:
        # Another process took over the lease.
        return
    except Exception:
        logger.exception("account deletion %s failed in attempt %d; it will be retried", job.pk, job.attempt)
        delay = LEASE
    job.release(delay)


def prune() -> None:
    """Delete expired receipts."""
    expired = AccountDeletion.objects.filter(finished__lte=timezone.now() - RECEIPT_RETENTION)
    if expired.exists():
        expired.delete()


def _delete_all(job: AccountDeletion, should_stop: ShouldStop) -> bool:
    """Return whether the account is deleted. Running generations take a moment to stop, and their rows stay until then.

    Raises `AccountDeletion.DoesNotExist` if the lease is lost.
    """
    user = job.user
    if user is None:
        # The account itself was deleted in another way.
        job.finish()
        return True
    for generation in Generation.objects.filter(user=user, state__in=(State.QUEUED, State.RUNNING)).iterator():
        if generation.state == State.QUEUED or not generation.cancel_requested:
            queue.cancel(generation)
    while not should_stop() and _delete_batch(job, user):
        pass
    for export in DataExport.objects.filter(user=user):
        data_export.remove(export)
        _add_counts(job, exports=1)
    return not should_stop() and _delete_account(job, user)


def _delete_batch(job: AccountDeletion, user: User) -> bool:
    """Delete up to `_BATCH_SIZE` finished generations, deleted ones included. Returns False if there was none.

    A run that was just canceled stays for now: its worker may still have to refund its cost.
    """
    just_canceled = Q(
        started__isnull=False, cancel_requested__isnull=False, finished__gt=timezone.now() - _REFUND_DELAY
    )
    finished = Generation.objects.filter(user=user, state__in=FINAL_STATES, legal_hold=False).exclude(just_canceled)
    with transaction.atomic():
        rows = list(
            finished.order_by("pk")
            .select_for_update(of=("self",))
            .prefetch_related("images", "references")[:_BATCH_SIZE]
        )
        ids = [row.pk for row in rows]
        names = [name for row in rows for name in deletion.files_of(row)]
        file_deletion = files.delete_later(names)
        _add_counts(
            job,
            generations=len(rows),
            pictures=sum(bool(image.file) for row in rows for image in row.images.all()),
            files=len(names),
            share_links=ShareLink.objects.filter(generation__in=ids).count(),
        )
        _anonymize_logs(Generation, ids)
        search.unindex(ids)
        Generation.objects.filter(pk__in=ids).delete()
    for generation_id in ids:
        progress.forget(generation_id)
    files.delete_now(file_deletion)
    return bool(rows)


def _delete_account(job: AccountDeletion, user: User) -> bool:
    """Delete the account itself. Returns False if it still has generations: one runs, or was submitted meanwhile."""
    sessions = _sessions(user)
    with transaction.atomic():
        # Submissions take this lock, too, and find no active account afterwards.
        limits.lock_user(user)
        if Generation.objects.filter(user=user).exists() or DataExport.objects.filter(user=user).exists():
            return False
        _add_counts(
            job,
            tokens=user.tokens.count(),
            sessions=Session.objects.filter(pk__in=sessions).delete()[0],
            contact_sheets=ContactSheet.objects.filter(user=user).count(),
            albums=Album.objects.filter(user=user).count(),
            # Those to pictures are gone already.
            share_links=ShareLink.objects.filter(user=user).count(),
        )
        _anonymize_logs(ApiToken, user.tokens.values_list("pk", flat=True))
        _anonymize_logs(User, [user.pk])
        AccessAttempt.objects.filter(username=user.username).delete()
        user.delete()
        job.finish()
    return True


def _sessions(user: User) -> list[str]:
    """Return the keys of the user's sessions. Only the content of a session says whose it is, so all are read."""
    key = str(user.pk)
    sessions = Session.objects.iterator(chunk_size=500)
    return [session.session_key for session in sessions if session.get_decoded().get("_auth_user_id") == key]


def _anonymize_logs(model: type[Model], ids: Iterable[object]) -> None:
    """Overwrite the names of these rows in the admin's log: usernames, names of tokens, prompts."""
    kind = ContentType.objects.get_for_model(model)
    LogEntry.objects.filter(content_type=kind, object_id__in=[str(pk) for pk in ids]).update(object_repr=_ANONYMIZED)


def _add_counts(job: AccountDeletion, **counts: int) -> None:
    """Add to the receipt, and renew the lease. Raises `AccountDeletion.DoesNotExist` if it is lost."""
    with transaction.atomic():
        row = job.lease().select_for_update().get()
        row.renew(counts=row.counts | {kind: row.counts.get(kind, 0) + number for kind, number in counts.items()})
