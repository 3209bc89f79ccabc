"""A user's way through the real service: from the first picture to an undone deletion, and a request by token."""

import re
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support import pictures
from tests.support.browser import (
    HISTORY,
    WAIT_MILLISECONDS,
    check_look,
    job_states,
    needs_chromium,
    record_job_states,
)
from tests.support.environment import ROOT
from tests.support.service import WAIT_SECONDS, Service

pytestmark = needs_chromium

SAMPLE = ROOT / "dreamsite" / "static" / "sample.jpg"
CARRIER = """bytes => {
  const carrier = new DataTransfer();
  carrier.items.add(new File([new Uint8Array(bytes)], "sample.jpg", { type: "image/jpeg" }));
  return carrier;
}"""


@pytest.fixture
def visitor(browser: Browser) -> Iterator[Page]:
    """A browser without a session."""
    context = browser.new_context()
    yield context.new_page()
    context.close()


def signed_in(browser: Browser, service: Service, *, width: int = 1440, scripts: bool = True) -> Page:
    context = browser.new_context(viewport={"width": width, "height": 844}, java_script_enabled=scripts)
    context.set_default_timeout(WAIT_MILLISECONDS)
    page = context.new_page()
    page.goto(service.url)
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(service.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{service.url}/")
    page.wait_for_load_state()  # earlier no script takes what is dropped
    return page


def test_from_a_dropped_picture_to_an_undone_deletion(browser: Browser, visitor: Page, service: Service) -> None:
    page = signed_in(browser, service)
    streams: list[str] = []
    page.on(
        "response",
        lambda answer: (
            streams.append(answer.url) if answer.headers.get("content-type") == "text/event-stream" else None
        ),
    )
    carrier = page.evaluate_handle(CARRIER, list(SAMPLE.read_bytes()))
    for kind in ("dragover", "drop"):
        page.dispatch_event("#drop", kind, {"dataTransfer": carrier})
    page.get_by_label("What should happen to it?").fill("make it night")
    page.locator("#num_inference_steps").fill("2")
    page.locator("#seed").fill("98765")
    record_job_states(page)
    # The worker waits until the stream is open, or the run may have ended before.
    with service.paused_worker():
        page.keyboard.press("Control+Enter")
        job = page.locator(".job").first
        expect(job.locator("[data-status]")).not_to_have_text("queued")
    expect(job.get_by_alt_text("Result 1, seed 98765")).to_be_visible()
    assert any(re.match(r"step \d+ of 2", state) for state in job_states(page))
    assert [re.search(r"/history/[0-9a-f-]+/events$", address) is not None for address in streams] == [True]
    assert page.url == f"{service.url}/", "the result came in place"

    job.get_by_role("link", name="make it night").click()
    expect(page.get_by_role("heading", name="make it night")).to_be_visible()
    first = page.url
    page.get_by_role("button", name="Side by side").click()
    expect(page.get_by_alt_text("The input picture").first).to_be_visible()
    page.wait_for_load_state()  # earlier no script handles keys
    page.keyboard.press("1")
    page.get_by_role("slider").fill("20")
    expect(page.locator(".before")).to_have_css("clip-path", "inset(0px 80% 0px 0px)")

    page.keyboard.press("r")
    expect(page.get_by_label("What should happen to it?")).to_have_value("make it night")
    expect(page.locator("#seed")).to_have_value("")
    page.wait_for_load_state()  # earlier the form is sent without scripts
    page.get_by_label("What should happen to it?").fill("make it snow")
    page.locator("#num_inference_steps").fill("3")
    page.get_by_role("button", name="Generate").click()
    remix = page.locator(".job.succeeded").first
    remix.get_by_role("link", name="make it snow").click()
    expect(page.get_by_role("heading", name="make it snow")).to_be_visible()
    page.wait_for_load_state()
    page.keyboard.press("ArrowRight")
    page.wait_for_url(first)

    page.get_by_text("Share the result").click()
    page.get_by_role("button", name="Create link").click()
    link = page.locator(".links code").inner_text()
    visitor.goto(link)
    shared = visitor.get_by_alt_text("The shared picture")
    assert shared.evaluate("image => image.decode().then(() => image.naturalWidth)") > 0
    visitor.goto(first)
    assert "/accounts/sign-in" in visitor.url

    page.get_by_role("button", name="Delete").click()
    page.wait_for_url(HISTORY)
    tile = page.locator(f'.tile a[href="{first.removeprefix(service.url).partition("?")[0]}"]')
    expect(tile).to_have_count(0)
    visitor.goto(link)
    expect(visitor.get_by_role("heading", name="This link does not work")).to_be_visible()
    page.get_by_role("button", name="Undo").click()
    expect(tile).to_have_count(1)
    visitor.goto(link)
    expect(visitor.get_by_alt_text("The shared picture")).to_be_visible()
    page.context.close()


def test_the_same_way_on_a_phone_without_scripts(browser: Browser, visitor: Page, service: Service) -> None:
    page = signed_in(browser, service, width=390, scripts=False)
    page.set_input_files("#image", {"name": "a.png", "mimeType": "image/png", "buffer": pictures.photo(64, 64)})
    page.get_by_label("What should happen to it?").fill("make it a plain one")
    page.locator("#num_inference_steps").fill("1")
    page.get_by_text("Contact sheet", exact=True).click()
    page.get_by_role("button", name="Create contact sheet").click()
    expect(page.locator("#columns-errors")).to_have_text("Choose what varies along the columns, and its values.")
    expect(page.get_by_text("Choose the picture again.")).to_be_visible()
    check_look(page)
    page.set_input_files("#image", {"name": "a.png", "mimeType": "image/png", "buffer": pictures.photo(64, 64)})
    page.locator("#columns_field").select_option("Seed")
    page.locator("#columns").fill("1 2")
    page.get_by_role("button", name="Create contact sheet").click()
    expect(page.locator(".cell img")).to_have_count(2)
    check_look(page)
    sheet = page.url
    page.get_by_role("link", name="show in the history").click()
    expect(page.locator(".tile")).to_have_count(2)
    for side in ("width", "height"):  # the rest of the tile leads to the picture
        expect(page.locator(".sheet-link").first).to_have_css(side, "32px")
    check_look(page)

    page.locator(".tile > a").first.click()
    check_look(page)
    page.get_by_role("link", name="Older").click()
    expect(page.locator("[rel=next]")).to_have_count(0)
    page.get_by_role("link", name="Remix").click()
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_alt_text("The result: make it a plain one")).to_be_visible()
    page.get_by_text("Share the result").click()
    page.get_by_role("button", name="Create link").click()
    visitor.goto(page.locator(".links code").inner_text())
    expect(visitor.get_by_alt_text("The shared picture")).to_be_visible()

    page.goto(sheet)
    page.locator(".cell a").first.click()
    page.get_by_role("button", name="Delete").click()
    expect(page.locator(".tile")).to_have_count(1)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator(".tile")).to_have_count(2)
    assert "?sheet=" in page.url
    page.context.close()


