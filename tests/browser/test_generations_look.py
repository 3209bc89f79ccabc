"""The admin's list of generations as a table and as a grid, and the page of one, in a real browser."""

import pytest
from django.conf import settings
from django.test import Client
from playwright.sync_api import Browser, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.models import State
from tests.support.admin import LIST, change_page
from tests.support.browser import NAMELESS, check_width, needs_chromium, new_context
from tests.support.generations import make_generation

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]


def test_a_list_as_table_and_grid_and_a_page_with_its_buttons_in_view(
    browser: Browser, live_server: LiveServer, client: Client, alice: User, charlie: User
) -> None:
    flagged = make_generation(alice, num_images_per_prompt=3, flagged=[1], prompt="an unusually " + "long" * 40)
    make_generation(alice, State.FAILED)
    client.force_login(charlie)
    cookie = client.cookies[settings.SESSION_COOKIE_NAME].value
    context = new_context(browser)
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}])
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(live_server.url + LIST)
    expect(page.get_by_role("columnheader", name="Prompt")).to_be_visible()
    page.get_by_role("button", name="Grid").click()
    expect(page.get_by_role("columnheader", name="Prompt")).to_be_hidden()
    page.reload()
    expect(page.get_by_role("button", name="Grid", pressed=True)).to_be_visible()
    # The grid is the same form: what is flagged stays blurred, and rows are selected.
    expect(page.locator(".thumbnail.flagged img")).to_have_css("filter", "blur(12px) grayscale(1)")
    page.locator("input.action-select").first.check()
    expect(page.get_by_text("1 of 2 selected")).to_be_visible()
    page.get_by_text("State", exact=True).first.click()
    page.get_by_role("link", name="failed 1").click()
    expect(page.locator("input.action-select")).to_have_count(1)

    page.goto(live_server.url + change_page(flagged))
    expect(page.get_by_role("link", name="Review result 1")).to_be_in_viewport()
    expect(page.get_by_role("button", name="Delete permanently")).to_be_in_viewport()
    page.get_by_role("link", name="Result 2").click()
    result = page.get_by_alt_text("Result 2", exact=True)
    expect(result).to_have_css("filter", "blur(40px) grayscale(1)")
    page.get_by_text("flagged, score 0.93 · show").click()
    expect(result).to_have_css("filter", "none")
    context.close()

    phone = new_context(browser, 390)
    phone.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": live_server.url}])
    page = phone.new_page()
    for address in (LIST, change_page(flagged)):
        page.goto(live_server.url + address)
        check_width(page)
        assert page.evaluate(NAMELESS) == [], address
    page.goto(live_server.url + LIST)
    expect(page.get_by_role("button", name="Grid", pressed=True)).to_be_visible()
    phone.close()
    assert not problems
