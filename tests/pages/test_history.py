"""The history: the grid, updates of unfinished tiles, filters."""

import re
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.core.cache import cache
from django.template.loader import render_to_string
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from accounts.models import ApiToken, User
from generation import display
from generation.broker import progress
from generation.models import (
    ContactSheet,
    GeneratedImage,
    Generation,
    State,
)
from generation.pages import history
from tests.support.generations import make_generation
from tests.support.html import squeeze

HISTORY = "/history/"
TILE = re.compile(r'id="tile-([0-9a-f-]{36})"')


def tile_ids(page: bytes) -> list[UUID]:
    return [UUID(tile_id) for tile_id in TILE.findall(page.decode())]


def page_of(generation: Generation) -> str:
    return reverse("generation", args=[generation.pk])


@pytest.fixture
def signed_in(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE_SIZE", 3)


def test_it_works(signed_in: Client, alice: User) -> None:
    older, newer = make_generation(alice), make_generation(alice, prompt="make it snow")
    answer = signed_in.get(HISTORY)
    assert tile_ids(answer.content) == [newer.pk, older.pk]
    page = answer.content.decode()
    image = newer.images.get()
    assert "make it snow" in page
    assert f"seed {image.seed}" in page
    assert page_of(newer) in page
    assert image.thumbnail.url.replace("&", "&amp;") in page
    assert "private" in answer["Cache-Control"]


def test_pictures_can_be_fetched_from_the_page_without_a_session(signed_in: Client, alice: User) -> None:
    make_generation(alice)
    addresses = re.findall(r'<img src="([^"]+)"', signed_in.get(HISTORY).content.decode())
    assert len(addresses) == 1
    answer = Client().get(addresses[0].replace("&amp;", "&"))
    assert answer.status_code == 200
    assert answer["Content-Type"] == "image/webp"


def test_every_page_needs_a_sign_in(client: Client, alice: User) -> None:
    generation = make_generation(alice)
    for address in (HISTORY, reverse("tiles"), page_of(generation)):
        assert client.get(address)["Location"] == f"{reverse('sign-in')}?next={address}"


def test_htmx_reloads_the_page_when_the_session_has_ended(client: Client, db: None) -> None:
    answer = client.get(reverse("tiles"), headers={"HX-Request": "true"}, follow=True)
    assert answer["HX-Refresh"] == "true"
    assert answer.content == b""


def test_users_never_see_each_others_pictures(client: Client, alice: User, bob: User, charlie: User) -> None:
    generation = make_generation(alice, State.RUNNING)
    for other in (bob, charlie):
        client.force_login(other)
        assert tile_ids(client.get(HISTORY).content) == []
        assert client.get(page_of(generation)).status_code == 404
        assert tile_ids(client.get(reverse("tiles"), {"live": f"{generation.pk}.queued"}).content) == []
        assert tile_ids(client.get(HISTORY, {"before": "ffffffff-ffff-7fff-bfff-ffffffffffff"}).content) == []


def test_an_empty_history_explains_the_first_steps(signed_in: Client) -> None:
    page = signed_in.get(HISTORY).content.decode()
    assert f'<a class="btn main" href="{reverse("home")}">' in page
    assert f'href="{reverse("tokens")}"' in page
    assert "curl http://testserver/image-to-image" in page
    assert "/static/sample.jpg" in page


@pytest.mark.usefixtures("small_pages")
def test_older_pages_are_reached_by_real_links(signed_in: Client, alice: User) -> None:
    generations = [make_generation(alice).pk for _ in range(7)]
    pages, address = [], HISTORY
    for _ in range(3):
        page = signed_in.get(address).content
        pages.append(tile_ids(page))
        link = re.search(r'<a class="btn more" href="(\?before=[0-9a-f-]{36})"', page.decode())
        address = HISTORY + link[1] if link else ""
    assert pages == [generations[:3:-1], generations[3:0:-1], generations[:1]]
    assert address == ""


@pytest.mark.usefixtures("small_pages")
def test_a_full_page_without_more_has_no_link(signed_in: Client, alice: User) -> None:
    for _ in range(3):
        make_generation(alice)
    assert b"btn more" not in signed_in.get(HISTORY).content


@pytest.mark.usefixtures("small_pages")
def test_an_appended_page_does_not_repeat_the_heading(signed_in: Client, alice: User) -> None:
    for _ in range(4):
        make_generation(alice)
    page = signed_in.get(HISTORY).content.decode()
    more = re.search(r'hx-get="([^"]+)" hx-trigger="revealed"', page)
    link = re.search(r'class="btn more" href="([^"]+)"', page)
    assert more is not None
    assert link is not None
    assert "<h2>Today</h2>" in signed_in.get(HISTORY + link[1]).content.decode()
    grid = signed_in.get(HISTORY + more[1].replace("&amp;", "&"), headers={"HX-Request": "true"}).content
    assert b"<h2>" not in grid
    assert b"<html" not in grid
    assert len(tile_ids(grid)) == 1


@pytest.mark.parametrize("before", ["", "x", "1", "' OR 1=1", "\0", "01a202e8", "😀", "0" * 4000])
def test_invalid_page_ids_are_404(signed_in: Client, before: str) -> None:
    assert signed_in.get(HISTORY, {"before": before}).status_code == 404
    assert signed_in.get(reverse("tiles"), {"live": before}).status_code == 404


def test_a_page_after_the_oldest_generation_is_empty(signed_in: Client, alice: User) -> None:
    make_generation(alice)
    page = signed_in.get(HISTORY, {"before": str(UUID(int=0))}).content.decode()
    assert "Nothing older" in page
    assert "curl" not in page


def test_days_and_months_are_headings(signed_in: Client, alice: User) -> None:
    noon = timezone.localtime().replace(hour=12, minute=0)
    for days in (0, 0, 1, 3, 40, 41):
        make_generation(alice, created=noon - timedelta(days=days))
    headings = re.findall("<h2>(.*?)</h2>", signed_in.get(HISTORY).content.decode())
    day, months = noon - timedelta(days=3), {f"{noon - timedelta(days=days):%B %Y}" for days in (40, 41)}
    assert headings[:3] == ["Today", "Yesterday", f"{day:%A}, {day.day} {day:%B}"]
    assert set(headings[3:]) == months


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("", 8),
        ("q=night", 8),
        # One more, to count the matches of the filter.
        ("q=night+mak&state=succeeded", 9),
        ("favourite=true", 8),
        ("flagged=true&seed=1207", 9),
        ("model_id=dreamsite/tiny-edit", 8),
        ("sheet={sheet}", 8),
    ],
)
def test_the_page_takes_a_constant_number_of_queries(
    signed_in: Client, alice: User, query: str, count: int, django_assert_num_queries: Any
) -> None:
    token, _ = ApiToken.objects.issue(alice, "laptop")
    sheet = ContactSheet.objects.create(user=alice, columns={"field": "seed", "values": ["1207"]})
    final = (State.SUCCEEDED, State.FAILED, State.CANCELED)
    for more in (1, 10):
        for number in range(more):
            generation = make_generation(alice, final[number % 3], token=token, num_images_per_prompt=2, flagged=[0])
            generation.is_favourite, generation.contact_sheet = True, sheet
            generation.save()
        # Session, user, generations, pictures; albums, models, LoRAs and the first month of the filter bar.
        with django_assert_num_queries(count):
            assert tile_ids(signed_in.get(f"{HISTORY}?{query.format(sheet=sheet.pk)}").content) != []


