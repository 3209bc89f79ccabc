"""`manage.py check_files`: rows without files, files without rows, and changed files."""

import os
import time
from io import StringIO
from pathlib import Path

import pytest
from django.core.files.storage import default_storage
from django.core.management import CommandError, call_command
from pytest_django import Settings

from accounts.models import User
from generation.images import storage
from generation.library import files
from generation.maintenance import file_check
from generation.maintenance.backups import creation
from generation.maintenance.backups.place import Place
from tests.support.generations import make_generation

TWO_DAYS = 2 * 24 * 3600


@pytest.fixture(autouse=True)
def _own_storage(settings: Settings, tmp_path: Path) -> None:
    settings.MEDIA_ROOT = tmp_path / "media"
    settings.MEDIA_ROOT.mkdir()


def age(name: str) -> None:
    before = time.time() - TWO_DAYS
    os.utime(default_storage.path(name), (before, before))


def run(*arguments: str) -> str:
    output = StringIO()
    with pytest.raises(CommandError, match=r"files are named by rows.*; see above what is wrong"):
        call_command("check_files", *arguments, stdout=output)
    return output.getvalue()


def test_rows_and_files_that_agree_are_told(alice: User) -> None:
    make_generation(alice)
    output = StringIO()
    call_command("check_files", stdout=output)
    assert output.getvalue() == "4 files are named by rows; all are there, and no others.\n"


def test_a_row_without_its_file_is_found(alice: User) -> None:
    generation = make_generation(alice)
    default_storage.delete(str(generation.input.name))
    assert run() == f"1 rows name files that are not there:\n  {generation.input.name}\n"


def test_only_old_files_that_nothing_knows_are_deleted(alice: User) -> None:
    make_generation(alice)
    old, new, elsewhere = (storage.store(name, b"x") for name in ("outputs/old.png", "inputs/new.png", "mine/old.png"))
    staged, going = storage.store("outputs/staged.png", b"x"), storage.store("outputs/going.png", b"x")
    files.stage([staged])
    files.delete_later([going])
    for name in (old, elsewhere, staged, going):
        age(name)
    assert run() == f"2 files have no row:\n  {new}\n  {old}\n"
    assert run("--delete-orphans") == (f"1 files without a row were deleted:\n  {old}\n1 files have no row:\n  {new}\n")
    assert [name for name in (old, new, elsewhere, staged, going) if not default_storage.exists(name)] == [old]


def test_a_file_that_a_row_takes_meanwhile_is_not_deleted(alice: User) -> None:
    orphan = storage.store("outputs/late.png", b"x")
    age(orphan)
    found = file_check.check()
    generation = make_generation(alice)
    generation.input = orphan
    generation.save()
    assert [file.name for file in found.orphans] == [orphan]
    assert file_check.delete_orphans(found.orphans) == []


@pytest.mark.django_db(transaction=True)
def test_files_are_compared_with_those_of_a_backup(alice: User, tmp_path: Path) -> None:
    generation = make_generation(alice)
    (tmp_path / "place").mkdir()
    place = tmp_path / "place"
    creation.make(Place(str(place)), lambda: False)
    output = StringIO()
    call_command("check_files", "--against", str(place), stdout=output)
    assert "4 files are named by rows, 4 of them as the backup has them" in output.getvalue()
    Path(default_storage.path(str(generation.input.name))).write_bytes(b"something else")
    assert run("--against", str(place)) == f"1 files are not as the backup has them:\n  {generation.input.name}\n"
