"""Every page checked by axe-core against WCAG 2.2 AA, in light and dark, wide and narrow; none breaks its own policy."""

import shutil
from collections.abc import Iterator
from typing import Any, Literal

import pytest
from django.conf import settings
from django.contrib.admin.utils import quote
from django.test import Client
from django.utils import timezone
from playwright.sync_api import BrowserContext
from pytest_django.live_server_helper import LiveServer

from accounts import email_links
from accounts.models import ApiToken, AuditEntry, User
from generation.jobs import control
from generation.library import albums, deletion, sharing
from generation.maintenance import retention
from generation.models import (
    ContactSheet,
    Generation,
    RetentionRule,
    State,
    WorkerCommand,
)
from generation.models.review import Review
from generation.moderation import review
from generation.repositories.files import BUNDLED
from tests.support.accessibility import problems_of, violations
from tests.support.browser import needs_chromium, record_refusals, sign_in
from tests.support.canaries import make_canary, make_failed_canary
from tests.support.generations import make_generation
from tests.support.workers import register_worker

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]

VIEWS: tuple[tuple[int, Literal["light", "dark"]], ...] = ((1440, "light"), (1440, "dark"), (390, "light"))
STAFF_VIEWS: tuple[tuple[int, Literal["light", "dark"]], ...] = ((1440, "light"), (390, "dark"))


def pages(alice: User) -> Iterator[str]:
    """Yield an address of each page of the site, with rows of every kind on it."""
    whole = make_generation(alice, num_images_per_prompt=2, flagged=[1])
    running, failed = make_generation(alice, State.RUNNING), make_generation(alice, State.FAILED)
    trashed = make_generation(alice)
    Generation.objects.filter(pk=trashed.pk).update(trashed=trashed.created)
    sheet = ContactSheet.objects.create(user=alice, columns={"field": "seed", "values": ["1", "2"]})
    for cell in range(2):
        Generation.objects.filter(pk=make_generation(alice, seed=cell).pk).update(contact_sheet=sheet, cell=cell)
    link = sharing.share(whole, 0, None, sharing.Choices(with_recipe=True))
    yield from ("/", f"/?from={whole.pk}", "/history/", "/history/?q=nothing", "/history/?state=failed")
    for generation in (whole, running, failed):
        yield f"/history/{generation.pk}/"
    yield from (
        f"/sheets/{sheet.pk}/",
        f"/history/{whole.pk}/?sharing",
        "/trash/",
        "/tokens/",
        "/usage/",
        "/settings/",
        "/settings/export",
    )
    album = albums.create(alice, "Best of")
    albums.add(album, [whole.pk])
    of_album = sharing.share_album(album, None, with_recipe=True)
    yield from ("/albums/", f"/albums/{album.pk}/", f"/history/?album={album.pk}", "/links/", f"/s/{of_album.code}")
    yield from (
        "/accounts/password/forgotten",
        "/accounts/password/reset/x/x",
        "/accounts/email",
        "/accounts/email/unknown",
        f"/accounts/email/{email_links.code(alice, 'a@example.org')}",
    )
    yield from ("/settings/delete", "/accounts/password", "/history/unknown/")
    yield from (f"/s/{link.code}", f"/s/{link.code}/report", "/s/unknown", "/verify")