@pytest.mark.usefixtures("redis")
def test_live_tiles_take_a_constant_number_of_queries(
    signed_in: Client, alice: User, django_assert_num_queries: Any
) -> None:
    for count in (1, 10):
        for state in [State.QUEUED, State.RUNNING] * count:
            make_generation(alice, state)
        cache.clear()
        with django_assert_num_queries(15):
            assert signed_in.get(HISTORY).status_code == 200


def test_tiles_show_counts_flags_and_states(signed_in: Client, alice: User) -> None:
    several = make_generation(alice, num_images_per_prompt=4)
    flagged = make_generation(alice, flagged=[0])
    failed = make_generation(alice, State.FAILED)
    page = squeeze(signed_in.get(HISTORY).content.decode())
    tiles = dict(re.findall(r'id="tile-([0-9a-f-]{36})"[^>]*>(.*?)</article>', page, re.DOTALL))
    assert '<span class="tag">4<' in tiles[str(several.pk)]
    assert "flagged" not in tiles[str(several.pk)]
    assert re.search(r'<label class="tag"><input type="checkbox".*flagged', tiles[str(flagged.pk)])
    assert re.search(r'class="state"[^>]*>failed<', tiles[str(failed.pk)])
    assert f"{failed.input_thumbnail}" in tiles[str(failed.pk)]


