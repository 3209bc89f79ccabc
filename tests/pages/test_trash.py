"""The trash: delete, restore, and permanent deletion by the reaper."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiToken, User
from generation import display
from generation.api.responses import generation_response
from generation.library import deletion
from generation.maintenance import reaper, retention
from generation.models import (
    ContactSheet,
    GeneratedImage,
    Generation,
    ShareLink,
    State,
)
from generation.pages import trash
from tests.support.generations import make_generation, unnamed_files
from tests.support.html import squeeze

TRASH = "/trash/"

pytestmark = pytest.mark.usefixtures("redis")


@pytest.fixture
def signed_in(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def make_trashed(user: User, days: float = 0, **fields: Any) -> Generation:
    """Create a generation that was trashed this many days ago."""
    generation = make_generation(user, **fields)
    Generation.objects.filter(pk=generation.pk).update(trashed=timezone.now() - timedelta(days=days))
    return generation


def rows(generation: Generation) -> Any:
    return Generation.objects.filter(pk=generation.pk)


def delete(client: Client, generation: Generation) -> Any:
    return client.post(reverse("delete", args=[generation.pk]), follow=True)


def test_it_works(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, prompt="make it snow")
    history = squeeze(delete(signed_in, generation).content.decode())
    assert "make it snow" not in history
    assert "make it snow" in signed_in.get(TRASH).content.decode()
    assert signed_in.get(reverse("generation", args=[generation.pk])).status_code == 404

    undo = re.search(r'name="id" value="([0-9a-f-]{36})">\s*<button>Undo<', history)
    assert undo is not None
    history = signed_in.post(reverse("restore"), {"id": undo[1]}, follow=True).content.decode()
    assert "It is back in the history." in history
    assert "make it snow" in history
    assert "make it snow" not in signed_in.get(TRASH).content.decode()


def test_unfinished_generations_are_not_trashed(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, State.RUNNING)
    assert "It has not ended yet" in delete(signed_in, generation).content.decode()
    assert rows(generation).get().trashed is None


def test_trashing_is_one_update_and_idempotent(alice: User, django_assert_num_queries: Any) -> None:
    generations = [make_generation(alice, state) for state in State]
    mine = Generation.objects.filter(user=alice)
    with django_assert_num_queries(1):
        assert deletion.trash(mine) == 3
    assert deletion.trash(mine) == 0
    with django_assert_num_queries(1):
        assert deletion.restore(mine) == 3
    assert deletion.restore(mine) == 0
    assert Generation.objects.owned_by(alice).count() == len(generations)


def test_each_item_shows_its_last_day(signed_in: Client, alice: User) -> None:
    first, last = make_trashed(alice, 1.5), make_trashed(alice, 6.99)
    page = signed_in.get(TRASH).content.decode()
    for generation in (first, last):
        assert f"deleted permanently {display.last_day(rows(generation).get())}" in page
    noon = timezone.localtime().replace(hour=12)
    assert display.last_day(Generation(trashed=noon - timedelta(days=7))) == "today"
    assert display.last_day(Generation(trashed=noon - timedelta(days=6))) == "tomorrow"
    assert re.fullmatch(r"on \w{3}, \d+ \w{3}", display.last_day(Generation(trashed=noon)))


def test_all_are_restored_at_once(signed_in: Client, alice: User, bob: User) -> None:
    for _ in range(3):
        make_trashed(alice)
    bobs = make_trashed(bob)
    page = signed_in.post(reverse("restore"), {"all": "1", "next": TRASH}, follow=True)
    assert "3 are back in the history." in page.content.decode()
    assert "The trash is empty." in page.content.decode()
    assert Generation.objects.owned_by(alice).count() == 3
    assert rows(bobs).get().trashed is not None


def test_delete_now_is_permanent(signed_in: Client, alice: User) -> None:
    generation = make_trashed(alice)
    page = signed_in.post(reverse("delete-now", args=[generation.pk]), follow=True).content.decode()
    assert "It was deleted permanently." in page
    assert rows(generation).get().deleted is not None
    assert not default_storage.exists(str(generation.input))
    assert signed_in.post(reverse("delete-now", args=[generation.pk])).status_code == 404


def test_only_trashed_generations_are_deleted_permanently(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice)
    assert signed_in.post(reverse("delete-now", args=[generation.pk])).status_code == 404
    assert "The trash is empty" in signed_in.post(reverse("empty-trash"), follow=True).content.decode()
    reaper.reap()
    assert rows(generation).get().deleted is None


def test_the_reaper_empties_the_trash(signed_in: Client, alice: User, bob: User) -> None:
    mine, bobs = make_trashed(alice), make_trashed(bob)
    page = signed_in.post(reverse("empty-trash"), follow=True).content.decode()
    assert "1 is being deleted permanently" in page
    assert "make it night" not in page
    signed_in.post(reverse("restore"), {"id": str(mine.pk)})
    assert rows(mine).get().trashed is not None
    reaper.reap()
    assert rows(mine).get().deleted is not None
    assert rows(bobs).get().deleted is None


def test_the_reaper_deletes_after_a_week(alice: User) -> None:
    recent, expired = make_trashed(alice, 6.99), make_trashed(alice, 7.01, num_images_per_prompt=2)
    names = [str(expired.input), str(expired.input_thumbnail)]
    names += [str(file) for image in expired.images.all() for file in (image.file, image.thumbnail)]
    reaper.reap()
    assert rows(recent).get().deleted is None
    assert rows(expired).get().deleted is not None
    assert [name for name in names if default_storage.exists(name)] == []
    assert unnamed_files() == []


def test_permanent_deletion_removes_notes_and_share_links(alice: User) -> None:
    generation = make_trashed(alice, 8)
    sheet = ContactSheet.objects.create(user=alice, columns={"field": "prompt", "values": ["zebra"]})
    rows(generation).update(title="zebra", note="zebra", is_favourite=True, contact_sheet=sheet)
    ShareLink.objects.create(user=generation.user, generation=generation, code="c")
    child = make_generation(alice)
    Generation.objects.filter(pk=child.pk).update(source=generation.images.get())
    reaper.reap()
    row = rows(generation).get()
    assert (row.title, row.note, row.is_favourite) == ("", "", False)
    assert not ShareLink.objects.exists()
    assert not ContactSheet.objects.exists()
    # The lineage keeps a place for it.
    assert Generation.objects.get(pk=child.pk).source == GeneratedImage.objects.get(generation=row)


def test_the_api_treats_trashed_generations_as_deleted(client: Client, alice: User, alices_token: str) -> None:
    generation = make_trashed(alice)
    headers = {"Authorization": f"Bearer {alices_token}"}
    for answer in (
        client.get(f"/generations/{generation.pk}", headers=headers),
        client.get(f"/generations/{generation.pk}/images/0", headers=headers),
        client.delete(f"/generations/{generation.pk}", headers=headers),
        client.post(f"/generations/{generation.pk}/cancel", headers=headers),
    ):
        assert answer.status_code == 410
        assert answer.json()["detail"]["code"] == "deleted"
    assert client.get("/generations", headers=headers).json()["results"] == []
    assert rows(generation).get().deleted is None


def test_an_idempotency_key_of_a_trashed_generation_is_410(alices: ApiToken, alice: User, rf: Any) -> None:
    generation = make_trashed(alice, token=alices)
    assert generation_response(rows(generation).get(), rf.get("/").build_absolute_uri).status_code == 410


def test_another_user_cannot_use_the_trash(client: Client, alice: User, bob: User) -> None:
    recent, expired = make_generation(alice), make_trashed(alice)
    client.force_login(bob)
    assert delete(client, recent).status_code == 404
    assert client.post(reverse("delete-now", args=[expired.pk])).status_code == 404
    client.post(reverse("restore"), {"id": str(expired.pk)})
    client.post(reverse("restore"), {"all": "1"})
    client.post(reverse("empty-trash"))
    assert "make it night" not in client.get(TRASH).content.decode()
    assert deletion.restorable(Generation.objects.filter(pk=expired.pk)).exists()
    assert rows(recent).get().trashed is None


def test_every_address_needs_a_sign_in_and_post(client: Client, alice: User) -> None:
    generation = make_trashed(alice)
    addresses = [reverse(name) for name in ("restore", "empty-trash")]
    addresses += [reverse(name, args=[generation.pk]) for name in ("delete", "delete-now")]
    for address in (TRASH, *addresses):
        assert reverse("sign-in") in client.post(address)["Location"]
    client.force_login(alice)
    assert [client.get(address).status_code for address in addresses] == [405] * 4
    assert client.post(reverse("delete", args=[uuid4()])).status_code == 404
    assert client.post(reverse("restore"), {"id": ["x", "'"]}).status_code == 302


def test_the_page_takes_a_constant_number_of_queries(
    signed_in: Client, alice: User, monkeypatch: pytest.MonkeyPatch, django_assert_num_queries: Any
) -> None:
    monkeypatch.setattr(trash, "PAGE_SIZE", 5)
    for count in (1, 8):
        for _ in range(count):
            make_trashed(alice, num_images_per_prompt=2)
        with django_assert_num_queries(4):
            page = signed_in.get(TRASH).content.decode()
    assert page.count("Restore:") == 5
    assert 'href="?page=2">Older' in page
    last = signed_in.get(TRASH, {"page": "2"}).content.decode()
    assert last.count("Restore:") == 4
    assert 'href="?page=1">Newer' in last
    assert "Older" not in last
    assert "This page is empty." in signed_in.get(TRASH, {"page": "3"}).content.decode()
    for number in ("x", "0", "-1", "\u00b2", "9" * 50):
        page = signed_in.get(TRASH, {"page": number}).content.decode()
        assert page.count("Restore:") == 5
        assert "Newer" not in page


def test_flagged_pictures_are_blurred(signed_in: Client, alice: User) -> None:
    make_trashed(alice, flagged=[0])
    assert 'class="tile succeeded flagged"' in signed_in.get(TRASH).content.decode()
    User.objects.update(blur_flagged=False)
    assert "flagged" not in signed_in.get(TRASH).content.decode()


def test_staff_see_when_it_was_trashed(client: Client, alice: User, charlie: User) -> None:
    generation = make_trashed(alice)
    client.force_login(charlie)
    page = client.get(reverse("admin:generation_generation_change", args=[generation.pk])).content.decode()
    assert re.search(r"in the trash since 20\d\d-\d\d-\d\d \d\d:\d\d \(succeeded\)", page)


def test_generations_on_legal_hold_stay_in_the_trash(signed_in: Client, alice: User) -> None:
    on_hold, expired = make_trashed(alice, deletion.TRASH_DAYS + 2), make_trashed(alice, deletion.TRASH_DAYS + 1)
    fresh = make_trashed(alice)
    retention.hold(Generation.objects.filter(pk__in=[on_hold.pk, fresh.pk]))
    assert deletion.empty_trash() == 1
    assert [rows(one).get().deleted is None for one in (on_hold, expired)] == [True, False]
    page = signed_in.post(reverse("delete-now", args=[fresh.pk]), follow=True).content.decode()
    assert "Staff must keep this one" in page
    more = make_trashed(alice)
    page = signed_in.post(reverse("empty-trash"), follow=True).content.decode()
    assert "1 is being deleted permanently. Staff must keep 2 for now, so they stay in the trash." in page
    assert page.count("kept by staff") == 2
    assert deletion.empty_trash() == 1
    assert rows(more).get().deleted is not None
    page = signed_in.post(reverse("empty-trash"), follow=True).content.decode()
    assert "they stay in the trash. Try again later" in page
    retention.lift_hold(rows(on_hold))
    assert deletion.empty_trash() == 1
