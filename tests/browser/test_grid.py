"""The history's grid in a real browser: search, selection, keyboard."""

import io
import re
import zipfile
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Locator, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.broker import progress
from generation.models import ContactSheet, Generation, Lora, LoraUse, State
from generation.pages import history
from generation.parameters import MESSAGES, ErrorCode
from tests.support.browser import (
    HISTORY,
    check_everywhere,
    needs_chromium,
    sign_in,
)
from tests.support.generations import make_generation

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True)]


def make_some(user: User, count: int = 6) -> list[Generation]:
    """Create generations and return them newest first, as the grid shows them."""
    return [make_generation(user, prompt=f"number {number}") for number in range(count)][::-1]


def test_the_grid_needs_no_mouse(page: Page, alice: User) -> None:
    generations = make_some(alice)
    page.set_viewport_size({"width": 700, "height": 700})
    sign_in(page)
    keyboard = page.keyboard
    keyboard.press("ArrowRight")
    expect(page.locator(f"#to-{generations[0].pk}")).to_be_focused()
    keyboard.press("ArrowRight")
    keyboard.press("ArrowDown")
    expect(page.locator(f"#to-{generations[4].pk}")).to_be_focused()
    keyboard.press("ArrowLeft")
    keyboard.press("ArrowUp")
    expect(page.locator(f"#to-{generations[0].pk}")).to_be_focused()

    keyboard.press("f")
    expect(page.locator(f"#tile-{generations[0].pk} .star")).to_have_attribute("aria-pressed", "true")
    assert Generation.objects.get(pk=generations[0].pk).is_favourite

    keyboard.press("Delete")
    expect(page.locator(f"#tile-{generations[0].pk}")).to_have_count(0)
    expect(page.locator(f"#to-{generations[1].pk}")).to_be_focused()
    assert Generation.objects.get(pk=generations[0].pk).trashed is not None

    keyboard.press("?")
    dialog = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(dialog).to_contain_text("Remix")
    keyboard.press("f")
    keyboard.press("Escape")
    expect(dialog).to_have_count(0)
    assert not Generation.objects.get(pk=generations[1].pk).is_favourite

    keyboard.press("/")
    expect(page.get_by_label("Search prompts, titles and notes")).to_be_focused()
    keyboard.type("fr?")
    expect(page.get_by_label("Search prompts, titles and notes")).to_have_value("fr?")
    expect(page.get_by_text("No results")).to_be_visible()
    page.go_back()
    page.go_forward()


def test_remix_and_open_are_keys_too(page: Page, alice: User, live_server: LiveServer) -> None:
    (generation,) = make_some(alice, 1)
    sign_in(page)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/history/{generation.pk}/")
    page.go_back()
    page.wait_for_url(HISTORY)
    page.locator(f"#to-{generation.pk}").focus()
    with page.expect_request(re.compile(rf"/\?from={generation.pk}&mode=remix$")):
        page.keyboard.press("r")


def test_the_search_shows_matches_while_typing(page: Page, alice: User) -> None:
    make_some(alice, 3)
    match = make_generation(alice, prompt="a lighthouse at dusk")
    sign_in(page)
    page.get_by_label("Search prompts, titles and notes").press_sequentially("light")
    expect(page.locator(".tile")).to_have_count(1)
    page.wait_for_url("**/history/?q=light")
    page.get_by_role("link", name="Favourites").click()
    page.wait_for_url("**/history/?q=light&favourite=true")
    expect(page.get_by_text("No results")).to_be_visible()
    page.go_back()
    expect(page.locator(f"#to-{match.pk}")).to_be_visible()
    expect(page.get_by_label("Search prompts, titles and notes")).to_have_value("light")


