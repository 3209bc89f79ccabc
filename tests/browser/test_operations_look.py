"""The operations page in a real browser: wide and narrow, in dark and light, by keyboard, live."""

import re
from datetime import timedelta
from typing import Literal

import pytest
from django.conf import settings
from django.test import Client
from django.utils import timezone
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.broker import progress
from generation.jobs import control
from generation.models import (
    DiffusionModel,
    Generation,
    PausedPool,
    QueueSample,
    RetentionRule,
    State,
    WorkerCommand,
)
from tests.support.browser import NAMELESS, check_width, needs_chromium, sign_in
from tests.support.generations import bundled_model, make_generation
from tests.support.workers import age_heartbeat, register_worker

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")


def busy(alice: User, bob: User) -> None:
    """Create rows of every kind."""
    now = timezone.now()
    for number in range(60):
        state = State.FAILED if number % 9 == 4 else State.CANCELED if number % 13 == 5 else State.SUCCEEDED
        row = make_generation(
            bob if number % 3 else alice, state, created=now - timedelta(minutes=23 * number + number**2 % 17)
        )
        row.cost = 1.3 + number % 7
        row.worker = "atelier-2"
        row.started = row.created + timedelta(seconds=1 + number % 5)
        row.finished = row.started + timedelta(seconds=3 + number % 11)
        row.save()
    make_generation(alice, State.QUEUED, created=now - timedelta(minutes=4))
    for hour in range(20):
        QueueSample.objects.create(
            pool="default", minute=now - timedelta(hours=hour), depth=hour % 7 * 3, oldest_seconds=hour % 5 * 40
        )
    running = make_generation(alice, State.RUNNING)
    Generation.objects.filter(pk=running.pk).update(worker="atelier-1")
    progress.report([running.pk], progress.Progress(12, 20, "denoising"))
    register_worker(
        "atelier-1", host="atelier", device="cuda:0", memory_used=9_400_000_000, memory_total=24_000_000_000
    )
    register_worker(
        "atelier-2", host="atelier", models=["dreamsite/tiny-edit", "stabilityai/sd-turbo"], is_drained=True
    )
    register_worker("cellar-1", host="cellar")
    age_heartbeat("cellar-1", 80)
    control.send("atelier-1", WorkerCommand.Action.DRAIN, "", "charlie")
    failed = control.send("atelier-2", WorkerCommand.Action.WARM, "dreamsite/tiny-edit", "charlie")
    control.fail(failed, "Model 'dreamsite/tiny-edit' could not be loaded.")


