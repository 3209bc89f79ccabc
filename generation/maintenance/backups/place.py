"""The place of backups: a directory, or a prefix in an S3 bucket.

    identity.age             if there is a passphrase: the key of all that is encrypted here, encrypted by the passphrase
    20261130T201500Z/        a backup: its database, secret keys and list of files, and manifest.json, which is written last
    files/                   the files of all backups, under the names that they have in the storage

Stored files never change, so each is copied once. What is encrypted ends in `.age`, the format of https://age-encryption.org:
`age --decrypt --identity identity.age` asks for the passphrase and reads it.
"""

import hashlib
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import SpooledTemporaryFile
from typing import IO, Any
from urllib.parse import urlsplit

import pyrage
from django.conf import settings
from django.core.files.base import ContentFile, File
from pydantic import ValidationError

from generation.images.s3 import SharedS3Storage
from generation.images.storage import SignedFileSystemStorage
from generation.maintenance.backups.errors import BackupFailed
from generation.maintenance.backups.manifest import FORMAT, MANIFEST, Manifest

IDENTITY = "identity.age"
FILES = "files"
MIN_PASSPHRASE = 12
"""Characters. Who has a backup can try as many as they like, each for about a second."""

_NAME = re.compile(r"\d{8}T\d{6}Z")
"""Of a backup: when it was begun, in UTC. Other folders of the place are somebody else's, and nothing is deleted there."""
_MEMORY_BYTES = 16 * 1024 * 1024
_CHUNK_BYTES = 1024 * 1024


