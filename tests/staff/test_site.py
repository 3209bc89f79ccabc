"""The tabs of the admin's pages, and the overview at its index."""

import html
import re
from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts import audit
from accounts.models import User
from dreamsite import __version__
from generation.models import Generation, State
from generation.models.review import Review
from generation.moderation import review
from generation.parameters import ErrorCode
from generation.staff import overview, site
from tests.support.generations import make_generation
from tests.support.html import squeeze
from tests.support.roles import OPERATORS, REVIEWERS, staff

TAB = re.compile(r'<a id="tab-[a-z]+" href="(/admin/[^"]+)"(?: aria-current="(page|true)")?\s?>(.+?)</a>')


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


def test_staff_alone_see_the_version(client: Client, db: None) -> None:
    assert "Version" not in client.get("/admin/login/", follow=True).content.decode()
    client.force_login(staff("dora"))
    assert (
        f'<footer id="footer"><p class="quiet">Version {__version__}</p></footer>'
        in client.get("/admin/").content.decode()
    )


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


def headings(client: Client) -> list[str]:
    """Return the headings of the parts of the index."""
    return re.findall(
        r'<h2 id="[a-z]+-title"><a id="[a-z]+-link" href="[^"]+">(.+?)</a>',
        squeeze(client.get("/admin/").content.decode()),
    )


@pytest.mark.usefixtures("redis")
def test_the_index_shows_what_the_user_may_see(client: Client, alice: User) -> None:
    make_generation(alice, flagged=[0])
    for groups, expected in (
        ([], []),
        ([REVIEWERS], ["Review", "Failures of 24 hours", "Last pictures"]),
        (
            [OPERATORS],
            ["Needs attention", "Failures of 24 hours", "Last pictures", "Newest users", "Audit log"],
        ),
    ):
        user = staff("-".join(["dora", *groups]), *groups)
        audit.record(user, "pool.pause", "default", None, None)
        client.force_login(user)
        assert headings(client) == expected


@pytest.mark.usefixtures("redis")
def test_the_index_shows_what_waits_and_what_is_new(
    client: Client, alice: User, charlie: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.force_login(charlie)
    page = squeeze(client.get("/admin/").content.decode())
    for text in ("No picture waits.", "None.", "No pictures yet.", "The pool default has no active worker"):
        assert text in page
    assert "Sign-in failures" in page
    assert "Axes" not in page
    flagged = make_generation(alice, num_images_per_prompt=3, flagged=[0, 1, 2])
    make_generation(alice)
    review.decide(flagged.images.all()[2], charlie, Review.ESCALATED)
    for _ in range(2):
        make_generation(alice, State.FAILED)
    page = squeeze(client.get("/admin/").content.decode())
    assert "<strong>3</strong>pictures wait, the oldest for" in page
    assert ">2 flagged</a>" in page
    assert ">1 escalated</a>" in page
    assert "<strong>2</strong>generations failed" in page
    # The links lead to exactly what was counted.
    make_generation(alice, State.FAILED, created=timezone.now() - timedelta(hours=25))
    canceled = make_generation(alice, State.CANCELED)
    Generation.objects.filter(pk=canceled.pk).update(error_code=ErrorCode.OUT_OF_MEMORY)
    for link in ("Failures of 24 hours", "2 out_of_memory"):
        (address,) = re.findall(rf'href="([^"]+)">{link}</a>', page)
        rows = client.get(html.unescape(address)).content.decode()
        assert rows.count('class="action-select"') == 2
        assert "last 24 hours" in rows
    assert page.count('class="thumbnail"') == page.count('class="thumbnail flagged"') == 1
    assert "image.review" in page
    assert "pictures.view" not in page, "only the page of the log has who looked at what"
    monkeypatch.setattr(overview, "MAX_FAILURES", 1)
    assert "<strong>1+</strong>" in squeeze(client.get("/admin/").content.decode())


@pytest.mark.usefixtures("redis")
def test_the_index_takes_a_constant_number_of_queries(client: Client, alice: User, charlie: User) -> None:
    client.force_login(charlie)
    client.get("/admin/")
    counted = []
    for count in (1, 8):
        for number in range(count):
            make_generation(alice, flagged=[0])
            make_generation(alice, State.FAILED)
            audit.record(charlie, "pool.pause", f"pool-{number}", None, None)
        # The first view of pictures is recorded.
        client.get("/admin/")
        with CaptureQueriesContext(connection) as queries:
            assert client.get("/admin/").status_code == 200
        counted.append(len(queries))
    assert counted[0] == counted[1] <= 30


@pytest.mark.usefixtures("redis")
def test_the_admin_has_our_name_and_style_and_leads_back(client: Client, charlie: User) -> None:
    client.force_login(charlie)
    page = client.get("/admin/").content.decode()
    assert "<title>Overview | Dreamsite</title>" in page
    assert '<a href="/">Studio</a>' in page
    assert "dreamsite/admin.css" in page
