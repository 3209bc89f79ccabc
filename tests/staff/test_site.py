"""The tabs of the admin's pages."""

import re

import pytest
from django.test import Client

from accounts.models import User
from generation.staff import site
from tests.support.generations import make_generation
from tests.support.html import squeeze
from tests.support.roles import OPERATORS, REVIEWERS, staff

TAB = re.compile(r'<a href="(/admin/[^"]+)"(?: aria-current="(page|true)")?>(.+?)</a>')


def tabs(client: Client, address: str = "/admin/") -> list[tuple[str, str]]:
    """Return the tabs' texts, with the values of aria-current."""
    page = squeeze(client.get(address).content.decode())
    nav = page.partition('<nav aria-label="Main">')[2].partition("</nav>")[0]
    return [(re.sub("<[^>]+>", " ", text).strip(), current) for _, current, text in TAB.findall(nav)]


def test_the_tabs_are_those_that_the_user_may_open(client: Client, db: None) -> None:
    for groups, expected in (
        ([], []),
        ([REVIEWERS], ["Review", "Generations"]),
        ([OPERATORS], ["Generations", "Operations", "Users", "Models", "Audit"]),
    ):
        client.force_login(staff("-".join(["dora", *groups]), *groups))
        assert [text for text, _ in tabs(client)] == expected


@pytest.mark.parametrize(
    ("address", "tab", "current"),
    [
        ("/admin/operations/", "Operations", "page"),
        ("/admin/operations/retention/", "Operations", "true"),
        ("/admin/accounts/user/add/", "Users", "true"),
        ("/admin/accounts/apitoken/", "Users", "true"),
        ("/admin/generation/generation/", "Generations", "page"),
        ("/admin/generation/lora/", "Models", "true"),
        ("/admin/review/metrics/", "Review", "true"),
    ],
)
@pytest.mark.usefixtures("redis")
def test_the_current_tab_is_marked(client: Client, charlie: User, address: str, tab: str, current: str) -> None:
    client.force_login(charlie)
    assert [entry for entry in tabs(client, address) if entry[1]] == [(tab, current)]


def test_the_review_tab_counts_what_waits(
    client: Client, alice: User, charlie: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.force_login(charlie)
    assert tabs(client)[0] == ("Review", "")
    make_generation(alice, num_images_per_prompt=3, flagged=[0, 1, 2])
    assert tabs(client)[0] == ("Review 3 waiting", "")
    monkeypatch.setattr(site, "_MAX_COUNT", 2)
    assert tabs(client)[0] == ("Review 2+ waiting", "")
