"""Backups: made beside a running service, restored into an empty one, encrypted, pruned, and scheduled."""

import os
import runpy
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pyrage
import pytest
from django.conf import settings as django_settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from dreamsite.management.commands.backup import absolute
from generation.jobs.periodic import periodically
from generation.library import deletion
from generation.maintenance.backups import creation, database, jobs
from generation.maintenance.backups.creation import Made, file_list
from generation.maintenance.backups.errors import BackupFailed, Interrupted
from generation.maintenance.backups.manifest import Entry
from generation.maintenance.backups.place import FILES, Place
from generation.maintenance.backups.restoration import restore
from generation.models import Backup, Generation
from generation.staff.operations import alerts
from tests.support.environment import ROOT
from tests.support.generations import files_of, make_generation
from tests.support.servers import free_port, s3_server
from tests.support.service import WAIT_SECONDS, Service, post, submit, wait_until

PASSPHRASE = "correct horse battery staple"


def never() -> bool:
    return False


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(str(tmp_path))


def entries(place: Place, made: Made) -> dict[str, Entry]:
    return {entry.name: entry for entry in file_list(place, made.name)}


def input_of(generation: Generation) -> str:
    return str(generation.input.name)


def make_next(place: Place, keep: int = 0) -> Made:
    """Make a backup whose name, a time in seconds, is not that of the one before."""
    made: list[Made] = []

    def is_made() -> bool:
        if f"{timezone.now():%Y%m%dT%H%M%SZ}" in place.folders():
            return False
        made.append(creation.make(place, never, keep))
        return True

    wait_until(is_made, "the next second")
    return made[0]


# A whole service


def test_a_backup_of_a_running_service_restores_rows_files_and_answers(service: Service, tmp_path: Path) -> None:
    finished = post(service, steps=1).json()
    before = {"created_before": timezone.now().isoformat()}
    (tmp_path / "place").mkdir()
    (tmp_path / "passphrase").write_text(f"{PASSPHRASE}\n")
    backup = (str(tmp_path / "place"), "--passphrase-file", str(tmp_path / "passphrase"))
    with periodically("load", 0.5, lambda: submit(service, steps=1)):
        assert "encrypted" in service.manage("backup", *backup)
    with service.client() as client:
        answer = client.get("/generations", params=before)

    new = tmp_path / "new"
    environment = {**service.environment, "DATA_DIR": str(new), "REDIS_URL": f"unix://{service.data_dir}/redis.sock"}
    restored = manage(environment, "restore", *backup)
    assert "3 secret keys" in restored.stdout
    refused = manage(environment, "restore", *backup)
    assert (refused.returncode, "The database is not empty" in refused.stderr) == (1, True)

    assert (new / "secret_key").stat().st_mode & 0o777 == 0o600
    for key in ("secret_key", "url_secret_key", "watermark_key"):
        assert (new / key).read_text() == (service.data_dir / key).read_text()
    id_ = finished["id"].replace("-", "")
    for table, column in (("generation_generation", "id"), ("generation_generatedimage", "generation_id")):
        query = f"SELECT * FROM {table} WHERE {column} = ?"  # noqa: S608
        with closing(sqlite3.connect(new / "db.sqlite3")) as rows:
            assert rows.execute(query, (id_,)).fetchall() == service.query(query, id_) != []
    for path in service.files_of(finished["id"]):
        assert (new / "media" / path.relative_to(service.data_dir / "media")).read_bytes() == path.read_bytes()
    with web_process(environment) as url, httpx.Client(base_url=url, timeout=WAIT_SECONDS) as client:
        client.headers["Authorization"] = f"Bearer {service.token}"
        assert without_addresses(client.get("/generations", params=before)) == without_addresses(answer) != []
        image = client.get(f"/generations/{finished['id']}").json()["images"][0]
        assert client.get(image["url"]).content == httpx.get(finished["images"][0]["url"]).content
    assert manage(environment, "check_files").returncode == 0


def without_addresses(response: httpx.Response) -> list[Any]:
    """Return the ids, states and seeds of a list of records; addresses have another port and expiry."""
    assert response.status_code == 200, response.text
    rows = response.json()["results"]
    return [(row["id"], row["state"], [image["seed"] for image in row["images"]]) for row in rows]