class Place:
    """An open place. With a passphrase, what is written is encrypted; the first write creates the key if there is none."""

    def __init__(self, address: str, passphrase: str = "") -> None:
        """Raises `BackupFailed` if the place cannot be reached, or the passphrase is missing or wrong."""
        self.address = address
        self.storage = _storage(address)
        with self._explained():
            has_identity = self.storage.exists(IDENTITY)
        if has_identity and not passphrase:
            raise BackupFailed(
                f"The backups in {address} are encrypted: give the passphrase, by BACKUP_PASSPHRASE or --passphrase-file."
            )
        if passphrase and not has_identity and len(passphrase) < MIN_PASSPHRASE:
            raise BackupFailed(f"The passphrase has less than {MIN_PASSPHRASE} characters; choose a longer one.")
        self._passphrase = passphrase
        self._identity = self._open_identity() if has_identity else None
        self.suffix = ".age" if passphrase else ""

    def names(self) -> list[str]:
        """Return the names of the finished backups, oldest first."""
        with self._explained():
            return sorted(name for name in self.folders() if self.storage.exists(f"{name}/{MANIFEST}"))

    def folders(self) -> list[str]:
        """Return the names of all backups, unfinished ones among them."""
        with self._explained():
            return sorted(name for name in self.storage.listdir("")[0] if _NAME.fullmatch(name))

    def check_files(self) -> None:
        """Raise `BackupFailed` if the folder of files is there without a backup: it is somebody else's."""
        if not self.folders() and next(self.stored(FILES), None):
            raise BackupFailed(f"{self.address}/{FILES} has files of no backup; choose another place, or remove them.")

    def manifest(self, name: str) -> Manifest:
        """Return the manifest of a finished backup. Raises `BackupFailed` if it is damaged or of a newer version."""
        with self._explained(), self.storage.open(f"{name}/{MANIFEST}") as file:
            text = file.read()
        try:
            manifest = Manifest.model_validate_json(text)
        except ValidationError:
            raise BackupFailed(f"{self.address}/{name}/{MANIFEST} is damaged; choose another backup.") from None
        if manifest.format > FORMAT:
            raise BackupFailed(f"The backup {name} is of a newer version, {manifest.version}; install that one first.")
        return manifest

    def write(self, name: str, content: IO[bytes]) -> tuple[int, str]:
        """Store a file under this name and the suffix, in place of one that is there. Return the `measure` of its content."""
        size, digest = measure(content)
        content.seek(0)
        with self._explained():
            if not self._passphrase:
                self.storage.save(name, File(content))
            else:
                self._identity = self._identity or self._create_identity()
                with _spooled() as sealed:
                    pyrage.encrypt_io(content, sealed, [self._identity.to_public()])
                    self.storage.save(name + self.suffix, File(sealed))
        return size, digest

    def write_manifest(self, name: str, manifest: Manifest) -> None:
        """Finish a backup."""
        with self._explained():
            self.storage.save(f"{name}/{MANIFEST}", ContentFile(manifest.model_dump_json(indent=1).encode()))

    @contextmanager
    def open(self, name: str) -> Iterator[IO[bytes]]:
        """Open a file for reading, decrypted if its name ends in `.age`. Raises `BackupFailed`."""
        with self._explained():
            stored = self.storage.open(name)
        with stored, _spooled() as plain:
            if not name.endswith(".age"):
                yield stored
                return
            if self._identity is None:
                raise BackupFailed(f"{name} is encrypted, and {self.address} has no {IDENTITY} to read it with.")
            try:
                pyrage.decrypt_io(stored, plain, [self._identity])
            except (pyrage.DecryptError, OSError) as error:
                # Damage after the header is an OSError, as is a disk that cannot be read.
                raise BackupFailed(f"{self.address}/{name} is damaged: it cannot be decrypted ({error}).") from None
            plain.seek(0)
            yield plain

    def delete(self, name: str) -> None:
        with self._explained():
            self.storage.delete(name)

    def stored(self, folder: str) -> Iterator[str]:
        """Iterate over the names of all files in this folder."""
        with self._explained():
            for file in self.storage.files_below(folder):
                yield file.name

    def delete_folder(self, name: str) -> None:
        """Delete a backup, its manifest first, but not its files."""
        names = sorted(self.stored(name), key=lambda stored: stored != f"{name}/{MANIFEST}")
        for stored in names:
            self.delete(stored)
        if isinstance(self.storage, SignedFileSystemStorage):
            self.delete(name)

    def _open_identity(self) -> Any:
        with self._explained(), self.storage.open(IDENTITY) as file:
            sealed = file.read()
        try:
            text = pyrage.passphrase.decrypt(sealed, self._passphrase).decode()
        except pyrage.DecryptError:
            raise BackupFailed(
                f"The passphrase is not that of {self.address}/{IDENTITY}. Give the right one, or back up to another place."
            ) from None
        return pyrage.x25519.Identity.from_str(text.strip())

    def _create_identity(self) -> Any:
        identity = pyrage.x25519.Identity.generate()
        sealed = pyrage.passphrase.encrypt(f"{identity}\n".encode(), self._passphrase)
        self.storage.save(IDENTITY, ContentFile(sealed))
        return identity

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Raise the errors of the backend as `BackupFailed`."""
        try:
            yield
        except BackupFailed:
            raise
        except Exception as error:
            raise BackupFailed(f"{self.address} cannot be used: {str(error).rstrip('.')}.") from error


def measure(content: IO[bytes]) -> tuple[int, str]:
    """Return the size of a file from here on, in bytes, and its SHA-256."""
    digest, size = hashlib.sha256(), 0
    for chunk in iter(partial(content.read, _CHUNK_BYTES), b""):
        digest.update(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def _spooled() -> SpooledTemporaryFile[bytes]:
    return SpooledTemporaryFile(_MEMORY_BYTES, dir=str(settings.DATA_DIR))


def _storage(address: str) -> SignedFileSystemStorage | SharedS3Storage:
    if address.startswith("s3://"):
        parts = urlsplit(address)
        if not parts.netloc:
            raise BackupFailed(f"{address} names no bucket; write s3://bucket/prefix.")
        if parts.netloc == settings.S3_BUCKET:
            raise BackupFailed(f"{parts.netloc} is the bucket of the pictures; back up to another bucket.")
        options = {**settings.S3_OPTIONS, "location": parts.path.strip("/")}
        return SharedS3Storage(bucket_name=parts.netloc, **options)
    folder = Path(address).expanduser().resolve()
    # Not created: it may be on a disk that is not mounted.
    if not folder.is_dir():
        raise BackupFailed(f"There is no directory {folder}; create it, or mount its disk.")
    if folder.is_relative_to(settings.MEDIA_ROOT):
        raise BackupFailed(f"{folder} is in the directory of the pictures; back up to another one.")
    return SignedFileSystemStorage(
        location=folder, allow_overwrite=True, file_permissions_mode=0o600, directory_permissions_mode=0o700
    )
