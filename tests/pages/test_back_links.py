"""Whatever one does on a page leads back to it as it was: what the history was narrowed down to is not lost."""

import html
import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from accounts.models import User
from generation.library import sharing
from generation.models import DiffusionModel, Generation, State
from tests.support.generations import make_generation

pytestmark = pytest.mark.usefixtures("redis")

NARROWED = "/history/?state=queued&state=succeeded&q=night"


@pytest.fixture
def signed_in(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def content(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def press(client: Client, page: str, action: str, **fields: str) -> Any:
    """Send the form of the page with a button or an action that leads there, with what the page put into it."""
    form = next(form for form in re.findall(r"<form\b.*?</form>", page, re.DOTALL) if f'action="{action}"' in form)
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form))
    return client.post(action, {**hidden, **fields})


def test_canceling_from_a_narrowed_history_leads_back_to_it(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, State.QUEUED)
    cancel = reverse("cancel", args=[generation.pk])
    assert press(signed_in, content(signed_in, NARROWED), cancel)["Location"] == NARROWED
    assert Generation.objects.get().state == State.CANCELED


@pytest.mark.parametrize("page", ["https://elsewhere.example/", "//elsewhere.example/", "\\\\elsewhere.example"])
def test_nobody_who_cancels_deletes_or_restores_is_sent_elsewhere(signed_in: Client, alice: User, page: str) -> None:
    live, done = make_generation(alice, State.QUEUED), make_generation(alice)
    own = reverse("generation", args=[live.pk])
    assert signed_in.post(reverse("cancel", args=[live.pk]), {"next": page})["Location"] == own
    assert signed_in.post(reverse("delete", args=[done.pk]), {"next": page})["Location"] == "/history/"
    assert signed_in.post(reverse("restore"), {"next": page, "id": str(done.pk)})["Location"] == "/history/"


def test_undoing_leads_back_to_where_one_deleted(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice)
    page = content(signed_in, NARROWED)
    assert press(signed_in, page, reverse("selection"), action="delete", id=str(generation.pk))["Location"] == NARROWED
    page = content(signed_in, NARROWED)
    assert press(signed_in, page, reverse("restore"))["Location"] == NARROWED
    assert Generation.objects.owned_by(alice).exists()


def test_the_trash_stays_on_its_page(signed_in: Client, alice: User) -> None:
    Generation.objects.filter(pk=make_generation(alice).pk).update(trashed="2999-01-01T00:00Z")
    here = "/trash/?page=1"
    generation = Generation.objects.get()
    assert press(signed_in, content(signed_in, here), reverse("restore"), id=str(generation.pk))["Location"] == here
    Generation.objects.update(trashed="2999-01-01T00:00Z")
    page = content(signed_in, here)
    assert press(signed_in, page, reverse("delete-now", args=[generation.pk]))["Location"] == here


def test_the_page_of_a_generation_stays_as_it_was(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, num_images_per_prompt=2)
    link = sharing.share(generation, 1, None, with_recipe=False)
    own = reverse("generation", args=[generation.pk])
    here = f"{own}?picture=2&with=input"
    page = content(signed_in, here)
    assert press(signed_in, page, reverse("annotate", args=[generation.pk]), title="a cat")["Location"] == here
    with_links = f"{here}&sharing=#share"
    assert (
        press(signed_in, page, reverse("share", args=[generation.pk]), picture="2", days="1")["Location"] == with_links
    )
    assert press(signed_in, page, reverse("revoke-share", args=[generation.pk, link.pk]))["Location"] == with_links
    wrong = press(signed_in, page, reverse("annotate", args=[generation.pk]), title="x" * 999)
    assert f'<input type="hidden" name="next" value="{here}">' in html.unescape(wrong.content.decode())
    live = make_generation(alice, State.RUNNING)
    here = f"{reverse('generation', args=[live.pk])}?with=input"
    assert press(signed_in, content(signed_in, here), reverse("cancel", args=[live.pk]))["Location"] == here


def beside(page: str) -> tuple[str | None, str | None]:
    """Where the arrows to the newer and the older one lead."""
    newer, older = (re.search(rf'rel="{rel}" href="([^"]+)"', page) for rel in ("prev", "next"))
    return newer and newer[1], older and older[1]


