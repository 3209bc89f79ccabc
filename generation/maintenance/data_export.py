"""Exports: all that the service keeps of a person, in one zip file that a job makes.

The row is the truth. A claim is a lease with an attempt number, as with generations: whoever makes the file and dies is
followed by somebody else who starts again, and what the dead one still stores is refused. The file is written beside the
database first, then stored in one go, noted before; what is left over is swept by the reaper.
"""

import json
import logging
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import IntegrityError, transaction
from django.db.models import F, Q, QuerySet
from django.utils import timezone

from accounts.models import DataExport, User
from generation.images import storage
from generation.jobs.periodic import periodically
from generation.library import archive, files
from generation.models import (
    ContactSheet,
    Generation,
    ShareLink,
)

logger = logging.getLogger(__name__)

RETENTION = timedelta(days=7)
"""How long a finished export can be fetched."""
LEASE = timedelta(seconds=60)
_RETRY = timedelta(seconds=30)
_MOST_ATTEMPTS = 10
_PAGE = 100
_PROGRESS_SECONDS = 1.0
_LIVE = (DataExport.State.QUEUED, DataExport.State.RUNNING)

ShouldStop = Callable[[], bool]
"""Whether the process is to end, and the job to be left for another."""


class _Interrupted(Exception):
    """The job is no longer ours, or the process is to end."""


def request(user: User) -> bool:
    """Queue an export of this user. False: one is being made already."""
    try:
        with transaction.atomic():
            DataExport.objects.create(user=user)
    except IntegrityError:
        return False
    return True


def visible_to(user: User) -> list[DataExport]:
    """The exports that the user should know of, the newest first: what is being made, and what can be fetched."""
    return list(DataExport.objects.filter(Q(finished=None) | Q(finished__gt=timezone.now() - RETENTION), user=user))


def ready(user: User) -> QuerySet[DataExport]:
    """The user's exports that can be fetched."""
    done = DataExport.objects.filter(user=user, state=DataExport.State.SUCCEEDED)
    return done.filter(finished__gt=timezone.now() - RETENTION)


def claim() -> DataExport | None:
    """The next export that nobody makes, as a lease; None: there is none."""
    now = timezone.now()
    free = DataExport.objects.filter(Q(lease_expires=None) | Q(lease_expires__lt=now), state__in=_LIVE)
    if not free.exists():
        # Asked all the time, and a transaction would keep SQLite's writers waiting.
        return None
    with transaction.atomic():
        export = free.order_by("pk").select_for_update(skip_locked=True, of=("self",)).first()
        if export is None:
            return None
        export.state, export.attempt = DataExport.State.RUNNING, export.attempt + 1
        export.lease_expires = now + LEASE
        export.done = 0
        export.of = Generation.objects.filter(user=export.user_id).count()
        export.save(update_fields=["state", "attempt", "lease_expires", "done", "of"])
    return export


def run(export: DataExport, stopped: ShouldStop) -> None:
    """Make the file of a claimed export. What cannot be done now is tried again later, for a while."""
    try:
        with _kept(export):
            _run(export, stopped)
    except _Interrupted:
        _lease(export).update(state=DataExport.State.QUEUED, lease_expires=None)
    except Exception:
        if not _lease(export).exists():
            # Taken over by another, or gone with its user: nothing is amiss.
            return
        logger.exception("export %s failed in attempt %d", export.pk, export.attempt)
        if export.attempt >= _MOST_ATTEMPTS:
            ended = {"state": DataExport.State.FAILED, "finished": timezone.now(), "lease_expires": None}
            _lease(export).update(**ended)
        else:
            _lease(export).update(state=DataExport.State.QUEUED, lease_expires=timezone.now() + _RETRY)


def remove(export: DataExport) -> None:
    """Remove an export and its file for good. Whoever makes it at this moment finds out and leaves nothing behind."""
    with transaction.atomic():
        file_deletion = files.delete_later([str(export.file.name)] if export.file else [])
        DataExport.objects.filter(pk=export.pk).delete()
    files.delete_now(file_deletion)


def prune() -> None:
    """Remove exports whose time is over, and what dead processes left on this machine."""
    for export in DataExport.objects.filter(finished__lte=timezone.now() - RETENTION):
        remove(export)
    drafts = list(_drafts().glob("*.zip")) if _drafts().is_dir() else []
    if drafts:
        running = DataExport.objects.filter(state=DataExport.State.RUNNING).values_list("pk", "attempt")
        wanted = {_draft(pk, attempt) for pk, attempt in running}
        for draft in drafts:
            if draft not in wanted:
                draft.unlink(missing_ok=True)


def _run(export: DataExport, stopped: ShouldStop) -> None:
    path = _draft(export.pk, export.attempt)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        with path.open("xb") as file:
            path.chmod(0o600)
            with zipfile.ZipFile(file, "w") as draft:
                _fill(draft, export, stopped)
        size = path.stat().st_size
        name = f"exports/{export.pk}-{export.attempt}.zip"
        files.stage([name], export)
        with path.open("rb") as file:
            stored = default_storage.save(name, _Draft(file, path))
        with transaction.atomic():
            held = _lease(export).update(
                state=DataExport.State.SUCCEEDED,
                finished=timezone.now(),
                lease_expires=None,
                done=F("of"),
                file=stored,
                size=size,
            )
            if held:
                files.unstage(export)
        if not held:
            files.discard(export)
            return
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            # Not the last one.
            path.parent.rmdir()
    for older in DataExport.objects.filter(user=export.user_id, pk__lt=export.pk).exclude(state__in=_LIVE):
        remove(older)