def test_live_tiles_refresh_until_they_are_done(signed_in: Client, alice: User) -> None:
    queued, running = make_generation(alice, State.QUEUED), make_generation(alice, State.RUNNING)
    page = signed_in.get(HISTORY).content.decode()
    poll = re.search(r'class="poll live" hx-get="([^"]+)"', page)
    assert poll is not None
    assert '<noscript><meta http-equiv="refresh"' in page
    address = poll[1].replace("&amp;", "&")

    unchanged = signed_in.get(address).content
    assert tile_ids(unchanged) == []
    assert poll[1] in unchanged.decode()

    Generation.objects.filter(pk=queued.pk).update(state=State.FAILED)
    changed = signed_in.get(address).content
    assert tile_ids(changed) == [queued.pk]
    assert b'hx-swap-oob="true"' in changed
    assert f"{queued.pk}" not in re.findall(r'hx-get="([^"]+)"', changed.decode())[0]

    Generation.objects.filter(pk=running.pk).update(state=State.CANCELED)
    assert b"poll live" not in signed_in.get(address).content


def test_a_history_without_live_tiles_asks_only_for_what_is_new(signed_in: Client, alice: User) -> None:
    newest = make_generation(alice, prompt="a dog at night")
    page = signed_in.get(HISTORY, {"q": "dog"}).content.decode()
    (poll,) = re.findall(r'class="poll" hx-get="([^"]+)"', page)
    address = poll.replace("&amp;", "&")
    assert address == f"{reverse('tiles')}?newest={newest.pk}&new=0&q=dog"
    assert "live=" not in address
    assert 'http-equiv="refresh"' not in page
    assert 'id="new"' not in signed_in.get(address).content.decode()
    make_generation(alice, prompt="a cat")
    make_generation(alice, prompt="another dog")
    answer = squeeze(signed_in.get(address).content.decode())
    assert re.search(
        r'<div id="new" hx-swap-oob="innerHTML"><a class="btn main" href="/history/\?q=dog".*>1 new</a>', answer
    )
    assert "new=1" in answer
    unchanged = signed_in.get(address.replace("new=0", "new=1")).content.decode()
    assert 'id="new"' not in unchanged
    for later in (f"before={newest.pk}", "sort=oldest"):
        assert 'class="poll' not in signed_in.get(f"{HISTORY}?{later}").content.decode()


@pytest.mark.usefixtures("small_pages")
def test_the_oldest_can_come_first(signed_in: Client, alice: User) -> None:
    yesterday = timezone.now() - timedelta(days=1)
    generations = [make_generation(alice, created=yesterday + timedelta(hours=6 * number)).pk for number in range(5)]
    for query in ("sort=oldest", "sort=oldest&q=night", "sort=oldest&state=succeeded&q=night"):
        page = signed_in.get(f"{HISTORY}?{query}").content
        more = re.search(r'<a class="btn more" href="([^"]+)"', page.decode())
        assert more is not None
        rest = signed_in.get(HISTORY + more[1].replace("&amp;", "&")).content
        assert tile_ids(page) + tile_ids(rest) == generations
    # Not a filter: it leaves nothing out.
    assert b">Show all<" not in signed_in.get(f"{HISTORY}?sort=oldest").content
    assert signed_in.get(f"{HISTORY}?sort=cheapest").status_code == 400


