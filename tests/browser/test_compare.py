"""The page of a generation in a real browser: comparison, keys, title, sharing, delete and undo."""

import re

import pytest
from PIL import Image
from playwright.sync_api import BrowserContext, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.library import sharing
from generation.models import Generation, State
from tests.support.accessibility import problems_of
from tests.support.browser import (
    check_everywhere,
    needs_chromium,
    sign_in,
)
from tests.support.generations import make_generation
from tests.support.pictures import scene
from tests.support.service import wait_until

CLIP = "getComputedStyle(document.querySelector('.before')).clipPath"

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]


def open_page(page: Page, live_server: LiveServer, generation: Generation, query: str = "") -> None:
    page.goto(f"{live_server.url}/history/{generation.pk}/{query}")


def test_three_ways_to_compare(page: Page, alice: User, live_server: LiveServer) -> None:
    other, generation = make_generation(alice, prompt="the other"), make_generation(alice)
    sign_in(page)
    open_page(page, live_server, generation)
    page.get_by_role("button", name="Side by side").click()
    left, right = page.locator(".before").bounding_box(), page.locator(".after").bounding_box()
    assert left is not None
    assert right is not None
    assert left["x"] + left["width"] <= right["x"]
    expect(page.get_by_role("slider")).to_be_hidden()

    page.keyboard.press("3")
    hold = page.get_by_role("button", name="Hold to see the input")
    assert page.evaluate(CLIP) == "inset(0px 100% 0px 0px)"
    box = hold.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    assert page.evaluate(CLIP) == "inset(0px 0% 0px 0px)"
    page.mouse.up()
    assert page.evaluate(CLIP) == "inset(0px 100% 0px 0px)"
    hold.focus()
    page.keyboard.down("Space")
    assert page.evaluate(CLIP) == "inset(0px 0% 0px 0px)"
    page.keyboard.up("Space")
    assert page.evaluate(CLIP) == "inset(0px 100% 0px 0px)"

    # The view stays when another picture is compared, from the first paint on.
    page.get_by_role("navigation", name="Compare with").get_by_role("link", name="the other").click()
    page.wait_for_url(f"**with={other.pk}.0")
    expect(page.locator("html")).to_have_attribute("data-compare", "hold")
    expect(page.get_by_role("button", name="Hold to see “the other”")).to_be_visible()
    expect(page.get_by_role("button", name="Hold to compare")).to_have_attribute("aria-pressed", "true")


def test_arrow_keys_change_the_page_except_in_the_slider(page: Page, alice: User, live_server: LiveServer) -> None:
    first, second, third = (make_generation(alice) for _ in range(3))
    sign_in(page)
    open_page(page, live_server, second)
    page.get_by_role("slider").focus()
    page.keyboard.press("ArrowRight")
    expect(page).to_have_url(re.compile(f"{second.pk}/$"))
    assert page.get_by_role("slider").input_value() == "51"
    page.get_by_role("slider").blur()
    for key, expected in (("ArrowRight", first), ("ArrowLeft", second), ("k", third), ("j", second), ("j", first)):
        page.keyboard.press(key)
        page.wait_for_url(f"**/{expected.pk}/")
    page.keyboard.press("j")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_contain_text("Remix")
    expect(page).to_have_url(re.compile(f"{first.pk}/$"))


def test_a_title_is_saved_without_leaving_the_page(page: Page, alice: User, live_server: LiveServer) -> None:
    generation = make_generation(alice)
    sign_in(page)
    open_page(page, live_server, generation)
    page.get_by_role("slider").fill("80")
    page.keyboard.press("t")
    page.get_by_label("Title").fill("Night shift")
    page.get_by_label("Title").press("Enter")
    expect(page.get_by_role("heading", level=1)).to_have_text("Night shift")
    expect(page.get_by_text("Edit title and note")).to_be_focused()
    assert page.get_by_role("slider").input_value() == "80"
    page.get_by_role("button", name="Favourite").click()
    expect(page.get_by_role("button", name="Favourite")).to_have_attribute("aria-pressed", "true")
    generation.refresh_from_db()
    assert (generation.title, generation.is_favourite) == ("Night shift", True)


def test_a_share_link_is_created_copied_opened_and_revoked(
    page: Page, context: BrowserContext, alice: User, live_server: LiveServer
) -> None:
    context.grant_permissions(["clipboard-read", "clipboard-write"])
    generation = make_generation(alice, prompt="a secret", flagged=[0])
    sign_in(page)
    open_page(page, live_server, generation)
    page.get_by_text("Share the result").click()
    page.get_by_label("Works for").select_option("1 day")
    page.get_by_label("Before and after").check()
    page.get_by_label("With a download button").check()
    page.get_by_role("button", name="Create link").click()
    expect(page.get_by_role("button", name="Copy the link")).to_be_focused()
    address = f"{live_server.url}/s/{generation.share_links.get().code}"
    wait_until(lambda: page.evaluate("navigator.clipboard.readText()") == address, "the copy")

    assert context.browser is not None
    visitor = context.browser.new_context()
    look = visitor.new_page()
    look.goto(address)
    check_everywhere(look)
    picture = look.locator(".after img")
    expect(picture).to_have_css("filter", re.compile("blur"))
    look.get_by_role("figure").get_by_text("flagged").click()
    expect(picture).to_have_css("filter", "none")
    assert picture.evaluate("i => i.naturalWidth") == 96
    assert look.locator(".before img").evaluate("i => i.naturalWidth") == 96
    look.get_by_role("slider").fill("20")
    expect(look.locator(".before")).to_have_css("clip-path", re.compile("80%"))
    with look.expect_download() as waiting:
        look.get_by_role("link", name="Download").click()
    assert waiting.value.suggested_filename == "picture.png"
    assert "secret" not in look.content()

    page.goto(f"{live_server.url}/links/")
    check_everywhere(page)
    expect(page.locator(".links li")).to_contain_text("1 view")
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("The link was revoked")).to_be_visible()
    look.reload()
    expect(look.get_by_text("This link does not work")).to_be_visible()
    visitor.close()


