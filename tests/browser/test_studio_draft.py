"""The studio's draft in a real browser: what is written and chosen is not lost."""

import re

import pytest
from playwright.sync_api import BrowserContext, Page, Route, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.models import DiffusionModel, Generation
from tests.support.browser import check_everywhere, needs_chromium, send_sign_in, sign_out
from tests.support.generations import make_generation
from tests.support.pictures import photo

pytestmark = [
    needs_chromium,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis", "tiny_edit"),
]

PROMPT = "#prompt"  # its label depends on the model of the draft


def sign_in(page: Page, name: str = "alice") -> None:
    send_sign_in(page, name)
    expect(page.locator(PROMPT)).to_be_visible()
    page.wait_for_load_state()  # earlier the scripts do not run


def test_the_draft_is_kept_until_one_starts_over(
    context: BrowserContext, alice: User, bob: User, live_server: LiveServer
) -> None:
    DiffusionModel.objects.create(id="some/turbo", family="turbo", enabled=True)
    earlier = make_generation(alice, prompt="earlier")
    page = context.new_page()
    page.goto(live_server.url)
    sign_in(page)
    page.locator("#model_id").select_option("some/turbo")
    page.locator("#prompt").fill("a cat by night")
    page.locator("#num_inference_steps").fill("3")
    page.locator("#strength").fill("0.4")
    page.get_by_text(re.compile("^Negative prompt, ")).click()
    page.locator("#output_format").select_option("webp")
    page.get_by_role("checkbox", name="Check results for nudity").uncheck()
    page.set_input_files("#image", {"name": "cat.png", "mimeType": "image/png", "buffer": photo(64, 48)})
    expect(page.get_by_alt_text("Input picture: cat.png")).to_be_visible()

    def check_draft() -> None:
        expect(page.get_by_alt_text("Input picture: cat.png")).to_be_visible()
        assert page.locator("#image").evaluate("field => field.files[0].size") == len(photo(64, 48))
        expect(page.locator("#model_id")).to_have_value("some/turbo")
        expect(page.locator("#prompt")).to_have_value("a cat by night")
        expect(page.locator("#num_inference_steps")).to_have_value("3")
        expect(page.get_by_label("Strength: ")).to_have_value("0.4")
        expect(page.locator("#guidance_scale")).to_be_hidden()
        expect(page.locator("#output_quality")).to_be_visible()
        expect(page.get_by_role("checkbox", name="Check results for nudity")).not_to_be_checked()

    page.reload()
    check_draft()
    page.get_by_role("link", name="History", exact=True).click()
    page.get_by_role("link", name="Studio", exact=True).click()
    check_draft()
    check_everywhere(page)

    context.clear_cookies()
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_contain_text("You were signed out. What is written here is kept")
    page.get_by_role("alert").get_by_role("link", name="sign in").click()
    sign_in(page, "bob")
    expect(page.locator(PROMPT)).to_have_value("")
    context.clear_cookies()
    page.reload()
    sign_in(page)
    check_draft()

    page.goto(f"{live_server.url}/?source={earlier.pk}&image=0")
    expect(page.locator(PROMPT)).to_have_value("")
    page.locator(PROMPT).fill("on from there")
    expect(page).to_have_url(f"{live_server.url}/")
    page.reload()
    expect(page.get_by_text("Result of earlier")).to_be_visible()
    expect(page.locator(PROMPT)).to_have_value("on from there")

    page.get_by_role("link", name="Start over").click()
    check_empty(page)
    page.locator(PROMPT).fill("written again")
    sign_out(page)
    page.goto(f"{live_server.url}/")
    sign_in(page)
    check_empty(page)


def check_empty(page: Page) -> None:
    """Check that the studio is as on a first visit, also after a reload."""
    for _ in range(2):
        page.wait_for_load_state()  # the fields are restored until then
        expect(page.locator("#drop.filled")).to_have_count(0)
        expect(page.locator(PROMPT)).to_have_value("")
        expect(page.locator("#model_id")).to_have_value("dreamsite/tiny-edit")
        page.reload()


