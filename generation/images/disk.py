"""Free space of the disks that hold pictures and rows. With too little, requests are refused, and workers start nothing."""

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.db import connection

from generation.parameters import ErrorCode, Refusal

_NEARLY_FULL_SHARE = 0.05
_NEARLY_FULL_BYTES = 2 * 1024**3
_NEARLY_FULL_FACTOR = 2


class DiskFull(Refusal):
    """Less than `MIN_FREE_DISK` of a disk with the service's data is free."""

    def __init__(self) -> None:
        code = ErrorCode.DISK_FULL
        super().__init__(code, "The disk of the service is full; tell an administrator, and try again later.")


@dataclass(frozen=True)
class Disk:
    """A disk, and the first of the service's folders on it; `free` and `total` in bytes."""

    folder: Path
    free: int
    total: int

    @property
    def refusal_bytes(self) -> float:
        """Below so much free space requests are refused; below half of it, workers start nothing."""
        return float(settings.MIN_FREE_DISK * self.total)

    @property
    def is_nearly_full(self) -> bool:
        """Whether somebody should make room before requests are refused."""
        share = max(_NEARLY_FULL_SHARE, _NEARLY_FULL_FACTOR * settings.MIN_FREE_DISK)
        return self.free < max(_NEARLY_FULL_BYTES, share * self.total)

    @property
    def space(self) -> str:
        """The free space in words: `12.5 of 500 GB are free`."""
        return f"{self.free / 1e9:.1f} of {self.total / 1e9:.0f} GB are free"


def disks(folders: Iterable[Path]) -> list[Disk]:
    """Return the disks of these folders, each once. Of a folder that does not exist yet it is that of its parent."""
    found: dict[int, Disk] = {}
    for folder in folders:
        existing = next(path for path in (folder, *folder.parents) if path.exists())
        device = os.stat(existing).st_dev
        if device not in found:
            usage = shutil.disk_usage(existing)
            found[device] = Disk(existing, usage.free, usage.total)
    return list(found.values())


def data_disks() -> list[Disk]:
    """Return the disks that grow with every request: of pictures and database. None with a bucket and PostgreSQL."""
    folders = [] if settings.S3_BUCKET else [settings.MEDIA_ROOT]
    return disks([*folders, settings.DATA_DIR] if connection.vendor == "sqlite" else folders)


def check() -> None:
    """Raise `DiskFull` if requests cannot be accepted."""
    if any(disk.free < disk.refusal_bytes for disk in data_disks()):
        raise DiskFull


def is_full() -> bool:
    """Return whether workers should start nothing. What was accepted before requests are refused still has room to end."""
    return any(disk.free < disk.refusal_bytes / 2 for disk in data_disks())
