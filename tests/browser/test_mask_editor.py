"""The mask editor in a real browser: its tools, and that a mask stays with its picture alone."""

import base64
import io
import re
from collections.abc import Callable

import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.models import DiffusionModel
from tests.support.accessibility import problems_of
from tests.support.browser import check_everywhere, needs_chromium, new_context, open_studio
from tests.support.pictures import encoded, photo
from tests.support.service import wait_until

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]

WIDTH, HEIGHT = 240, 180
MASK_BYTES = """async () => {
  const [file] = document.getElementById("mask").files;
  if (!file) return null;
  const bytes = new Uint8Array(await file.arrayBuffer());
  return btoa(String.fromCharCode(...bytes));
}"""
DROP_FILE = """(stage, text) => {
  const transfer = new DataTransfer();
  const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
  transfer.items.add(new File([bytes], "dropped.png", { type: "image/png" }));
  stage.dispatchEvent(new DragEvent("drop", { bubbles: true, cancelable: true, dataTransfer: transfer }));
}"""


def sent_mask(page: Page) -> Image.Image | None:
    """Return the mask that the form sends."""
    text = page.evaluate(MASK_BYTES)
    return Image.open(io.BytesIO(base64.b64decode(text))).convert("L") if text else None


def choose(page: Page, name: str = "photo.png", content: bytes | None = None) -> None:
    content = content or photo(WIDTH, HEIGHT)
    page.set_input_files("#image", {"name": name, "mimeType": "image/png", "buffer": content})
    expect(page.get_by_alt_text(f"Input picture: {name}")).to_be_visible()


def finish(page: Page) -> Image.Image:
    """Close the editor and return the mask."""
    page.get_by_role("button", name="Done").click()
    wait_until(lambda: sent_mask(page) is not None, "the mask")
    mask = sent_mask(page)
    assert mask is not None
    return mask


@pytest.fixture
def studio(context: BrowserContext, live_server: LiveServer, alice: User, tiny_edit: DiffusionModel) -> Page:
    """The studio with a picture, opened by alice."""
    page = context.new_page()
    open_studio(page, live_server.url)
    choose(page)
    return page


@pytest.fixture
def drag(studio: Page) -> Callable[..., None]:
    """Drags the mouse along points of the picture, in its pixels."""

    def drag_(*points: tuple[int, int]) -> None:
        box = studio.locator(".mask-paper").bounding_box()
        assert box
        scale = box["width"] / WIDTH
        places = [(box["x"] + x * scale, box["y"] + y * scale) for x, y in points]
        studio.mouse.move(*places[0])
        studio.mouse.down()
        for place in places[1:]:
            studio.mouse.move(*place, steps=4)
        studio.mouse.up()

    return drag_


def test_every_tool_paints_and_erases(studio: Page, drag: Callable[..., None]) -> None:
    page = studio
    editor = page.get_by_role("dialog", name="Mark what may change")
    status = editor.get_by_role("status")
    page.get_by_role("button", name="Change a part only").click()
    expect(status).to_have_text("Nothing is marked.")

    drag((40, 40), (80, 40))
    expect(status).to_have_text(re.compile(r"^\d % may change\.$"))
    page.keyboard.press("r")
    expect(editor.get_by_role("button", name="Rectangle", exact=True)).to_have_attribute("aria-pressed", "true")
    drag((120, 20), (220, 100))
    page.keyboard.press("e")
    page.keyboard.press("l")
    drag((150, 40), (200, 40), (200, 90), (150, 90), (150, 40))
    page.keyboard.press("b")
    page.keyboard.press("m")
    drag((100, 100), (60, 60))
    mask = finish(page)

    assert mask.size == (WIDTH, HEIGHT)
    points = [(60, 40), (125, 25), (175, 60), (215, 95), (20, 150)]
    assert [mask.getpixel(point) for point in points] == [255, 255, 0, 255, 0]
    expect(page.locator("#drop .mask-canvas")).to_be_visible()
    expect(page.locator("#mask-input")).to_contain_text("The rest stays as it is, pixel by pixel.")


