"""The site as an installed app: a picture that a phone shares with it, and notifications where only workers may show them."""

import json
import re

import pytest
from django.test import Client
from playwright.sync_api import BrowserContext, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.models import State
from tests.support.browser import needs_chromium, send_sign_in, sign_out
from tests.support.generations import make_generation
from tests.support.pictures import photo
from tests.support.service import wait_until

pytestmark = [
    needs_chromium,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis", "tiny_edit"),
]

# What a phone does when one shares a picture with the app: a navigation by POST, without a page of the site.
SHARE = """([action, name, bytes]) => {
  const form = Object.assign(document.createElement("form"), { action, method: "post", enctype: "multipart/form-data" });
  const field = Object.assign(document.createElement("input"), { type: "file", name: "image" });
  const files = new DataTransfer();
  files.items.add(new File([new Uint8Array(bytes)], name, { type: "image/png" }));
  field.files = files.files;
  form.append(field);
  document.body.append(form);
  form.submit();
}"""
REGISTRATION = "navigator.serviceWorker.getRegistration().then(found => Boolean(found?.active))"
PICTURE = "image => image.files[0]?.size"


# A phone: pages may not make notifications. What its workers show, a browser without a screen does not.
PHONE = """
window.shown = [];
window.Notification = class {
  static permission = "default";
  static async requestPermission() { this.permission = "granted"; }
  constructor() { throw new TypeError("Illegal constructor."); }
};
ServiceWorkerRegistration.prototype.showNotification = async (title, { body, data }) => shown.push([title, body, data]);
"""
END = """id => {
  Object.defineProperty(document, "hidden", { value: true });
  const job = { id, dataset: { end: "Done." }, ariaLabel: "make it night" };
  return import("/static/dreamsite/job_notifications.js").then(({ notifyOfEnd }) => notifyOfEnd(job));
}"""


def open_installed(page: Page, address: str) -> None:
    """Open a page that is being installed, and wait for its service worker."""
    page.goto(address)
    page.evaluate("dispatchEvent(new Event('appinstalled'))")
    wait_until(lambda: page.evaluate(REGISTRATION), "the service worker")


def share(page: Page, origin: str, name: str, content: bytes) -> None:
    manifest = page.evaluate("fetch('/manifest.webmanifest').then(answer => answer.json())")
    target = manifest["share_target"]
    assert (target["method"], target["enctype"]) == ("POST", "multipart/form-data")
    assert target["params"]["files"] == [{"name": "image", "accept": ["image/*"]}]
    page.evaluate(SHARE, [origin + target["action"], name, list(content)])


def test_a_shared_picture_is_in_the_studio(
    context: BrowserContext, alice: User, bob: User, live_server: LiveServer
) -> None:
    page = context.new_page()
    open_installed(page, f"{live_server.url}/accounts/sign-in")

    # Not signed in: the picture waits in the browser.
    share(page, live_server.url, "beach & sea.png", photo(64, 48))
    page.wait_for_url(re.compile(r"/accounts/sign-in\?next=/%3Freceived"))
    send_sign_in(page, "alice")
    expect(page.get_by_alt_text("Input picture: beach & sea.png")).to_be_visible()
    assert page.locator("#image").evaluate(PICTURE) == len(photo(64, 48))
    expect(page).to_have_url(f"{live_server.url}/")
    page.locator("#prompt").fill("make it night")
    page.reload()
    expect(page.get_by_alt_text("Input picture: beach & sea.png")).to_be_visible()

    # The next one takes its place in the draft; the words stay.
    share(page, live_server.url, "wood.png", photo(32, 32))
    expect(page.get_by_alt_text("Input picture: wood.png")).to_be_visible()
    expect(page.locator("#prompt")).to_have_value("make it night")

    # It is taken once, and leaves with who signs out.
    page.goto(f"{live_server.url}/?received")
    expect(page.locator("#image-errors")).to_have_text(
        "The shared picture did not arrive. Share it again, or choose it here."
    )
    expect(page.get_by_alt_text("Input picture: wood.png")).to_be_visible()
    page.goto(f"{live_server.url}/history/")
    page.evaluate("caches.open('received-picture').then(kept => kept.put('/studio/receive', new Response('x')))")
    sign_out(page)
    wait_until(lambda: page.evaluate("caches.keys()") == [], "the end of what was shared")
    send_sign_in(page, "bob")
    page.locator("#prompt").wait_for()
    expect(page.get_by_alt_text(re.compile("Input picture"))).to_have_count(0)


def test_pages_come_from_the_server_alone(context: BrowserContext, alice: User, live_server: LiveServer) -> None:
    page = context.new_page()
    open_installed(page, f"{live_server.url}/accounts/sign-in")
    send_sign_in(page, "alice")
    page.locator("#prompt").wait_for()
    assert page.evaluate("Boolean(navigator.serviceWorker.controller)")
    assert page.evaluate("caches.keys()") == []
    context.set_offline(True)
    assert page.evaluate("fetch('/').then(() => 'answered', () => 'failed')") == "failed"


def test_a_phone_is_notified_by_the_service_worker(
    context: BrowserContext, alice: User, live_server: LiveServer
) -> None:
    running = make_generation(alice, State.RUNNING)
    page = context.new_page()
    page.add_init_script(PHONE)
    page.clock.install()
    page.goto(f"{live_server.url}/accounts/sign-in")
    send_sign_in(page, "alice")
    page.locator("#prompt").wait_for()
    page.wait_for_load_state()
    page.clock.fast_forward(10_000)
    page.get_by_role("button", name="Notify me").click()
    expect(page.get_by_role("button", name="Notify me")).to_be_hidden()
    page.evaluate(END, f"job-{running.pk}")
    wait_until(lambda: page.evaluate("shown"), "the notification")
    assert page.evaluate("shown") == [["Done.", "make it night", f"{live_server.url}/"]]


def test_nobody_else_gets_a_service_worker(context: BrowserContext, alice: User, live_server: LiveServer) -> None:
    page = context.new_page()
    page.goto(f"{live_server.url}/accounts/sign-in")
    send_sign_in(page, "alice")
    page.locator("#prompt").wait_for()
    page.wait_for_load_state()
    assert page.evaluate("navigator.serviceWorker.getRegistrations().then(found => found.length)") == 0


def test_without_a_service_worker_the_server_leads_to_the_studio(alice: User) -> None:
    client = Client(enforce_csrf_checks=True)
    answer = client.post("/studio/receive", {"image": "x"})
    assert (answer.status_code, answer["Location"]) == (302, "/?received")
    answer = client.get("/service-worker.js")
    assert (answer["Content-Type"], answer["Cache-Control"]) == ("text/javascript; charset=utf-8", "no-cache")
    manifest = json.loads(client.get("/manifest.webmanifest").content)
    assert manifest["share_target"]["action"] == "/studio/receive"