def test_the_last_days_are_filters(signed_in: Client, alice: User) -> None:
    midnight = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
    today, week, older = (
        make_generation(alice, created=when).pk
        for when in (midnight, midnight - timedelta(days=6), midnight - timedelta(days=6, seconds=1))
    )
    page = signed_in.get(HISTORY, {"days": "1", "state": "succeeded"}).content
    assert tile_ids(page) == [today]
    assert 'href="?state=succeeded" aria-current="true">Today<' in page.decode()
    assert 'href="?state=succeeded&amp;days=7">7 days<' in page.decode()
    assert tile_ids(signed_in.get(HISTORY, {"days": "7"}).content) == [today, week]
    assert older in tile_ids(signed_in.get(HISTORY).content)
    assert signed_in.get(HISTORY, {"days": "0"}).status_code == 400


def test_refreshing_takes_a_constant_number_of_queries(
    signed_in: Client, alice: User, django_assert_num_queries: Any
) -> None:
    generations = [make_generation(alice, num_images_per_prompt=2) for _ in range(6)]
    for subset in (generations[:1], generations):
        with django_assert_num_queries(4):
            signed_in.get(reverse("tiles"), {"live": [f"{generation.pk}.running" for generation in subset]})


def test_blurring_can_be_turned_off(signed_in: Client, alice: User) -> None:
    make_generation(alice, flagged=[0])
    assert 'class="tile succeeded flagged"' in squeeze(signed_in.get(HISTORY).content.decode())
    User.objects.filter(pk=alice.pk).update(blur_flagged=False)
    page = squeeze(signed_in.get(HISTORY).content.decode())
    assert 'class="tile succeeded"' in page
    assert '<span class="tag">flagged</span>' in page


def test_the_filter_bar_shows_and_clears_active_filters(signed_in: Client, alice: User) -> None:
    generations = [make_generation(alice, state) for state in (State.SUCCEEDED, State.FAILED, State.SUCCEEDED)]
    Generation.objects.filter(pk=generations[0].pk).update(is_favourite=True)
    page = signed_in.get(HISTORY, {"state": "succeeded", "favourite": "true", "q": "", "heading": "x"}).content.decode()
    assert tile_ids(page.encode()) == [generations[0].pk]
    assert re.search(r'href="\?state=succeeded" aria-current="true">★ Favourites<', page)
    assert re.search(r'href="\?favourite=true" aria-current="true">succeeded<', page)
    assert 'href="?favourite=true&amp;state=failed">failed<' in page
    assert '<input type="hidden" name="state" value="succeeded">' in page


def test_months_link_to_their_last_generation(signed_in: Client, alice: User) -> None:
    now = timezone.localtime()
    old = now.replace(year=now.year - 1, month=3, day=31, hour=23)
    generations = [make_generation(alice, created=when) for when in (old, old + timedelta(days=3), now)]
    page = signed_in.get(HISTORY, {"q": "night"}).content.decode()
    (jump,) = re.findall(rf'href="([^"]+)" aria-label="Jump to Mar {old.year}"', page)
    address = jump.replace("&amp;", "&")
    assert address.startswith("?q=night&before=")
    assert tile_ids(signed_in.get(HISTORY + address).content) == [generations[0].pk]
    assert f'href="?before={jump.rpartition("=")[2]}"' in signed_in.get(HISTORY).content.decode()
    assert f"Jump to Feb {old.year}" not in page


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("seed=abc", "seed: Input should be a whole number."),
        ("seed=-1", "seed: "),
        ("since=yesterday", "since: "),
        ("state=dreaming", "state: "),
        ("favourite=maybe", "favourite: Input should be true or false."),
        ("q=" + "x" * 201, "q: "),
    ],
)
def test_invalid_filters_are_explained(signed_in: Client, alice: User, query: str, words: str) -> None:
    make_generation(alice)
    answer = signed_in.get(f"{HISTORY}?{query}")
    assert answer.status_code == 400
    assert words in answer.content.decode()
    assert tile_ids(answer.content) == []