def own_page(generation: Generation, query: str) -> str:
    return f"{reverse('generation', args=[generation.pk])}?{query}"


QUERIES = [
    "q=night",
    "q=night&state=succeeded&favourite=true",
    "seed=7",
    "state=succeeded&state=failed&q=night",
    "flagged=true",
    "model_id=dreamsite%2Ftiny-edit&favourite=true",
    "since=2026-01-01&until=2099-01-01&q=nig",
]


@pytest.mark.parametrize("query", QUERIES)
def test_the_arrows_stay_among_what_was_found(
    signed_in: Client, alice: User, bob: User, query: str, django_assert_max_num_queries: Any
) -> None:
    found = []
    for _ in range(3):
        found.append(make_generation(alice, prompt="make it night", seed=7, flagged=[0]))
        Generation.objects.filter(pk=found[-1].pk).update(is_favourite=True, is_flagged=True)
        model = DiffusionModel.objects.get_or_create(id="demo/other")[0]
        Generation.objects.filter(pk=make_generation(alice, prompt="make it snow", seed=8).pk).update(model=model)
        make_generation(bob, prompt="make it night", seed=7, flagged=[0])
    oldest, middle, newest = found
    history = content(signed_in, f"/history/?{query}")
    assert re.findall(r'id="to-[^"]+" href="([^"]+)"', history) == [own_page(one, query) for one in reversed(found)]
    # Where words and filters meet, each arrow asks which of both leaves fewer.
    with django_assert_max_num_queries(11 if "q=" in query else 9):
        page = content(signed_in, own_page(middle, query))
    assert beside(page) == (own_page(newest, query), own_page(oldest, query))
    assert f'href="/history/?{query}" data-key="u"' in page
    assert beside(content(signed_in, own_page(newest, query))) == (None, own_page(middle, query))
    assert beside(content(signed_in, own_page(oldest, query))) == (own_page(middle, query), None)


def test_what_is_done_on_the_page_keeps_what_was_looked_for(signed_in: Client, alice: User) -> None:
    generation, older = make_generation(alice, num_images_per_prompt=2), make_generation(alice, State.RUNNING)
    page = content(signed_in, own_page(generation, "q=night&state=succeeded"))
    assert 'href="?picture=2&q=night&state=succeeded"' in page
    assert f'href="?picture=1&with={generation.pk}.1&q=night&state=succeeded"' in page
    notes = press(signed_in, page, reverse("annotate", args=[generation.pk]), title="a cat")
    assert notes["Location"] == own_page(generation, "q=night&state=succeeded")
    deleted = press(signed_in, page, reverse("delete", args=[generation.pk]))
    assert deleted["Location"] == "/history/?q=night&state=succeeded"
    live = content(signed_in, f"/history/tiles?live={older.pk}.queued&q=night&state=running")
    assert f'href="{own_page(older, "q=night&state=running")}"' in live
    assert f'hx-get="/history/tiles?live={older.pk}.running&q=night&state=running"' in live
    chosen = signed_in.post(
        reverse("selection"),
        {"action": "favourite", "id": str(older.pk), "next": "/history/?q=night&before=x"},
        headers={"HX-Request": "true"},
    )
    assert chosen.status_code == 200
    Generation.objects.filter(pk=older.pk).update(state=State.CANCELED)
    chosen = signed_in.post(
        reverse("selection"),
        {"action": "favourite", "id": str(older.pk), "next": f"/history/?q=night&before={older.pk}"},
        headers={"HX-Request": "true"},
    )
    assert f'href="{own_page(older, "q=night")}"' in chosen.content.decode()


@pytest.mark.parametrize("query", ["state=odd", "seed=-1&q=night", "since=yesterday", "x=1", "q=", "before=1"])
def test_what_means_nothing_narrows_nothing(signed_in: Client, alice: User, query: str) -> None:
    older, newer = make_generation(alice, prompt="make it snow"), make_generation(alice)
    page = content(signed_in, own_page(older, query))
    assert beside(page) == (reverse("generation", args=[newer.pk]), None)
    assert 'href="/history/" data-key="u"' in page
