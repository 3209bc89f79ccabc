"""A model is added in the admin by pasting its address: found on the hub, looked at, saved."""

import shutil
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings as django_settings
from django.test import Client
from playwright.sync_api import BrowserContext, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.models import DiffusionModel
from generation.repositories.files import BUNDLED
from tests.support.browser import check_width, needs_chromium
from tests.support.hub import ModelHub

NAME = "someone/editor"

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "tiny_edit")]


def check_layout(page: Page) -> None:
    for width in (1440, 390, 320):
        page.set_viewport_size({"width": width, "height": 900})
        check_width(page)


def test_a_model_is_pasted_looked_at_and_saved(
    context: BrowserContext,
    client: Client,
    charlie: User,
    live_server: LiveServer,
    hub: ModelHub,
    settings: Any,
    tmp_path: Path,
) -> None:
    settings.MODELS_OFFLINE = False
    settings.MODELS_DIR = tmp_path / "models"
    shutil.copytree(BUNDLED / "tiny-edit", tmp_path / "editor")
    commit = hub.add(NAME, tmp_path / "editor", {"license": "mit"}).commit
    client.force_login(charlie)
    cookie = client.cookies[django_settings.SESSION_COOKIE_NAME].value
    context.add_cookies([{"name": django_settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}])
    page = context.new_page()
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.goto(f"{live_server.url}/admin/generation/diffusionmodel/add/")
    source = page.get_by_label("Name, link, directory or file")
    expect(source).to_be_focused()
    source.fill("no/body")
    source.press("Enter")
    expect(page.get_by_text("The hub has no repository no/body")).to_be_visible()
    check_layout(page)

    page.get_by_label("Name, link, directory or file").fill(f"{hub.url}/{NAME}/tree/main")
    page.get_by_role("button", name="Inspect").click()
    found = page.get_by_role("region", name="What was found")
    expect(found).to_contain_text("13.4 MB are fetched from the hub")
    expect(found).to_contain_text("instruct-pix2pix, as its files tell")
    expect(found).to_contain_text("1024 pixels a side")
    check_layout(page)

    # What follows from the family is that of the one which is chosen.
    page.get_by_label("Family").select_option("sdxl")
    expect(found).to_contain_text("2048 pixels a side")
    page.get_by_label("Family").select_option("instruct-pix2pix")
    expect(found).to_contain_text("1024 pixels a side")
    page.get_by_role("button", name="Save and continue editing").click()
    expect(page.get_by_role("region", name="What is used")).to_contain_text(commit[:12])
    model = DiffusionModel.objects.get(pk=NAME)
    assert (model.revision, model.family, model.licence) == (commit, "instruct-pix2pix", "mit")
    page.get_by_role("link", name="Inspect again").click()
    expect(page.get_by_role("region", name="What was found now")).to_contain_text("as before")
    check_layout(page)
    assert problems == []
