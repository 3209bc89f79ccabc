"""Isolation of users: every address of the pages and the API, requested by another user and without sign-in."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import DataExport, User
from generation.library import albums, sharing
from generation.maintenance import account_jobs, data_export
from generation.models import (
    Album,
    AlbumEntry,
    ContactSheet,
    DiffusionModel,
    Generation,
    ShareLink,
    State,
)
from generation.urls import urlpatterns
from tests.support.browser import needs_chromium, sign_in
from tests.support.generations import make_generation

SECRET = "alices very own words"
PUBLIC = {
    *("shared", "shared-picture", "shared-input", "shared-preview", "shared-album-picture", "shared-album-thumbnail"),
    *("report", "report-album-picture", "account-deleted"),
}
"""Addresses without sign-in: their random part gives access."""


class UserData:
    """Everything that a user can have, once."""

    def __init__(self, user: User) -> None:
        self.done = make_generation(user, prompt=SECRET, flagged=[0], num_images_per_prompt=2)
        self.live = make_generation(user, State.RUNNING, prompt=SECRET)
        self.sheet = ContactSheet.objects.create(user=user, columns={"field": "prompt", "values": [SECRET]})
        Generation.objects.filter(pk=self.done.pk).update(title=SECRET, note=SECRET, contact_sheet=self.sheet, cell=0)
        self.trashed = make_generation(user, prompt=SECRET)
        Generation.objects.filter(pk=self.trashed.pk).update(trashed=self.trashed.created)
        self.link = sharing.share(self.done, 0, None, sharing.Choices(with_recipe=True))
        self.album = albums.create(user, SECRET)
        albums.add(self.album, [self.done.pk])
        sharing.share_album(self.album, None, with_recipe=True)
        data_export.request(user)
        account_jobs.run_all(lambda: False)
        self.export = DataExport.objects.get(user=user)
        assert self.export.file

    def addresses(self) -> Iterator[tuple[str, str]]:
        """Yield each route of the pages that has parameters, as its name and an address of this user's data."""
        for pattern in urlpatterns:
            names = pattern.pattern.converters
            if not names or pattern.name in PUBLIC:
                continue
            generations = [self.done, self.live, self.trashed] if "generation_id" in names else [self.done]
            for generation in generations:
                values = {
                    "generation_id": generation.pk,
                    "contact_sheet_id": self.sheet.pk,
                    "export_id": self.export.pk,
                    "link_id": self.link.pk,
                    "album_id": self.album.pk,
                    "number": 1,
                    "extension": "png",
                }
                yield str(pattern.name), reverse(str(pattern.name), kwargs={name: values[name] for name in names})

    def state(self) -> list[Any]:
        """Return everything that another user could have changed."""
        fields = ("pk", "state", "cancel_requested", "trashed", "deleted", "title", "note", "is_favourite")
        rows: list[Any] = list(Generation.objects.order_by("pk").values_list(*fields))
        return [
            *rows,
            *ShareLink.objects.values_list("pk", "revoked"),
            *ContactSheet.objects.values_list("pk"),
            *Album.objects.values_list("pk", "name"),
            *AlbumEntry.objects.values_list("pk", "is_cover"),
        ]

    def marks(self) -> list[str]:
        """Return texts that only pages with this user's data contain."""
        ids = [self.done.pk, self.live.pk, self.trashed.pk, self.sheet.pk, self.export.pk, self.album.pk]
        return [SECRET, self.link.code, *map(str, ids)]


@pytest.fixture
def alices_data(alice: User, redis: None, tiny_edit: DiffusionModel) -> UserData:
    return UserData(alice)


def test_every_address_of_a_user_is_404_for_others(client: Client, alices_data: UserData, bob: User) -> None:
    before = alices_data.state()
    client.force_login(bob)
    names = set()
    for name, address in alices_data.addresses():
        names.add(name)
        answers = {client.get(address).status_code, client.post(address, {"next": "/", "action": "delete"}).status_code}
        assert answers in ({404}, {404, 405}), address
    assert {
        "generation",
        "job",
        "events",
        "download",
        "share",
        "revoke-link",
        "album",
        "share-album",
        "sheet-cells",
        "export-file",
    } <= names
    client.logout()
    for name, address in alices_data.addresses():
        for answer in (client.get(address), client.post(address)):
            assert answer.status_code in (302, 403, 404, 405), (name, address)
            assert "Location" not in answer.headers or answer["Location"].startswith(reverse("sign-in"))
    assert alices_data.state() == before


