"""Downloads from the hub, with progress in bytes: they can be stopped anywhere, and go on from the same byte.

`huggingface_hub` discards the part of a file whose transfer ended. So its large files are received here, into its cache, where
it then finds them. All of them have a SHA-256 checksum.
"""

import glob
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import httpx2
from filelock import FileLock, Timeout
from huggingface_hub import (
    HfApi,
    get_cached_repo_tree,
    get_session,
    get_token,
    hf_hub_url,
    hf_raise_for_status,
    snapshot_download,
)
from huggingface_hub.errors import CachedRepoTreeNotFoundError, HfHubHTTPError
from huggingface_hub.file_download import repo_folder_name
from huggingface_hub.hf_api import RepoFile

OnProgress = Callable[[int, int], None]
"""Receives the bytes on disk and in total, many times a second and while nothing arrives. What it raises ends the download."""

_READ_SECONDS = 10.0
"""How long the hub may send nothing before the connection counts as lost."""

_RETRIES = 5
"""How often a lost connection is opened again without a single new byte, after 1, 2, 4, ... seconds."""

_RETRIED_STATUSES = (408, 429, 500, 502, 503, 504)
_CHUNK = 1 << 20
_SHA256 = re.compile(r"[0-9a-f]{64}")


class DiskFull(Exception):
    """The files do not fit on the disk; the message says how much is missing."""


class Corrupt(Exception):
    """A file was received whose checksum is wrong."""


@dataclass(frozen=True)
class Selection:
    """Files of a repository at a commit."""

    repository: str
    revision: str
    files: tuple[RepoFile, ...]

    @property
    def names(self) -> list[str]:
        return [file.path for file in self.files]


def cache_directory(models_dir: Path) -> Path:
    """Return the directory of the hub's cache."""
    return models_dir / "hub"


def snapshot_directory(repository: str, revision: str, models_dir: Path) -> Path:
    """Return the directory with the files of a commit, whether it exists or not."""
    return _repository_directory(repository, models_dir) / "snapshots" / revision


def cached_files(repository: str, revision: str, models_dir: Path) -> list[RepoFile]:
    """Return the list of a commit's files as an earlier download stored it; empty without one."""
    try:
        return get_cached_repo_tree(repository, revision=revision, cache_dir=cache_directory(models_dir))
    except CachedRepoTreeNotFoundError:
        return []


def list_files(repository: str, revision: str, models_dir: Path) -> list[RepoFile]:
    """Return the list of a commit's files, from the hub if no earlier download stored it. Raises what the client raises."""
    if files := cached_files(repository, revision, models_dir):
        return files
    hub = HfApi()
    # Unlike the list, this is asked once: a wrong name, or a hub that cannot be reached, is told without delay.
    hub.model_info(repository, revision=revision, timeout=_READ_SECONDS)
    entries = hub.list_repo_tree(repository, recursive=True, revision=revision)
    return [entry for entry in entries if isinstance(entry, RepoFile)]


def select(repository: str, revision: str, files: Iterable[RepoFile], names: Iterable[str]) -> Selection:
    """Return a selection of those files that have these names."""
    chosen = set(names)
    return Selection(repository, revision, tuple(file for file in files if file.path in chosen))


def download(selections: Sequence[Selection], models_dir: Path, on_progress: OnProgress) -> None:
    """Download what is missing of these files.

    Raises what `on_progress` or the hub's client raises, `DiskFull` or `Corrupt`.
    """
    missing = [(selection, file) for selection in selections for file in _missing(selection, models_dir)]
    total = sum(file.size for selection in selections for file in selection.files)
    done = total - sum(file.size for _, file in missing)
    _check_disk(missing, models_dir)
    on_progress(done, total)
    for selection, file in missing:
        if file.lfs is not None:
            _fetch_large(selection, file, models_dir, partial(_advance, on_progress, done, total))
            done += file.size
    for selection in selections:
        snapshot_download(
            selection.repository,
            revision=selection.revision,
            cache_dir=cache_directory(models_dir),
            allow_patterns=[glob.escape(name) for name in selection.names],
        )
    on_progress(total, total)


def _advance(on_progress: OnProgress, before: int, total: int, position: int) -> None:
    on_progress(before + position, total)


def _missing(selection: Selection, models_dir: Path) -> list[RepoFile]:
    """Return the files that are neither in the directory of the commit, nor large ones that wait to be linked there."""
    directory = snapshot_directory(selection.repository, selection.revision, models_dir)
    missing = [file for file in selection.files if not (directory / file.path).is_file()]
    return [file for file in missing if file.lfs is None or not _blob(selection, file, models_dir).is_file()]


