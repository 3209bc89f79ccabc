"""Storage of files. On disk they are served by signed URLs, like presigned URLs on S3.

A signed URL needs no token, cannot be guessed, and expires.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import IO
from uuid import UUID

from django.conf import settings
from django.core.files.base import ContentFile, File
from django.core.files.storage import FileSystemStorage, default_storage
from django.urls import reverse

from generation import signatures
from generation.parameters import MESSAGES, ErrorCode, Refusal

logger = logging.getLogger(__name__)

SIGNED_KIND = "media"


class StorageFailed(Refusal):
    """A file could not be stored or read, such as because the disk is full or the bucket cannot be reached."""

    def __init__(self) -> None:
        super().__init__(ErrorCode.STORAGE_FAILED, MESSAGES[ErrorCode.STORAGE_FAILED])


@dataclass(frozen=True)
class StoredFile:
    """A file in a storage: its name there, its bytes, and when it was written."""

    name: str
    size: int
    written: datetime


class SignedFileSystemStorage(FileSystemStorage):
    """Files under MEDIA_ROOT. A URL has an expiry and a signature over file name and expiry."""

    def files_below(self, folder: str = "") -> Iterator[StoredFile]:
        """Iterate over all files in a folder of the storage and in those below it."""
        for directory, _, names in os.walk(self.path(folder)):
            for name in names:
                path = Path(directory, name)
                # It may be deleted meanwhile.
                with suppress(FileNotFoundError):
                    found = path.stat()
                    written = datetime.fromtimestamp(found.st_mtime, UTC)
                    yield StoredFile(path.relative_to(self.location).as_posix(), found.st_size, written)

    def url(self, name: str | None) -> str:
        query = signatures.signed_query(SIGNED_KIND, str(name), settings.URL_EXPIRY_SECONDS)
        return f"{reverse('media', args=[name])}?{query}"


def output_stem(generation_id: UUID, created: datetime, attempt: int, index: int) -> str:
    """Return the name, without its suffix, of the file that an attempt stores for the picture of this index.

    The attempt is part of it, so that one that lost its lease cannot overwrite files of a later one.
    """
    return f"outputs/{created:%Y/%m/%d}/{generation_id}/{attempt}-{index}"


def store(name: str, content: bytes) -> str:
    """Store a file and return its name in the storage. Raises `StorageFailed` for any error of the backend."""
    try:
        return default_storage.save(name, ContentFile(content))
    except Exception as error:
        raise StorageFailed from error


def read(name: str) -> bytes:
    """Return the content of a stored file. Raises `StorageFailed` for any error of the backend."""
    try:
        with default_storage.open(name) as file:
            content: bytes = file.read()
    except Exception as error:
        raise StorageFailed from error
    return content


def copy(name: str, copied: str) -> None:
    """Copy a stored file piece by piece. Raises `StorageFailed` for any error of the backend."""
    with open_file(name) as file:
        try:
            default_storage.save(copied, File(file))
        except Exception as error:
            raise StorageFailed from error


def open_file(name: str) -> IO[bytes]:
    """Open a stored file. Raises `StorageFailed` for any error of the backend; a file of a bucket is fetched now."""
    try:
        file: IO[bytes] = default_storage.open(name)
        file.seek(0)
    except Exception as error:
        raise StorageFailed from error
    return file


def discard(names: Iterable[str]) -> bool:
    """Delete files; missing ones count as deleted. Returns whether all are deleted.

    Stops at the first that cannot be deleted: if the storage cannot be reached, each of the others would take as long to fail.
    """
    for name in names:
        try:
            default_storage.delete(name)
        except Exception as error:  # noqa: BLE001  backends raise errors of their own
            logger.warning("file %s cannot be deleted; the reaper will retry: %r", name, error)
            return False
    return True
