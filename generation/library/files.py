"""Files that no row names: stored before their row names them, or no longer named by their row.

Each is recorded in the database first, so after a crash, or while the storage is away, `sweep` knows what to delete:

- Before storing: `stage`. Then either `unstage` in the transaction in which a row takes the names, or `discard`.
- To delete: `delete_later` in the transaction that removes the names from a row, and `delete_now` once it is committed.
"""

import re
from collections.abc import Iterable, Sequence
from datetime import timedelta

from django.db import transaction
from django.db.models import Q, QuerySet
from django.utils import timezone

from accounts.models import DataExport
from generation.images import storage
from generation.models import FINAL_STATES, Canary, FileDeletion, Generation, InputFetch, SharedFile, StagedFiles

Owner = Generation | DataExport | InputFetch

_GENERATION_ID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
"""In the name of every file of a generation."""


def stage(names: Iterable[str], owner: Owner | None = None) -> StagedFiles:
    """Record files that are about to be stored, in place of what this attempt of `owner` staged before.

    Without an owner, or until its row exists, the files are swept once they are old: see `sweep`.
    """
    attempt = {"owner": owner.pk, "attempt": owner.attempt} if owner else {}
    (staged,) = StagedFiles.objects.bulk_create(
        [StagedFiles(names=list(names), created=timezone.now(), **attempt)],
        update_conflicts=True,
        unique_fields=["owner", "attempt"],
        update_fields=["names", "created"],
    )
    return staged


def renew(owner: Owner) -> None:
    """Keep staged files from getting old while they are written slowly."""
    _staged_by(owner).update(created=timezone.now())


def unstage(*owners: Owner) -> None:
    """Remove the records of staged files, in the transaction in which their owners' rows take the names."""
    _staged_by(*owners).delete()


def discard(*owners: Owner, names: Sequence[str] = ()) -> None:
    """Delete files that no row will name: what is staged, and `names`, whose record may have been swept meanwhile."""
    deletion = _mark_for_deletion(_staged_by(*owners), names)
    if deletion:
        delete_now(deletion)


def delete_later(names: Iterable[str]) -> FileDeletion:
    """Record files for deletion, in the transaction that removes their names from a row. Shared files are not deleted."""
    names = list(names)
    shared = set(SharedFile.objects.filter(name__in=names).values_list("name", flat=True))
    return FileDeletion.objects.create(names=[name for name in names if name not in shared])


def delete_now(deletion: FileDeletion) -> bool:
    """Delete recorded files. Returns False if the storage is away: then `sweep` tries again."""
    if not storage.discard(deletion.names):
        return False
    deletion.delete()
    return True


def sweep(abandoned: timedelta) -> None:
    """Delete files that are recorded for deletion, or whose attempt is over, or that no row named within `abandoned`."""
    for staged in StagedFiles.objects.order_by("created", "pk"):
        if _is_over(staged, abandoned):
            _mark_for_deletion(StagedFiles.objects.filter(pk=staged.pk))
    for deletion in FileDeletion.objects.order_by("created", "pk"):
        if not delete_now(deletion):
            # The storage is likely away. The next sweep starts with another, in case only these files cannot be deleted.
            FileDeletion.objects.filter(pk=deletion.pk).update(created=timezone.now())
            return


def share(names: Iterable[str]) -> None:
    """Let any number of rows name these files: they stay when one of the rows is deleted."""
    SharedFile.objects.bulk_create([SharedFile(name=name) for name in names], ignore_conflicts=True)


def has_active_owner(name: str) -> bool:
    """Return whether this is the name of a file whose owner is neither suspended nor leaving, or that is nobody's."""
    if found := _GENERATION_ID.search(name):
        return Generation.objects.filter(pk=found[0], user__is_active=True).exists()
    return SharedFile.objects.filter(pk=name).exists() or Canary.objects.filter(file=name).exists()


def _is_over(staged: StagedFiles, abandoned: timedelta) -> bool:
    rows = Generation.objects.filter(pk=staged.owner) if staged.owner else Generation.objects.none()
    row = rows.values_list("attempt", "state").first()
    if row is None:
        return staged.created <= timezone.now() - abandoned
    attempt, state = row
    # A submission creates its row and unstages its input in one transaction: the input belongs to the row.
    return staged.attempt > 0 and (attempt > staged.attempt or state in FINAL_STATES)


def _mark_for_deletion(rows: QuerySet[StagedFiles], names: Sequence[str] = ()) -> FileDeletion | None:
    """Turn staged files, and `names`, into files to delete. None if there are none: they were unstaged meanwhile."""
    with transaction.atomic():
        staged = list(rows.select_for_update())
        StagedFiles.objects.filter(pk__in=[row.pk for row in staged]).delete()
        unnamed = {*names, *(name for row in staged for name in row.names)}
        return delete_later(unnamed) if unnamed else None


def _staged_by(*owners: Owner) -> QuerySet[StagedFiles]:
    attempts = [Q(owner=owner.pk, attempt=owner.attempt) for owner in owners]
    return StagedFiles.objects.filter(Q(*attempts, _connector=Q.OR))