def test_a_selection_is_deleted(page: Page, alice: User, tmp_path: Path) -> None:
    generations = make_some(alice)
    sign_in(page)
    bar = page.get_by_role("group", name="Actions on the selection")
    expect(bar).to_be_hidden()
    page.get_by_role("button", name="Select", exact=True).click()
    page.locator(f"#to-{generations[0].pk}").click()
    page.locator(f"#to-{generations[2].pk}").click(modifiers=["Shift"])
    expect(bar).to_contain_text("3 selected")
    expect(bar.get_by_role("button", name="Compare")).to_be_disabled()
    page.locator(f"#to-{generations[1].pk}").click()
    expect(bar.get_by_role("button", name="Compare")).to_be_enabled()
    page.keyboard.press("Escape")
    expect(bar).to_be_hidden()
    expect(page.get_by_role("button", name="Select", exact=True)).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("s")
    page.locator(f"#tile-{generations[0].pk} .pick input").click()
    page.locator(f"#tile-{generations[0].pk} .star").click()
    expect(page.locator(".star[aria-pressed=true]")).to_have_count(1)
    page.locator(f"#tile-{generations[2].pk} .pick input").click(modifiers=["Shift"])
    expect(bar).to_contain_text("3 selected")
    with page.expect_download() as waiting:
        bar.get_by_role("button", name="Download").click()
    waiting.value.save_as(tmp_path / "some.zip")
    with zipfile.ZipFile(io.BytesIO((tmp_path / "some.zip").read_bytes())) as file:
        assert len(file.namelist()) == 7

    bar.get_by_role("button", name="Favourite", exact=True).click()
    expect(page.locator(".star[aria-pressed=true]")).to_have_count(3)
    expect(page.get_by_text("3 are now favourites.")).to_be_visible()
    expect(bar).to_be_hidden()

    page.locator(f"#to-{generations[1].pk}").click()
    bar.get_by_role("button", name="Delete").click()
    expect(page.locator(".tile")).to_have_count(5)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".tile")).to_have_count(6)


@pytest.mark.usefixtures("redis")
def test_a_missed_deadline_has_a_word_of_its_own(page: Page, alice: User, live_server: LiveServer) -> None:
    late, too_late, canceled = (make_generation(alice, State.CANCELED) for _ in range(3))
    sheet = ContactSheet.objects.create(user=alice, columns={"field": "seed", "values": [1]})
    for row, code in ((late, ErrorCode.DEADLINE), (too_late, ErrorCode.DEADLINE_BEFORE_START)):
        Generation.objects.filter(pk=row.pk).update(error_code=code, error_message=MESSAGES[code])
    Generation.objects.filter(pk=late.pk).update(contact_sheet=sheet, cell=0)
    sign_in(page)
    for row, word in ((late, "timed out"), (too_late, "timed out"), (canceled, "canceled")):
        expect(page.locator(f"#tile-{row.pk} .state")).to_have_text(word)
    page.goto(f"{live_server.url}/sheets/{sheet.pk}/")
    expect(page.locator(".cell")).to_have_text("timed out")
    for path in (f"/studio/{too_late.pk}", f"/studio/{late.pk}"):
        part = page.request.get(live_server.url + path).text()
        assert re.search(r"<small[^>]*>\s*Timed out ·", part)
        assert "note-error" not in part
    for row, text in ((too_late, "timed out before it started"), (late, "timed out after 2.4 s")):
        page.goto(f"{live_server.url}/history/{row.pk}/")
        expect(page.locator("dd.canceled")).to_have_text(text)
        expect(page.get_by_role("note")).to_contain_text(
            "deadline" if row == too_late else "It took longer than it may"
        )
        expect(page.locator(".note-error")).to_have_count(0)
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    page.goto(f"{live_server.url}/trash/")
    expect(page.locator(".tile .state")).to_have_text("timed out")


@pytest.mark.usefixtures("redis")
def test_a_tile_shows_its_progress(page: Page, alice: User) -> None:
    generation = make_generation(alice, State.RUNNING)
    sign_in(page)
    progress.report([generation.pk], progress.Progress(7, 20, "denoising"))
    expect(page.locator(".tile .state")).to_contain_text("step 7 of 20")
    assert page.locator(".tile progress").get_attribute("value") is not None


