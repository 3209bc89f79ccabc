"""The Chromium for tests of pages, and checks that apply to every page."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import pytest
from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page, expect, sync_playwright

from tests.support.service import WAIT_SECONDS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and not os.environ.get("CI"),
    reason="no Chromium here: install Debian's chromium to look at the pages",
)
"""With the variable `CI`, tests without Chromium fail instead."""

HISTORY = re.compile(r"^[^?]*/history/$")
GROUND = "getComputedStyle(document.body).backgroundColor"
GROUNDS: dict[Literal["light", "dark"], str] = {"light": "rgb(246, 246, 245)", "dark": "rgb(20, 20, 22)"}

PICTURES = "Array.from(document.images).filter(i => i.alt === null || !i.hasAttribute('alt') || !i.width || !i.height)"
NAMELESS = """Array.from(document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary"))
  .filter(e => e.checkVisibility({visibilityProperty: true}))
  .filter(e => !(e.ariaLabel || e.innerText?.trim() || e.textContent.trim()
    || e.querySelector("img[alt]:not([alt=''])") || Array.from(e.labels ?? []).some(l => l.textContent.trim())))
  .map(e => e.outerHTML)"""
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
_LOOK = f"""[Math.max(0, {OVERFLOW}), {PICTURES}.map(i => i.outerHTML), {NAMELESS},
  document.querySelectorAll("h1").length]"""

# The browser connects only to the page's server.
_QUIET = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


WAIT_MILLISECONDS = round(1000 * WAIT_SECONDS)

expect.set_options(timeout=WAIT_MILLISECONDS)


def new_context(browser: Browser, width: int = 1440, **options: Any) -> BrowserContext:
    """Return a new profile of the browser. Its waits have the bound `WAIT_SECONDS`."""
    context = browser.new_context(viewport={"width": width, "height": 900}, **options)
    context.set_default_timeout(WAIT_MILLISECONDS)
    return context


@contextmanager
def chromium() -> Iterator[Browser]:
    """Start a browser. Fails if there is none."""
    assert CHROMIUM is not None, "there is no Chromium"
    with pytest.MonkeyPatch.context() as patch:
        # Playwright runs an event loop in this thread; queries of the tests do no harm.
        patch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "1")
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_QUIET)
            yield browser
            browser.close()


def record_job_states(page: Page) -> None:
    """Record what the studio's jobs say and which pictures they show, however short, for `job_states`."""
    page.evaluate(
        """() => {
          window.jobStates = new Set();
          const record = () => {
            for (const part of document.querySelectorAll(".job [data-status], .job img"))
              jobStates.add(part.alt ?? part.textContent);
          };
          new MutationObserver(record).observe(document.body, { subtree: true, childList: true, attributes: true });
        }"""
    )


def job_states(page: Page) -> list[str]:
    """Return the statuses and the pictures' alternative texts since `record_job_states`."""
    states: list[str] = page.evaluate("[...jobStates]")
    return states


def send_sign_in(page: Page, name: str = "alice") -> None:
    """Fill in and send the form of the page for signing in."""
    page.get_by_label("Username").fill(name)
    page.get_by_label("Password").fill(f"{name}-password")
    page.get_by_role("button", name="Sign in").click()


def sign_in(page: Page, name: str = "alice") -> None:
    send_sign_in(page, name)
    page.wait_for_url(HISTORY)


def open_studio(page: Page, url: str) -> None:
    """Open the studio of the service at this address as alice, who is not signed in."""
    page.goto(url)
    send_sign_in(page)
    page.wait_for_url(f"{url}/")
    page.wait_for_load_state()  # earlier the scripts do not run


def sign_out(page: Page) -> None:
    page.locator(".account summary").click()
    page.get_by_role("button", name="Sign out").click()
    page.get_by_label("Username").wait_for()


def record_refusals(page: Page) -> list[str]:
    """Return a list that grows with what the policies of the page's documents refuse, each with the page's address."""
    refusals: list[str] = []

    def record(message: ConsoleMessage) -> None:
        if re.search(r"Content Security Policy|Permissions-Policy|Permissions policy", message.text):
            refusals.append(f"{page.url}: {message.text}")

    page.on("console", record)
    return refusals


def check_look(page: Page) -> None:
    """Check a page: no horizontal overflow, pictures have texts and sizes, controls have names, one heading."""
    page.wait_for_load_state()  # without its styles, a page may be wider
    found = page.evaluate(_LOOK)
    assert found == [0, [], [], 1], f"{page.url}: pixels too wide, wrong pictures, nameless controls, headings: {found}"


def check_width(page: Page) -> None:
    """Check that nothing of the page is wider than its window."""
    page.wait_for_load_state()  # without its styles, a page may be wider
    assert page.evaluate(OVERFLOW) <= 0, page.url


def check_everywhere(page: Page) -> None:
    """Run `check_look` at the widths of a desktop, a phone and a small phone, and on the desktop in light and dark."""
    page.wait_for_load_state()
    page.set_viewport_size({"width": 1440, "height": 900})
    for scheme, ground in GROUNDS.items():
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate(GROUND) == ground
        check_look(page)
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 900})
        check_look(page)
    page.set_viewport_size({"width": 1440, "height": 900})