def _check_disk(missing: Sequence[tuple[Selection, RepoFile]], models_dir: Path) -> None:
    needed = 0
    for selection, file in missing:
        needed += file.size
        if file.lfs is not None:
            part = _part(_blob(selection, file, models_dir))
            needed -= part.stat().st_size if part.is_file() else 0
    models_dir.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(models_dir).free
    if needed > free:
        raise DiskFull(f"{needed / 1e9:.2f} GB are still to be fetched, and {free / 1e9:.2f} GB are free")


def _fetch_large(selection: Selection, file: RepoFile, models_dir: Path, advance: Callable[[int], None]) -> None:
    """Receive a file into the hub's cache, and continue what an earlier attempt left. `advance` receives its position."""
    blob = _blob(selection, file, models_dir)
    lock = cache_directory(models_dir) / ".locks" / blob.parents[1].name / f"{blob.name}.lock"
    for directory in (blob.parent, lock.parent):
        directory.mkdir(parents=True, exist_ok=True)
    url = hf_hub_url(selection.repository, file.path, revision=selection.revision)
    part = _part(blob)
    with _locked(lock, lambda: advance(part.stat().st_size if part.is_file() else 0)):
        if blob.is_file():
            return
        if _receive(url, part, file.size, advance) != blob.name:
            part.unlink()
            raise Corrupt(f"{file.path} was damaged on the way")
        part.replace(blob)


def _receive(url: str, part: Path, size: int, advance: Callable[[int], None]) -> str:
    """Receive what the partial file lacks of `size` bytes. Return the SHA-256 of the whole file, in hexadecimal digits."""
    with part.open("a+b") as stream:
        digest = hashlib.sha256()
        received = stream.seek(0, os.SEEK_END)
        stream.seek(0)
        while piece := stream.read(_CHUNK):
            digest.update(piece)
            advance(received)
        failures = 0
        while (begin := stream.tell()) < size:
            try:
                for piece, starts_over in _pieces(url, begin):
                    if starts_over:
                        stream.truncate(0)
                        digest = hashlib.sha256()
                    stream.write(piece)
                    digest.update(piece)
                    failures = 0
                    advance(stream.tell())
            except (httpx2.TransportError, HfHubHTTPError) as error:
                failures += 1
                if failures > _RETRIES or not _is_temporary(error):
                    raise
                _pause(2.0 ** (failures - 1), lambda: advance(stream.tell()))
            else:
                if stream.tell() == begin:
                    raise Corrupt(f"the hub sent nothing after {begin} of {size} bytes")
    return digest.hexdigest()


def _pieces(url: str, begin: int) -> Iterator[tuple[bytes, bool]]:
    """Yield the bytes from `begin`, and whether the server started over from the first byte instead."""
    headers = {"Range": f"bytes={begin}-", "Accept-Encoding": "identity"}
    if token := get_token():
        headers["Authorization"] = f"Bearer {token}"
    with get_session().stream("GET", url, headers=headers, timeout=_READ_SECONDS) as response:
        hf_raise_for_status(response)
        starts_over = begin > 0 and response.status_code == httpx2.codes.OK
        for piece in response.iter_raw():
            yield piece, starts_over
            starts_over = False


def _is_temporary(error: httpx2.HTTPError) -> bool:
    return not isinstance(error, HfHubHTTPError) or error.response.status_code in _RETRIED_STATUSES


def _pause(seconds: float, check: Callable[[], None]) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        check()
        time.sleep(0.1)


@contextmanager
def _locked(path: Path, check: Callable[[], None]) -> Iterator[None]:
    """Hold the lock that `huggingface_hub` takes for a file, too. While another process has it, call `check`."""
    lock = FileLock(path)
    while True:
        try:
            lock.acquire(timeout=0.5)
            break
        except Timeout:
            check()
    try:
        yield
    finally:
        lock.release()


def _repository_directory(repository: str, models_dir: Path) -> Path:
    return cache_directory(models_dir) / repo_folder_name(repo_id=repository, repo_type="model")


def _blob(selection: Selection, file: RepoFile, models_dir: Path) -> Path:
    if file.lfs is None or not _SHA256.fullmatch(file.lfs.sha256):
        raise Corrupt(f"{file.path} has no SHA-256 in the hub's list")
    return _repository_directory(selection.repository, models_dir) / "blobs" / file.lfs.sha256


def _part(blob: Path) -> Path:
    return blob.with_name(f"{blob.name}.incomplete")
