"""Deletion of an account: deactivated at once, deleted by a job that may die at any moment, with an anonymous receipt."""

import re
from datetime import timedelta
from typing import Any

import pytest
from axes.models import AccessAttempt
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.auth import get_user
from django.contrib.contenttypes.models import ContentType
from django.core.files.storage import default_storage
from django.db import connection
from django.db.models import F
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import (
    AccountDeletion,
    ApiToken,
    DataExport,
    User,
)
from generation.images import storage
from generation.jobs import queue
from generation.library import albums, deletion, sharing
from generation.maintenance import (
    account_deletion,
    account_jobs,
    data_export,
    reaper,
)
from generation.models import (
    Album,
    AlbumEntry,
    ContactSheet,
    FileDeletion,
    GeneratedImage,
    Generation,
    IdempotencyKey,
    ReferencePicture,
    ShareLink,
    StagedFiles,
    State,
)
from generation.parameters import ErrorCode
from tests.support.generations import half_mask, make_generation, unnamed_files
from tests.support.pictures import scene

PAGE = "/settings/delete"
PASSWORD = {"password": "alice-password"}

pytestmark = pytest.mark.usefixtures("redis")


def never_stop() -> bool:
    return False


def files() -> set[str]:
    paths: set[str] = set()
    for folder in ("test", "exports"):
        try:
            folders, names = default_storage.listdir(folder)
        except FileNotFoundError:
            continue
        paths |= {f"{folder}/{name}" for name in names}
        paths |= {f"{folder}/{one}/{name}" for one in folders for name in default_storage.listdir(f"{folder}/{one}")[1]}
    return paths


@pytest.fixture
def before(db: None) -> set[str]:
    """Return the files that are stored before the account has any."""
    return files()


def create_everything(user: User) -> None:
    """Give an account one row of everything."""
    token, _ = ApiToken.objects.issue(user, "laptop")
    inputs: dict[str, Any] = {"mask": half_mask(96, 64), "references": [scene(32, 32)]}
    generation = make_generation(user, token=token, num_images_per_prompt=2, prompt="a secret picture", **inputs)
    make_generation(user, State.FAILED)
    deletion.delete(make_generation(user))
    Generation.objects.filter(pk=make_generation(user).pk).update(trashed=timezone.now())
    ShareLink.objects.create(user=generation.user, generation=generation, code="c" * 43)
    album = albums.create(user, "Best of")
    albums.add(album, [generation.pk])
    sharing.share_album(album, None, with_recipe=False)
    IdempotencyKey.objects.create(token=token, key="k", fingerprint="f", generation=generation)
    ContactSheet.objects.create(user=user, columns={})
    data_export.request(user)
    account_jobs.run_all(never_stop)


def dump_tables() -> str:
    """Return the content of all tables as text, the search index included.

    SQLite's segments of the index are left out: words of deleted rows are only marked there until segments are merged.
    """
    with connection.cursor() as cursor:
        tables = [name for name in connection.introspection.table_names(cursor) if not name.endswith("_words_data")]
        return " ".join(str(_rows(cursor, connection.ops.quote_name(table))) for table in tables)


def _rows(cursor: Any, table: str) -> Any:
    cursor.execute(f"SELECT * FROM {table}")  # noqa: S608  of the database's own names
    return cursor.fetchall()


def receipt(client: Client, address: str) -> dict[str, int]:
    page = client.get(address).content.decode()
    return {kind: int(count) for count, kind in re.findall(r"<li><strong>(\d+)</strong> ([^<]+)</li>", page)}