def test_what_is_painted_can_be_undone_inverted_and_cleared(studio: Page, drag: Callable[..., None]) -> None:
    page = studio
    status = page.locator("[data-mask-status]")
    page.get_by_role("button", name="Change a part only").click()
    undo, redo = page.get_by_role("button", name="Undo"), page.get_by_role("button", name="Redo")
    expect(undo).to_be_disabled()
    page.keyboard.press("r")
    drag((0, 0), (120, 180))
    expect(status).to_have_text("50 % may change.")
    drag((120, 0), (180, 180))
    expect(status).to_have_text("75 % may change.")
    page.keyboard.press("Control+z")
    expect(status).to_have_text("50 % may change.")
    redo.click()
    expect(status).to_have_text("75 % may change.")
    expect(redo).to_be_disabled()
    page.get_by_role("button", name="Invert").click()
    expect(status).to_have_text("25 % may change.")
    page.get_by_role("button", name="Clear").click()
    expect(status).to_have_text("Nothing is marked.")
    undo.click()
    expect(status).to_have_text("25 % may change.")
    page.keyboard.press("Control+Shift+z")
    page.get_by_role("button", name="Done").click()
    expect(page.get_by_role("button", name="Change a part only")).to_be_focused()
    wait_until(lambda: sent_mask(page) is None, "the end of the mask: an empty one is none")

    page.get_by_role("button", name="Change a part only").click()
    page.keyboard.press("i")
    finish(page)
    words = page.locator("#mask-input").get_by_role("status")
    expect(words).to_have_text("The whole picture may change.")
    page.get_by_role("button", name="Change the mask").click()
    page.get_by_role("button", name="Clear").click()
    page.get_by_role("button", name="Done").click()
    expect(words).to_have_text("The mask is removed.")
    page.get_by_role("button", name="Put it back").click()
    expect(words).to_have_text("The whole picture may change.")


def test_a_mask_is_drawn_by_keyboard_alone(studio: Page) -> None:
    page = studio
    page.get_by_role("button", name="Change a part only").focus()
    page.keyboard.press("Enter")
    status = page.locator("[data-mask-status]")
    expect(page.get_by_role("application", name="The picture")).to_be_focused()
    page.keyboard.press("r")
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    page.keyboard.press("Enter")
    expect(status).to_contain_text("Enter ends")
    for _ in range(20):
        page.keyboard.press("Shift+ArrowRight")
    for _ in range(4):
        page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(status).to_have_text("1 % may change.")
    page.keyboard.press("b")
    page.keyboard.press("]")
    page.keyboard.press("Enter")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    expect(status).to_have_text("1 % may change.")
    numbers = page.get_by_text("Numbers, file, keys")
    numbers.focus()
    page.keyboard.press("Enter")
    for name, value in (("Left", "200"), ("Top", "100"), ("Width", "100"), ("Height", "20")):
        page.get_by_label(name).fill(value)
    page.keyboard.press("Enter")
    expect(status).to_have_text("3 % may change.")
    page.get_by_label("Left").fill("240")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert").filter(has_text="outside of the picture")).to_be_visible()
    page.keyboard.press("Escape")
    wait_until(lambda: sent_mask(page) is not None, "the mask")
    mask = sent_mask(page)
    assert mask is not None
    left = WIDTH // 2 - 10 * 5
    assert mask.crop((0, 0, 200, HEIGHT)).getbbox() == (left, 90, left + 20, 110)
    assert mask.crop((200, 0, WIDTH, HEIGHT)).getbbox() == (0, 100, 40, 120)


def test_the_brush_and_the_view_follow_wheel_and_keys(studio: Page) -> None:
    page = studio
    page.get_by_role("button", name="Change a part only").click()
    size, percent = page.get_by_label("Size"), page.locator("[data-mask-percent]")
    before, fitted = int(size.input_value()), percent.inner_text()
    page.locator(".mask-stage").hover()
    page.mouse.wheel(0, -100)
    wait_until(lambda: int(size.input_value()) > before, "a larger brush")
    page.keyboard.press("[")
    page.keyboard.press("[")
    assert int(size.input_value()) < before
    page.keyboard.down("Control")
    page.mouse.wheel(0, -100)
    page.keyboard.up("Control")
    wait_until(lambda: percent.inner_text() != fitted, "the zoom")
    paper = page.locator(".mask-paper")
    at = paper.evaluate("paper => paper.style.translate")
    page.keyboard.down(" ")
    page.mouse.down()
    page.mouse.move(300, 300)
    page.mouse.up()
    page.keyboard.up(" ")
    assert paper.evaluate("paper => paper.style.translate") != at
    expect(page.locator("[data-mask-status]")).to_have_text("Nothing is marked.")
    page.keyboard.press("0")
    expect(percent).to_have_text(fitted)