def _fill(draft: zipfile.ZipFile, export: DataExport, stopped: ShouldStop) -> None:
    """Write everything; pictures as they are, since they are compressed already."""
    user = export.user
    _write_json(draft, "account.json", _account(user))
    _write_json(draft, "tokens.json", list(user.tokens.values(*_TOKEN_FIELDS)))
    _write_json(draft, "share-links.json", list(ShareLink.objects.filter(generation__user=user).values(*_LINK_FIELDS)))
    _write_json(
        draft, "contact_sheets.json", list(ContactSheet.objects.filter(user=user).values(*_CONTACT_SHEET_FIELDS))
    )
    told = time.monotonic()
    with TemporaryFile("w+") as recipes:
        for done, generation in enumerate(_generations(user), 1):
            recipes.write(",\n" if done > 1 else "[\n")
            json.dump(_all_of(generation), recipes, ensure_ascii=False)
            for picture in archive.pictures(generation):
                _copy(draft, picture)
            if stopped():
                raise _Interrupted
            if time.monotonic() - told >= _PROGRESS_SECONDS:
                told = time.monotonic()
                if not _lease(export).update(done=done):
                    raise _Interrupted
        recipes.write("\n]\n" if recipes.tell() else "[]\n")
        recipes.seek(0)
        with draft.open(_entry("generations.json"), "w", force_zip64=True) as entry:
            for lines in iter(lambda: recipes.read(1 << 16), ""):
                entry.write(lines.encode())
    draft.writestr(_entry("README.txt"), _README)


_README = """This is all that the service kept of you when this file was made.

account.json       your account and its settings
tokens.json        your tokens, without their secrets, of which the service keeps none
generations.json   each of your requests: what you asked for, what the model made of it, when, and what came of it;
                   "file" names its pictures. Those that you deleted have neither words nor pictures.
share-links.json   the links under which you showed pictures
contact_sheets.json  the grids that you had made
pictures/          what you sent, and what was made of it
"""
_TOKEN_FIELDS = ("name", "prefix", "created", "expires", "revoked", "last_used")
_LINK_FIELDS = ("generation_id", "index", "with_recipe", "created", "expires", "revoked")
_CONTACT_SHEET_FIELDS = ("id", "created", "columns", "rows")
_ACCOUNT_FIELDS = (
    *("username", "first_name", "last_name", "email", "date_joined", "last_login", "is_staff"),
    *("blur_flagged", "theme", "default_model"),
    *("max_running", "max_queued", "max_per_minute", "max_daily_cost"),
)


def _account(user: User) -> dict[str, Any]:
    return {name: getattr(user, name) for name in _ACCOUNT_FIELDS}


def _generations(user: User) -> Iterator[Generation]:
    """All of them, the oldest first, those in the trash and tombstones among them."""
    rows = Generation.objects.filter(user=user).order_by("pk").prefetch_related("images")
    page = list(rows[:_PAGE])
    while page:
        yield from page
        page = list(rows.filter(pk__gt=page[-1].pk)[:_PAGE])


def _all_of(generation: Generation) -> dict[str, Any]:
    """The recipe, and whether it is among what the user sees."""
    deleted, trashed = generation.deleted, generation.trashed
    kept = archive.recipe(generation)
    return kept | {"deleted": deleted and deleted.isoformat(), "in_trash_since": trashed and trashed.isoformat()}


def _copy(draft: zipfile.ZipFile, picture: archive.Picture) -> None:
    """Add a picture. One that is gone is left out; raises `StorageFailed` when the storage is."""
    try:
        content = picture.read()
    except storage.StorageFailed:
        if default_storage.exists(picture.stored):
            raise
        return
    draft.writestr(_entry(f"pictures/{picture.name}", zipfile.ZIP_STORED), content)


def _entry(name: str, compression: int = zipfile.ZIP_DEFLATED) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name, timezone.localtime().timetuple()[:6])
    entry.compress_type = compression
    entry.external_attr = 0o600 << 16
    return entry


def _write_json(draft: zipfile.ZipFile, name: str, content: Any) -> None:
    text = json.dumps(content, default=str, indent=1, ensure_ascii=False)
    draft.writestr(_entry(name), text + "\n")


class _Draft(File):  # type: ignore[type-arg]
    """A finished file that a storage on the same disk may simply move."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file, name=path.name)
        self.path = path

    def temporary_file_path(self) -> str:
        return str(self.path)


def _lease(export: DataExport) -> QuerySet[DataExport]:
    """The row while this attempt still holds it."""
    return DataExport.objects.filter(pk=export.pk, state=DataExport.State.RUNNING, attempt=export.attempt)


def _kept(export: DataExport) -> AbstractContextManager[None]:
    """Keep the lease, and the note of what is being stored, fresh while something slow goes on."""

    def renew() -> None:
        _lease(export).update(lease_expires=timezone.now() + LEASE)
        files.renew(export)

    return periodically(LEASE.total_seconds() / 4, renew, at_once=False)


def _drafts() -> Path:
    return Path(settings.DATA_DIR) / "exports"


def _draft(export_id: Any, attempt: int) -> Path:
    return _drafts() / f"{export_id}-{attempt}.zip"