def test_it_works(client: Client, alice: User, bob: User, charlie: User, before: set[str]) -> None:
    bystander = make_generation(bob)
    stored = files()
    create_everything(alice)
    generation = Generation.objects.filter(user=alice, prompt="a secret picture").get()
    for thing in (generation, alice, alice.tokens.get()):
        kind = ContentType.objects.get_for_model(thing)
        LogEntry.objects.create(
            user=charlie, content_type=kind, object_id=str(thing.pk), object_repr=str(thing), action_flag=CHANGE
        )
    elsewhere = Client()
    elsewhere.force_login(alice)
    client.force_login(alice)
    page = client.get(PAGE).content.decode()
    assert "3 requests with 3 pictures" in page
    assert "1 token" in page
    answer = client.post(PAGE, PASSWORD)
    address = answer["Location"]
    assert not get_user(client).is_authenticated
    assert not get_user(elsewhere).is_authenticated
    assert "being deleted" in client.get(address).content.decode()

    assert account_jobs.run_all(never_stop)
    assert receipt(client, address) == {
        "requests": 4,
        "pictures": 3,
        "files": 3 * 2 + 2 * 3 + 2 * 2,
        "token": 1,
        "share links": 2,
        "contact sheet": 1,
        "album": 1,
        "export": 1,
        "session": 1,
        "account": 1,
    }
    assert set(User.objects.values_list("username", flat=True)) == {"bob", "charlie"}
    assert list(Generation.objects.all()) == [bystander]
    for model in (
        Album,
        AlbumEntry,
        ApiToken,
        ShareLink,
        IdempotencyKey,
        ContactSheet,
        DataExport,
        StagedFiles,
        FileDeletion,
        ReferencePicture,
        AccessAttempt,
    ):
        assert not model.objects.exists()
    assert GeneratedImage.objects.count() == 1
    assert files() == stored
    logged = " ".join(LogEntry.objects.values_list("object_repr", flat=True))
    assert LogEntry.objects.count() == 3
    assert not re.search("secret|alice|laptop", logged)
    assert not re.search("secret|alice", dump_tables())


def test_the_account_is_closed_at_once(client: Client, alice: User, alices_token: str) -> None:
    client.force_login(alice)
    client.post(PAGE, PASSWORD)
    assert ApiToken.objects.authenticate(alices_token) is None
    assert (
        "correct username and password"
        in client.post(reverse("sign-in"), {"username": "alice", **PASSWORD}).content.decode()
    )


@pytest.mark.parametrize("password", ["", "wrong"])
def test_the_password_is_required(client: Client, alice: User, password: str) -> None:
    client.force_login(alice)
    assert client.post(PAGE, {"password": password}).status_code == 200
    alice.refresh_from_db()
    assert alice.is_active
    assert not AccountDeletion.objects.exists()


def test_the_password_of_another_user_is_refused(client: Client, alice: User, bob: User) -> None:
    client.force_login(alice)
    answer = client.post(PAGE, {"username": "bob", "password": "bob-password"})
    assert "That is not your password." in answer.content.decode()
    assert get_user(client) == alice


def test_the_password_cannot_be_guessed_here_either(client: Client, alice: User, settings: Any) -> None:
    settings.AXES_FAILURE_LIMIT = 2
    client.force_login(alice)
    assert [client.post(PAGE, {"password": "wrong"}).status_code for _ in range(2)] == [200, 429]
    assert client.post(PAGE, PASSWORD).status_code == 429
    assert User.objects.get(pk=alice.pk).is_active


def test_it_requires_a_sign_in(client: Client, alice: User) -> None:
    assert client.post(PAGE, PASSWORD).status_code == 302
    assert User.objects.get(pk=alice.pk).is_active


def test_the_last_administrator_stays(client: Client, charlie: User, alice: User) -> None:
    client.force_login(charlie)
    assert "You are the last administrator" in client.get(PAGE).content.decode()
    client.post(PAGE, {"password": "charlie-password"})
    with pytest.raises(account_deletion.LastAdministrator):
        account_deletion.request(charlie)
    User.objects.create_superuser("dora", is_active=False)
    with pytest.raises(account_deletion.LastAdministrator):
        account_deletion.request(charlie)
    User.objects.filter(username="dora").update(is_active=True)
    account_deletion.request(charlie)
    assert not User.objects.get(pk=charlie.pk).is_active


