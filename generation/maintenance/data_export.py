"""Export of all data that the service stores about a user, as one zip file that a job writes.

The zip is first written next to the database, then staged and stored as a whole, so an attempt that dies leaves no unknown
file: `prune` deletes its draft, and the sweep of `generation.library.files` what it stored.
"""

import json
import logging
import time
import zipfile
from collections.abc import Iterator
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

from accounts import mail, security_log
from accounts.leased_jobs import LEASE, ShouldStop
from accounts.models import DataExport, OutgoingMail, User
from generation.images import storage
from generation.jobs.periodic import periodically
from generation.library import archive, files
from generation.models import (
    Album,
    ContactSheet,
    Generation,
    ShareLink,
)

logger = logging.getLogger(__name__)

RETENTION = timedelta(days=7)
"""How long a finished export can be downloaded."""
_RETRY_DELAY = timedelta(seconds=30)
_MAX_ATTEMPTS = 10
_PAGE_SIZE = 100
_PROGRESS_SECONDS = 1.0


class _Interrupted(Exception):
    """The lease is lost, or the process is stopping."""


def request(user: User) -> bool:
    """Queue an export for the user. Returns False if one is queued or running already."""
    try:
        with transaction.atomic():
            export = DataExport.objects.create(user=user)
    except IntegrityError:
        return False
    security_log.log("export.request", user=user.get_username(), export=str(export.pk))
    return True


def visible_to(user: User) -> list[DataExport]:
    """Return the user's exports that are unfinished, failed lately or can be downloaded, newest first."""
    return list(DataExport.objects.filter(Q(finished=None) | Q(finished__gt=timezone.now() - RETENTION), user=user))


def ready(user: User) -> QuerySet[DataExport]:
    """Return the user's exports that can be downloaded."""
    succeeded: QuerySet[DataExport] = DataExport.objects.filter(user=user, state=DataExport.State.SUCCEEDED)
    return succeeded.filter(finished__gt=timezone.now() - RETENTION)


def claim() -> DataExport | None:
    """Lease the next export. Returns None if there is none."""
    export: DataExport | None = DataExport.objects.claim()
    if export:
        export.renew(state=DataExport.State.RUNNING, done=0, of=Generation.objects.filter(user=export.user_id).count())
    return export


def run(export: DataExport, should_stop: ShouldStop) -> None:
    """Write and store the file of a claimed export. After an error it is retried, up to `_MAX_ATTEMPTS` times."""
    try:
        with _keep_lease(export):
            _run(export, should_stop)
    except _Interrupted:
        export.release(state=DataExport.State.QUEUED)
    except Exception:
        if not export.lease().exists():
            # Another process took over, or the export was removed with its user.
            return
        logger.exception("data export %s failed in attempt %d", export.pk, export.attempt)
        if export.attempt >= _MAX_ATTEMPTS:
            export.finish(state=DataExport.State.FAILED)
        else:
            export.release(_RETRY_DELAY, state=DataExport.State.QUEUED)


def remove(export: DataExport) -> None:
    """Delete an export and its file. A process that is running it loses the lease and discards its work."""
    with transaction.atomic():
        file_deletion = files.delete_later([str(export.file.name)] if export.file else [])
        DataExport.objects.filter(pk=export.pk).delete()
    files.delete_now(file_deletion)


def prune() -> None:
    """Remove expired exports, and drafts that dead processes left on this machine."""
    for export in DataExport.objects.filter(finished__lte=timezone.now() - RETENTION):
        remove(export)
    drafts = list(_drafts().glob("*.zip")) if _drafts().is_dir() else []
    if drafts:
        running = DataExport.objects.filter(state=DataExport.State.RUNNING).values_list("pk", "attempt")
        used = {_draft_path(pk, attempt) for pk, attempt in running}
        for draft in drafts:
            if draft not in used:
                draft.unlink(missing_ok=True)


def _run(export: DataExport, should_stop: ShouldStop) -> None:
    path = _draft_path(export.pk, export.attempt)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        with path.open("xb") as file:
            path.chmod(0o600)
            with zipfile.ZipFile(file, "w") as draft:
                _fill(draft, export, should_stop)
        is_finished = _store(export, path)
    finally:
        path.unlink(missing_ok=True)
        with suppress(OSError):
            # Fails while there are other drafts.
            path.parent.rmdir()
    if is_finished:
        for older in DataExport.objects.filter(user=export.user_id, pk__lt=export.pk).exclude(finished=None):
            remove(older)


def _store(export: DataExport, path: Path) -> bool:
    """Store the draft and finish the export. Returns False if the lease is lost."""
    size = path.stat().st_size
    name = f"exports/{export.pk}-{export.attempt}.zip"
    files.stage([name], export)
    with path.open("rb") as file:
        stored = default_storage.save(name, _MovableFile(file, path))
    with transaction.atomic():
        is_finished = export.finish(state=DataExport.State.SUCCEEDED, done=F("of"), file=stored, size=size)
        if is_finished:
            files.unstage(export)
            mail.notify(OutgoingMail.Kind.EXPORT, export.user)
    if not is_finished:
        files.discard(export)
    return is_finished