def test_a_mask_can_be_a_file_and_stays_with_its_picture(studio: Page, live_server: LiveServer) -> None:
    page = studio
    page.get_by_role("button", name="Change a part only").click()
    half = Image.new("L", (24, 18))
    half.paste(255, (0, 0, 12, 18))
    page.locator(".mask-stage").evaluate(DROP_FILE, base64.b64encode(encoded(half)).decode())
    expect(page.locator("[data-mask-status]")).to_have_text("50 % may change.")
    finish(page)
    expect(page.get_by_alt_text("Input picture: photo.png")).to_be_visible()

    page.reload()
    wait_until(lambda: sent_mask(page) is not None, "the mask of the draft")
    expect(page.locator("#mask-input")).to_contain_text("50 % may change.")
    page.get_by_text("Edge and detail").click()
    page.get_by_label("Soft edge, in pixels").fill("3")
    check_everywhere(page)
    page.get_by_role("button", name="Change the mask").click()
    page.get_by_text("Numbers, file, keys").click()
    assert problems_of(page, ((1440, "light"), (390, "dark"))) == []
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Change the mask")).to_be_focused()
    assert problems_of(page, ((1440, "dark"), (390, "light"))) == []

    page.get_by_role("button", name="Remove mask").click()
    wait_until(lambda: sent_mask(page) is None, "the end of the mask")
    page.get_by_role("button", name="Put it back").click()
    wait_until(lambda: sent_mask(page) is not None, "the mask")
    choose(page, "other.png", photo(64, 64))
    wait_until(lambda: sent_mask(page) is None, "the end of the mask")
    expect(page.locator("#drop .mask-canvas")).to_have_count(0)
    page.get_by_role("button", name="Put it back").click()
    expect(page.locator("#mask-input")).to_contain_text("50 % may change.")


def test_what_the_browser_cannot_show_gets_a_mask_as_a_file(studio: Page) -> None:
    page = studio
    picture = Image.new("RGB", (64, 48), "navy")
    page.set_input_files("#image", {"name": "a.tif", "mimeType": "image/tiff", "buffer": encoded(picture, "TIFF")})
    expect(page.get_by_text("This browser cannot show it")).to_be_visible()
    expect(page.get_by_role("button", name="Change a part only")).to_be_hidden()
    page.set_input_files("#mask", {"name": "m.png", "mimeType": "image/png", "buffer": encoded(picture.convert("L"))})
    assert page.locator("#mask").evaluate("field => field.files[0].name") == "m.png"
    expect(page.get_by_role("button", name="Remove mask")).to_be_visible()


def test_the_numbers_of_a_mask_are_kept_and_shown_if_they_are_wrong(studio: Page) -> None:
    page = studio
    page.set_input_files("#mask", {"name": "m.png", "mimeType": "image/png", "buffer": photo(WIDTH, HEIGHT)})
    page.locator("#prompt").fill("make it night")
    expect(page.locator("#estimate")).to_contain_text("costs")
    options = page.get_by_text("Edge and detail")
    options.click()
    edge = page.get_by_label("Soft edge, in pixels")
    edge.fill("3")
    page.reload()
    expect(edge).to_have_value("3")
    edge.fill("600")
    expect(page.locator("#estimate")).to_contain_text("0 to 512")
    options.click()
    page.get_by_role("button", name="Generate").click()
    expect(edge).to_be_focused()
    edge.fill("4")
    expect(page.locator("#estimate")).to_contain_text("costs")


def test_phones_reach_all_tools_and_keep_what_was_undone(
    browser: Browser, studio: Page, live_server: LiveServer
) -> None:
    context = new_context(browser, 390, has_touch=True, is_mobile=True, storage_state=studio.context.storage_state())
    page = context.new_page()
    page.goto(live_server.url)
    choose(page)
    page.get_by_role("button", name="Change a part only").tap()
    numbers = page.get_by_text("Numbers, file, keys")
    numbers.tap()
    expect(page.get_by_role("button", name="Add rectangle")).to_be_visible()
    page.get_by_role("button", name="Invert").tap()
    numbers.tap()
    expect(page.get_by_role("button", name="Add rectangle")).to_be_hidden()

    page.get_by_role("button", name="Undo").tap()
    redo = page.get_by_role("button", name="Redo")
    expect(redo).to_be_enabled()
    touch = context.new_cdp_session(page)
    fingers = [{"x": 150, "y": 300, "id": 0}, {"x": 250, "y": 300, "id": 1}]
    for kind, points in (("touchStart", fingers[:1]), ("touchStart", fingers), ("touchEnd", [])):
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    redo.tap()
    expect(page.get_by_text("The whole picture may change.")).to_be_visible()
    context.close()


def test_stripes_have_no_gaps(studio: Page) -> None:
    page = studio
    choose(page, "wide.png", photo(1920, 32))
    page.set_input_files(
        "#mask", {"name": "m.png", "mimeType": "image/png", "buffer": encoded(Image.new("1", (9, 9), 1))}
    )
    expect(page.locator("#mask-input")).to_contain_text("The whole picture may change.")
    greens = page.locator("#drop .mask-canvas").evaluate(
        """(canvas) => Array.from({ length: 32 }, (_, y) => {
          const { data } = canvas.getContext("2d").getImageData(0, y, 32, 1);
          return data.filter((_, at) => at % 4 === 1).reduce((sum, green) => sum + green);
        })"""
    )
    assert max(greens) < 1.1 * min(greens), "each row has as much white"
