"""The pages in a real browser: by keyboard, in dark and light, wide and narrow, with and without scripts."""

import re

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.models import Generation, State
from generation.pages import history
from tests.support.browser import (
    GROUND,
    GROUNDS,
    HISTORY,
    check_everywhere,
    needs_chromium,
    sign_in,
)
from tests.support.generations import make_generation
from tests.support.pictures import scene
from tests.support.service import wait_until

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True)]


def test_every_page_fits_every_width_and_theme(page: Page, alice: User, live_server: LiveServer) -> None:
    check_everywhere(page)
    sign_in(page)
    expect(page.get_by_text("Your pictures will appear here")).to_be_visible()
    check_everywhere(page)
    make_generation(alice, prompt="make it night " * 60, num_images_per_prompt=4, flagged=[0], picture=scene(300, 60))
    make_generation(alice, seed=2**63 - 1, prompt="W" * 200, picture=scene(60, 300))
    make_generation(alice, State.RUNNING)
    make_generation(alice, State.FAILED)
    page.reload()
    check_everywhere(page)
    for generation in Generation.objects.all():
        page.goto(f"{live_server.url}/history/{generation.pk}/")
        check_everywhere(page)
    page.goto(f"{live_server.url}/tokens/")
    check_everywhere(page)
    page.get_by_label("Name").fill("a rather long name for a token " * 3)
    page.get_by_role("button", name="Create token").click()
    expect(page.get_by_text("it is not shown again")).to_be_visible()
    page.get_by_text("Revoke", exact=True).click()
    check_everywhere(page)
    page.goto(f"{live_server.url}/accounts/password")
    check_everywhere(page)


def test_signing_in_needs_no_mouse(page: Page, alice: User) -> None:
    keyboard = page.keyboard
    expect(page.get_by_label("Username")).to_be_focused()
    keyboard.type("alice")
    keyboard.press("Tab")
    keyboard.type("alice-password")
    keyboard.press("Enter")
    page.wait_for_url(HISTORY)

    keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    for _ in range(4):
        keyboard.press("Tab")
    expect(page.get_by_role("link", name="Tokens", exact=True)).to_be_focused()
    keyboard.press("Enter")
    page.wait_for_url("**/tokens/")

    page.get_by_label("Name").focus()
    keyboard.type("laptop")
    keyboard.press("Enter")
    expect(page.locator("#raw")).to_have_text(re.compile(r"^dream_[\w-]{43}$"))

    page.wait_for_load_state()  # earlier no script closes the menu
    page.locator(".account summary").focus()
    keyboard.press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    keyboard.press("Escape")
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    expect(page.locator(".account summary")).to_be_focused()
    keyboard.press("Enter")
    page.get_by_role("button", name="Sign out").focus()
    keyboard.press("Enter")
    page.wait_for_url("**/accounts/sign-in")


def test_a_token_is_copied_and_revoked(page: Page, context: BrowserContext, alice: User) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    sign_in(page)
    page.get_by_role("link", name="Tokens", exact=True).click()
    page.get_by_label("Name").fill("laptop")
    page.get_by_label("Expires").select_option("after 30 days")
    page.get_by_role("button", name="Create token").click()
    raw = page.locator("#raw").inner_text()
    page.wait_for_load_state()  # earlier no script copies
    page.get_by_role("button", name="Copy the token").click()
    wait_until(lambda: page.evaluate("navigator.clipboard.readText()") == raw, "the copy")
    page.get_by_role("button", name="Copy the commands").click()
    wait_until(lambda: page.evaluate("navigator.clipboard.readText()").startswith("curl"), "the copy")
    assert f"Bearer {raw}" in page.evaluate("navigator.clipboard.readText()")

    page.reload()
    expect(page.get_by_role("heading", name="Your tokens")).to_be_visible()
    expect(page.locator("#raw")).to_have_count(0)
    assert alice.tokens.count() == 1

    expect(page.get_by_role("button", name="Revoke token")).to_be_hidden()
    page.get_by_label("Revoke laptop").click()
    page.get_by_role("button", name="Revoke token").click()
    expect(page.get_by_text("The token “laptop” was revoked.")).to_be_visible()
    assert alice.tokens.get().revoked is not None