def test_the_operations_page_fits_every_width_and_is_live(
    browser: Browser, live_server: LiveServer, client: Client, alice: User, bob: User, charlie: User
) -> None:
    busy(alice, bob)
    bundled_model()
    DiffusionModel.objects.update_or_create(
        id="dreamsite/tiny-redraw", defaults={"family": "stable-diffusion", "enabled": True}
    )
    client.force_login(charlie)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    problems: list[str] = []
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}])
    page = context.new_page()
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(f"{live_server.url}/admin/operations/")
    expect(page.get_by_role("heading", level=1, name="Operations")).to_be_visible()
    for width in (1440, 390, 320):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            check_width(page)
            assert page.evaluate(NAMELESS) == []
    page.set_viewport_size({"width": 1440, "height": 900})

    # New rows appear without a reload, and the focus stays.
    pause = page.get_by_role("button", name="Pause the pool default")
    pause.focus()
    PausedPool.objects.create(pool="other", by="bob")
    make_generation(alice, State.QUEUED)
    expect(page.get_by_role("row", name=re.compile("^default 2"))).to_be_visible()
    expect(pause).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.get_by_text("The pool default is paused: running generations finish")).to_be_visible()
    page.get_by_role("button", name="Resume the pool default").click()
    expect(page.get_by_text("The pool default was resumed.")).to_be_visible()
    register_worker("atelier-2", is_drained=True)
    page.get_by_role("button", name="Resume atelier-2").click()
    expect(page.get_by_text("Sent “resume” to atelier-2")).to_be_visible()
    page.get_by_text("Requests of the last 24 hours as a table").click()
    expect(page.get_by_role("columnheader", name="Canceled")).to_be_visible()
    denoising = page.get_by_role("img", name="Denoising")
    expect(page.get_by_role("img", name="From acceptance to end")).to_be_visible()
    expect(denoising).to_be_hidden()
    page.get_by_text("Phases", exact=True).click()
    expect(denoising).to_be_visible()

    # A switch in the list of models, at the width of a phone, by keyboard.
    page.set_viewport_size({"width": 390, "height": 900})
    page.goto(f"{live_server.url}/admin/generation/diffusionmodel/?enabled__exact=1")
    check_width(page)
    expect(page.get_by_role("switch", name="dreamsite/tiny-edit")).to_be_disabled()
    page.get_by_role("switch", name="dreamsite/tiny-redraw", checked=True).press("Space")
    expect(page.get_by_text("Disabled dreamsite/tiny-redraw.")).to_be_visible()
    assert page.url.endswith("?enabled__exact=1")
    page.get_by_role("link", name="No", exact=True).click()
    page.get_by_role("switch", name="dreamsite/tiny-redraw", checked=False).click()
    expect(page.get_by_text("Enabled dreamsite/tiny-redraw.")).to_be_visible()

    for name in ("Audit", "Review"):
        page.get_by_role("navigation", name="Main").get_by_role("link", name=name).click()
        expect(
            page.get_by_role("link", name=name, exact=False).and_(page.locator("[aria-current]"))
        ).to_be_in_viewport()

    # Retention: preview, and run.
    old = make_generation(alice, created=timezone.now() - timedelta(days=40))
    RetentionRule.objects.create(what="content", state="succeeded", days=30)
    generation = make_generation(bob, created=timezone.now() - timedelta(days=50))
    page.goto(f"{live_server.url}/admin/operations/retention/")
    page.get_by_label("Generation ID").fill(str(generation.pk))
    page.get_by_label("Reason", exact=True).fill("a claim")
    page.get_by_role("button", name="Put on hold").click()
    expect(page.get_by_text("is on legal hold.")).to_be_visible()
    page.get_by_role("link", name="Preview").click()
    expect(page.get_by_text("1 generation, the oldest of")).to_be_visible()
    for width in (1440, 390, 320):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in SCHEMES:
            page.emulate_media(color_scheme=scheme)
            check_width(page)
            assert page.evaluate(NAMELESS) == []
    page.get_by_role("button", name="Run now: all pictures").click()
    expect(page.get_by_text("applied to 1 generation. Nothing more is due now.")).to_be_visible()
    assert Generation.objects.get(pk=old.pk).deleted
    assert not Generation.objects.get(pk=generation.pk).deleted
    context.close()
    assert problems == []


def test_the_overview_refreshes_itself_while_it_is_seen(page: Page, live_server: LiveServer, charlie: User) -> None:
    sign_in(page, "charlie")
    page.goto(f"{live_server.url}/admin/")
    page.locator("#failures-link").focus()
    make_generation(charlie, State.FAILED)
    look = "document.dispatchEvent(new Event('visibilitychange'))"
    page.evaluate(look)
    expect(page.get_by_role("link", name="1 out_of_memory")).to_be_visible()
    expect(page.locator("#failures-link")).to_be_focused()
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.evaluate(look)
    # A hidden page asks for nothing: this is asked for by the test alone.
    page.evaluate("fetch('/admin/?asked').then(() => true)")
    assert asked == [f"{live_server.url}/admin/?asked"]

    # Signed out elsewhere, the page says so.
    page.context.clear_cookies()
    page.evaluate("delete document.hidden")
    page.evaluate(look)
    expect(page.get_by_label("Username")).to_be_visible()