def test_what_is_made_elsewhere_appears(page: Page, alice: User, live_server: LiveServer) -> None:
    page.goto(f"{live_server.url}/history/")
    sign_in(page)
    look = "document.dispatchEvent(new Event('visibilitychange'))"
    first = make_generation(alice, prompt="the first")
    page.evaluate(look)
    page.get_by_role("link", name="1 new", exact=True).click()
    expect(page.locator(".tile")).to_have_count(1)

    page.locator(f"#tile-{first.pk} .pick input").check(force=True)
    place = page.locator(f"#to-{first.pk}").bounding_box()
    for number in (2, 3):
        make_generation(alice, prompt=f"number {number}")
    page.evaluate("Object.defineProperty(document, 'hidden', { value: true, configurable: true })")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url) if "/history/tiles" in request.url else None)
    page.evaluate(look)
    # A hidden page asks for nothing: this is asked for by the test alone.
    page.evaluate("fetch(document.querySelector('.poll').getAttribute('hx-get') + '&asked=1').then(() => true)")
    assert [address.endswith("asked=1") for address in asked] == [True]
    page.evaluate("delete document.hidden")
    page.evaluate(look)
    new = page.get_by_role("link", name="2 new", exact=True)
    expect(new).to_be_visible()
    assert page.locator(f"#to-{first.pk}").bounding_box() == place
    new.click()
    expect(page.locator(".tile")).to_have_count(3)
    expect(new).to_have_count(0)
    expect(page.get_by_text("1 selected")).to_be_visible()


def test_all_that_match_are_deleted_and_restored(
    page: Page, alice: User, live_server: LiveServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "PAGE_SIZE", 3)
    make_some(alice, 8)
    make_generation(alice, prompt="a cat")
    # So low that the next page is not loaded at once.
    page.set_viewport_size({"width": 390, "height": 200})
    sign_in(page)
    page.goto(f"{live_server.url}/history/?q=number")
    page.locator(".pick input").first.check(force=True)
    bar = page.get_by_role("group", name="Actions on the selection")
    bar.get_by_role("button", name="Select all that match").click()
    expect(bar).to_contain_text("8 selected")
    page.locator(".pick input").first.press("Space")
    expect(bar).to_contain_text("7 selected")
    page.locator(".pick input").first.press("Space")
    bar.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("8 moved to the")).to_be_visible()
    expect(page.get_by_text("No results for “number”.")).to_be_visible()
    assert Generation.objects.owned_by(alice).count() == 1
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".tile").first).to_be_visible()
    assert Generation.objects.owned_by(alice).count() == 9

    page.goto(f"{live_server.url}/history/")
    page.locator(".pick input").first.check(force=True)
    bar.get_by_role("button", name="Select all").click()
    expect(bar).to_contain_text("9 selected")
    assert page.locator(".tile").count() < 9


def test_the_size_of_the_pictures_is_kept(page: Page, alice: User) -> None:
    make_some(alice, 2)
    sign_in(page)
    tile = page.locator(".tile").first
    widths = []
    for size in ("Small", "Medium", "Large"):
        page.locator("summary.chip", has_text="View").click()
        page.get_by_role("button", name=size).click()
        expect(page.get_by_role("button", name=size)).to_have_attribute("aria-pressed", "true")
        widths.append(tile.evaluate("tile => tile.clientWidth"))
        page.keyboard.press("Escape")
    assert widths == sorted(set(widths))
    page.reload()
    assert tile.evaluate("tile => tile.clientWidth") == widths[-1]
    page.locator("summary.chip", has_text="View").click()
    expect(page.get_by_role("button", name="Large")).to_have_attribute("aria-pressed", "true")
    page.get_by_role("link", name="Oldest first").click()
    page.wait_for_url("**/history/?sort=oldest")
    expect(page.locator(".tile").first).to_contain_text("number 0")


def test_the_grid_fits_every_width(page: Page, alice: User, live_server: LiveServer) -> None:
    lora = Lora.objects.create(id="someone/with-a-rather-long-name-for-a-lora", enabled=True)
    generation = make_generation(alice, flagged=[0], num_images_per_prompt=4)
    Generation.objects.filter(pk=generation.pk).update(is_favourite=True)
    LoraUse.objects.create(generation=generation, lora=lora, user=alice)
    make_generation(alice, State.QUEUED)
    sign_in(page)
    page.get_by_role("button", name="Select", exact=True).click()
    page.locator(f"#tile-{generation.pk} .pick input").check()
    check_everywhere(page)
    for chip in ("Date", "Seed", "State", "View"):
        page.locator("summary.chip", has_text=chip).click()
        check_everywhere(page)
    page.goto(f"{live_server.url}/history/?q=zebra&flagged=true")
    check_everywhere(page)


