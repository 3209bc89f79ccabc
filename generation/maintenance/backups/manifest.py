"""What is in a backup: its manifest, and the list of its files.

The manifest is JSON and is written last: a backup without one is not finished.
"""

import gzip
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Literal, NamedTuple

from pydantic import AwareDatetime, BaseModel

FORMAT = 1
MANIFEST = "manifest.json"
FILE_LIST = "files.jsonl.gz"


class Entry(NamedTuple):
    """A stored file in a backup: size in bytes and SHA-256 of its content, however it is encrypted.

    `problem` is `missing` if a row names the file and it was not there, `deleted` if it was deleted while the backup was made.
    Of a file in a bucket there is no digest.
    """

    name: str
    size: int
    sha256: str = ""
    problem: str = ""


class Part(BaseModel):
    """A part of a backup: size in bytes and SHA-256 of its content, however it is encrypted."""

    size: int
    sha256: str


class Manifest(BaseModel):
    """`storage` is `files` if the backup has the files, `bucket` if it only lists them. `migrations` were applied."""

    format: int = FORMAT
    version: str
    created: AwareDatetime
    database: Literal["sqlite", "postgresql"]
    database_version: str
    migrations: list[str]
    storage: Literal["files", "bucket"]
    encrypted: bool
    files: int
    bytes: int
    missing: int
    deleted: int
    parts: dict[str, Part]

    @property
    def suffix(self) -> str:
        """What the names of its stored parts and files end with."""
        return ".age" if self.encrypted else ""


def write_list(path: Path, entries: Iterable[Entry]) -> None:
    """Write a list of files, compressed, a JSON object a line."""
    with gzip.open(path, "wt", compresslevel=5) as lines:
        for entry in entries:
            lines.write(json.dumps({key: value for key, value in entry._asdict().items() if value != ""}) + "\n")


def read_list(file: IO[bytes]) -> Iterator[Entry]:
    """Read a list of files."""
    with gzip.open(file, "rt") as lines:
        for line in lines:
            yield Entry(**json.loads(line))
