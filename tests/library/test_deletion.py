"""Deletion: only a tombstone without texts and pictures remains, even if a process dies or the storage is away."""

import json
import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from accounts.models import ApiToken, DataExport, User
from generation.broker.connection import redis_client
from generation.jobs import limits
from generation.library import deletion
from generation.maintenance import reaper
from generation.models import (
    ContactSheet,
    FileDeletion,
    Generation,
    IdempotencyKey,
    State,
)
from generation.models.review import Report
from generation.recipes import Recipe
from tests.support.generations import (
    existing,
    files_of,
    half_mask,
    make_generation,
    unnamed_files,
)
from tests.support.pictures import scene
from tests.support.service import (
    Service,
    generate_two,
    wait_until,
)

pytestmark = pytest.mark.usefixtures("redis")


@pytest.fixture
def api(alices_token: str) -> Client:
    return Client(headers={"Authorization": f"Bearer {alices_token}"})


def path_of(generation: Generation) -> str:
    return f"/generations/{generation.pk}"


def test_of_two_simultaneous_deletions_one_succeeds(service: Service, alices_key: str) -> None:
    with service.client(alices_key) as alice, ThreadPoolExecutor(8) as threads:
        path = f"/generations/{generate_two(alice)}"
        statuses = [response.status_code for response in threads.map(lambda _: alice.delete(path), range(8))]
    assert sorted(statuses) == [204] + [410] * 7


def test_a_deletion_is_finished_after_its_process_died(service: Service, alices_key: str) -> None:
    die_between = (
        "import os; from generation.images import storage; from generation.library import deletion; "
        "from generation.models import Generation; storage.discard = lambda names: os._exit(0); "
        "deletion.delete(Generation.objects.get(pk='{}'))"
    )
    with service.client(alices_key) as alice:
        generation_id = generate_two(alice)
        assert len(service.files_of(generation_id)) == 6
        service.manage("shell", "-v", "0", "-c", die_between.format(generation_id))
        assert alice.get(f"/generations/{generation_id}").status_code == 410
    wait_until(lambda: not service.files_of(generation_id), "the sweep")


@pytest.mark.parametrize("state", [State.SUCCEEDED, State.FAILED, State.CANCELED])
def test_a_tombstone_holds_no_words_and_no_pictures(api: Client, alices: ApiToken, charlie: User, state: State) -> None:
    words: dict[str, Any] = {
        "prompt": "zebra",
        "negative_prompt": "zebra",
        "image_url": "https://zebra.example/zebra.png",
    }
    inputs: dict[str, Any] = {"mask": half_mask(96, 64), "references": [scene(32, 32), scene(32, 48)]}
    generation = make_generation(
        alices.user, state, token=alices, num_images_per_prompt=2, flagged=[1], **inputs, **words
    )
    Generation.objects.filter(pk=generation.pk).update(
        cost=3.5,
        warnings=["zebra is no field"],
        error_message="zebra" if generation.error_code else "",
        input_credentials={"state": "foreign", "signer": "zebra"},
    )
    generation.references.update(credentials={"state": "foreign", "signer": "zebra"})
    key = IdempotencyKey.objects.create(token=alices, key="k", fingerprint="f", generation=generation, answer="zebra")
    LogEntry.objects.log_actions(charlie.pk, [generation], 2, "Canceled.")
    for image in generation.images.all():
        Report.objects.create(image=image, reason="a zebra", sender="x")
    stream = f"dreamsite:stream:{generation.pk}"
    redis_client().xadd(stream, {"prompt": "zebra"})
    names = files_of(generation)
    assert existing(names) == names
    assert len(names) == (12 if state == State.SUCCEEDED else 8)

    assert api.delete(path_of(generation)).status_code == 204
    assert existing(names) == []
    assert unnamed_files() == []
    assert not redis_client().exists(stream)
    assert "zebra" not in json.dumps(list(Generation.objects.values()), default=str)
    assert "zebra" not in json.dumps(list(generation.references.values()), default=str)
    assert "zebra" not in json.dumps(list(LogEntry.objects.values()), default=str)
    assert not Report.objects.exists()

    row = Generation.objects.get()
    assert (row.state, row.cost, row.token, row.error_code) == (state, 3.5, alices, generation.error_code)
    assert (row.input_sha256, row.created) == (generation.input_sha256, generation.created)
    assert row.deleted is not None
    assert timezone.now() - row.deleted < timedelta(seconds=10)
    assert row.get_recipe() == Recipe.model_validate(generation.recipe | {"prompt": "", "negative_prompt": ""})
    assert row.get_recipe().seeds == (1207, 1208)
    assert [(image.nsfw, image.file.name, image.thumbnail.name) for image in row.images.all()] == (
        [(False, "", ""), (True, "", "")] if state == State.SUCCEEDED else []
    )
    assert (row.mask_sha256, row.open_share) == (generation.mask_sha256, 0.5)
    assert row.input_file_names == []
    assert [reference.sha256 for reference in row.references.all()] == [f"{0:064x}", f"{1:064x}"]
    key.refresh_from_db()
    assert (key.generation, key.answer) == (row, "")


