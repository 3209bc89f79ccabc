"""Share links: create, open anonymously, expire and revoke; and what they do not disclose."""

import re
from datetime import timedelta
from io import BytesIO
from typing import Any

import pytest
from django.core.files.storage import default_storage
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from PIL import Image, ImageChops, ImageStat

from accounts.models import User
from generation.images import storage
from generation.library import deletion, sharing
from generation.library.sharing import Choices
from generation.models import Generation, ShareLink, State
from generation.models.review import Review
from generation.moderation import suspension
from tests.support.generations import make_generation
from tests.support.html import squeeze
from tests.support.pictures import scene

DAY = timedelta(days=1)

pytestmark = pytest.mark.usefixtures("redis")


@pytest.fixture
def signed_in(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


@pytest.fixture
def anonymous() -> Client:
    """A client without a session."""
    return Client()


def create_link(client: Client, generation: Generation, **fields: str) -> Any:
    form = {"picture": "1", "days": "7"} | fields
    return client.post(reverse("share", args=[generation.pk]), form, follow=True)


def link_to(generation: Generation, index: int = 0, *, lasts: timedelta | None = DAY, **choices: bool) -> str:
    return f"/s/{sharing.share(generation, index, lasts, Choices(**choices)).code}"


def test_it_works(signed_in: Client, alice: User, anonymous: Client) -> None:
    generation = make_generation(alice, num_images_per_prompt=2, prompt="zebra")
    page = create_link(signed_in, generation, picture="2", days="1").content.decode()
    link = ShareLink.objects.get()
    assert (link.index, link.with_recipe) == (1, False)
    assert link.expires is not None
    assert timedelta(hours=23) < link.expires - timezone.now() <= DAY
    assert f"http://testserver/s/{link.code}" in page
    assert 'id="share" open' in page

    answer = anonymous.get(f"/s/{link.code}")
    assert answer.status_code == 200
    picture = anonymous.get(f"/s/{link.code}/picture")
    assert picture.getvalue() == storage.read(str(generation.images.get(index=1).file))
    assert picture["Content-Type"] == "image/png"

    revoked = signed_in.post(reverse("revoke-link", args=[link.pk]), follow=True).content.decode()
    assert "The link was revoked" in revoked
    assert link.code not in revoked
    for address in (f"/s/{link.code}", f"/s/{link.code}/picture", f"/s/{link.code}/preview.jpg"):
        assert anonymous.get(address).status_code == 404


@pytest.mark.parametrize(("days", "lasts"), [("1", 1), ("7", 7), ("30", 30), ("0", None)])
def test_a_link_has_the_chosen_duration(signed_in: Client, alice: User, days: str, lasts: int | None) -> None:
    create_link(signed_in, make_generation(alice), days=days)
    expires = ShareLink.objects.get().expires
    assert (expires and round((expires - timezone.now()) / DAY)) == lasts


def test_a_link_shows_the_input_and_a_download_if_chosen(signed_in: Client, alice: User, anonymous: Client) -> None:
    generation = make_generation(alice)
    plain = link_to(generation)
    assert anonymous.get(f"{plain}/input").status_code == 404
    assert "Content-Disposition" not in anonymous.get(f"{plain}/picture?download")
    page = anonymous.get(plain).content.decode()
    assert "/input" not in page
    assert "Download" not in page

    create_link(signed_in, generation, with_input="on", with_download="on")
    address = f"/s/{ShareLink.objects.all()[0].code}"
    page = anonymous.get(address).content.decode()
    assert f'src="{address}/input"' in page
    assert f'href="{address}/picture?download"' in page
    answer = anonymous.get(f"{address}/input")
    assert answer.getvalue() == storage.read(str(generation.input))
    assert answer["X-Robots-Tag"].startswith("noindex")
    assert answer["Content-Security-Policy"] == "default-src 'none'; sandbox"
    assert anonymous.get(f"{address}/picture?download")["Content-Disposition"] == 'attachment; filename="picture.png"'
    # A retention rule may remove the input.
    Generation.objects.update(input="", input_thumbnail="")
    assert anonymous.get(f"{address}/input").status_code == 404
    assert "/input" not in anonymous.get(address).content.decode()


@pytest.mark.parametrize("hidden", [{"nsfw": True}, {"review": Review.CONFIRMED}])
def test_an_input_that_is_a_flagged_or_confirmed_result_is_not_shown(
    alice: User, anonymous: Client, hidden: dict[str, Any]
) -> None:
    first, second = make_generation(alice), make_generation(alice)
    Generation.objects.filter(pk=second.pk).update(source=first.images.get())
    address = link_to(second, with_input=True)
    assert anonymous.get(f"{address}/input").status_code == 200
    first.images.update(**hidden)
    assert anonymous.get(f"{address}/input").status_code == 404
    page = anonymous.get(address)
    assert page.status_code == 200
    assert "/input" not in page.content.decode()


def test_htmx_gets_the_new_link_to_copy(signed_in: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    generation = make_generation(alice)
    send = reverse("share", args=[generation.pk])
    answers = [
        signed_in.post(send, {"picture": "1", "days": "7"}, headers={"HX-Request": "true"}).content.decode()
        for _ in range(2)
    ]
    newest = ShareLink.objects.all()[0]
    assert f'<code id="link-{newest.pk}" data-copy-now>http://testserver/s/{newest.code}<' in answers[1]
    assert answers[1].count("data-copy-now") == 1
    assert "<html" not in answers[1]
    monkeypatch.setattr(sharing, "MAX_LIVE", 2)
    refused = signed_in.post(send, {"picture": "1", "days": "7"}, headers={"HX-Request": "true"}).content.decode()
    assert "2 links to it work already" in refused
    assert "data-copy-now" not in refused


def test_links_are_listed_with_their_views(
    signed_in: Client, alice: User, bob: User, anonymous: Client, django_assert_num_queries: Any
) -> None:
    address, other = link_to(make_generation(alice, prompt="zebra")), link_to(make_generation(bob))
    for _ in range(2):
        anonymous.get(address)
    # Neither the owner's own look, nor a picture, nor HEAD counts.
    signed_in.get(address)
    anonymous.head(address)
    anonymous.get(f"{address}/picture")
    gone = make_generation(alice, prompt="gnu")
    link_to(gone)
    deletion.trash(Generation.objects.filter(pk=gone.pk))
    page = squeeze(signed_in.get(reverse("links")).content.decode())
    assert "2 views" in page
    assert "zebra" in page
    assert address in page
    assert other not in page
    assert "gnu" not in page
    for _ in range(5):
        link_to(make_generation(alice))
    # Session, user, links, their generations' pictures.
    with django_assert_num_queries(4):
        signed_in.get(reverse("links"))
    link = ShareLink.objects.get(code=address.rpartition("/")[2])
    revoked = signed_in.post(reverse("revoke-link", args=[link.pk]), {"next": reverse("links")}, follow=True)
    assert "The link was revoked" in revoked.content.decode()
    assert address not in revoked.content.decode()


def test_a_suspended_users_links_do_not_work(alice: User, charlie: User, anonymous: Client) -> None:
    address = link_to(make_generation(alice))
    suspension.suspend(alice, charlie)
    for part in ("", "/picture", "/preview.jpg"):
        assert anonymous.get(address + part).status_code == 404
    suspension.lift(alice, charlie)
    assert anonymous.get(address).status_code == 200


def test_codes_are_long_and_different(alice: User) -> None:
    generation = make_generation(alice)
    codes = {link_to(generation) for _ in range(3)}
    assert len(codes) == 3
    assert all(re.fullmatch(r"/s/[A-Za-z0-9_-]{43}", code) for code in codes)


def test_a_link_discloses_only_the_picture(alice: User, anonymous: Client) -> None:
    generation = make_generation(alice, prompt="zebra", negative_prompt="gnu", seed=424242)
    Generation.objects.filter(pk=generation.pk).update(title="giraffe", note="okapi")
    page = anonymous.get(link_to(generation)).content.decode()
    for word in ("zebra", "gnu", "giraffe", "okapi", "424242", "tiny-edit", "alice", str(generation.pk), "/media/"):
        assert word not in page
    assert "how it was made" not in page.lower()


def test_a_link_shows_the_recipe_if_chosen(signed_in: Client, alice: User, anonymous: Client) -> None:
    generation = make_generation(alice, prompt="a <zebra>", negative_prompt="gnu", seed=424242, num_images_per_prompt=2)
    Generation.objects.filter(pk=generation.pk).update(title="giraffe", note="okapi")
    create_link(signed_in, generation, picture="2", with_recipe="on")
    page = anonymous.get(f"/s/{ShareLink.objects.get().code}").content.decode()
    for word in ("a &lt;zebra&gt;", "gnu", "424243", "dreamsite/tiny-edit", "the model runs with 2"):
        assert word in page
    for word in ("424242", "giraffe", "okapi", "alice", "Priority", str(generation.pk), "/media/"):
        assert word not in page


@pytest.mark.parametrize("end", ["expired", "revoked", "trashed", "deleted", "unknown", "short", "odd"])
def test_every_link_that_does_not_work_gets_the_same_page(alice: User, anonymous: Client, end: str) -> None:
    generation = make_generation(alice)
    address = link_to(generation)
    match end:
        case "expired":
            ShareLink.objects.update(expires=timezone.now())
        case "revoked":
            assert sharing.revoke(ShareLink.objects.all()) == 1
            assert sharing.revoke(ShareLink.objects.all()) == 0
        case "trashed":
            deletion.trash(Generation.objects.all())
        case "deleted":
            deletion.delete(generation)
        case "unknown":
            address = "/s/" + "x" * 43
        case "short":
            address = address[:-1]
        case "odd":
            address = "/s/%00'\u00e9"
    answer = anonymous.get(address)
    assert answer.status_code == 404
    assert re.sub(r"(?s)<script.*?</script>", "", answer.content.decode()).count("This link does not work") == 2
    assert answer.content == anonymous.get("/s/nothing").content
    assert answer["Cache-Control"] == "private, no-cache"
    for part in ("picture", "preview.jpg"):
        assert anonymous.get(f"{address}/{part}").status_code == 404


def test_restored_generations_are_shared_again(alice: User, anonymous: Client) -> None:
    address = link_to(make_generation(alice))
    deletion.trash(Generation.objects.all())
    assert anonymous.get(address).status_code == 404
    deletion.restore(Generation.objects.all())
    assert anonymous.get(address).status_code == 200


def test_headers_do_not_disclose_the_link(alice: User, anonymous: Client) -> None:
    address = link_to(make_generation(alice))
    for part in ("", "/picture", "/preview.jpg"):
        answer = anonymous.get(address + part)
        assert answer.status_code == 200
        assert answer["Referrer-Policy"] == "no-referrer"
        assert answer["Cache-Control"] == "private, no-cache"
        assert answer["X-Robots-Tag"].startswith("noindex")
        assert anonymous.head(address + part).status_code == 200
        assert anonymous.post(address + part).status_code == 405


def test_a_cached_picture_is_revalidated(alice: User, anonymous: Client) -> None:
    address = f"{link_to(make_generation(alice))}/picture"
    etag = anonymous.get(address)["ETag"]
    answer = anonymous.get(address, headers={"If-None-Match": etag})
    assert (answer.status_code, answer.content) == (304, b"")
    assert answer["Cache-Control"] == "private, no-cache"
    sharing.revoke(ShareLink.objects.all())
    assert anonymous.get(address, headers={"If-None-Match": etag}).status_code == 404


def test_previews_match_their_meta_tags(alice: User, anonymous: Client) -> None:
    wide = scene(1600, 800)
    for result in (wide, scene(96, 64)):
        address = link_to(make_generation(alice, picture=result, results=[result]))
        page = anonymous.get(address).content.decode()
        meta = dict(re.findall(r'<meta (?:property|name)="([^"]+)" content="([^"]*)">', page))
        assert meta["og:url"] == f"http://testserver{address}"
        assert meta["og:image"] == f"http://testserver{address}/preview.jpg"
        assert meta["twitter:card"] == "summary_large_image"
        assert meta["robots"] == "noindex"
        preview = anonymous.get(f"{address}/preview.jpg")
        assert preview["Content-Type"] == meta["og:image:type"] == "image/jpeg"
        with Image.open(BytesIO(preview.content)) as picture:
            assert (f"{picture.width}", f"{picture.height}") == (meta["og:image:width"], meta["og:image:height"])
            assert max(picture.size) <= sharing.PREVIEW_SIDE


def test_a_flagged_picture_is_blurred_until_clicked(alice: User, anonymous: Client) -> None:
    User.objects.update(blur_flagged=False)
    address = link_to(make_generation(alice, flagged=[0]))
    page = squeeze(anonymous.get(address).content.decode())
    assert 'class="compare single-picture flagged"' in page
    assert re.search(r'<label class="reveal">\s*<input type="checkbox"', page)
    with Image.open(BytesIO(anonymous.get(f"{address}/preview.jpg").content)) as preview:
        grey = preview.convert("L")
        # No colours and no edges: it was reduced to 8 pixels on its long side.
        assert max(ImageStat.Stat(ImageChops.difference(preview, grey.convert("RGB"))).mean) < 2
        assert ImageStat.Stat(ImageChops.difference(grey, ImageChops.offset(grey, 1)).crop((1, 0, 96, 64))).mean[0] < 6


def test_the_number_of_live_links_is_limited(signed_in: Client, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sharing, "MAX_LIVE", 2)
    generation = make_generation(alice)
    for _ in range(2):
        create_link(signed_in, generation)
    assert "2 links to it work already" in create_link(signed_in, generation).content.decode()
    assert ShareLink.objects.count() == 2
    ShareLink.objects.filter(pk=ShareLink.objects.all()[0].pk).update(expires=timezone.now())
    create_link(signed_in, generation)
    assert sharing.live_links(generation).count() == 2


def test_the_studio_creates_one_link_to_a_result(signed_in: Client, alice: User, bob: User) -> None:
    generation = make_generation(alice, num_images_per_prompt=2)
    link_to(generation, 1, with_recipe=True)
    share = reverse("share-job", args=[generation.pk])

    def links(number: str) -> str:
        return signed_in.post(share, {"picture": number}, headers={"HX-Request": "true"}).content.decode()

    pages = [links("2"), links("2")]
    first = sharing.live_links(generation).get(index=1, with_recipe=False)
    assert first.expires is not None
    assert timedelta(days=6) < first.expires - timezone.now() <= timedelta(days=7)
    for page in pages:
        assert f'id="link-{first.pk}" data-copy-now>http://testserver/s/{first.code}<' in page
        assert page.count("data-copy-now") == 1
        assert page.count('aria-label="Copy the link"') == 2
    assert "result 1 ·" in links("1")
    for number in ("0", "3", "x", ""):
        assert signed_in.post(share, {"picture": number}).status_code == 404
    for _ in range(sharing.MAX_LIVE - 3):
        link_to(generation, 1, with_recipe=True)
    assert ShareLink.objects.filter(index=0).update(with_input=True) == 1
    page = links("1")
    assert "No link was created" in page
    assert "data-copy-now" not in page

    revoked = signed_in.post(reverse("revoke-link", args=[first.pk]), headers={"HX-Request": "true"}).content.decode()
    assert first.code not in revoked
    assert "data-copy-now" in links("1")
    signed_in.force_login(bob)
    assert signed_in.post(share, {"picture": "1"}).status_code == 404


@pytest.mark.parametrize("fields", [{"days": "3"}, {"days": ""}, {"picture": "0"}, {"picture": "x"}])
def test_invalid_link_forms_are_refused(signed_in: Client, alice: User, fields: dict[str, str]) -> None:
    assert "No link was created" in create_link(signed_in, make_generation(alice), **fields).content.decode()
    assert not ShareLink.objects.exists()


def test_missing_results_are_not_shared(signed_in: Client, alice: User) -> None:
    assert create_link(signed_in, make_generation(alice), picture="2").status_code == 404
    assert create_link(signed_in, make_generation(alice, State.FAILED)).status_code == 404


def test_another_user_cannot_share_or_revoke(client: Client, alice: User, bob: User, anonymous: Client) -> None:
    alices = make_generation(alice)
    address = link_to(alices)
    link = ShareLink.objects.get()
    client.force_login(bob)
    assert create_link(client, alices).status_code == 404
    assert client.post(reverse("revoke-link", args=[link.pk])).status_code == 404
    assert anonymous.get(address).status_code == 200
    assert reverse("sign-in") in anonymous.post(reverse("share", args=[alices.pk]))["Location"]
    assert anonymous.get(reverse("share", args=[alices.pk])).status_code in (302, 405)


def test_an_unreadable_picture_is_503(alice: User, anonymous: Client) -> None:
    generation = make_generation(alice)
    address = link_to(generation)
    default_storage.delete(str(generation.images.get().file))
    for part in ("picture", "preview.jpg"):
        assert anonymous.get(f"{address}/{part}").status_code == 503


def test_a_shared_page_takes_few_queries(alice: User, anonymous: Client, django_assert_num_queries: Any) -> None:
    address = link_to(make_generation(alice), with_recipe=True)
    # The link, the picture; and one to count the view.
    for part, count in (("", 3), ("/picture", 2)):
        with django_assert_num_queries(count):
            anonymous.get(address + part)


def test_confirmed_pictures_are_not_shared(alice: User, anonymous: Client) -> None:
    generation = make_generation(alice, flagged=[0])
    link = link_to(generation)
    assert anonymous.get(link).status_code == 200
    generation.images.update(review=Review.CONFIRMED)
    assert [anonymous.get(f"{link}{part}").status_code for part in ("", "/picture", "/preview.jpg")] == [404, 404, 404]


def test_the_picture_stays_in_sight_however_long_its_prompt(signed_in: Client, alice: User, anonymous: Client) -> None:
    generation = make_generation(alice, prompt="a zebra " * 40 + "and a gnu")
    create_link(signed_in, generation, with_recipe="on")
    page = anonymous.get(f"/s/{ShareLink.objects.get().code}").content.decode()
    assert "gnu" not in page.partition("</h1>")[0]
    assert "Full prompt" in page
    assert "and a gnu</p>" in page
