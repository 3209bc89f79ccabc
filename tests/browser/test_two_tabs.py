"""A page that was open while its user signed out and in again in another tab still works."""

import pytest
from playwright.sync_api import Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.models import Generation
from tests.support.browser import (
    needs_chromium,
    sign_in,
    sign_out,
)
from tests.support.generations import make_generation

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]


def test_forms_from_before_the_sign_in_still_work(page: Page, alice: User, live_server: LiveServer) -> None:
    generation = make_generation(alice)
    sign_in(page)
    star = page.locator(f"#tile-{generation.pk} .star")
    expect(star).to_be_visible()  # the page has loaded before the session ends
    # As behind another tab: else it could ask for what is new meanwhile, and would say that the session has ended.
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    other = page.context.new_page()
    other.goto(f"{live_server.url}/history/")
    sign_out(other)
    other.goto(f"{live_server.url}/history/")
    sign_in(other)
    page.evaluate("delete document.hidden")
    star.click()
    expect(star).to_have_attribute("aria-pressed", "true")
    assert Generation.objects.get(pk=generation.pk).is_favourite
    sign_out(page)