def test_the_slider_moves_by_key_and_by_pointer(page: Page, alice: User) -> None:
    make_generation(alice, num_images_per_prompt=2)
    sign_in(page)
    page.locator(".tile > a").click()
    page.wait_for_url(re.compile(r"/history/[0-9a-f-]{36}/$"))
    slider = page.get_by_role("slider")
    clip = "getComputedStyle(document.querySelector('.before')).clipPath"
    assert page.evaluate(clip) == "inset(0px 50% 0px 0px)"
    slider.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(clip) == "inset(0px 49% 0px 0px)"
    page.keyboard.press("Home")
    assert page.evaluate(clip) == "inset(0px 100% 0px 0px)"
    box = slider.bounding_box()
    assert box is not None
    page.mouse.click(box["x"] + box["width"] * 0.8, box["y"] + box["height"] / 2)
    share = page.locator(".compare").evaluate("e => parseFloat(e.style.getPropertyValue('--at'))")
    assert abs(share - 80) < 3

    page.get_by_role("list", name="Results").get_by_role("link", name="Result 2").click()
    page.wait_for_url("**/?picture=2")
    expect(page.locator("[aria-label=Results] [aria-current] img")).to_have_attribute("alt", re.compile("Result 2"))


def test_a_flagged_picture_is_blurred_until_clicked(page: Page, alice: User) -> None:
    make_generation(alice, flagged=[0])
    sign_in(page)
    picture = page.locator(".tile img")
    assert "blur" in picture.evaluate("e => getComputedStyle(e).filter")
    page.locator(".tile .tag").click()
    expect(picture).to_have_css("filter", "none")
    page.get_by_text("hide").click()
    expect(picture).to_have_css("filter", re.compile("blur"))

    page.locator(".tile > a").click()
    result = page.locator(".after img")
    expect(result).to_have_css("filter", re.compile("blur"))
    page.get_by_text("flagged").first.click()
    expect(result).to_have_css("filter", "none")


POSITION_STORED = """() => {
  const tile = history.state?.tile && document.getElementById(history.state.tile);
  return tile && Math.abs(tile.getBoundingClientRect().top - history.state.top) < 1;
}"""
"""Whether the page has stored where it is scrolled to, which it does a moment after the last scroll."""


def scroll_to_end(page: Page, count: int) -> None:
    """Scroll until the grid has loaded all its tiles."""

    def has_all() -> bool:
        page.mouse.wheel(0, 2000)
        return page.locator(".tile").count() == count

    wait_until(has_all, f"{count} tiles")