def staff_pages(alice: User, charlie: User) -> Iterator[str]:
    """Yield an address of each page of the admin that has templates of ours, with rows of every kind on it."""
    whole = make_generation(alice, num_images_per_prompt=2, flagged=[0, 1])
    failed = make_generation(alice, State.FAILED)
    make_generation(alice, State.QUEUED)
    on_hold = make_generation(alice, flagged=[0])
    token, _ = ApiToken.objects.issue(alice, "laptop")
    Generation.objects.filter(pk=on_hold.pk).update(token=token)
    retention.set_hold(on_hold.pk, True, charlie, "a claim")
    decision = review.decide(on_hold.images.get(), charlie, Review.SAFE)
    deletion.delete(make_generation(alice))
    RetentionRule.objects.create(what=RetentionRule.What.UPLOADS, days=30, enabled=True)
    make_canary("red", make_canary(), dtype="bfloat16")
    make_failed_canary("It could not be loaded.")
    register_worker("atelier-1", models=["dreamsite/tiny-edit"])
    register_worker("cellar-1", is_drained=True)
    control.send("atelier-1", WorkerCommand.Action.WARM, "dreamsite/tiny-edit", "charlie")
    control.send("atelier-1", WorkerCommand.Action.DOWNLOAD, "dreamsite/tiny-edit", "charlie")
    entry, rows = AuditEntry.objects.latest("pk"), "/admin/generation/generation/"
    yield from ("/admin/", rows, f"{rows}?q=nothing", f"{rows}?state__exact=failed&date={timezone.localdate():%Y-%m}")
    for row in (whole, failed, on_hold):
        yield f"{rows}{row.pk}/change/"
    yield from (
        "/admin/review/",
        "/admin/review/batch/",
        "/admin/review/metrics/",
        "/admin/operations/",
        "/admin/operations/retention/?preview",
        "/admin/operations/canaries/",
    )
    yield from ("/admin/accounts/auditentry/", f"/admin/accounts/auditentry/{entry.pk}/change/")
    for kind, pk in (("diffusionmodel", "dreamsite/tiny-edit"), ("reviewdecision", decision.pk), ("lora", None)):
        yield f"/admin/generation/{kind}/"
        yield f"/admin/generation/{kind}/{quote(pk)}/change/" if pk else f"/admin/generation/{kind}/add/"
    # A directory, so that the page shows what was found.
    shutil.copytree(BUNDLED / "tiny-edit", settings.MODELS_DIR / "someone/editor", dirs_exist_ok=True)
    yield "/admin/generation/diffusionmodel/add/?source=someone/editor"
    yield from ("/admin/accounts/user/", f"/admin/accounts/user/{alice.pk}/change/", "/admin/accounts/apitoken/")


def test_axe_finds_nothing_serious(
    context: BrowserContext, alice: User, live_server: LiveServer, settings: Any
) -> None:
    settings.EMAIL_URL = "smtp://127.0.0.1"
    alice.email = "alice@example.org"
    alice.save()
    addresses = list(pages(alice))
    page = context.new_page()
    refusals = record_refusals(page)
    # Wait for transitions: axe would judge the colours between.
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{live_server.url}/history/")
    problems = violations(page)
    refusals.clear()
    sign_in(page)
    for address in addresses:
        page.goto(live_server.url + address)
        problems += refusals
        problems += problems_of(page, VIEWS)
        # Axe inserts styles of its own.
        refusals.clear()
    assert not problems, "\n".join(problems)


def test_axe_finds_nothing_serious_in_the_admin(
    context: BrowserContext, client: Client, alice: User, charlie: User, live_server: LiveServer
) -> None:
    addresses = list(staff_pages(alice, charlie))
    page = context.new_page()
    refusals = record_refusals(page)
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{live_server.url}/admin/")
    problems = violations(page)
    refusals.clear()
    client.force_login(charlie)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}])
    for address in addresses:
        answer = page.goto(live_server.url + address)
        assert answer
        assert answer.ok, address
        problems += refusals
        problems += problems_of(page, STAFF_VIEWS)
        refusals.clear()
    for kind, action in (
        ("generation/generation", "hold"),
        ("generation/generation", "confirm_flag"),
        ("accounts/user", "suspend"),
    ):
        page.set_viewport_size({"width": 1440, "height": 900})
        page.goto(f"{live_server.url}/admin/{kind}/")
        page.locator("input.action-select").first.check()
        page.locator("select[name=action]").first.select_option(action)
        page.get_by_role("button", name="Go").first.click()
        page.get_by_role("link", name="No, take me back").wait_for()
        problems += problems_of(page, STAFF_VIEWS)
    assert not problems, "\n".join(problems)
