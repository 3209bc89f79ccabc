"""Restore a backup into an empty installation: its database, secret keys and files."""

import os
import shutil
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

from django.conf import settings
from django.core.files.base import File
from django.core.files.storage import default_storage
from django.db import connection
from django.db.migrations.loader import MigrationLoader
from django.utils.version import get_version_tuple

from generation.maintenance.backups import database
from generation.maintenance.backups.creation import KEYS, file_list
from generation.maintenance.backups.errors import BackupFailed
from generation.maintenance.backups.manifest import Entry, Manifest, Part
from generation.maintenance.backups.place import FILES, Place, measure


@dataclass
class Restored:
    """A restored backup. `lost` files are not in the place, or not as they were; `missing` ones were so from the start."""

    name: str
    manifest: Manifest
    files: int = 0
    keys: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)


def restore(place: Place, name: str = "", with_files: bool = True) -> Restored:
    """Restore the backup of this name, or the newest one, into the empty database and storage of the settings.

    Raises `BackupFailed`, before anything is written if they are not empty, the backup does not fit this installation, or its
    database or keys are damaged.
    """
    names = place.names()
    if not names:
        raise BackupFailed(f"There is no finished backup in {place.address}.")
    if name and name not in names:
        raise BackupFailed(f"There is no finished backup {name} in {place.address}; there are {', '.join(names)}.")
    name = name or names[-1]
    restored = Restored(name, place.manifest(name))
    _check_fits(restored.manifest, with_files)
    with tempfile.TemporaryDirectory(prefix="restore-", dir=settings.DATA_DIR) as folder:
        restored.keys = [key for key in KEYS if key in restored.manifest.parts]
        keys = [_read_part(place, restored, key, Path(folder)) for key in restored.keys]
        (name_of_dump,) = (part for part in restored.manifest.parts if part.startswith("database."))
        dump = _read_part(place, restored, name_of_dump, Path(folder))
        if with_files:
            _restore_files(place, restored)
        for key in keys:
            _restore_key(key)
        # Last: until then a restoration that was broken off leaves no service that starts.
        database.restore(dump)
    return restored


def _check_fits(manifest: Manifest, with_files: bool) -> None:
    here = "sqlite" if connection.vendor == "sqlite" else "postgresql"
    unknown = set(manifest.migrations) - {f"{app}.{name}" for app, name in MigrationLoader(None).disk_migrations}
    version = settings.VERSION
    if unknown or get_version_tuple(manifest.version) > get_version_tuple(version):
        raise BackupFailed(
            f"The backup is of a newer version, {manifest.version}, than this one, {version}; install that."
        )
    if manifest.database != here:
        raise BackupFailed(
            f"The backup is of {_DATABASES[manifest.database]}, and this database is {_DATABASES[here]}: change DATABASE_URL."
        )
    if manifest.storage == "bucket" and with_files and not settings.S3_BUCKET:
        raise BackupFailed(
            "The backup lists the files of a bucket and has none itself: set S3_BUCKET to it, or to a copy."
        )
    if not database.is_empty():
        raise BackupFailed(
            "The database is not empty. Restore into a new one: choose another DATA_DIR or DATABASE_URL."
        )
    if manifest.storage == "files" and with_files and next(default_storage.files_below(), None):  # type: ignore[attr-defined]
        where = f"bucket {settings.S3_BUCKET}" if settings.S3_BUCKET else f"directory {settings.MEDIA_ROOT}"
        raise BackupFailed(
            f"The {where} is not empty. Restore into an empty one, or empty it if a restoration broke off."
        )


_DATABASES = {"sqlite": "SQLite", "postgresql": "PostgreSQL"}


def _restore_files(place: Place, restored: Restored) -> None:
    """Copy the files, or look whether they are there if the backup only lists those of a bucket."""
    is_bucket = restored.manifest.storage == "bucket"
    there = {file.name for file in default_storage.files_below()} if is_bucket else set()  # type: ignore[attr-defined]
    stored = set() if is_bucket else set(place.stored(FILES))
    for entry in file_list(place, restored.name):
        source = f"{FILES}/{entry.name}{restored.manifest.suffix}"
        if entry.problem:
            restored.missing.append(entry.name)
        elif entry.name in there or (source in stored and _restore_file(place, source, entry)):
            restored.files += 1
        else:
            restored.lost.append(entry.name)


def _restore_file(place: Place, source: str, entry: Entry) -> bool:
    """Copy a file. Return False if it is damaged."""
    try:
        with place.open(source) as file:
            if not _is_intact(file, entry):
                return False
            default_storage.save(entry.name, File(file))
    except BackupFailed:
        return False
    return True


def _read_part(place: Place, restored: Restored, part: str, folder: Path) -> Path:
    """Copy a part to a file in this folder. Raises `BackupFailed` if it is damaged."""
    source = f"{restored.name}/{part}{restored.manifest.suffix}"
    with place.open(source) as file:
        if not _is_intact(file, restored.manifest.parts[part]):
            raise BackupFailed(f"{place.address}/{source} is damaged: its digest is not that of the manifest.")
        path = folder / part
        with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as target:
            shutil.copyfileobj(file, target)
    return path


def _is_intact(file: IO[bytes], expected: Entry | Part) -> bool:
    is_intact = measure(file) == (expected.size, expected.sha256)
    file.seek(0)
    return is_intact


def _restore_key(path: Path) -> None:
    """Put a key in place of the one that this installation has created, which has signed nothing yet."""
    path.replace(settings.DATA_DIR / path.name)