def test_each_tab_keeps_its_own_draft_until_one_signs_out(
    context: BrowserContext, charlie: User, live_server: LiveServer
) -> None:
    first = context.new_page()
    first.goto(live_server.url)
    sign_in(first, "charlie")

    def choose(page: Page, name: str) -> None:
        page.set_input_files("#image", {"name": name, "mimeType": "image/png", "buffer": photo(64, 48)})
        expect(page.get_by_alt_text(f"Input picture: {name}")).to_be_visible()

    def check(page: Page, prompt: str, name: str) -> None:
        page.reload()
        expect(page.get_by_alt_text(f"Input picture: {name}")).to_be_visible()
        expect(page.locator(PROMPT)).to_have_value(prompt)

    choose(first, "cat.png")
    first.locator(PROMPT).fill("a cat by night")
    second = context.new_page()
    second.goto(live_server.url)
    expect(second.get_by_alt_text("Input picture: cat.png")).to_be_visible()
    expect(second.locator(PROMPT)).to_have_value("a cat by night")
    choose(second, "dog.png")
    second.locator(PROMPT).fill("a dog by day")
    for _ in range(9):  # more often than files are kept
        check(first, "a cat by night", "cat.png")
    check(second, "a dog by day", "dog.png")

    first.get_by_role("link", name="Start over").click()
    check_empty(first)
    check(second, "a dog by day", "dog.png")
    third = context.new_page()
    third.goto(live_server.url)
    check_empty(third)
    second.locator(PROMPT).fill("a dog by night")
    check_empty(first)
    check(second, "a dog by night", "dog.png")

    third.goto(f"{live_server.url}/admin/")
    sign_out(third)
    for page in (first, second):
        page.goto(live_server.url)
        if page.get_by_label("Username").count():
            sign_in(page, "charlie")
        check_empty(page)


def test_a_file_is_sent_once(context: BrowserContext, alice: User, live_server: LiveServer) -> None:
    page = context.new_page()
    page.goto(live_server.url)
    sign_in(page)
    names_it: list[bool] = []  # of each request: whether it names the picture instead of sending it
    page.on(
        "request",
        lambda request: (
            names_it.append(b'name="from"' in (request.post_data_buffer or b""))
            if request.method == "POST" and request.url == f"{live_server.url}/"
            else None
        ),
    )

    def generate(prompt: str) -> Generation:
        page.locator(PROMPT).fill(prompt)
        page.get_by_role("button", name="Generate").click()
        expect(page.get_by_role("article", name=prompt)).to_be_visible()
        return Generation.objects.get(prompt=prompt)

    page.set_input_files("#image", {"name": "cat.png", "mimeType": "image/png", "buffer": photo(64, 48)})
    first, second = generate("the first"), generate("the second")
    assert names_it == [False, True]
    assert (second.input_sha256, second.input_width, second.source) == (first.input_sha256, 64, None)
    Generation.objects.filter(pk=first.pk).update(trashed=first.created)
    assert generate("the third").input_sha256 == first.input_sha256
    assert generate("the fourth").input_sha256 == first.input_sha256
    assert names_it == [False, True, True, False, True]
    page.set_input_files("#image", {"name": "cat.png", "mimeType": "image/png", "buffer": photo(65, 48)})
    expect(page.locator("#picture-caption")).to_have_text("65 × 48")
    assert generate("another file").input_width == 65
    assert not names_it[-1]


def test_without_the_cookies_nothing_is_lost(context: BrowserContext, alice: User, live_server: LiveServer) -> None:
    page = context.new_page()
    page.goto(live_server.url)
    sign_in(page)
    page.set_input_files("#image", {"name": "cat.png", "mimeType": "image/png", "buffer": photo(64, 48)})
    page.locator(PROMPT).fill("a cat by night")
    generate = page.get_by_role("button", name="Generate")
    context.clear_cookies(name="csrftoken")

    def refuse_cookies(route: Route) -> None:
        if route.request.method == "GET":
            route.fulfill(body="")
        else:
            route.continue_()

    page.route(f"{live_server.url}/", refuse_cookies)
    generate.click()
    expect(page.get_by_role("alert")).to_contain_text("Your browser refuses the cookies of this site.")
    page.unroute_all()
    generate.click()
    expect(page.locator(".job[data-generation]")).to_have_count(1)
    assert Generation.objects.get().prompt == "a cat by night"
