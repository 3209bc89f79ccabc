"""Data exports: a zip of everything stored about a user, written by a job that may die at any moment."""

import io
import json
import zipfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from django.core.files.storage import default_storage
from django.db.models import F
from django.test import Client
from django.utils import timezone

from accounts.models import ApiToken, DataExport, User
from generation.images import storage
from generation.library import albums, archive, deletion, files
from generation.maintenance import (
    account_jobs,
    data_export,
    reaper,
)
from generation.models import (
    Generation,
    ShareLink,
    State,
)
from tests.support.generations import half_mask, make_generation, unnamed_files
from tests.support.pictures import scene

PAGE = "/settings/export"

pytestmark = pytest.mark.usefixtures("redis")


def never_stop() -> bool:
    return False


@pytest.fixture(autouse=True)
def no_files_left_over() -> Iterator[None]:
    yield
    assert not list((Path(settings.DATA_DIR) / "exports").glob("*"))


def download(client: Client, export: DataExport) -> bytes:
    """Return the download of the user's browser."""
    answer: Any = client.get(f"{PAGE}/{export.pk}.zip")
    assert answer.status_code == 200
    assert answer["Content-Disposition"].startswith('attachment; filename="dreamsite-')
    content: bytes = answer.getvalue()
    assert len(content) == int(answer["Content-Length"])
    return content


@pytest.mark.django_db(transaction=True)
def test_it_works(client: Client, alice: User, alices: ApiToken, tiny_edit: Any) -> None:
    inputs: dict[str, Any] = {"mask": half_mask(96, 64), "references": [scene(32, 32)]}
    generation = make_generation(alice, token=alices, num_images_per_prompt=2, **inputs)
    trashed = make_generation(alice, prompt="make it snow")
    Generation.objects.filter(pk=trashed.pk).update(trashed=timezone.now(), title="Ümläut", note="<b>")
    deleted = make_generation(alice, **inputs)
    deletion.delete(deleted)
    make_generation(alice, State.FAILED)
    ShareLink.objects.create(user=generation.user, generation=generation, code="c" * 43)
    album = albums.create(alice, "Best of")
    albums.add(album, [generation.pk])
    client.force_login(alice)
    assert "Start export" in client.get(PAGE).content.decode()
    assert client.post(PAGE)["Location"] == PAGE
    assert "Your export is queued" in client.get(PAGE).content.decode()

    assert account_jobs.run_all(never_stop)
    page = client.get(PAGE).content.decode()
    export = DataExport.objects.get()
    assert f"{PAGE}/{export.pk}.zip" in page
    assert "4 requests" in page
    with zipfile.ZipFile(io.BytesIO(download(client, export))) as archive:
        assert archive.testzip() is None
        contents = {name: json.loads(archive.read(name)) for name in archive.namelist() if name.endswith(".json")}
        pictures = {name.removeprefix("pictures/") for name in archive.namelist() if name.startswith("pictures/")}
        assert "generations.json" in archive.read("README.txt").decode()
    assert contents["account.json"]["username"] == "alice"
    assert "password" not in contents["account.json"]
    assert [token["name"] for token in contents["tokens.json"]] == ["laptop"]
    assert not {"digest", "id"} & contents["tokens.json"][0].keys()
    assert [link["generation_id"] for link in contents["share-links.json"]] == [str(generation.pk)]
    assert "code" not in contents["share-links.json"][0]
    (stored,) = contents["albums.json"]
    assert (stored["name"], stored["generations"], stored["cover"]) == ("Best of", [str(generation.pk)], None)
    recipes = contents["generations.json"]
    assert [recipe["id"] for recipe in recipes] == [str(row.pk) for row in Generation.objects.order_by("pk")]
    assert recipes[1]["title"] == "Ümläut"
    assert recipes[1]["in_trash_since"]
    assert recipes[2]["deleted"]
    files = {image["file"] for recipe in recipes for image in recipe["images"] if image["file"]}
    files |= {recipe["input"]["file"] for recipe in recipes if recipe["input"]["file"]}
    files |= {recipes[0]["mask"]["file"], recipes[0]["further_inputs"][0]["file"]}
    assert pictures == files
    assert len(pictures) == 5 + 2 + 1
    assert (recipes[2]["mask"]["file"], recipes[2]["further_inputs"][0]["file"]) == (None, None)
    assert recipes[1]["mask"] is None


def run_export(user: User) -> DataExport:
    assert data_export.request(user)
    assert account_jobs.run_all(never_stop)
    return DataExport.objects.filter(user=user).latest("pk")


def test_nobody_else_can_download_it(client: Client, alice: User, bob: User, charlie: User) -> None:
    export = run_export(alice)
    assert client.get(f"{PAGE}/{export.pk}.zip").status_code == 302
    for other in (bob, charlie):
        client.force_login(other)
        assert client.get(f"{PAGE}/{export.pk}.zip").status_code == 404
        assert str(export.pk) not in client.get(PAGE).content.decode()


