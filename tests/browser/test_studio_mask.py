"""Changing a part of a picture in the studio, on the real service: what is not marked is identical in the result."""

import io
from collections.abc import Callable, Iterator

import pytest
from PIL import Image, ImageChops
from playwright.sync_api import Browser, CDPSession, Page, expect

from tests.support.browser import needs_chromium, new_context
from tests.support.environment import ROOT
from tests.support.service import Service

pytestmark = needs_chromium

SAMPLE = ROOT / "dreamsite" / "static" / "sample.jpg"
WIDTH, HEIGHT = 451, 300


@pytest.fixture
def open_studio(browser: Browser, service: Service) -> Iterator[Callable[..., Page]]:
    """Opens the studio as the administrator. An error of a script fails the test."""
    contexts, problems = [], []

    def open_(width: int = 1440, **options: bool) -> Page:
        context = new_context(browser, width, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{service.url}/")
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill(service.password)
        page.get_by_label("Password").press("Enter")
        page.wait_for_url(f"{service.url}/")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


def sample() -> Image.Image:
    with Image.open(SAMPLE) as picture:
        return picture.convert("RGB")


def result_of(page: Page, service: Service) -> tuple[str, Image.Image]:
    """Return the id of the studio's newest generation, once it has succeeded, and its picture."""
    job = page.locator(".job").first
    expect(job).to_have_class("job succeeded")
    generation_id = job.get_attribute("data-generation")
    assert generation_id
    return generation_id, read(page, f"{service.url}/history/{generation_id}/1.png", "RGB")


def read(page: Page, address: str, mode: str) -> Image.Image:
    return Image.open(io.BytesIO(page.request.get(address).body())).convert(mode)


def generate_on_phone(page: Page, service: Service, prompt: str) -> tuple[str, Image.Image]:
    """Send the request of the studio on a narrow screen. Return as `result_of` does."""
    expect(page.locator("#drop .mask-canvas")).to_be_visible()
    page.wait_for_load_state()
    page.locator("#prompt").fill(prompt)
    page.get_by_role("button", name="Adjust").click()
    page.locator("#num_inference_steps").fill("2")
    page.get_by_role("button", name="Generate").click()
    return result_of(page, service)


def check_changes(before: Image.Image, after: Image.Image, mask: Image.Image) -> None:
    """Check that two pictures differ inside of a mask, and are identical outside."""
    assert before.size == after.size == mask.size
    difference = ImageChops.difference(before, after)
    assert difference.getbbox()
    difference.paste(0, mask=mask)
    assert difference.getbbox() is None


def test_a_part_is_changed_by_keyboard_alone(open_studio: Callable[..., Page], service: Service) -> None:
    page = open_studio()
    page.set_input_files("#image", SAMPLE)
    expect(page.get_by_alt_text("Input picture: sample.jpg")).to_be_visible()
    page.keyboard.press("m")
    editor = page.get_by_role("dialog", name="Mark what may change")
    expect(editor.get_by_role("application")).to_be_focused()
    page.keyboard.press("r")
    for key, times in (("ArrowLeft", 8), ("Enter", 1), ("ArrowRight", 16), ("ArrowDown", 10), ("Enter", 1)):
        for _ in range(times):
            page.keyboard.press(key)
    expect(editor.get_by_role("status")).to_contain_text("% may change.")
    page.keyboard.press("Escape")
    expect(editor).to_be_hidden()
    page.locator("#prompt").fill("make it night")
    page.locator("#num_inference_steps").fill("2")
    page.keyboard.press("Control+Enter")
    generation_id, result = result_of(page, service)

    mask = read(page, f"{service.url}/history/{generation_id}/mask.png", "L")
    step = 9  # a fiftieth of the longer side
    left, upper = WIDTH // 2 - 8 * step, HEIGHT // 2
    assert mask.getbbox() == (left, upper, left + 16 * step + 1, upper + 10 * step)
    check_changes(sample(), result, mask)


def touch(session: CDPSession, kind: str, *points: tuple[float, float]) -> None:
    places = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
    session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": places})


def test_a_part_is_changed_by_touch_and_changed_again(open_studio: Callable[..., Page], service: Service) -> None:
    page = open_studio(390, has_touch=True, is_mobile=True)
    page.set_input_files("#image", SAMPLE)
    page.get_by_role("button", name="Change a part only").tap()
    stage = page.locator(".mask-stage")
    expect(stage).to_be_visible()
    expect(page.locator("[data-mask-status]")).to_have_text("Nothing is marked.")
    box, fingers = stage.bounding_box(), page.context.new_cdp_session(page)
    assert box
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    percent = page.locator("[data-mask-percent]")
    fitted = percent.inner_text()
    touch(fingers, "touchStart", (x - 30, y))
    touch(fingers, "touchStart", (x - 30, y), (x + 30, y))
    touch(fingers, "touchMove", (x - 60, y), (x + 60, y))
    touch(fingers, "touchEnd")
    expect(percent).not_to_have_text(fitted)
    expect(page.locator("[data-mask-status]")).to_have_text("Nothing is marked.")
    page.get_by_role("button", name="Fit").tap()
    touch(fingers, "touchStart", (x - 60, y))
    touch(fingers, "touchMove", (x, y + 10))
    touch(fingers, "touchMove", (x + 60, y))
    touch(fingers, "touchEnd")
    expect(page.locator("[data-mask-status]")).to_contain_text("% may change.")
    # No taps from here on: right after a stroke, Chromium may take one for the end of its momentum.
    page.get_by_role("button", name="Done").click()
    generation_id, result = generate_on_phone(page, service, "make it night")

    mask = read(page, f"{service.url}/history/{generation_id}/mask.png", "L")
    check_changes(sample(), result, mask)
    page.goto(f"{service.url}/history/{generation_id}/")
    page.get_by_role("link", name="Use with mask").click()
    _, again = generate_on_phone(page, service, "make it sunset")
    check_changes(result, again, mask)


def test_without_scripts_a_mask_is_a_file(open_studio: Callable[..., Page], service: Service) -> None:
    page = open_studio(java_script_enabled=False)
    mask = Image.new("L", (WIDTH, HEIGHT))
    mask.paste(255, (0, 0, 200, HEIGHT))
    stream = io.BytesIO()
    mask.save(stream, "PNG")
    page.set_input_files("#image", SAMPLE)
    page.set_input_files("#mask", {"name": "mask.png", "mimeType": "image/png", "buffer": stream.getvalue()})
    page.get_by_label("What should happen to it?").fill("make it night")
    page.locator("#num_inference_steps").fill("2")
    page.get_by_role("button", name="Generate").last.click()
    expect(page.locator(".facts")).to_contain_text("may change")
    generation_id = page.url.rstrip("/").rpartition("/")[2]
    page.goto(f"{service.url}/?from={generation_id}&mode=remix")
    expect(page.locator("#drop .open-part")).to_be_visible()
    expect(page.locator("[name=mask_from]")).to_have_value(generation_id)