def test_a_contact_sheet_keeps_no_prompt_whose_cells_are_deleted(alice: User) -> None:
    columns, rows = {"field": "prompt", "values": ["zebra", "lion"]}, {"field": "strength", "values": ["0.2", "0.8"]}
    sheet = ContactSheet.objects.create(user=alice, columns=columns, rows=rows)
    cells = [make_generation(alice, prompt=prompt) for prompt in ("zebra", "lion", "zebra", "lion")]
    for number, cell in enumerate(cells):
        Generation.objects.filter(pk=cell.pk).update(contact_sheet=sheet, cell=number)
        cell.refresh_from_db()
    assert deletion.delete(cells[0])
    sheet.refresh_from_db()
    assert (sheet.columns, sheet.rows) == (columns, rows)
    assert deletion.delete(cells[2])
    sheet.refresh_from_db()
    assert (sheet.columns, sheet.rows) == ({"field": "prompt", "values": ["", "lion"]}, rows)
    assert deletion.delete(cells[1])
    assert deletion.delete(cells[3])
    assert not ContactSheet.objects.exists()


def test_data_exports_end_with_what_they_have(alice: User, bob: User) -> None:
    succeeded, running = DataExport.State.SUCCEEDED, DataExport.State.RUNNING
    now = timezone.now()
    DataExport.objects.create(user=alice, state=succeeded, finished=now, file="exports/a.zip")
    others = DataExport.objects.create(user=bob, state=succeeded, finished=now, file="exports/b.zip")
    export = DataExport.objects.create(user=alice, state=running, attempt=1, lease_expires=now + timedelta(minutes=1))
    assert deletion.delete(make_generation(alice))
    assert set(DataExport.objects.values_list("pk", flat=True)) == {others.pk, export.pk}
    assert not export.renew()
    assert DataExport.objects.claim() == export


def test_deleted_generations_count_for_the_limits(api: Client, alice: User, settings: Settings) -> None:
    settings.USER_MAX_PER_MINUTE = 1
    generation = make_generation(alice)
    assert api.delete(path_of(generation)).status_code == 204
    with pytest.raises(limits.OverLimit):
        limits.check(alice, 1.0)


def test_files_that_cannot_be_removed_now_are_removed_later(alice: User, settings: Settings) -> None:
    """The storage is away, first for the request, then for the reaper; both deletions stay recorded until it is back."""
    generations = [make_generation(alice) for _ in range(2)]
    names = [name for generation in generations for name in files_of(generation)]
    media_root, blocked = settings.MEDIA_ROOT, settings.DATA_DIR / "blocked"
    blocked.touch()
    settings.MEDIA_ROOT = blocked
    assert all(deletion.delete(generation) for generation in generations)
    first = FileDeletion.objects.order_by("created")[0]
    reaper.reap()
    assert FileDeletion.objects.count() == 2
    # The one that failed is tried last the next time.
    assert FileDeletion.objects.order_by("created").last() == first
    settings.MEDIA_ROOT = media_root
    assert existing(names) == names
    reaper.reap()
    assert existing(names) == []
    assert unnamed_files() == []


def test_deletion_works_without_redis(alice: User, redis_server: Any) -> None:
    generation = make_generation(alice)
    names = files_of(generation)
    redis_server.stop()
    try:
        assert deletion.delete(generation)
    finally:
        redis_server.start()
    assert existing(names) == []


def test_the_admin_shows_a_tombstone_as_one(client: Client, alice: User, charlie: User) -> None:
    generations = [
        make_generation(alice, prompt="zebra", flagged=[0]),
        make_generation(alice, State.FAILED, prompt="zebra"),
        make_generation(alice, State.CANCELED, prompt="zebra"),
    ]
    for generation in generations:
        assert deletion.delete(generation)
    client.force_login(charlie)
    page = client.get("/admin/generation/generation/").content.decode()
    assert "zebra" not in page
    assert "<img src" not in page.partition('id="result_list"')[2]
    assert len(re.findall(r"deleted 20\d\d-\d\d-\d\d \d\d:\d\d \((?:succeeded|failed|canceled)\)", page)) == 3
    assert "1 flagged" in page
    for generation in generations:
        change = client.get(f"/admin/generation/generation/{generation.pk}/change/")
        assert change.status_code == 200
        assert "deleted 20" in change.content.decode()
        assert "zebra" not in change.content.decode()
        assert "/media/" not in change.content.decode()
    form = {"action": "cancel", "confirmed": "yes", "_selected_action": [generation.pk for generation in generations]}
    answer = client.post("/admin/generation/generation/", form, follow=True).content.decode()
    assert "3 not canceled: it had ended already." in answer


def test_the_history_hides_deleted_generations(client: Client, alice: User) -> None:
    visible, deleted = make_generation(alice), make_generation(alice)
    assert deletion.delete(deleted)
    client.force_login(alice)
    page = client.get("/history/").content.decode()
    assert str(visible.pk) in page
    assert str(deleted.pk) not in page
    assert str(deleted.pk) not in client.get(f"/history/tiles?live={deleted.pk}.running").content.decode()
    assert client.get(f"/history/{deleted.pk}/").status_code == 404