def test_no_page_shows_data_of_others(client: Client, alices_data: UserData, bob: User) -> None:
    make_generation(bob, prompt="bobs words")
    client.force_login(bob)
    done, live, sheet = alices_data.done.pk, alices_data.live.pk, alices_data.sheet.pk
    bobs = Generation.objects.get(user=bob)
    for address in (
        "/",
        "/history/",
        "/history/?q=words",
        "/history/?seed=1207",
        "/history/?flagged=true",
        f"/history/?sheet={sheet}",
        f"/history/?album={alices_data.album.pk}",
        f"/history/matching?album={alices_data.album.pk}",
        "/albums/",
        "/links/",
        f"/history/tiles?live={live}.queued&live={done}.running",
        f"/history/{bobs.pk}/?with={done}.0",
        "/trash/",
        "/usage/",
        "/usage/?by=images&days=90",
        "/tokens/",
        "/settings/",
        "/settings/export",
    ):
        answer = client.get(address)
        assert answer.status_code == 200, address
        page = answer.content.decode()
        # The page may repeat what is in its own address.
        assert [mark for mark in alices_data.marks() if mark in page and mark not in address] == [], address
    used = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", client.get("/usage/").content.decode()))
    assert "1 request in the last 30 days" in used


def test_forms_cannot_refer_to_generations_of_others(client: Client, alices_data: UserData, bob: User) -> None:
    before = alices_data.state()
    client.force_login(bob)
    done, trashed = str(alices_data.done.pk), str(alices_data.trashed.pk)
    for verb in ("favourite", "not-favourite", "delete"):
        client.post(reverse("selection"), {"action": verb, "id": [done, trashed]})
    zipped = b"".join(client.post(reverse("selection"), {"action": "download", "id": done}))
    assert done.encode() not in zipped
    assert SECRET.encode() not in zipped
    assert client.post(reverse("add-to-album"), {"id": done, "album": str(alices_data.album.pk)}).status_code == 404
    client.post(reverse("add-to-album"), {"id": [done, trashed], "new_album": "bobs"})
    assert not AlbumEntry.objects.filter(album__user=bob).exists()
    Album.objects.filter(user=bob).delete()
    for fields in ({"id": [done, trashed]}, {"all": "1"}):
        client.post(reverse("restore"), fields)
    client.post(reverse("empty-trash"))
    for query in (f"from={done}", f"source={done}&image=0"):
        assert client.get(f"/?{query}&mode=remix").status_code == 404
        fields = {"prompt": "x", **dict(part.split("=") for part in query.split("&"))}
        assert client.post("/", fields).status_code == 404
        assert client.post(reverse("estimate"), fields).status_code == 404
    assert alices_data.state() == before


def test_a_token_gives_no_access_to_others(client: Client, alices_data: UserData, bob: User, bobs_token: str) -> None:
    headers = {"Authorization": f"Bearer {bobs_token}"}
    for generation in (alices_data.done, alices_data.live, alices_data.trashed):
        base = f"/generations/{generation.pk}"
        for address in (base, f"{base}/images/0", f"{base}/events"):
            assert client.get(address, headers=headers).status_code == 404, address
        assert client.delete(base, headers=headers).status_code == 404
        assert client.post(f"{base}/cancel", headers=headers).status_code == 404
    assert client.get("/generations", headers=headers).json()["results"] == []


def test_files_need_a_signature(client: Client, alices_data: UserData, bob: User) -> None:
    client.force_login(bob)
    image = alices_data.done.images.get(index=0)
    for file in (image.file, image.thumbnail, alices_data.done.input, alices_data.done.input_thumbnail):
        assert client.get(file.url).status_code == 200
        address, _, signed = file.url.partition("?")
        assert client.get(address).status_code == 404
        other = make_generation(bob).input.url.partition("?")[2]
        assert client.get(f"{address}?{other}").status_code == 404
        assert signed != other


@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_two_users_on_two_hosts(browser: Browser, live_server: LiveServer, redis: None, alice: User, bob: User) -> None:
    hers = UserData(alice)
    pages: dict[str, Page] = {}
    for name in ("alice", "bob"):
        pages[name] = browser.new_context(viewport={"width": 1440, "height": 900}).new_page()
        pages[name].goto(f"{live_server.url}/history/")
        sign_in(pages[name], name)
    expect(pages["alice"].locator(".tile")).to_have_count(2)
    expect(pages["bob"].get_by_role("heading", name="Your pictures will appear here")).to_be_visible()
    for address in (f"/history/{hers.done.pk}/", f"/history/{hers.done.pk}/?sharing", f"/sheets/{hers.sheet.pk}/"):
        pages["alice"].goto(f"{live_server.url}{address}")
        expect(pages["alice"].get_by_text(SECRET).first).to_be_visible()
        pages["bob"].goto(f"{live_server.url}{address}")
        expect(pages["bob"].locator("main .number")).to_have_text("404")
    pages["bob"].goto(f"{live_server.url}/trash/")
    expect(pages["bob"].get_by_text("The trash is empty.")).to_be_visible()
    pages["bob"].goto(f"{live_server.url}/settings/export")
    expect(pages["bob"].get_by_role("link", name="Download")).to_have_count(0)
    for page in pages.values():
        page.context.close()
