"""The bytes that are stored for a user: what rows say is what lies in the storage, and a limit like cost."""

from datetime import timedelta
from io import BytesIO

import pytest
from django.core.files.storage import default_storage
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from accounts.models import ApiToken, DataExport, User
from generation.engine.engine import Engine, EngineSettings
from generation.jobs import limits, queue
from generation.jobs.limits import OverLimit
from generation.library import deletion
from generation.maintenance import data_export, retention
from generation.models import Generation, RetentionRule
from generation.parameters import ErrorCode
from tests.support.execution import run_batch
from tests.support.generations import existing, files_of, make_generation, unnamed_files
from tests.support.jobs import claimed, submit, submit_at_once
from tests.support.pictures import photo

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis", "tiny_edit")]


def on_disk(user: User) -> int:
    names = [name for row in Generation.objects.filter(user=user) for name in existing(files_of(row)) if name]
    exports = DataExport.objects.filter(user=user).exclude(file="")
    return sum(map(default_storage.size, [*names, *(str(export.file.name) for export in exports)]))


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(EngineSettings(models_dir=tmp_path_factory.mktemp("models"), dtype="float32", offline=True))


@pytest.mark.django_db(transaction=True)  # pictures are stored in another thread
def test_before_the_end_a_request_counts_what_its_results_may_take(alices: ApiToken, engine: Engine) -> None:
    generation = submit(alices, num_inference_steps="1", num_images_per_prompt="2")
    reserved = limits.stored_bytes(alices.user)
    assert reserved == on_disk(alices.user) + generation.output_bytes
    run_batch(queue.claim("default", "worker-1"), engine)
    assert len(existing(files_of(Generation.objects.get()))) == 6
    assert limits.stored_bytes(alices.user) == on_disk(alices.user) < reserved


def test_what_ends_without_pictures_keeps_only_its_input(alices: ApiToken) -> None:
    running, queued = claimed(alices), submit(alices)
    queue.fail(running, ErrorCode.MODEL_FAILED, "It failed.", 0.0)
    queue.cancel(queued)
    assert limits.stored_bytes(alices.user) == on_disk(alices.user) > 0


def test_every_way_of_removing_files_frees_their_bytes(alice: User, bob: User) -> None:
    old = timezone.now() - timedelta(days=40)
    without_upload, trashed, gone, kept = (
        make_generation(alice, created=old + timedelta(minutes=number)) for number in range(4)
    )
    make_generation(bob)
    assert limits.stored_bytes(alice) == on_disk(alice)
    retention.step(RetentionRule.objects.create(what="uploads", days=30), 1)
    without_upload.refresh_from_db()
    assert (without_upload.input_bytes, without_upload.output_bytes > 0) == (0, True)
    assert limits.stored_bytes(alice) == on_disk(alice)
    before = limits.stored_bytes(alice)
    deletion.trash(Generation.objects.filter(pk=trashed.pk))
    assert limits.stored_bytes(alice) == before, "what is in the trash is still stored"
    deletion.delete(trashed)
    deletion.delete(gone)
    kept.refresh_from_db()
    assert (
        limits.stored_bytes(alice)
        == on_disk(alice)
        == without_upload.output_bytes + kept.input_bytes + kept.output_bytes
    )


def test_exports_count(alice: User) -> None:
    make_generation(alice)
    before = limits.stored_bytes(alice)
    data_export.request(alice)
    export = data_export.claim()
    assert export
    data_export.run(export, lambda: False)
    assert limits.stored_bytes(alice) == on_disk(alice) > before
    data_export.remove(DataExport.objects.get())
    assert limits.stored_bytes(alice) == before


def test_the_limit_refuses_before_anything_is_stored(alices: ApiToken, settings: Settings) -> None:
    first = submit(alices)
    needed = first.input_bytes + first.output_bytes
    settings.USER_MAX_BYTES = 2 * needed
    submit(alices)
    with pytest.raises(OverLimit) as error:
        submit(alices)
    assert error.value.code is ErrorCode.STORAGE_EXCEEDED
    assert error.value.remaining == 0
    assert error.value.headers["X-Should-Retry"] == "false"
    assert "Retry-After" not in error.value.headers
    assert "empty the trash" in error.value.message
    assert unnamed_files() == []
    deletion_order = Generation.objects.order_by("pk")
    queue.cancel(deletion_order[0])
    assert deletion.delete(deletion_order[0])
    submit(alices)


def test_a_limit_of_the_user_overrides_the_setting_and_an_upload_is_not_decoded(
    alices_token: str, alice: User, client: Client
) -> None:
    User.objects.filter(pk=alice.pk).update(max_bytes=0)
    answer = client.post(
        "/image-to-image",
        {"prompt": "make it night", "image": BytesIO(b"this is no picture")},
        headers={"Authorization": f"Bearer {alices_token}"},
    )
    assert (answer.status_code, answer.json()["detail"]["code"]) == (429, "storage_exceeded")
    User.objects.filter(pk=alice.pk).update(max_bytes=None)
    answer = client.post(
        "/image-to-image",
        {"prompt": "make it night", "image": BytesIO(photo(64, 64))},
        headers={"Authorization": f"Bearer {alices_token}"},
    )
    assert answer.status_code == 202


@pytest.mark.django_db(transaction=True)
def test_many_at_once_do_not_exceed_the_limit(alices: ApiToken, settings: Settings) -> None:
    first = submit(alices)
    settings.USER_MAX_BYTES = 5 * (first.input_bytes + first.output_bytes)
    assert submit_at_once(alices, 20) == 4
    assert limits.stored_bytes(alices.user) == settings.USER_MAX_BYTES
    assert unnamed_files() == []


@pytest.mark.skipif(connection.vendor != "sqlite", reason="asks for SQLite's plan")
def test_the_sum_reads_an_index_only(alice: User) -> None:
    with CaptureQueriesContext(connection) as queries:
        limits.stored_bytes(alice)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {queries[0]['sql']}")
        plan = [row[-1] for row in cursor.fetchall()]
    assert any("COVERING INDEX stored" in step for step in plan)
