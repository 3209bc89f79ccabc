"""Comparison of stored files with the rows that name them, and with the digests of a backup."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from django.core.files.storage import default_storage
from django.utils import timezone

from generation.images import storage
from generation.images.storage import StoredFile
from generation.maintenance import named_files
from generation.maintenance.backups.manifest import Entry
from generation.maintenance.backups.place import measure
from generation.models import FileDeletion, StagedFiles

ORPHAN_AGE = timedelta(days=1)
"""How old a file without a row must be to be deleted. The reaper deletes what it knows of much earlier."""

FOLDERS = ("canaries", "exports", "inputs", "outputs", "ready")
"""The folders that the service writes; nothing is said of other files of the storage, which may be somebody else's."""


@dataclass
class FileCheck:
    """What was found: names that rows have of files that are not there, files that no row names, files that have changed.

    `named` counts the names of rows, `compared` the files whose digests were compared.
    """

    named: int = 0
    missing: list[str] = field(default_factory=list)
    orphans: list[StoredFile] = field(default_factory=list)
    compared: int = 0
    damaged: list[str] = field(default_factory=list)


def check(digests: Iterable[Entry] = ()) -> FileCheck:
    """Compare rows and files while the service runs; with digests, read the files that have one.

    Raises Django's database errors, and any error of the storage.
    """
    stored = {file.name: file for file in default_storage.files_below()}  # type: ignore[attr-defined]
    # In this order: a file is recorded as staged before it is stored, until a row names it.
    recorded = _recorded_names()
    named = named_files.all_names()
    found = FileCheck(named=len(named))
    lacking = named_files.still_named(named - stored.keys())
    found.missing = sorted(name for name in lacking if not default_storage.exists(name))
    unnamed = [file for name, file in stored.items() if name not in named and name not in recorded]
    found.orphans = sorted((file for file in unnamed if _is_own(file)), key=lambda file: file.name)
    for entry in digests:
        if entry.sha256 and entry.name in named and entry.name in stored:
            found.compared += 1
            if not _is_intact(entry):
                found.damaged.append(entry.name)
    return found


def delete_orphans(orphans: Sequence[StoredFile]) -> list[str]:
    """Delete those of the files without a row that are older than `ORPHAN_AGE`, and return their names."""
    oldest = timezone.now() - ORPHAN_AGE
    old = [file.name for file in orphans if file.written < oldest]
    kept = _recorded_names() | named_files.still_named(old)
    names = [name for name in old if name not in kept]
    return names if storage.discard(names) else []


def _recorded_names() -> set[str]:
    """Return the names of files that are being written or are about to be deleted."""
    rows = [*StagedFiles.objects.values_list("names", flat=True), *FileDeletion.objects.values_list("names", flat=True)]
    return {name for names in rows for name in names}


def _is_own(file: StoredFile) -> bool:
    return file.name.partition("/")[0] in FOLDERS


def _is_intact(entry: Entry) -> bool:
    with storage.open_file(entry.name) as file:
        return measure(file) == (entry.size, entry.sha256)
