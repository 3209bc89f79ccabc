"""Dumps of the database while it is in use: SQLite's online backup, or PostgreSQL's pg_dump."""

import os
import re
import shutil
import sqlite3
import subprocess
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection, connections, transaction

from generation.maintenance.backups.errors import BackupFailed
from generation.maintenance.named_files import name_queries

_MIGRATIONS = "SELECT app || '.' || name FROM django_migrations ORDER BY id"
_LOCK_SECONDS = 20.0


@dataclass(frozen=True)
class Dump:
    """A dump in a file, and what was in the database at its moment: the names of stored files, and its migrations."""

    path: Path
    names: set[str]
    migrations: list[str]


def version() -> str:
    """Return the version of the database server or library."""
    with connection.cursor() as cursor:
        query = "SELECT sqlite_version()" if connection.vendor == "sqlite" else "SHOW server_version"
        return str(cursor.execute(query).fetchone()[0])


def dump(folder: Path) -> Dump:
    """Write the database to a file in this folder, as it is at one moment. Raises `BackupFailed`."""
    return _dump_sqlite(folder) if connection.vendor == "sqlite" else _dump_postgresql(folder)


def is_empty() -> bool:
    """Return whether the database has no tables."""
    return not connection.introspection.table_names()


def restore(path: Path) -> None:
    """Fill the empty database from a dump. Raises `BackupFailed`."""
    if connection.vendor == "postgresql":
        _restore_postgresql(path)
        return
    database = Path(connection.settings_dict["NAME"])
    connections.close_all()
    for suffix in ("-wal", "-shm"):
        Path(f"{database}{suffix}").unlink(missing_ok=True)
    shutil.copyfile(path, draft := database.with_name(f"{database.name}.restored"))
    draft.chmod(0o600)
    draft.replace(database)


def _dump_sqlite(folder: Path) -> Dump:
    path = folder / "database.sqlite3"
    path.touch(mode=0o600)
    try:
        return _copy_sqlite(path)
    except sqlite3.Error as error:
        raise BackupFailed(
            f"The database cannot be copied: {error}. Look at the room on the disk of {folder}."
        ) from error


def _copy_sqlite(path: Path) -> Dump:
    with (
        closing(sqlite3.connect(connection.settings_dict["NAME"], timeout=_LOCK_SECONDS)) as source,
        closing(sqlite3.connect(path)) as target,
    ):
        # All pages in one step: readers and writers go on, and none of their changes begins it anew.
        source.backup(target)
        target.execute("PRAGMA journal_mode = DELETE")
        if (found := target.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise BackupFailed(f"The database is damaged ({found}). Keep the earlier backups, and restore one of them.")
        names = {name for query in name_queries() for (name,) in target.execute(query)}
        return Dump(path, names, [name for (name,) in target.execute(_MIGRATIONS)])


def _dump_postgresql(folder: Path) -> Dump:
    path = folder / "database.dump"
    path.touch(mode=0o600)
    with transaction.atomic(), connection.cursor() as cursor:
        # Names and dump are of the same moment.
        cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        snapshot = cursor.execute("SELECT pg_export_snapshot()").fetchone()[0]
        migrations = [name for (name,) in cursor.execute(_MIGRATIONS)]
        names = {name for query in name_queries() for (name,) in cursor.execute(query)}
        _run_postgresql("pg_dump", "--format=custom", f"--snapshot={snapshot}", f"--file={path}")
    return Dump(path, names, migrations)


def _restore_postgresql(path: Path) -> None:
    _run_postgresql("pg_restore", "--single-transaction", "--exit-on-error", str(path))


def _run_postgresql(program: str, *options: str) -> None:
    """Run a program of PostgreSQL's client on the database. Raises `BackupFailed` if it is missing, too old or fails."""
    connection.ensure_connection()
    info: Any = connection.connection.info
    _check_client(program, info.server_version // 10_000)
    # Not on the command line, which other users of the machine can read.
    environment = {**os.environ, "PGPASSWORD": info.password}
    # Neither owners nor grants: the database that is restored may belong to another user.
    command = [program, "--no-owner", "--no-privileges", f"--dbname={info.dsn}", *options]
    finished = subprocess.run(command, env=environment, capture_output=True, text=True)
    if finished.returncode:
        raise BackupFailed(f"{program} failed: {_last_lines(finished.stderr)}")


def check_programs() -> None:
    """Raise `BackupFailed` if a dump of the database needs a program that is missing or too old."""
    if connection.vendor == "postgresql":
        connection.ensure_connection()
        info: Any = connection.connection.info
        _check_client("pg_dump", info.server_version // 10_000)


def _check_client(program: str, server: int) -> None:
    """Raise `BackupFailed` unless this program is installed, and at least of the server's major version."""
    advice = f"install PostgreSQL's client programs of version {server} or newer, such as Debian's postgresql-client-{server}"
    if shutil.which(program) is None:
        raise BackupFailed(f"{program} is not on the PATH: {advice}.")
    answer = subprocess.run([program, "--version"], capture_output=True, text=True).stdout
    found = re.search(r"\) (\d+)", answer)
    if found is None or int(found[1]) < server:
        raise BackupFailed(f"{program} is of version {found[1] if found else '?'}, the server of {server}: {advice}.")


def _last_lines(text: str) -> str:
    lines: Sequence[str] = [line.strip() for line in text.strip().splitlines()[-3:]]
    return " ".join(lines) or "it gave no reason."
