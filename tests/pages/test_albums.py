"""Albums: add, take out, cover, filter; shared albums; and what happens to them when something is deleted."""

import re
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accounts.models import User
from generation.filters import HistoryFilters
from generation.images import storage
from generation.library import albums, deletion, search, sharing
from generation.models import Album, AlbumEntry, Generation, ShareLink, State
from generation.models.review import Review
from generation.moderation import review_queue, suspension
from generation.pages import shared
from tests.support.generations import make_generation
from tests.support.html import squeeze

pytestmark = pytest.mark.usefixtures("redis")

TILE = re.compile(r'id="tile-([0-9a-f-]{36})"')


@pytest.fixture
def signed_in(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


@pytest.fixture
def anonymous() -> Client:
    """A client without a session."""
    return Client()


def make_album(user: User, *generations: Generation, name: str = "Best of") -> Album:
    album = albums.create(user, name)
    albums.add(album, [generation.pk for generation in generations])
    return album


def tiles(client: Client, query: str) -> list[str]:
    answer = client.get(f"/history/?{query}")
    assert answer.status_code == 200
    return TILE.findall(answer.content.decode())


def test_pictures_are_added_to_several_albums_and_taken_out(signed_in: Client, alice: User) -> None:
    first, second, third = (make_generation(alice, prompt=f"number {number}") for number in range(3))
    form = {"id": [str(first.pk)], "unseen_id": [str(second.pk)], "new_album": "Best of", "next": "/history/"}
    page = signed_in.post(reverse("add-to-album"), form, follow=True).content.decode()
    assert "2 were added to “Best of”." in page
    best = Album.objects.get()
    other = make_album(alice, third, name="1/2")
    assert signed_in.post(reverse("add-to-album"), {"id": str(first.pk), "album": str(other.pk)}).status_code == 302
    assert tiles(signed_in, f"album={best.pk}") == [str(second.pk), str(first.pk)]
    assert tiles(signed_in, f"album={other.pk}&sort=oldest") == [str(first.pk), str(third.pk)]
    assert tiles(signed_in, f"album={best.pk}&q=1") == [str(second.pk)]
    page = signed_in.get(f"/history/?album={other.pk}").content.decode()
    assert '<summary class="chip on">1/2</summary>' in page

    again = signed_in.post(reverse("add-to-album"), {"id": str(first.pk), "album": str(best.pk)}, follow=True)
    assert "“Best of” has that already." in again.content.decode()
    taken = signed_in.post(
        reverse("remove-from-album", args=[best.pk]), {"id": str(first.pk)}, headers={"HX-Request": "true"}
    ).content.decode()
    assert f'<article id="tile-{first.pk}" hx-swap-oob="delete">' in taken
    assert "One was taken out of “Best of”." in taken
    assert tiles(signed_in, f"album={best.pk}") == [str(second.pk)]
    assert Generation.objects.owned_by(alice).count() == 3


def test_bounds_and_names(signed_in: Client, alice: User, bob: User, monkeypatch: pytest.MonkeyPatch) -> None:
    generations = [make_generation(alice) for _ in range(3)]
    make_album(bob, name="Best of")
    album = make_album(alice, generations[0])
    for address in (reverse("albums"), reverse("album", args=[make_album(alice, name="Other").pk])):
        answer = signed_in.post(address, {"name": "Best of"})
        assert answer.status_code == 422
        assert "You have an album “Best of” already." in answer.content.decode()
    for name in ("", " ", "x" * 101):
        assert signed_in.post(reverse("albums"), {"name": name}).status_code == 422
    monkeypatch.setattr(albums, "MAX_ENTRIES", 2)
    monkeypatch.setattr(albums, "MAX_ALBUMS", 2)
    form = {"id": [str(row.pk) for row in generations], "album": str(album.pk)}
    page = signed_in.post(reverse("add-to-album"), form, follow=True).content.decode()
    assert "An album holds at most 2, and “Best of” has 1. Nothing was added." in page
    assert album.entries.count() == 1
    answer = signed_in.post(reverse("add-to-album"), {"id": form["id"], "new_album": "Third"}, follow=True)
    assert "You have 2 albums, which is the most." in answer.content.decode()


def test_an_album_is_renamed_and_deleted(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice)
    album = make_album(alice, generation)
    sharing.share_album(album, None, with_recipe=False)
    address = reverse("album", args=[album.pk])
    assert "The album was renamed." in signed_in.post(address, {"name": "Worst <of>"}, follow=True).content.decode()
    assert "Worst &lt;of&gt;" in signed_in.get(reverse("albums")).content.decode()
    page = signed_in.post(reverse("delete-album", args=[album.pk]), follow=True).content.decode()
    assert "Its pictures are still in the history." in page
    for model in (Album, AlbumEntry, ShareLink):
        assert not model.objects.exists()
    assert Generation.objects.owned_by(alice).get() == generation


def test_the_cover_is_the_newest_picture_or_the_chosen_one(
    signed_in: Client, alice: User, django_assert_num_queries: Any
) -> None:
    oldest, newest = make_generation(alice), make_generation(alice)
    failed = make_generation(alice, State.FAILED)
    album = make_album(alice, oldest, newest, failed)
    make_album(alice, name="Empty")
    make_album(alice, oldest, name="Other")

    def cover() -> str:
        # Session, user, albums, covers.
        with django_assert_num_queries(4):
            page = signed_in.get(reverse("albums")).content.decode()
        first = page.partition("<strong>Best of</strong>")[0]
        return next(str(row.pk) for row in (oldest, newest) if f"test/{row.pk}/" in first)

    assert cover() == str(newest.pk)
    choose = reverse("choose-cover", args=[album.pk])
    for chosen in (newest, oldest):
        assert "It is the cover of" in signed_in.post(choose, {"id": str(chosen.pk)}, follow=True).content.decode()
        assert cover() == str(chosen.pk)
    outside = make_generation(alice)
    for wrong in (failed, outside):
        page = signed_in.post(choose, {"id": str(wrong.pk)}, follow=True).content.decode()
        assert "Choose one with a picture that is in the album." in page
    deletion.trash(Generation.objects.filter(pk=oldest.pk))
    assert cover() == str(newest.pk)
    newest.images.update(file="")
    for gone in (oldest, newest):
        assert not albums.choose_cover(album, gone.pk)
    assert album.entries.get(is_cover=True).generation == oldest


@pytest.mark.skipif(connection.vendor != "sqlite", reason="asks for SQLite's plan")
def test_an_album_is_read_without_the_rest_of_the_history(alice: User) -> None:
    album = make_album(alice, make_generation(alice))
    filters, here = HistoryFilters(album=album.pk, state=(State.SUCCEEDED,)), album.entries.get().generation_id
    for last in (None, here):
        with CaptureQueriesContext(connection) as queries:
            search.page(Generation.objects.owned_by(alice), alice.pk, filters, 48, last)
        plans = []
        with connection.cursor() as cursor:
            for query in queries.captured_queries[:2]:
                cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
                plans += [row[3] for row in cursor.fetchall()]
        assert plans[0].startswith("SEARCH generation_albumentry USING COVERING INDEX"), plans
        assert plans[1].endswith("(id=?)"), plans


def test_the_page_of_a_generation_adds_and_takes_out(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice)
    page_of = reverse("generation", args=[generation.pk])
    inside, outside = make_album(alice, generation), make_album(alice, name="Other")
    page = squeeze(signed_in.get(page_of).content.decode())
    assert "Albums<small>in 1</small>" in page
    assert f'formaction="{reverse("remove-from-album", args=[inside.pk])}" aria-label="Take out of Best of"' in page
    assert f'name="album" value="{outside.pk}" aria-label="Add to Other"' in page


def test_the_trash_and_deletion_know_albums(signed_in: Client, alice: User) -> None:
    kept, gone = make_generation(alice), make_generation(alice)
    album = make_album(alice, kept, gone)
    deletion.trash(Generation.objects.filter(pk=gone.pk))
    assert tiles(signed_in, f"album={album.pk}") == [str(kept.pk)]
    assert squeeze(signed_in.get(reverse("albums")).content.decode()).count("<small>1</small>") == 1
    deletion.restore(Generation.objects.filter(pk=gone.pk))
    assert tiles(signed_in, f"album={album.pk}") == [str(gone.pk), str(kept.pk)]
    assert deletion.delete(gone)
    assert list(album.entries.values_list("generation", flat=True)) == [kept.pk]


def test_a_shared_album_shows_its_pictures(
    signed_in: Client, alice: User, anonymous: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    several = make_generation(alice, num_images_per_prompt=2, prompt="zebra")
    other = make_generation(alice, prompt="gnu")
    Generation.objects.update(title="giraffe", note="okapi")
    album = make_album(alice, several, other)
    make_album(alice, several, name="Not shared")
    send = reverse("share-album", args=[album.pk])
    answer = signed_in.post(send, {"days": "7"}, headers={"HX-Request": "true"}).content.decode()
    link = ShareLink.objects.get()
    assert f"data-copy-now>http://testserver/s/{link.code}<" in answer
    assert link.expires is not None
    assert link.expires - link.created > timedelta(days=6)

    page = anonymous.get(f"/s/{link.code}")
    assert page["X-Robots-Tag"].startswith("noindex")
    text = page.content.decode()
    for word in ("zebra", "gnu", "giraffe", "okapi", "alice", str(several.pk), str(other.pk), str(album.pk), "/media/"):
        assert word not in text
    pictures = re.findall(r'<a href="(/s/[^"]+)"', text)
    assert len(pictures) == 3
    assert anonymous.get(pictures[1]).getvalue() == storage.read(str(several.images.get(index=0).file))
    small = anonymous.get(f"{pictures[1]}/thumbnail")
    assert (small.status_code, small["Content-Type"]) == (200, "image/webp")
    assert small["Cache-Control"] == "private, no-cache"
    assert anonymous.get(f"/s/{link.code}/preview.jpg").status_code == 200
    assert anonymous.get(f"/s/{link.code}/picture").status_code == 404
    link.refresh_from_db()
    assert link.views == 1
    monkeypatch.setattr(shared, "PAGE_SIZE", 2)
    assert anonymous.get(f"/s/{link.code}").content.decode().count("/thumbnail") == 2
    assert anonymous.get(f"/s/{link.code}?page=2").content.decode().count("/thumbnail") == 1

    with_prompts = sharing.share_album(album, None, with_recipe=True)
    assert "zebra" in anonymous.get(f"/s/{with_prompts.code}").content.decode()
    signed_in.post(reverse("revoke-link", args=[link.pk]))
    for address in (f"/s/{link.code}", pictures[1], f"{pictures[1]}/thumbnail"):
        assert anonymous.get(address).status_code == 404
    signed_in.post(reverse("remove-from-album", args=[album.pk]), {"id": str(several.pk)})
    assert "zebra" not in anonymous.get(f"/s/{with_prompts.code}").content.decode()


def test_a_shared_album_leaves_out_what_others_may_not_see(alice: User, charlie: User, anonymous: Client) -> None:
    seen, flagged, confirmed, held, trashed, deleted = (
        make_generation(alice, num_images_per_prompt=2, flagged=[1] if number == 1 else []) for number in range(6)
    )
    album = make_album(alice, seen, flagged, confirmed, held, trashed, deleted)
    link = sharing.share_album(album, None, with_recipe=False)
    entries = dict(album.entries.values_list("generation", "pk"))
    assert anonymous.get(f"/s/{link.code}").content.decode().count("/thumbnail") == 11
    confirmed.images.update(review=Review.CONFIRMED)
    Generation.objects.filter(pk=held.pk).update(legal_hold=True)
    deletion.trash(Generation.objects.filter(pk=trashed.pk))
    deletion.delete(deleted)
    assert anonymous.get(f"/s/{link.code}").content.decode().count("/thumbnail") == 3
    shown = {(seen, 0), (seen, 1), (flagged, 0)}
    for row in (seen, flagged, confirmed, held, trashed, deleted):
        for index in (0, 1):
            for part in ("", "/thumbnail"):
                status = anonymous.get(f"/s/{link.code}/{entries[row.pk]}/{index}{part}").status_code
                assert status == (200 if (row, index) in shown else 404)
    assert anonymous.get(f"/s/{link.code}/{uuid4()}/0").status_code == 404
    suspension.suspend(alice, charlie)
    assert anonymous.get(f"/s/{link.code}").status_code == 404
    assert anonymous.get(f"/s/{link.code}/{entries[seen.pk]}/0").status_code == 404


def test_an_empty_shared_album_says_so(alice: User, anonymous: Client) -> None:
    link = sharing.share_album(make_album(alice), None, with_recipe=False)
    page = anonymous.get(f"/s/{link.code}")
    assert page.status_code == 200
    assert "There are no pictures here." in page.content.decode()
    assert anonymous.get(f"/s/{link.code}/preview.jpg").status_code == 404


def test_reviewers_see_samples_of_shared_albums_first(alice: User) -> None:
    plain = make_generation(alice, sampled=[0])
    in_album = make_generation(alice, sampled=[0])
    album = make_album(alice, in_album)
    assert [image.generation for image in review_queue.waiting()] == [plain, in_album]
    sharing.share_album(album, None, with_recipe=False)
    assert [image.generation for image in review_queue.waiting()] == [in_album, plain]


def test_a_shared_album_takes_a_constant_number_of_queries(
    alice: User, anonymous: Client, django_assert_num_queries: Any
) -> None:
    album = make_album(alice)
    link = sharing.share_album(album, None, with_recipe=True)
    for _ in range(3):
        albums.add(album, [make_generation(alice).pk])
        # The link, the pictures, and one to count the view.
        with django_assert_num_queries(3):
            anonymous.get(f"/s/{link.code}")