def test_scrolling_loads_older_pages(page: Page, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE_SIZE", 12)
    for number in range(30):
        make_generation(alice, prompt=f"number {number}")
    page.set_viewport_size({"width": 390, "height": 400})
    sign_in(page)
    assert page.locator(".tile").count() < 30
    scroll_to_end(page, 30)
    expect(page.locator(".more")).to_have_count(0)
    assert page.locator(".grid h2").all_inner_texts() == ["Today"]
    names = page.locator(".tile .caption > span").all_text_contents()
    assert names == [f"number {number}" for number in reversed(range(30))]


def test_going_back_restores_the_scroll_position(page: Page, alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(history, "PAGE_SIZE", 12)
    generations = [make_generation(alice, prompt=f"number {number}") for number in range(60)]
    page.set_viewport_size({"width": 390, "height": 400})
    sign_in(page)
    link = page.locator(f"#to-{generations[12].pk}")
    scroll_to_end(page, 60)
    link.scroll_into_view_if_needed()
    wait_until(lambda: page.evaluate(POSITION_STORED), "the position")
    box = link.bounding_box()
    link.click()
    page.wait_for_url(f"**/history/{generations[12].pk}/")
    for return_to_history in (page.go_back, page.reload):
        return_to_history()
        expect(link).to_be_in_viewport()
        wait_until(lambda: page.evaluate(POSITION_STORED), "the position")
        wait_until(lambda: link.bounding_box() == box, "the position of before")


def test_the_status_of_a_waiting_page_has_a_margin(page: Page, alice: User, live_server: LiveServer) -> None:
    generation = make_generation(alice, State.QUEUED)
    page.set_viewport_size({"width": 320, "height": 700})
    sign_in(page)
    page.goto(f"{live_server.url}/history/{generation.pk}/")
    frame, words = page.locator(".waiting").bounding_box(), page.locator(".live small").bounding_box()
    assert frame is not None
    assert words is not None
    assert words["x"] - frame["x"] >= 8
    assert frame["x"] + frame["width"] - words["x"] - words["width"] >= 8


def test_new_results_appear_without_a_reload(page: Page, alice: User) -> None:
    generation = make_generation(alice, State.RUNNING)
    sign_in(page)
    expect(page.locator(".tile.running")).to_be_visible()
    Generation.objects.filter(pk=generation.pk).update(state=State.FAILED, error_message="Out of memory error.")
    expect(page.locator(".tile.failed")).to_be_visible()
    expect(page.locator(".poll.live")).to_have_count(0)

    Generation.objects.filter(pk=generation.pk).update(state=State.QUEUED)
    page.locator(".tile > a").click()
    expect(page.locator("#live")).to_contain_text("queued")
    Generation.objects.filter(pk=generation.pk).update(state=State.RUNNING)
    expect(page.locator("#live")).to_have_text("generating")
    Generation.objects.filter(pk=generation.pk).update(state=State.FAILED)
    expect(page.get_by_text("Out of memory error.")).to_be_visible()
    expect(page.locator("#live")).to_have_count(0)

    Generation.objects.filter(pk=generation.pk).update(state=State.RUNNING)
    page.reload()
    page.get_by_text("Add title or note").click()
    page.get_by_label("Note").fill("to be kept")
    Generation.objects.filter(pk=generation.pk).update(state=State.FAILED)
    expect(page.locator("#live")).to_contain_text("It has finished. Save title and note")
    expect(page.get_by_label("Note")).to_have_value("to be kept")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Out of memory error.")).to_be_visible()
    expect(page.get_by_text("to be kept").first).to_be_visible()


def test_the_theme_is_switched_and_remembered(page: Page, alice: User, charlie: User, live_server: LiveServer) -> None:
    switch = page.get_by_role("button", name="Switch between light and dark")
    assert page.evaluate(GROUND) == GROUNDS["light"]
    switch.click()
    assert page.evaluate(GROUND) == GROUNDS["dark"]
    sign_in(page, "charlie")
    assert page.evaluate(GROUND) == GROUNDS["dark"]
    page.get_by_role("link", name="Admin").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.goto(f"{live_server.url}/tokens/")
    switch.click()
    assert page.evaluate("localStorage.getItem('theme')") == "auto"
    assert page.evaluate(GROUND) == GROUNDS["light"]


def test_everything_works_without_scripts(
    browser: Browser, alice: User, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PAGE_SIZE", 2)
    for number in range(3):
        make_generation(alice, prompt=f"number {number}")
    page = browser.new_page(java_script_enabled=False)
    page.goto(f"{live_server.url}/history/")
    sign_in(page)
    page.get_by_role("link", name="Older").click()
    expect(page.locator(".tile")).to_have_count(1)
    page.locator(".tile > a").click()
    expect(page.locator(".after")).to_be_visible()
    page.wait_for_load_state()  # earlier the pictures may have other places
    expect(page.get_by_role("slider")).to_have_count(0)
    before, after = page.locator(".before").bounding_box(), page.locator(".after").bounding_box()
    assert before is not None
    assert after is not None
    assert before["x"] + before["width"] <= after["x"]
    page.get_by_role("link", name="Tokens", exact=True).click()
    page.get_by_label("Name").fill("laptop")
    page.get_by_role("button", name="Create token").click()
    expect(page.locator("#raw")).to_be_visible()
    page.get_by_label("Revoke laptop").click()
    page.get_by_role("button", name="Revoke token").click()
    expect(page.get_by_text("was revoked")).to_be_visible()
    page.close()