def _fill(draft: zipfile.ZipFile, export: DataExport, should_stop: ShouldStop) -> None:
    """Write everything; pictures uncompressed, since their formats are. Raises `_Interrupted`, `StorageFailed`."""
    user = export.user
    _write_json(draft, "account.json", {name: getattr(user, name) for name in _ACCOUNT_FIELDS})
    _write_json(draft, "tokens.json", list(user.tokens.values(*_TOKEN_FIELDS)))
    _write_json(draft, "share-links.json", list(ShareLink.objects.filter(user=user).values(*_LINK_FIELDS)))
    _write_json(draft, "albums.json", [_album(album) for album in _albums(user)])
    sheets = ContactSheet.objects.filter(user=user).values(*_CONTACT_SHEET_FIELDS)
    _write_json(draft, "contact_sheets.json", list(sheets))
    # A zip takes one entry at a time, so the records are collected beside it while the pictures are added.
    with TemporaryFile("w+") as records:
        _write_generations(draft, records, export, should_stop)
        records.seek(0)
        with draft.open(_entry("generations.json"), "w", force_zip64=True) as entry:
            for chunk in iter(lambda: records.read(1 << 16), ""):
                entry.write(chunk.encode())
    draft.writestr(_entry("README.txt"), _README)


def _write_generations(draft: zipfile.ZipFile, records: IO[str], export: DataExport, should_stop: ShouldStop) -> None:
    """Write the records of all generations as a JSON array to `records`, and their pictures to the zip."""
    reported = time.monotonic()
    for done, generation in enumerate(_generations(export.user), 1):
        records.write(",\n" if done > 1 else "[\n")
        json.dump(_record(generation), records, ensure_ascii=False)
        for picture in archive.pictures(generation):
            _copy(draft, picture)
        if should_stop():
            raise _Interrupted
        if time.monotonic() - reported >= _PROGRESS_SECONDS:
            reported = time.monotonic()
            if not export.renew(done=done):
                raise _Interrupted
    records.write("\n]\n" if records.tell() else "[]\n")


_README = """These are all data that the service stored about you when this file was written.

account.json         your account and its settings
tokens.json          your API tokens; the service does not store their secrets
generations.json     each of your requests: its parameters, what the model was run with, times and results; "file" names
                     its pictures. Deleted requests have no prompts and pictures.
share-links.json     your share links
albums.json          your albums, and which of your requests are in them
contact_sheets.json  your contact sheets
pictures/            your uploads and the results
"""
_TOKEN_FIELDS = ("name", "prefix", "created", "expires", "revoked", "last_used")
_LINK_FIELDS = (
    *("generation_id", "index", "album_id", "with_recipe", "with_input", "with_download"),
    *("created", "expires", "revoked", "views"),
)
_CONTACT_SHEET_FIELDS = ("id", "created", "columns", "rows")
_ACCOUNT_FIELDS = (
    *("username", "first_name", "last_name", "email", "date_joined", "last_login", "is_staff"),
    *(
        "blur_flagged",
        "tells_recipe",
        "theme",
        "default_model",
        "notify_of_tokens",
        "notify_of_exports",
        "notify_of_alerts",
    ),
    *("max_running", "max_queued", "max_per_minute", "max_daily_cost", "max_bytes"),
)


def _albums(user: User) -> QuerySet[Album]:
    albums: QuerySet[Album] = Album.objects.filter(user=user).prefetch_related("entries")
    return albums


def _album(album: Album) -> dict[str, Any]:
    entries = list(album.entries.all())
    cover = next((entry.generation_id for entry in entries if entry.is_cover), None)
    return {
        **{name: getattr(album, name) for name in ("id", "name", "created")},
        "cover": cover,
        "generations": [entry.generation_id for entry in entries],
    }


def _generations(user: User) -> Iterator[Generation]:
    """Iterate over all generations of the user, oldest first, including trashed and deleted ones."""
    rows = Generation.objects.filter(user=user).order_by("pk").prefetch_related("images", "references", "environment")
    page = list(rows[:_PAGE_SIZE])
    while page:
        yield from page
        page = list(rows.filter(pk__gt=page[-1].pk)[:_PAGE_SIZE])


def _record(generation: Generation) -> dict[str, Any]:
    """Return the recipe, and when the generation was trashed or deleted."""
    deleted, trashed = generation.deleted, generation.trashed
    return archive.recipe(generation) | {
        "deleted": deleted and deleted.isoformat(),
        "in_trash_since": trashed and trashed.isoformat(),
    }


def _copy(draft: zipfile.ZipFile, picture: archive.Picture) -> None:
    """Add a picture, unless its file is missing. Raises `StorageFailed` if the storage cannot be read."""
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


class _MovableFile(File):  # type: ignore[type-arg]
    """A finished file that a storage on the same disk may move instead of copying it."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        super().__init__(file, name=path.name)
        self.path = path

    def temporary_file_path(self) -> str:
        return str(self.path)


def _keep_lease(export: DataExport) -> AbstractContextManager[None]:
    """Renew the lease and the staged file's record in the background."""

    def renew() -> None:
        export.renew()
        files.renew(export)

    return periodically("renewal of the export lease", LEASE.total_seconds() / 4, renew, at_once=False)


def _drafts() -> Path:
    return Path(settings.DATA_DIR) / "exports"


def _draft_path(export_id: Any, attempt: int) -> Path:
    return _drafts() / f"{export_id}-{attempt}.zip"