def test_deletion_can_be_undone(page: Page, alice: User, live_server: LiveServer) -> None:
    generation = make_generation(alice, prompt="a keeper")
    sign_in(page)
    open_page(page, live_server, generation)
    page.keyboard.press("Delete")
    page.wait_for_url("**/history/")
    expect(page.locator(".tile")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".tile")).to_have_count(1)

    open_page(page, live_server, generation)
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("link", name="trash", exact=True).click()
    page.wait_for_url("**/trash/")
    check_everywhere(page)
    page.get_by_text("Delete now").click()
    page.get_by_role("button", name="Delete permanently").click()
    expect(page.get_by_text("The trash is empty.")).to_be_visible()
    generation.refresh_from_db()
    assert generation.deleted is not None


def test_the_studio_fits_every_width_and_theme(page: Page, alice: User, live_server: LiveServer) -> None:
    wide = make_generation(alice, prompt="W" * 200, picture=scene(300, 60), flagged=[0])
    generation = make_generation(alice, picture=scene(60, 300), num_images_per_prompt=10, prompt="make it night")
    child = make_generation(alice)
    Generation.objects.filter(pk=generation.pk).update(source=wide.images.get(), title="T" * 200, note="n" * 900)
    Generation.objects.filter(pk=child.pk).update(source=generation.images.get(index=3))
    for index in (0, 9):
        sharing.share(generation, index, None, sharing.Choices(True, True, True))
    sign_in(page)
    open_page(page, live_server, generation, f"?picture=4&with={wide.pk}.0&sharing")
    for view in ("Slider", "Side by side", "Hold to compare"):
        page.get_by_role("button", name=view).click()
        check_everywhere(page)
    page.goto(f"{live_server.url}/s/{generation.share_links.all()[0].code}")
    check_everywhere(page)


def test_it_works_without_scripts(context: BrowserContext, alice: User, live_server: LiveServer) -> None:
    make_generation(alice, prompt="the other")
    generation = make_generation(alice)
    assert context.browser is not None
    plain = context.browser.new_page(java_script_enabled=False)
    plain.goto(f"{live_server.url}/history/")
    sign_in(plain)
    open_page(plain, live_server, generation)
    plain.get_by_role("navigation", name="Compare with").get_by_role("link", name="the other").click()
    expect(plain.locator(".before .name")).to_have_text("the other")
    plain.get_by_text("Add title or note").click()
    plain.get_by_label("Title").fill("Night shift")
    plain.get_by_role("button", name="Save").click()
    expect(plain.get_by_role("heading", level=1)).to_have_text("Night shift")
    plain.get_by_role("button", name="Favourite").click()
    expect(plain.get_by_role("button", name="Favourite")).to_have_attribute("aria-pressed", "true")
    plain.get_by_text("Share the result").click()
    plain.get_by_role("button", name="Create link").click()
    expect(plain.locator(".links code")).to_have_text(re.compile(r"/s/[\w-]{43}$"))
    plain.get_by_text("Download", exact=True).click()
    with plain.expect_download() as download:
        plain.get_by_role("link", name="JPEG").click()
    assert download.value.suggested_filename.endswith("-1.jpg")
    plain.get_by_role("button", name="Delete").click()
    plain.get_by_role("button", name="Undo").click()
    expect(plain.locator(".tile")).to_have_count(2)
    plain.close()


def half(width: int = 96, height: int = 64) -> Image.Image:
    """A mask that is open at the left."""
    mask = Image.new("L", (width, height))
    mask.paste(255, (0, 0, width // 2, height))
    return mask


def test_a_mask_is_shown_over_the_pictures_and_used_again(page: Page, alice: User, live_server: LiveServer) -> None:
    generation = make_generation(alice, mask=half(), mask_feather=2, references=[scene(48, 48)])
    sign_in(page)
    tile = page.locator(f"#tile-{generation.pk}")
    expect(tile.locator(".tag")).to_have_text("part")
    expect(tile.locator(".mask")).to_have_css("opacity", "0")
    tile.hover()
    expect(tile.locator(".mask")).to_have_css("opacity", "0.72")
    open_page(page, live_server, generation)
    expect(page.locator(".facts").first).to_contain_text("50 % may change the rest is the input's, pixel by pixel")
    expect(page.get_by_role("region", name="Further pictures").get_by_role("img")).to_have_count(1)
    expect(page.locator(".after .open-part")).to_be_hidden()
    page.keyboard.press("m")
    expect(page.get_by_role("button", name="Mask")).to_have_attribute("aria-pressed", "true")
    for side in (".before", ".after"):
        expect(page.locator(f"{side} .open-part")).to_be_visible()
    check_everywhere(page)
    assert problems_of(page, ((1440, "dark"), (390, "light"))) == []

    page.get_by_role("link", name="Use with mask").click()
    expect(page.get_by_text("Result of make it night")).to_be_visible()
    expect(page.locator("#mask-input")).to_contain_text("50 % may change.")
    expect(page.locator("#drop .mask-canvas")).to_be_visible()
    page.goto(f"{live_server.url}/?from={generation.pk}&mode=remix")
    expect(page.locator("#mask-input")).to_contain_text("50 % may change.")
    expect(page.locator("#mask_feather")).to_have_value("2")

    failed = make_generation(alice, State.FAILED, mask=half())
    open_page(page, live_server, failed)
    expect(page.locator(".waiting .open-part")).to_be_visible()
