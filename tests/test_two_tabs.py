"""A page that was open before its person signed out and in again in another tab: what is done on it still counts."""

import pytest
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.models import DiffusionModel, Generation
from tests.browser import needs_chromium, sign_in
from tests.generations import make_generation
from tests.pictures import photo

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]


def sign_out(page: Page) -> None:
    page.locator(".account summary").click()
    page.get_by_role("button", name="Sign out").click()


def test_forms_of_before_still_work(page: Page, alice: User, live_server: LiveServer) -> None:
    made = make_generation(alice)
    sign_in(page)
    other = page.context.new_page()
    other.goto(f"{live_server.url}/history/")
    sign_out(other)
    other.goto(f"{live_server.url}/history/")
    sign_in(other)
    page.locator(f"#tile-{made.pk} .star").click()
    expect(page.locator(f"#tile-{made.pk} .star")).to_have_attribute("aria-pressed", "true")
    assert Generation.objects.get(pk=made.pk).is_favourite
    sign_out(page)
    expect(page.get_by_label("Username")).to_be_visible()


def test_the_studio_keeps_what_was_prepared(
    page: Page, alice: User, tiny_edit: DiffusionModel, live_server: LiveServer
) -> None:
    sign_in(page)
    page.goto(f"{live_server.url}/")
    page.set_input_files("#image", {"name": "a.png", "mimeType": "image/png", "buffer": photo(64, 64)})
    page.get_by_label("What should happen to it?").fill("make it night")
    other = page.context.new_page()
    other.goto(f"{live_server.url}/history/")
    sign_out(other)
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_contain_text("You were signed out.")
    other.goto(f"{live_server.url}/history/")
    sign_in(other)
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".job")).to_have_count(1)
    assert Generation.objects.get().prompt == "make it night"
