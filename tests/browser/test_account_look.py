"""The account's pages in a real browser: layout, theme on every device, export, account deletion."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import AccountDeletion, User
from generation.maintenance import (
    account_deletion,
    account_jobs,
    data_export,
)
from tests.support.browser import (
    GROUND,
    GROUNDS,
    WAIT_MILLISECONDS,
    check_everywhere,
    needs_chromium,
    sign_in,
)
from tests.support.generations import make_generation

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]

SWITCH = "Switch between light and dark"


class Devices:
    """Separate browser contexts. An error in the console of one of them fails the test."""

    def __init__(self, browser: Browser, url: str) -> None:
        self.browser = browser
        self.url = url
        self.problems: list[str] = []

    def one(self, scripts: bool = True) -> Page:
        context = self.browser.new_context(viewport={"width": 1440, "height": 900}, java_script_enabled=scripts)
        context.set_default_timeout(WAIT_MILLISECONDS)
        page = context.new_page()
        page.on(
            "console",
            lambda message: self.problems.append(message.text) if message.type in ("error", "warning") else None,
        )
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.goto(f"{self.url}/history/")
        return page

    def signed_in(self, name: str = "alice", scripts: bool = True) -> Page:
        page = self.one(scripts)
        sign_in(page, name)
        return page


@pytest.fixture
def devices(browser: Browser, live_server: LiveServer) -> Iterator[Devices]:
    devices = Devices(browser, live_server.url)
    yield devices
    for context in browser.contexts:
        context.close()
    assert devices.problems == []


def go_on() -> bool:
    return False


def test_every_page_fits_every_width_and_theme(devices: Devices, alice: User, charlie: User) -> None:
    make_generation(alice, num_images_per_prompt=4)
    page = devices.signed_in()
    for path in ("usage/?by=images&days=7", "settings/", "settings/delete"):
        page.goto(f"{devices.url}/{path}")
        check_everywhere(page)
    page.goto(f"{devices.url}/usage/")
    page.get_by_text("As a table").click()
    check_everywhere(page)

    page.goto(f"{devices.url}/settings/export")
    page.get_by_role("button", name="Start export").click()
    expect(page.get_by_text("Your export is queued.")).to_be_visible()
    page.wait_for_load_state()
    check_everywhere(page)
    account_jobs.run_all(go_on)
    expect(page.get_by_role("link", name="Download zip")).to_be_visible()
    check_everywhere(page)


def test_the_accounts_theme_applies_on_every_device(devices: Devices, alice: User) -> None:
    desk, phone = devices.signed_in(), devices.signed_in()
    with desk.expect_response("**/settings/theme"):
        desk.get_by_role("button", name=SWITCH).click()
    assert desk.evaluate(GROUND) == GROUNDS["dark"]
    phone.reload()
    assert phone.evaluate(GROUND) == GROUNDS["dark"]
    assert phone.evaluate("localStorage.getItem('theme')") == "dark"

    phone.goto(f"{devices.url}/settings/")
    expect(phone.get_by_role("radio", name="Dark")).to_be_checked()
    with phone.expect_response("**/settings/theme"):
        phone.get_by_role("button", name=SWITCH).click()
    expect(phone.get_by_role("radio", name="System")).to_be_checked()
    phone.get_by_role("radio", name="Light").check(force=True)
    phone.get_by_role("button", name="Save").click()
    expect(phone.get_by_text("Your settings were saved.")).to_be_visible()
    desk.emulate_media(color_scheme="dark")
    desk.reload()
    assert desk.evaluate(GROUND) == GROUNDS["light"]
    assert User.objects.get().theme == "light"


def test_the_theme_needs_no_scripts(devices: Devices, alice: User) -> None:
    page = devices.signed_in(scripts=False)
    page.goto(f"{devices.url}/settings/")
    page.get_by_role("radio", name="Dark").check(force=True)
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("Your settings were saved.")).to_be_visible()
    page.wait_for_load_state()
    assert page.evaluate(GROUND) == GROUNDS["dark"]


def test_a_theme_chosen_signed_out_or_offline_is_saved_later(devices: Devices, alice: User) -> None:
    page = devices.one()
    page.get_by_role("button", name=SWITCH).click()
    with page.expect_response("**/settings/theme"):
        sign_in(page)
    assert page.evaluate(GROUND) == GROUNDS["dark"]
    assert User.objects.get().theme == "dark"

    page.route("**/settings/theme", lambda route: route.abort())
    with page.expect_event("requestfailed"):
        page.get_by_role("button", name=SWITCH).click()
    page.unroute("**/settings/theme")
    with page.expect_response("**/settings/theme"):
        page.reload()
    assert page.evaluate(GROUND) == GROUNDS["light"]
    assert User.objects.get().theme == "auto"
    devices.problems = [problem for problem in devices.problems if "ERR_FAILED" not in problem]


def test_the_admins_theme_switch_saves_the_accounts_theme(devices: Devices, charlie: User) -> None:
    User.objects.update(theme="dark")
    page = devices.one()
    page.goto(f"{devices.url}/admin/")
    page.get_by_label("Username").fill("charlie")
    page.get_by_label("Password").fill("charlie-password")
    page.get_by_role("button", name="Log in").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.wait_for_load_state()  # earlier no script switches
    with page.expect_response("**/settings/theme"):
        page.get_by_role("button", name=SWITCH).click()
    theme = User.objects.get().theme
    assert theme == page.locator("html").get_attribute("data-theme") != "dark"
    page.goto(f"{devices.url}/tokens/")
    expect(page.locator("html")).to_have_attribute("data-theme", theme)


def test_an_export_is_made_and_downloaded(devices: Devices, alice: User) -> None:
    for _ in range(3):
        make_generation(alice)
    page = devices.signed_in()
    page.goto(f"{devices.url}/settings/")
    page.get_by_role("link", name="Export my data").click()
    page.get_by_role("button", name="Start export").click()
    expect(page.get_by_text("Your export is queued.")).to_be_visible()
    export = data_export.claim()
    assert export is not None
    expect(page.get_by_text("0 of 3 requests.")).to_be_visible()
    data_export.run(export, go_on)
    link = page.get_by_role("link", name="Download zip")
    expect(link).to_be_visible()
    assert (link.get_attribute("href") or "").endswith(f"{export.pk}.zip")


@pytest.mark.parametrize("scripts", [True, False])
def test_an_account_is_deleted_with_a_receipt(devices: Devices, alice: User, charlie: User, scripts: bool) -> None:
    make_generation(alice)
    page = devices.signed_in(scripts=scripts)
    page.locator(".account summary").click()
    page.get_by_role("link", name="Settings").click()
    page.get_by_role("link", name="Delete my account").click()
    page.get_by_label("Your password").fill("wrong")
    page.get_by_role("button", name="Delete my account").click()
    expect(page.get_by_text("That is not your password.")).to_be_visible()
    page.get_by_label("Your password").fill("alice-password")
    page.get_by_role("button", name="Delete my account").click()
    expect(page.get_by_role("heading", name="Your account is being deleted")).to_be_visible()
    expect(page.get_by_role("link", name="Sign in")).to_be_visible()
    job = AccountDeletion.objects.claim()
    assert job is not None
    account_deletion.run(job, go_on)
    if not scripts:
        page.reload()
    expect(page.get_by_role("heading", name="Your account is deleted")).to_be_visible()
    expect(page.locator(".receipt li")).to_have_text(["1 request", "1 picture", "4 files", "1 account"])
    check_everywhere(page)
    assert list(User.objects.all()) == [charlie]
