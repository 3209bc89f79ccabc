"""`manage.py rehearse_upgrade`: a new version is tried on the last backup, beside the service."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

from tests.support.environment import ROOT
from tests.support.service import migrated_database

OLD_SCHEMA = """
DROP TABLE django_session;
DELETE FROM django_migrations WHERE app = 'sessions';
DROP TABLE generation_referencepicture;
UPDATE generation_diffusionmodel SET enabled = FALSE WHERE id <> 'dreamsite/tiny-edit';
"""
"""What this version adds to an older one, in place of real migrations; one model, so that one picture is made."""


def run(data_dir: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "DATA_DIR": str(data_dir), "MODELS_OFFLINE": "on", "THREADS": "1"}
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def change(data_dir: Path, sql: str) -> None:
    with closing(sqlite3.connect(data_dir / "db.sqlite3")) as database:
        database.executescript(sql)


def test_the_last_backup_is_migrated_and_makes_pictures_beside_the_service(tmp_path: Path) -> None:
    data_dir, place = tmp_path / "data", tmp_path / "place"
    data_dir.mkdir()
    place.mkdir()
    shutil.copy(migrated_database(), data_dir)
    change(data_dir, OLD_SCHEMA)
    assert run(data_dir, "backup", str(place)).returncode == 0
    before = {path: path.read_bytes() for path in data_dir.iterdir() if path.is_file()}

    finished = run(data_dir, "rehearse_upgrade", str(place))
    assert finished.returncode == 0, finished.stdout + finished.stderr
    assert "Applying sessions.0001_initial... OK" in finished.stdout
    assert "dreamsite/tiny-edit: 451 x 300 in " in finished.stdout
    assert finished.stdout.endswith("The upgrade can be done: nothing failed.\n")
    assert {path: path.read_bytes() for path in data_dir.iterdir() if path.is_file()} == before
    assert not list(data_dir.glob("rehearsal-*"))

    # A table that a migration would create is there already.
    change(data_dir, "DELETE FROM django_migrations WHERE app = 'contenttypes'")
    assert run(data_dir, "backup", str(place), "--keep", "1").returncode == 0
    failed = run(data_dir, "rehearse_upgrade", str(place))
    assert failed.returncode == 1
    assert "The upgrade would fail: migrate ended with status 1" in failed.stderr
    assert "pictures" not in failed.stdout
