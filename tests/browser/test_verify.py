"""The page that says where a picture comes from, as anybody uses it: without an account, and without scripts."""

from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect
from pytest_django import Settings
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from tests.support import pictures
from tests.support.accessibility import problems_of
from tests.support.browser import check_width, needs_chromium
from tests.support.marked import content_of, encoded_again, make_marked
from tests.support.signed_pictures import by_camera

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis", "tiny_edit")]


@pytest.fixture(autouse=True)
def _own_folder(settings: Settings, tmp_path: Path) -> None:
    settings.DATA_DIR = tmp_path / "site"
    settings.DATA_DIR.mkdir()


@pytest.mark.parametrize("scripts", [True, False])
def test_anybody_learns_where_a_picture_comes_from(
    browser: Browser, alice: User, live_server: LiveServer, scripts: bool
) -> None:
    content = content_of(make_marked(alice))
    photo = pictures.photo(300, 200, "JPEG")
    foreign = by_camera(photo)
    files = {
        "Made here": content,
        "Made here, changed since": encoded_again(content),
        "Signed elsewhere": foreign,
        "Changed since it was signed": foreign[:-20] + bytes(20),
        "Origin not known": photo,
    }
    context = browser.new_context(java_script_enabled=scripts)
    page = context.new_page()
    page.goto(f"{live_server.url}/accounts/sign-in")
    page.get_by_role("link", name="Where does a picture come from?").click()
    for title, file in files.items():
        page.get_by_label("Picture").set_input_files({"name": "p", "mimeType": "", "buffer": file})
        page.get_by_role("button", name="Verify").click()
        expect(page.get_by_role("heading", level=1)).to_have_text(title)
        expect(page.get_by_text("What is not known")).to_be_visible()
        if scripts:
            assert not problems_of(page, [(1440, "light"), (1440, "dark"), (390, "light")])
            check_width(page)
    page.get_by_label("Picture").set_input_files({"name": "p", "mimeType": "", "buffer": b"%PDF-1.7"})
    page.get_by_role("button", name="Verify").click()
    expect(page.get_by_role("alert")).to_contain_text("a PDF document")
    context.close()
