"""Make a backup while the service runs.

The database comes first: stored files never change, so all that its rows name can be copied afterwards. What was deleted
meanwhile is recorded as such.
"""

import fcntl
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import connection
from django.utils import timezone

from accounts.leased_jobs import ShouldStop
from generation.images import certificates, storage
from generation.maintenance import named_files
from generation.maintenance.backups import database
from generation.maintenance.backups.errors import BackupFailed, Interrupted
from generation.maintenance.backups.manifest import FILE_LIST, Entry, Manifest, Part, read_list, write_list
from generation.maintenance.backups.place import FILES, Place

_DRAFTS = "backup-draft-"
_NAME = "%Y%m%dT%H%M%SZ"
KEYS = ("secret_key", "url_secret_key", "watermark_key", certificates.KNOWN_FILE)
"""The files in DATA_DIR with the keys that were created there."""


@dataclass(frozen=True)
class Made:
    """A finished backup. `copied` files were not in its place before; `written` are the bytes of these and of its parts."""

    name: str
    manifest: Manifest
    copied: int
    written: int

    @property
    def problem(self) -> str:
        """What the backup lacks, in a sentence; empty if nothing."""
        count = self.manifest.missing
        verb = "files that rows name are" if count != 1 else "file that a row names is"
        return f"{count} {verb} missing; manage.py check_files names them." if count else ""


def make(place: Place, should_stop: ShouldStop, keep: int = 0) -> Made:
    """Make a backup in this place; then delete all but the `keep` newest, 0 keeps all.

    Raises `BackupFailed`, `Interrupted`, and Django's database errors.
    """
    place.check_files()
    with _draft_folder() as folder:
        name = f"{timezone.now():{_NAME}}"
        if name in place.folders():
            raise BackupFailed(f"{place.address} has a backup {name} already; try again.")
        dump = database.dump(folder)
        parts = {path.name: _write_part(place, name, path) for path in (dump.path, *_key_files())}
        files, copied = _write_files(place, dump.names, should_stop)
        write_list(folder / FILE_LIST, files)
        parts[FILE_LIST] = _write_part(place, name, folder / FILE_LIST)
        manifest = Manifest(
            version=settings.VERSION,
            created=timezone.now(),
            database="sqlite" if connection.vendor == "sqlite" else "postgresql",
            database_version=database.version(),
            migrations=dump.migrations,
            storage="bucket" if settings.S3_BUCKET else "files",
            encrypted=bool(place.suffix),
            files=sum(not file.problem for file in files),
            bytes=sum(file.size for file in files),
            missing=sum(file.problem == "missing" for file in files),
            deleted=sum(file.problem == "deleted" for file in files),
            parts=parts,
        )
        if should_stop():
            raise Interrupted
        place.write_manifest(name, manifest)
    prune(place, keep)
    return Made(
        name, manifest, len(copied), sum(file.size for file in copied) + sum(part.size for part in parts.values())
    )


def prune(place: Place, keep: int) -> None:
    """Delete all backups but the `keep` newest, what unfinished ones left, and files that no other has. 0 deletes nothing."""
    finished = place.names()
    kept = finished[-keep:]
    if not keep or kept == place.folders():
        return
    suffixes = {name: place.manifest(name).suffix for name in kept}
    used = {f"{FILES}/{entry.name}{suffix}" for name, suffix in suffixes.items() for entry in file_list(place, name)}
    for name in place.folders():
        if name not in kept:
            place.delete_folder(name)
    for stored in place.stored(FILES):
        if stored not in used:
            place.delete(stored)


def file_list(place: Place, name: str) -> Iterator[Entry]:
    """Iterate over the files of a finished backup."""
    with place.open(f"{name}/{FILE_LIST}{place.manifest(name).suffix}") as file:
        yield from read_list(file)


def _write_part(place: Place, name: str, path: Path) -> Part:
    with path.open("rb") as file:
        size, digest = place.write(f"{name}/{path.name}", file)
    return Part(size=size, sha256=digest)


def _key_files() -> list[Path]:
    """Return the files of the keys that are in use. Those of the environment are kept with it."""
    used = {settings.SECRET_KEY, *settings.URL_SECRET_KEYS, settings.WATERMARK_KEY}
    paths = [settings.DATA_DIR / key for key in KEYS]
    return [
        path
        for path in paths
        if path.exists() and (path.name == certificates.KNOWN_FILE or path.read_text().strip() in used)
    ]


def _write_files(place: Place, names: set[str], should_stop: ShouldStop) -> tuple[list[Entry], list[Entry]]:
    """Copy files, or list them if they are in a bucket. Return all, and those that were copied now."""
    if settings.S3_BUCKET:
        sizes = {file.name: file.size for file in default_storage.files_below()}  # type: ignore[attr-defined]
        return _explain_missing([Entry(name, sizes[name]) if name in sizes else _lacking(name) for name in names]), []
    earlier = _earlier(place)
    files, copied = [], []
    for name in sorted(names):
        if should_stop():
            raise Interrupted
        entry = earlier.get(name)
        if entry is None:
            entry = _copy(place, name)
            copied += [] if entry.problem else [entry]
        files.append(entry)
    return _explain_missing(files), copied


def _earlier(place: Place) -> dict[str, Entry]:
    """Return the files of the newest backup that is encrypted as this one is, without those that its place has lost."""
    alike = [name for name in place.names() if place.manifest(name).suffix == place.suffix]
    if not alike:
        return {}
    stored = set(place.stored(FILES))
    return {
        entry.name: entry
        for entry in file_list(place, alike[-1])
        if entry.sha256 and f"{FILES}/{entry.name}{place.suffix}" in stored
    }


def _copy(place: Place, name: str) -> Entry:
    try:
        file = storage.open_file(name)
    except storage.StorageFailed as error:
        if default_storage.exists(name):
            raise BackupFailed(f"The stored file {name} cannot be read: {error.__cause__}") from error
        return _lacking(name)
    with file:
        return Entry(name, *place.write(f"{FILES}/{name}", file))


def _lacking(name: str) -> Entry:
    return Entry(name, 0, problem="missing")


def _explain_missing(files: list[Entry]) -> list[Entry]:
    """Tell apart which of the missing files were deleted meanwhile."""
    named = named_files.still_named(file.name for file in files if file.problem)
    return [file._replace(problem="deleted") if file.problem and file.name not in named else file for file in files]


@contextmanager
def _draft_folder() -> Iterator[Path]:
    """Yield a new folder in DATA_DIR, which only this user can read, and delete it afterwards.

    Those that dead processes left go, too. Whether its process lives tells its lock: backups to several places may be made at
    the same time.
    """
    for left in settings.DATA_DIR.glob(f"{_DRAFTS}*"):
        # Also if another process has just deleted it.
        with suppress(OSError), _locked(left):
            shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=_DRAFTS, dir=settings.DATA_DIR) as folder, _locked(Path(folder)):
        yield Path(folder)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a folder. Raises `OSError` if it is gone, or another process holds it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(descriptor)