@pytest.mark.parametrize(
    "query", ["q=%00", "q=%22%27%28*", "since=0001-01-01&until=9999-12-31", "seed=9223372036854775807", "x=y"]
)
def test_unusual_filters_cause_no_error(signed_in: Client, alice: User, query: str) -> None:
    make_generation(alice)
    assert signed_in.get(f"{HISTORY}?{query}").status_code in (200, 400)


@pytest.mark.usefixtures("redis")
def test_live_tiles_show_their_progress(signed_in: Client, alice: User) -> None:
    running, queued = make_generation(alice, State.RUNNING), make_generation(alice, State.QUEUED)
    progress.report([running.pk], progress.Progress(7, 20, "denoising"))
    for page in (
        signed_in.get(HISTORY).content.decode(),
        signed_in.get(reverse("tiles"), {"live": [f"{running.pk}.running", f"{queued.pk}.queued"]}).content.decode(),
    ):
        assert re.search(rf'id="state-{running.pk}".*max="100" value="35".*step 7 of 20', squeeze(page))
        assert f'id="state-{queued.pk}"' in page


@pytest.mark.usefixtures("redis")
def test_live_tiles_show_the_last_preview_and_ask_for_more(signed_in: Client, alice: User) -> None:
    running = make_generation(alice, State.RUNNING, num_images_per_prompt=2)
    address = f"{reverse('tiles')}?live={running.pk}.running"
    assert "<img" not in signed_in.get(address).content.decode()
    flags = progress.report([running.pk], progress.Progress(7, 20, "denoising"))
    assert flags.preview == {running.pk}
    for image in ("first", "second"):
        for index in (0, 1):
            progress.publish(running.pk, "preview", {"index": index, "image": f"data:image/webp;base64,{image}{index}"})
    for page in (signed_in.get(address), signed_in.get(HISTORY)):
        assert 'src="data:image/webp;base64,second0"' in page.content.decode()


def test_unknown_generations_are_404(signed_in: Client) -> None:
    assert signed_in.get(reverse("generation", args=[uuid4()])).status_code == 404
    assert signed_in.get("/history/nonsense/").status_code == 404
    assert signed_in.post(HISTORY).status_code == 405


def test_pictures_have_sizes_and_alt_texts(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, num_images_per_prompt=2)
    for address in (HISTORY, page_of(generation)):
        pictures = re.findall(r"<img[^>]+>", squeeze(signed_in.get(address).content.decode()))
        assert pictures
        for attribute in (r' alt="[^"]*"', r' width="\d+"', r' height="\d+"'):
            assert [picture for picture in pictures if not re.search(attribute, picture)] == []


@pytest.mark.parametrize(
    ("took", "words"),
    [(0.021, "0.02 s"), (2.42, "2.4 s"), (48.4, "48 s"), (119.4, "119 s"), (200, "3 min 20 s"), (239.7, "4 min 0 s")],
)
def test_durations_are_formatted(took: float, words: str) -> None:
    assert display.seconds(took) == words


def test_scores_are_formatted() -> None:
    assert display.safety(GeneratedImage(checker="", nsfw_score=None)) == "not checked"
    assert display.safety(GeneratedImage(checker="opennsfw", nsfw_score=0.931, nsfw=True)) == "flagged, score 0.93"
    assert display.safety(GeneratedImage(checker="other", nsfw_score=None)) == "not flagged"


def test_error_pages_need_no_context(client: Client, db: None) -> None:
    assert b"Page not found" in client.get("/nowhere", headers={"Accept": "text/html"}).content
    for name in ("400.html", "403.html", "403_csrf.html", "500.html"):
        assert "Go to history" in render_to_string(name)