def test_one_export_at_a_time(client: Client, alice: User, bob: User) -> None:
    client.force_login(alice)
    client.post(PAGE)
    assert "An export is being made already" in client.post(PAGE, follow=True).content.decode()
    assert DataExport.objects.count() == 1
    assert data_export.request(bob)


def test_a_finished_export_replaces_the_previous_one(alice: User) -> None:
    first = run_export(alice)
    data_export.request(alice)
    assert default_storage.exists(str(first.file.name))
    account_jobs.run_all(never_stop)
    assert not default_storage.exists(str(first.file.name))
    assert DataExport.objects.exclude(pk=first.pk).get().state == "succeeded"


def test_it_is_stored_for_seven_days(client: Client, alice: User) -> None:
    export = run_export(alice)
    client.force_login(alice)
    DataExport.objects.update(finished=F("finished") - timedelta(days=7, seconds=1))
    assert client.get(f"{PAGE}/{export.pk}.zip").status_code == 404
    assert "Start export" in client.get(PAGE).content.decode()
    account_jobs.run_all(never_stop)
    assert not DataExport.objects.exists()
    assert not default_storage.exists(str(export.file.name))
    assert unnamed_files() == []


class Killed(BaseException):
    """A kill, which the job cannot handle."""


@pytest.mark.parametrize("moment", ["pictures", "save", "stage"])
def test_the_job_may_be_killed_at_any_moment(alice: User, monkeypatch: pytest.MonkeyPatch, moment: str) -> None:
    for number in range(3):
        make_generation(alice, prompt=f"number {number}")
    data_export.request(alice)

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    owner: Any = {"pictures": archive, "save": default_storage, "stage": files}[moment]
    with monkeypatch.context() as patch:
        patch.setattr(owner, moment, kill)
        with pytest.raises(Killed):
            account_jobs.run_all(never_stop)
    assert not account_jobs.run_all(never_stop), "its lease still holds"
    DataExport.objects.update(lease_expires=timezone.now())
    assert account_jobs.run_all(never_stop)
    export = DataExport.objects.get()
    assert (export.state, export.attempt, export.done, export.of) == ("succeeded", 2, 3, 3)
    reaper.reap(abandoned=timedelta(0))
    assert unnamed_files() == []
    assert default_storage.exists(str(export.file.name))


def test_the_result_of_a_lost_lease_is_dropped(alice: User) -> None:
    data_export.request(alice)
    late = data_export.claim()
    assert late is not None
    DataExport.objects.update(lease_expires=timezone.now())
    account_jobs.run_all(never_stop)
    export = DataExport.objects.get()
    data_export.run(late, never_stop)
    again = DataExport.objects.get()
    assert (again.file, again.attempt, again.state) == (export.file, 2, "succeeded")
    assert not default_storage.exists(f"exports/{late.pk}-1.zip")
    assert unnamed_files() == []


def test_a_draft_of_a_dead_process_is_swept(alice: User) -> None:
    data_export.request(alice)
    export = data_export.claim()
    assert export is not None
    folder = Path(settings.DATA_DIR) / "exports"
    folder.mkdir(exist_ok=True)
    left, live = folder / f"{export.pk}-0.zip", folder / f"{export.pk}-1.zip"
    for path in (left, live):
        path.touch()
    account_jobs.run_all(never_stop)
    assert live.exists()
    assert not left.exists()
    live.unlink()


def test_a_stopping_process_releases_the_job(alice: User) -> None:
    make_generation(alice)
    data_export.request(alice)
    export = data_export.claim()
    assert export is not None
    data_export.run(export, lambda: True)
    export.refresh_from_db()
    assert (export.state, export.lease_expires) == ("queued", None)


def test_an_unavailable_storage_is_retried_and_finally_reported(
    client: Client, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_generation(alice)
    data_export.request(alice)

    def fail(name: str) -> bytes:
        raise storage.StorageFailed

    monkeypatch.setattr(storage, "read", fail)
    account_jobs.run_all(never_stop)
    export = DataExport.objects.get()
    assert (export.state, export.attempt) == ("queued", 1)
    assert export.lease_expires is not None
    DataExport.objects.update(lease_expires=None, attempt=9)
    account_jobs.run_all(never_stop)
    assert DataExport.objects.get().state == "failed"
    client.force_login(alice)
    page = client.get(PAGE).content.decode()
    assert "Your last export failed" in page
    assert "Start export" in page


def test_a_missing_picture_is_omitted(alice: User) -> None:
    generation = make_generation(alice)
    default_storage.delete(str(generation.input.name))
    export = run_export(alice)
    with default_storage.open(str(export.file.name)) as file, zipfile.ZipFile(file) as archive:
        assert len([name for name in archive.namelist() if name.startswith("pictures/")]) == 1


def test_the_page_shows_progress(client: Client, alice: User) -> None:
    for _ in range(3):
        make_generation(alice)
    data_export.request(alice)
    data_export.claim()
    DataExport.objects.update(done=2)
    client.force_login(alice)
    page = client.get(PAGE).content.decode()
    assert "2 of 3 requests." in page
    assert 'hx-trigger="every 2s"' in page
    assert '<noscript><meta http-equiv="refresh"' in page
