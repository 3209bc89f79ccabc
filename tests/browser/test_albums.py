"""Albums in a real browser: from a selection, from the page of a generation, shared."""

import pytest
from playwright.sync_api import BrowserContext, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.models import Album
from tests.support.browser import check_everywhere, needs_chromium, sign_in
from tests.support.generations import make_generation
from tests.support.service import wait_until

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True)]

HEIGHTS = "(tile) => Array.from(tile.querySelectorAll('.picture, strong, small'), (part) => part.clientHeight)"


def test_a_selection_becomes_an_album_that_is_shared(
    page: Page, context: BrowserContext, alice: User, live_server: LiveServer
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    generations = [make_generation(alice, prompt=f"number {number}") for number in range(3)]
    sign_in(page)
    for generation in generations[:2]:
        page.locator(f"#tile-{generation.pk} .pick input").check(force=True)
    bar = page.get_by_role("group", name="Actions on the selection")
    bar.get_by_text("Album", exact=True).click()
    check_everywhere(page)
    bar.get_by_label("New album").fill("Best of")
    page.keyboard.press("Enter")
    expect(page.get_by_text("2 were added to “Best of”.")).to_be_visible()
    filters = page.get_by_role("navigation", name="Filters")
    filters.get_by_text("Album", exact=True).click()
    expect(filters.get_by_role("link", name="Best of")).to_be_visible()
    page.keyboard.press("Escape")
    page.locator(f"#tile-{generations[2].pk} .pick input").check(force=True)
    bar.get_by_text("Album", exact=True).click()
    bar.get_by_role("button", name="Best of").click()
    expect(page.get_by_text("One was added to “Best of”.")).to_be_visible()

    album = Album.objects.get()
    page.goto(f"{live_server.url}/history/?album={album.pk}")
    expect(page.locator(".tile")).to_have_count(3)
    page.locator(f"#tile-{generations[2].pk} .pick input").check(force=True)
    bar.get_by_text("Album", exact=True).click()
    bar.get_by_role("button", name="Take out of this album").click()
    expect(page.locator(".tile")).to_have_count(2)
    page.get_by_role("link", name="Share or edit").click()
    page.get_by_text("Share the album").click()
    check_everywhere(page)
    page.get_by_role("button", name="Create link").click()
    expect(page.get_by_role("button", name="Copy the link")).to_be_focused()
    address = f"{live_server.url}/s/{album.share_links.get().code}"
    wait_until(lambda: page.evaluate("navigator.clipboard.readText()") == address, "the copy")

    assert context.browser is not None
    visitor = context.browser.new_context()
    look = visitor.new_page()
    look.goto(address)
    check_everywhere(look)
    expect(look.get_by_role("heading", level=1)).to_have_text("Best of")
    pictures = look.locator(".shared-pictures img")
    expect(pictures).to_have_count(2)
    wait_until(lambda: look.evaluate("[...document.images].every((image) => image.naturalWidth)"), "the pictures")
    pictures.first.click()
    viewer = look.get_by_role("dialog", name="Picture")
    expect(viewer.get_by_alt_text("Picture 1")).to_be_visible()
    expect(viewer.get_by_role("button", name="Compare")).to_be_hidden()
    look.keyboard.press("ArrowRight")
    expect(viewer.get_by_alt_text("Picture 2")).to_be_visible()
    look.keyboard.press("Escape")
    expect(look.locator(".shared-pictures a:not(.report)").last).to_be_focused()
    visitor.close()
    Album.objects.create(user=alice, name="An album with a name that is too long for one line")
    page.goto(f"{live_server.url}/albums/")
    check_everywhere(page)
    page.set_viewport_size({"width": 390, "height": 900})
    long, short = page.locator(".albums li").all()
    assert long.evaluate(HEIGHTS) == short.evaluate(HEIGHTS)
