"""Downloads in the admin: a bar that moves by itself in the list and on the page of a model, and a button that cancels."""

import pytest
from django.conf import settings
from django.contrib.admin.utils import quote
from django.test import Client
from playwright.sync_api import BrowserContext, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.jobs import control
from generation.models import DiffusionModel, WorkerCommand
from tests.support.browser import check_width, needs_chromium
from tests.support.workers import register_worker

MODEL = "someone/large"

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "tiny_edit")]


def advance(done: float) -> None:
    rate = {"done_bytes": int(done * 1e9), "total_bytes": 24_100_000_000, "bytes_per_second": 7e7}
    WorkerCommand.objects.update(state=WorkerCommand.State.RUNNING, **rate)


def test_a_bar_moves_and_a_button_cancels(
    context: BrowserContext, client: Client, charlie: User, live_server: LiveServer
) -> None:
    DiffusionModel.objects.create(id=MODEL, family="flux", revision="a" * 40)
    register_worker("atelier-1")
    control.send("atelier-1", WorkerCommand.Action.DOWNLOAD, MODEL, "charlie")
    client.force_login(charlie)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}])
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    models = f"{live_server.url}/admin/generation/diffusionmodel/"
    bar = page.get_by_role("progressbar", name=f"Download of {MODEL}")
    for address in (f"{live_server.url}/admin/operations/", models, f"{models}{quote(MODEL)}/change/"):
        advance(3.2)
        page.goto(address)
        expect(page.get_by_text("3.2 of 24.1 GB, about 5 min left")).to_be_visible()
        for width in (1440, 390, 320):
            page.set_viewport_size({"width": width, "height": 900})
            check_width(page)
        advance(12.8)
        expect(bar).to_have_attribute("value", "12800000000")
        expect(page.get_by_text("12.8 of 24.1 GB, about 3 min left")).to_be_visible()
    page.get_by_role("button", name=f"Cancel the download of {MODEL}").click()
    expect(page.get_by_text("Canceled by charlie. What was fetched is kept: another download goes on")).to_be_visible()
    expect(bar).to_have_count(0)
    assert WorkerCommand.objects.get().state == WorkerCommand.State.CANCELED
    assert problems == []