def test_queued_generations_are_canceled_and_running_ones_awaited(client: Client, alice: User) -> None:
    waiting, running = make_generation(alice, State.QUEUED), make_generation(alice, State.RUNNING)
    Generation.objects.filter(pk=running.pk).update(lease_expires=timezone.now() + timedelta(minutes=1))
    account_deletion.request(alice)
    account_jobs.run_all(never_stop)
    assert not Generation.objects.filter(pk=waiting.pk).exists()
    running.refresh_from_db()
    assert running.cancel_requested
    assert not AccountDeletion.objects.get().finished
    assert not account_jobs.run_all(never_stop), "it comes back in a moment"
    running.started = None
    queue.finish_canceled(running, ErrorCode.CANCELED, 0.5)
    AccountDeletion.objects.update(lease_expires=timezone.now())
    account_jobs.run_all(never_stop)
    assert Generation.objects.exists(), "its worker still gives back what was not done"
    Generation.objects.update(finished=F("finished") - timedelta(seconds=10))
    AccountDeletion.objects.update(lease_expires=timezone.now())
    account_jobs.run_all(never_stop)
    assert AccountDeletion.objects.get().counts["generations"] == 2
    assert not User.objects.filter(pk=alice.pk).exists()


class Killed(BaseException):
    """A kill, which the job cannot handle."""


@pytest.mark.parametrize(
    ("owner", "moment"), [(storage, "discard"), (data_export, "remove"), (account_deletion, "_delete_account")]
)
def test_the_job_may_be_killed_at_any_moment(
    alice: User, before: set[str], monkeypatch: pytest.MonkeyPatch, owner: Any, moment: str
) -> None:
    create_everything(alice)
    account_deletion.request(alice)

    def kill(*_: Any, **__: Any) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(owner, moment, kill)
        with pytest.raises(Killed):
            account_jobs.run_all(never_stop)
    assert not account_jobs.run_all(never_stop), "its lease still holds"
    AccountDeletion.objects.update(lease_expires=timezone.now())
    account_jobs.run_all(never_stop)
    job = AccountDeletion.objects.get()
    assert job.finished
    assert (job.counts["generations"], job.counts["files"]) == (4, 16)
    reaper.reap(abandoned=timedelta(0))
    assert files() == before
    assert unnamed_files() == []


def test_a_job_that_lost_its_lease_changes_nothing(alice: User) -> None:
    make_generation(alice)
    account_deletion.request(alice)
    late = AccountDeletion.objects.claim()
    assert late is not None
    AccountDeletion.objects.update(lease_expires=timezone.now())
    assert AccountDeletion.objects.claim() is not None
    account_deletion.run(late, never_stop)
    assert Generation.objects.count() == 1
    assert AccountDeletion.objects.get().counts == {}


def test_a_stopping_process_leaves_the_job_to_the_next(alice: User) -> None:
    make_generation(alice)
    account_deletion.request(alice)
    job = AccountDeletion.objects.claim()
    assert job is not None
    account_deletion.run(job, lambda: True)
    assert Generation.objects.exists()
    AccountDeletion.objects.update(lease_expires=timezone.now())
    account_jobs.run_all(never_stop)
    assert AccountDeletion.objects.get().finished


def test_a_running_export_is_deleted_too(alice: User) -> None:
    data_export.request(alice)
    making = data_export.claim()
    assert making is not None
    account_deletion.request(alice)
    account_jobs.run_all(never_stop)
    before = files()
    with pytest.raises(User.DoesNotExist):
        making.user.refresh_from_db()
    data_export.run(making, never_stop)
    assert files() == before
    assert not DataExport.objects.exists()


def test_a_receipt_is_stored_for_seven_days(client: Client, alice: User) -> None:
    address = reverse("account-deleted", args=[account_deletion.request(alice).pk])
    account_jobs.run_all(never_stop)
    assert receipt(client, address) == {"account": 1}
    AccountDeletion.objects.update(finished=F("finished") - timedelta(days=7, seconds=1))
    account_jobs.run_all(never_stop)
    assert client.get(address).status_code == 404


def test_an_account_that_was_deleted_otherwise_ends_the_job(alice: User) -> None:
    account_deletion.request(alice)
    alice.delete()
    assert account_jobs.run_all(never_stop)
    assert AccountDeletion.objects.get().finished
    assert not account_jobs.run_all(never_stop)