def test_from_sign_in_to_a_picture_in_the_history(browser: Browser, service: Service) -> None:
    page = signed_in(browser, service)
    page.get_by_role("link", name="Tokens").click()
    page.get_by_label("Name").fill("journey")
    page.get_by_role("button", name="Create token").click()
    token = page.locator("#raw").inner_text()

    answer = httpx.post(
        f"{service.url}/image-to-image",
        headers={"Authorization": f"Bearer {token}"},
        data={"prompt": "a journey by night", "num_inference_steps": "1", "seed": "424242"},
        files={"image": ("a.png", pictures.photo(160, 128))},
        timeout=WAIT_SECONDS,
    )
    assert answer.status_code == 200

    page.get_by_role("link", name="History", exact=True).first.click()
    page.get_by_role("link", name="a journey by night").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("a journey by night")
    expect(page.get_by_text("424242").first).to_be_visible()
    for name in ("The input picture", "The result: a journey by night"):
        picture = page.get_by_alt_text(name).first
        expect(picture).to_be_visible()
        assert picture.evaluate("picture => picture.decode().then(() => picture.naturalWidth)") == 160

    page.goto(f"{service.url}/admin/generation/generation/")
    row = page.locator("#result_list tbody tr").filter(has_text="a journey by night")
    expect(row).to_contain_text("424242")
    assert row.locator("img").count() == 2
    page.context.close()