def test_only_its_tag_unblurs_a_flagged_tile(page: Page, alice: User) -> None:
    generation = make_generation(alice, flagged=[0])
    sign_in(page)
    tile = page.locator(f"#tile-{generation.pk}")
    assert "blur" in settled_filter(tile)
    page.get_by_role("button", name="Select", exact=True).click()
    tile.locator(".pick input").check()
    assert "blur" in settled_filter(tile)
    tile.locator(".tag").click()
    assert settled_filter(tile) == "none"
    tile.locator(".pick input").uncheck()
    assert settled_filter(tile) == "none"
    tile.locator(".tag").click()
    assert "blur" in settled_filter(tile)


def settled_filter(tile: Locator) -> str:
    """Return the computed `filter` of the tile's image once its transitions have ended."""
    return str(
        tile.locator("img").evaluate(
            "async (image) => {"
            " getComputedStyle(image).filter;"
            " await Promise.all(image.getAnimations().map((animation) => animation.finished));"
            " return getComputedStyle(image).filter; }"
        )
    )


def test_selection_and_filters_work_without_scripts(browser: Browser, alice: User, live_server: LiveServer) -> None:
    generations = make_some(alice, 3)
    page = browser.new_page(java_script_enabled=False)
    page.goto(f"{live_server.url}/history/")
    sign_in(page)
    page.get_by_label("Search prompts, titles and notes").fill("number 1")
    page.get_by_role("button", name="Search").click()
    expect(page.locator(".tile")).to_have_count(1)
    star = page.get_by_role("button", name="Favourite: number 1")
    star.click()
    expect(star).to_have_attribute("aria-pressed", "true")
    assert page.url.endswith("/history/?q=number+1")
    page.get_by_role("link", name="Show all").first.click()
    page.get_by_role("link", name="Favourites").click()
    expect(page.locator(f"#tile-{generations[1].pk}")).to_be_visible()
    expect(page.locator(".tile")).to_have_count(1)
    page.get_by_label("Select: number 1").check()
    page.get_by_role("button", name="Delete").click()
    page.get_by_role("button", name="Undo").click()
    page.wait_for_url("**/history/?favourite=true")
    expect(page.locator(f"#tile-{generations[1].pk}")).to_be_visible()
    page.close()


def test_a_tile_stays_selected_while_it_is_updated(page: Page, alice: User) -> None:
    generation = make_generation(alice, State.RUNNING)
    make_some(alice, 1)
    sign_in(page)
    for box in page.locator(".pick input").all():
        box.check(force=True)
    expect(page.get_by_text("2 selected")).to_be_visible()
    Generation.objects.filter(pk=generation.pk).update(state=State.FAILED)
    expect(page.locator(".tile.failed")).to_be_visible()
    expect(page.get_by_text("2 selected")).to_be_visible()
    expect(page.locator(".tile.failed .pick input")).to_be_checked()


def test_an_emptied_history_says_that_it_is_empty(page: Page, alice: User, live_server: LiveServer) -> None:
    make_some(alice, 2)
    sign_in(page)
    page.goto(f"{live_server.url}/history/?q=number")
    bar = page.get_by_role("group", name="Actions on the selection")
    for box in page.locator(".pick input").all():
        box.check(force=True)
    bar.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No results for “number”.")).to_be_visible()
    expect(page.get_by_role("heading", name="Today")).to_have_count(0)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".tile")).to_have_count(2)

    page.goto(f"{live_server.url}/history/")
    page.get_by_role("button", name="Select", exact=True).click()
    page.locator(".tile > a[id]").first.click()
    page.locator(".tile > a[id]").last.click()
    bar.get_by_role("button", name="Delete").click()
    expect(page.get_by_role("heading", name="Your pictures will appear here")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".tile")).to_have_count(2)
