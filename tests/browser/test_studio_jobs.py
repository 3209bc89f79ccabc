"""Several jobs of the studio at once, on a phone and out of sight, on the real service."""

import re
from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect

from tests.support.browser import check_look, needs_chromium, new_context
from tests.support.pictures import photo
from tests.support.service import Service, wait_until

pytestmark = needs_chromium

# What the page does with the browser's notifications, which a browser without a screen does not show.
NOTIFICATIONS = """
window.shown = [];
window.Notification = class extends EventTarget {
  static permission = "default";
  static async requestPermission() { this.permission = "granted"; }
  constructor(title, { body } = {}) { super(); if (title) shown.push(`${title} ${body}`); }
};
window.titles = [];
addEventListener("DOMContentLoaded", () =>
  new MutationObserver(() => titles.push(document.title)).observe(document.querySelector("title"), { childList: true }));
"""
HIDE = """isHidden => {
  Object.defineProperty(document, "hidden", { value: isHidden, configurable: true });
  document.dispatchEvent(new Event("visibilitychange"));
}"""


@pytest.fixture
def phone(browser: Browser, service: Service) -> Iterator[Page]:
    page = new_context(browser, 390, has_touch=True, is_mobile=True).new_page()
    page.add_init_script(NOTIFICATIONS)
    page.clock.install()
    page.goto(service.url)
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(service.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{service.url}/")
    page.wait_for_load_state()
    yield page
    page.context.close()


def bottom(page: Page, selector: str) -> float:
    """Return where an element ends, in pixels below the top of the window."""
    return float(page.locator(selector).evaluate("element => element.getBoundingClientRect().bottom"))


def test_three_jobs_at_once_on_a_phone(phone: Page, service: Service) -> None:
    phone.set_input_files("#image", {"name": "a.png", "mimeType": "image/png", "buffer": photo(64, 64)})
    expect(phone.locator("#num_inference_steps")).to_be_hidden()
    phone.get_by_role("button", name="Adjust").click()
    phone.locator("#num_inference_steps").fill("3")
    phone.get_by_role("button", name="Adjust").click()
    expect(phone.locator("#num_inference_steps")).to_be_hidden()
    jobs = phone.locator(".job")
    with service.paused_worker():
        for number in (1, 2, 3):
            phone.locator("#prompt").fill(f"the {number}. of three")
            phone.get_by_role("button", name="Generate").click()
            expect(jobs).to_have_count(number)
        for number, job in zip((3, 2, 1), jobs.all(), strict=True):
            expect(job).to_contain_text(f"the {number}. of three")
            expect(job).to_contain_text(re.compile(r"dreamsite/tiny-edit · seed \d+"))
            expect(job.locator(".input-thumbnail")).to_be_visible()
            box = job.bounding_box()
            assert box
            assert box["height"] < 144, "a line, and no empty frame"
        phone.evaluate("scrollTo(0, 0)")
        assert bottom(phone, "#generate") < 900, "Generate stays in sight"
        assert bottom(phone, "#compose") < bottom(phone, ".job:first-child")
        expect(phone).to_have_title("Queued · Studio · Dreamsite")
        check_look(phone)

        expect(phone.get_by_role("button", name="Notify me")).to_be_hidden()
        phone.clock.fast_forward(10_000)
        phone.get_by_role("button", name="Notify me").click()
        expect(phone.get_by_role("button", name="Notify me")).to_be_hidden()
        phone.evaluate(HIDE, True)
    expect(phone.locator(".job.succeeded")).to_have_count(3)
    expect(phone).to_have_title("Done · Studio · Dreamsite")
    wait_until(lambda: len(phone.evaluate("shown")) == 3, "the notifications")
    assert sorted(phone.evaluate("shown")) == [f"Done. the {number}. of three" for number in (1, 2, 3)]
    assert any(re.fullmatch(r"[1-9]\d* % · Studio · Dreamsite", title) for title in phone.evaluate("titles"))
    phone.evaluate(HIDE, False)
    expect(phone).to_have_title("Studio · Dreamsite")

    phone.evaluate("scrollTo(0, 0)")
    with service.paused_worker():
        phone.get_by_role("button", name="Generate").click()
        expect(jobs.first).to_have_class("job queued")
    expect(jobs.first).to_have_class("job succeeded")
    wait_until(lambda: bottom(phone, ".job:first-child .frames") < 800, "the place of the result")


def test_what_is_wrong_in_a_folded_field_is_shown(phone: Page) -> None:
    phone.locator("#prompt").fill("make it night")
    phone.locator("#seed").evaluate("field => (field.value = 'seven')")
    phone.get_by_role("button", name="Generate").click()
    expect(phone.locator("#seed")).to_be_focused()
