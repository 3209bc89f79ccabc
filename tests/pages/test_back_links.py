"""Every action on a page leads back to that page, with the history's filters."""

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

FILTERED = "/history/?state=queued&state=succeeded&q=night"


@pytest.fixture
def signed_in(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def content(client: Client, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def submit(client: Client, page: str, address: str, **fields: str) -> Any:
    """Submit the page's form that has a button or action with this address, with its hidden fields and these."""
    form = next(form for form in re.findall(r"<form\b.*?</form>", page, re.DOTALL) if f'action="{address}"' in form)
    hidden = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', form))
    return client.post(address, {**hidden, **fields})


def test_canceling_from_a_filtered_history_leads_back_to_it(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, State.QUEUED)
    cancel = reverse("cancel", args=[generation.pk])
    assert submit(signed_in, content(signed_in, FILTERED), cancel)["Location"] == FILTERED
    assert Generation.objects.get().state == State.CANCELED


@pytest.mark.parametrize("page", ["https://elsewhere.example/", "//elsewhere.example/", "\\\\elsewhere.example"])
def test_redirects_stay_on_the_site(signed_in: Client, alice: User, page: str) -> None:
    live, done = make_generation(alice, State.QUEUED), make_generation(alice)
    base = reverse("generation", args=[live.pk])
    assert signed_in.post(reverse("cancel", args=[live.pk]), {"next": page})["Location"] == base
    assert signed_in.post(reverse("delete", args=[done.pk]), {"next": page})["Location"] == "/history/"
    assert signed_in.post(reverse("restore"), {"next": page, "id": str(done.pk)})["Location"] == "/history/"


def test_undo_leads_back_to_the_page(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice)
    page = content(signed_in, FILTERED)
    assert submit(signed_in, page, reverse("selection"), action="delete", id=str(generation.pk))["Location"] == FILTERED
    page = content(signed_in, FILTERED)
    assert submit(signed_in, page, reverse("restore"))["Location"] == FILTERED
    assert Generation.objects.owned_by(alice).exists()


def test_actions_lead_back_to_the_page_of_the_trash(signed_in: Client, alice: User) -> None:
    Generation.objects.filter(pk=make_generation(alice).pk).update(trashed="2999-01-01T00:00Z")
    current = "/trash/?page=1"
    generation = Generation.objects.get()
    assert (
        submit(signed_in, content(signed_in, current), reverse("restore"), id=str(generation.pk))["Location"] == current
    )
    Generation.objects.update(trashed="2999-01-01T00:00Z")
    page = content(signed_in, current)
    assert submit(signed_in, page, reverse("delete-now", args=[generation.pk]))["Location"] == current


def test_actions_lead_back_to_the_page_of_the_generation(signed_in: Client, alice: User) -> None:
    generation = make_generation(alice, num_images_per_prompt=2)
    link = sharing.share(generation, 1, None)
    base = reverse("generation", args=[generation.pk])
    current = f"{base}?picture=2&with=input"
    page = content(signed_in, current)
    assert submit(signed_in, page, reverse("annotate", args=[generation.pk]), title="a cat")["Location"] == current
    with_links = f"{current}&sharing=#share"
    assert (
        submit(signed_in, page, reverse("share", args=[generation.pk]), picture="2", days="1")["Location"] == with_links
    )
    assert submit(signed_in, page, reverse("revoke-link", args=[link.pk]))["Location"] == with_links
    invalid = submit(signed_in, page, reverse("annotate", args=[generation.pk]), title="x" * 999)
    assert f'<input type="hidden" name="next" value="{current}">' in html.unescape(invalid.content.decode())
    live = make_generation(alice, State.RUNNING)
    current = f"{reverse('generation', args=[live.pk])}?with=input"
    assert submit(signed_in, content(signed_in, current), reverse("cancel", args=[live.pk]))["Location"] == current


def neighbours(page: str) -> tuple[str | None, str | None]:
    """Return the addresses of the newer and the older generation."""
    newer, older = (re.search(rf'rel="{rel}" href="([^"]+)"', page) for rel in ("prev", "next"))
    return newer and newer[1], older and older[1]


def address_of(generation: Generation, query: str) -> str:
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
def test_the_arrows_keep_the_filters(
    signed_in: Client, alice: User, bob: User, query: str, django_assert_max_num_queries: Any
) -> None:
    matches = []
    for _ in range(3):
        matches.append(make_generation(alice, prompt="make it night", seed=7, flagged=[0]))
        Generation.objects.filter(pk=matches[-1].pk).update(is_favourite=True, is_flagged=True)
        model = DiffusionModel.objects.get_or_create(id="demo/other")[0]
        Generation.objects.filter(pk=make_generation(alice, prompt="make it snow", seed=8).pk).update(model=model)
        make_generation(bob, prompt="make it night", seed=7, flagged=[0])
    oldest, middle, newest = matches
    history = content(signed_in, f"/history/?{query}")
    assert re.findall(r'id="to-[^"]+" href="([^"]+)"', history) == [address_of(one, query) for one in reversed(matches)]
    # With both words and filters, each neighbour takes one more query, to plan the search.
    with django_assert_max_num_queries(15 if "q=" in query else 13):
        page = content(signed_in, address_of(middle, query))
    assert neighbours(page) == (address_of(newest, query), address_of(oldest, query))
    assert f'href="/history/?{query}" data-key="u"' in page
    assert neighbours(content(signed_in, address_of(newest, query))) == (None, address_of(middle, query))
    assert neighbours(content(signed_in, address_of(oldest, query))) == (address_of(middle, query), None)


def test_actions_keep_the_filters(signed_in: Client, alice: User) -> None:
    generation, older = make_generation(alice, num_images_per_prompt=2), make_generation(alice, State.RUNNING)
    page = content(signed_in, address_of(generation, "q=night&state=succeeded"))
    assert 'href="?picture=2&q=night&state=succeeded"' in page
    assert f'href="?picture=1&with={generation.pk}.1&q=night&state=succeeded"' in page
    notes = submit(signed_in, page, reverse("annotate", args=[generation.pk]), title="a cat")
    assert notes["Location"] == address_of(generation, "q=night&state=succeeded")
    deleted = submit(signed_in, page, reverse("delete", args=[generation.pk]))
    assert deleted["Location"] == "/history/?q=night&state=succeeded"
    live = content(signed_in, f"/history/tiles?live={older.pk}.queued&q=night&state=running")
    assert f'href="{address_of(older, "q=night&state=running")}"' in live
    assert f'hx-get="/history/tiles?live={older.pk}.running&q=night&state=running"' in live
    answer = signed_in.post(
        reverse("selection"),
        {"action": "favourite", "id": str(older.pk), "next": "/history/?q=night&before=x"},
        headers={"HX-Request": "true"},
    )
    assert answer.status_code == 200
    Generation.objects.filter(pk=older.pk).update(state=State.CANCELED)
    answer = signed_in.post(
        reverse("selection"),
        {"action": "favourite", "id": str(older.pk), "next": f"/history/?q=night&before={older.pk}"},
        headers={"HX-Request": "true"},
    )
    assert f'href="{address_of(older, "q=night")}"' in answer.content.decode()


@pytest.mark.parametrize("query", ["state=odd", "seed=-1&q=night", "since=yesterday", "x=1", "q=", "before=1"])
def test_unknown_filters_are_ignored(signed_in: Client, alice: User, query: str) -> None:
    older, newer = make_generation(alice, prompt="make it snow"), make_generation(alice)
    page = content(signed_in, address_of(older, query))
    assert neighbours(page) == (reverse("generation", args=[newer.pk]), None)
    assert 'href="/history/" data-key="u"' in page