def manage(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


@contextmanager
def web_process(environment: dict[str, str]) -> Iterator[str]:
    """Run `manage.py web` with this environment within this context. Yields its URL."""
    port = free_port()

    def answers() -> bool:
        try:
            return httpx.get(f"http://127.0.0.1:{port}/health").status_code == 200
        except httpx.TransportError:
            return False

    command = [sys.executable, "manage.py", "web"]
    with subprocess.Popen(command, cwd=ROOT, env={**environment, "PORT": str(port)}) as process:
        try:
            wait_until(answers, "the start of the web process")
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


# What is copied, recorded and kept


@pytest.mark.django_db(transaction=True)
def test_files_are_copied_once_and_what_is_not_there_is_recorded(place: Place, alice: User) -> None:
    kept, lost = make_generation(alice), make_generation(alice)
    default_storage.delete(input_of(lost))
    first = creation.make(place, never)
    assert entries(place, first)[input_of(lost)].problem == "missing"
    assert first.manifest.missing == 1
    assert "1 file that a row names is missing" in first.problem
    assert first.copied == first.manifest.files == len(set(files_of(kept) + files_of(lost)) - {""}) - 1

    with place.open(f"{FILES}/{input_of(kept)}") as copy, default_storage.open(input_of(kept)) as file:
        assert copy.read() == file.read()
    # A file that its place has lost is copied again.
    place.delete(f"{FILES}/{input_of(kept)}")
    make_generation(alice)
    second = make_next(place)
    assert second.copied == 1 + 4
    assert [one for one in files_of(kept) if not place.storage.exists(f"{FILES}/{one}")] == []


@pytest.mark.django_db(transaction=True)
def test_what_is_deleted_while_a_backup_is_made_is_no_problem(
    place: Place, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    generation = make_generation(alice)
    name = input_of(generation)
    dump = database.dump

    def then_delete(folder: Path) -> database.Dump:
        dumped = dump(folder)
        deletion.delete(generation)
        return dumped

    monkeypatch.setattr(database, "dump", then_delete)
    made = creation.make(place, never)
    assert entries(place, made)[name].problem == "deleted"
    assert (made.manifest.missing, made.problem) == (0, "")
    with place.open(f"{made.name}/database.sqlite3") as file:
        snapshot = place.storage.path(file.name)
    with closing(sqlite3.connect(snapshot)) as rows:
        assert rows.execute("SELECT input FROM generation_generation").fetchall() == [(name,)]


@pytest.mark.django_db(transaction=True)
def test_old_backups_go_with_their_files_and_deleted_words_with_them(place: Place, alice: User) -> None:
    gone, kept = make_generation(alice, prompt="a secret garden"), make_generation(alice)
    name = input_of(gone)
    first = creation.make(place, never, keep=1)
    deletion.delete(gone)
    # A backup that was broken off.
    (Path(place.address) / "20200101T000000Z").mkdir()
    second = make_next(place, keep=1)
    assert place.folders() == place.names() == [second.name] != [first.name]
    assert not place.storage.exists(f"{FILES}/{name}")
    assert place.storage.exists(f"{FILES}/{input_of(kept)}")
    assert not any(b"secret garden" in path.read_bytes() for path in Path(place.address).rglob("*") if path.is_file())


@pytest.mark.django_db(transaction=True)
def test_nothing_is_deleted_that_is_no_backup(place: Place, alice: User) -> None:
    make_generation(alice)
    for name in ("photos/2024/sea.jpg", "site/manifest.json", "files/letter.txt"):
        place.storage.save(name, ContentFile(b"somebody else's"))
    with pytest.raises(BackupFailed, match="has files of no backup"):
        creation.make(place, never, keep=1)
    place.storage.delete("files/letter.txt")
    creation.make(place, never, keep=1)
    made = make_next(place, keep=1)
    assert place.folders() == [made.name]
    assert {*place.stored("photos"), *place.stored("site")} == {"photos/2024/sea.jpg", "site/manifest.json"}


@pytest.mark.django_db(transaction=True)
def test_backups_to_two_places_at_once_leave_each_other_alone(place: Place, alice: User, tmp_path: Path) -> None:
    generation = make_generation(alice)
    (django_settings.DATA_DIR / "backup-draft-of-the-dead").mkdir()
    others: list[Made] = []

    def make_another() -> bool:
        if not others:
            (tmp_path / "other").mkdir()
            others.append(creation.make(Place(str(tmp_path / "other")), never))
        return False

    made = creation.make(place, make_another)
    assert input_of(generation) in entries(place, made)
    assert len(others) == 1
    assert list(django_settings.DATA_DIR.glob("backup-draft-*")) == []


@pytest.mark.django_db(transaction=True)
def test_a_process_that_stops_leaves_no_finished_backup(place: Place, alice: User) -> None:
    make_generation(alice)
    with pytest.raises(Interrupted):
        creation.make(place, lambda: True)
    assert place.names() == []
    assert list(django_settings.DATA_DIR.glob("backup-draft-*")) == []


@pytest.mark.django_db(transaction=True)
def test_an_encrypted_backup_can_be_read_with_its_passphrase_alone(tmp_path: Path, alice: User) -> None:
    generation = make_generation(alice, prompt="a secret garden")
    place = Place(str(tmp_path), PASSPHRASE)
    made = creation.make(place, never)
    stored = [path for path in tmp_path.rglob("*") if path.is_file()]
    plain = [path.name for path in stored if not path.read_bytes().startswith(b"age-encryption.org/v1\n")]
    assert plain == ["manifest.json"]
    assert {path.stat().st_mode & 0o777 for path in stored} == {0o600}

    # As the program `age` reads it: the passphrase opens the identity, the identity everything else.
    identity = pyrage.passphrase.decrypt((tmp_path / "identity.age").read_bytes(), PASSPHRASE).decode()
    sealed = (tmp_path / made.name / "database.sqlite3.age").read_bytes()
    opened = pyrage.decrypt(sealed, [pyrage.x25519.Identity.from_str(identity.strip())])
    assert b"a secret garden" in opened

    with Place(str(tmp_path), PASSPHRASE).open(f"{FILES}/{input_of(generation)}.age") as file:
        assert file.read() == default_storage.open(input_of(generation)).read()
    for damaged in (sealed[:-1], b"something else"):
        (tmp_path / made.name / "database.sqlite3.age").write_bytes(damaged)
        with (
            pytest.raises(BackupFailed, match=r"database\.sqlite3\.age is damaged"),
            place.open(f"{made.name}/database.sqlite3.age"),
        ):
            pass
    with pytest.raises(BackupFailed, match="are encrypted: give the passphrase"):
        Place(str(tmp_path))
    with pytest.raises(BackupFailed, match="The passphrase is not that of"):
        Place(str(tmp_path), "another long passphrase")


def test_places_that_cannot_be_are_refused(tmp_path: Path, settings: Settings) -> None:
    settings.S3_BUCKET = "pictures"
    for address, passphrase, reason in (
        (str(tmp_path / "unmounted"), "", "There is no directory"),
        (str(settings.MEDIA_ROOT), "", "is in the directory of the pictures"),
        ("s3://pictures/backups", "", "is the bucket of the pictures"),
        ("s3:///backups", "", "names no bucket"),
        (str(tmp_path), "short", "less than 12 characters"),
    ):
        Path(settings.MEDIA_ROOT).mkdir(exist_ok=True)
        with pytest.raises(BackupFailed, match=reason):
            Place(address, passphrase)


# Restoration


@pytest.mark.django_db(transaction=True)
def test_a_backup_that_does_not_fit_is_refused(
    place: Place, alice: User, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    with pytest.raises(BackupFailed, match="There is no finished backup"):
        restore(place)
    made = creation.make(place, never)
    with pytest.raises(BackupFailed, match="The database is not empty"):
        restore(place)
    with pytest.raises(BackupFailed, match=f"no finished backup 2020 .* there are {made.name}"):
        restore(place, "2020")
    monkeypatch.setattr(database, "is_empty", lambda: True)
    make_generation(alice)
    with pytest.raises(BackupFailed, match=r"is not empty\. Restore into an empty one"):
        restore(place)
    for fields, reason in (
        ({"version": "99.0.0"}, "of a newer version, 99.0.0"),
        ({"migrations": ["generation.9999_later"]}, "of a newer version"),
        ({"database": "postgresql"}, "of PostgreSQL, and this database is SQLite"),
        ({"storage": "bucket"}, "set S3_BUCKET"),
        ({"format": 2}, "of a newer version"),
    ):
        place.write_manifest(made.name, made.manifest.model_copy(update=fields))
        with pytest.raises(BackupFailed, match=reason):
            restore(place)
    place.storage.save(f"{made.name}/manifest.json", default_storage.open(input_of(Generation.objects.get())))
    with pytest.raises(BackupFailed, match="is damaged; choose another backup"):
        restore(place)


@pytest.mark.django_db(transaction=True)
def test_damage_is_noticed(place: Place, alice: User, tmp_path: Path) -> None:
    kept, damaged, lost = (make_generation(alice) for _ in range(3))
    made = creation.make(place, never)
    Path(place.storage.path(f"{FILES}/{input_of(damaged)}")).write_bytes(b"something else")
    place.delete(f"{FILES}/{input_of(lost)}")
    environment = {**os.environ, "DATA_DIR": str(tmp_path / "new"), "MODELS_OFFLINE": "on"}
    finished = manage(environment, "restore", place.address)
    assert finished.returncode == 1
    assert "2 files are missing or damaged" in finished.stderr
    assert input_of(damaged) in finished.stderr
    assert (tmp_path / "new" / "media" / input_of(kept)).exists()

    shutil.rmtree(tmp_path / "new")
    Path(place.storage.path(f"{made.name}/database.sqlite3")).write_bytes(b"something else")
    finished = manage(environment, "restore", place.address)
    assert (finished.returncode, "its digest is not that of the manifest" in finished.stderr) == (1, True)
    assert not (tmp_path / "new" / "media").exists(), "so it can be tried again with another backup"
    with closing(sqlite3.connect(tmp_path / "new" / "db.sqlite3")) as rows:
        assert rows.execute("SELECT count(*) FROM sqlite_master").fetchall() == [(0,)]


# In a bucket


@pytest.mark.django_db(transaction=True)
def test_a_bucket_is_a_place_too(alice: User, settings: Settings) -> None:
    gone, kept = make_generation(alice), make_generation(alice)
    with s3_server() as s3:
        settings.S3_OPTIONS = settings.S3_OPTIONS | {
            "endpoint_url": s3.url,
            "access_key": s3.access_key,
            "secret_key": s3.secret_key,
        }
        place = Place(f"s3://{s3.backups}/of/dreamsite")
        creation.make(place, never, keep=1)
        deletion.delete(gone)
        made = make_next(place, keep=1)
        assert (made.copied, place.names(), place.folders()) == (0, [made.name], [made.name])
        assert {name.removeprefix(f"{FILES}/") for name in place.stored(FILES)} == set(files_of(kept)) - {""}
        with place.open(f"{FILES}/{input_of(kept)}") as file:
            assert file.read() == default_storage.open(input_of(kept)).read()
        settings.S3_OPTIONS = settings.S3_OPTIONS | {"secret_key": "not the secret"}
        with pytest.raises(BackupFailed, match=r"cannot be used: .*403"):
            Place(f"s3://{s3.backups}/of/dreamsite")


# The schedule


@pytest.mark.django_db(transaction=True)
def test_the_reaper_makes_a_backup_when_it_is_due(tmp_path: Path, settings: Settings) -> None:
    jobs.run_due(never)
    assert not Backup.objects.exists()
    settings.BACKUP_TO, settings.BACKUP_HOURS = str(tmp_path), 24.0
    jobs.run_due(never)
    jobs.run_due(never)
    backup = Backup.objects.get()
    assert (backup.name, backup.problem) == (*Place(str(tmp_path)).names(), "")
    assert backup.finished
    Backup.objects.update(created=timezone.now() - timedelta(hours=25))
    wait_until(lambda: f"{timezone.now():%Y%m%dT%H%M%SZ}" != backup.name, "the next second")
    jobs.run_due(never)
    assert Backup.objects.exclude(finished=None).count() == 2


@pytest.mark.django_db(transaction=True)
def test_one_process_makes_the_backup_of_a_place(tmp_path: Path) -> None:
    jobs.claim(str(tmp_path))
    with pytest.raises(BackupFailed, match="is being made already"):
        jobs.claim(str(tmp_path))
    Backup.objects.update(lease_expires=timezone.now() - timedelta(seconds=1))
    assert jobs.claim(str(tmp_path)).attempt == 2


@pytest.mark.parametrize("name", ["place/", "place", "link"])
def test_the_place_of_the_settings_is_named_as_by_the_command(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "place")
    monkeypatch.setenv("BACKUP_TO", f"{tmp_path}/{name}")
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "data"))
    place = runpy.run_path(str(ROOT / "dreamsite" / "settings.py"))["BACKUP_TO"]
    assert place == absolute(f"{tmp_path}/{name}") == str(tmp_path / "place")


@pytest.mark.django_db(transaction=True)
def test_backups_that_fail_or_are_late_need_attention(tmp_path: Path, settings: Settings) -> None:
    def texts() -> list[str]:
        found = [alert.text.replace("\xa0", " ") for alert in alerts.alerts(None, [], [])]
        return [text for text in found if "backup" in text]

    settings.BACKUP_TO = str(tmp_path / "disk")
    assert texts() == []
    jobs.run_due(never)
    (text,) = texts()
    assert text.startswith("There is no backup, and the next one fails: There is no directory")
    (tmp_path / "disk").mkdir()
    # It is tried again after a while; a command tries at once.
    jobs.run_due(never)
    assert not Backup.objects.exclude(finished=None).exists()
    jobs.run(jobs.claim(settings.BACKUP_TO), "", 0, never)
    assert texts() == []
    Backup.objects.update(created=timezone.now() - timedelta(hours=2 * settings.BACKUP_HOURS + 1))
    (text,) = texts()
    assert text.startswith("The last backup is 2 days, 1 hour old; BACKUP_HOURS is 24.")
    Backup.objects.update(created=timezone.now(), problem="1 file that a row names is missing.")
    assert texts() == ["The last backup is incomplete: 1 file that a row names is missing."]
