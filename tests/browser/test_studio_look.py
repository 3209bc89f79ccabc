"""The studio in a real browser, on the real service: with a mouse, by keyboard, and without scripts."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.models import DiffusionModel, Lora
from tests.support.browser import (
    WAIT_MILLISECONDS,
    check_everywhere,
    job_states,
    needs_chromium,
    new_context,
    record_job_states,
    sign_out,
)
from tests.support.browser import (
    open_studio as open_alices_studio,
)
from tests.support.environment import ROOT
from tests.support.generations import make_generation
from tests.support.pictures import (
    encoded,
    photo,
    scene,
)
from tests.support.service import WAIT_SECONDS, Service, wait_until


def sign_in_again(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(service.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url(f"{service.url}/")


@pytest.fixture
def open_studio(browser: Browser, service: Service) -> Iterator[Callable[..., Page]]:
    """The studio, opened by the administrator. An error in the console fails the test."""
    contexts, problems = [], []

    def open_(**options: Any) -> Page:
        context = browser.new_context(viewport={"width": 1440, "height": 900}, **options)
        context.set_default_timeout(WAIT_MILLISECONDS)
        contexts.append(context)
        page = context.new_page()
        # Browsers report a refused form in the console; it is no error of the page.
        page.on(
            "console",
            lambda message: (
                problems.append(message.text)
                if message.type == "error" and "status of 422" not in message.text
                else None
            ),
        )
        page.on("pageerror", lambda error: problems.append(str(error)))
        sign_in_again(page, service)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


@needs_chromium
def test_from_a_dropped_picture_to_its_result_and_on(open_studio: Callable[..., Page], service: Service) -> None:
    page = open_studio()
    content = list((ROOT / "dreamsite" / "static" / "sample.jpg").read_bytes())
    carrier = page.evaluate_handle(
        """bytes => {
          const carrier = new DataTransfer();
          carrier.items.add(new File([new Uint8Array(bytes)], "sample.jpg", { type: "image/jpeg" }));
          return carrier;
        }""",
        content,
    )
    page.dispatch_event("#drop", "dragover", {"dataTransfer": carrier})
    page.dispatch_event("#drop", "drop", {"dataTransfer": carrier})
    expect(page.get_by_alt_text("Input picture: sample.jpg")).to_be_visible()
    expect(page.locator("#picture-caption")).to_have_text("451 × 300")
    page.locator("#num_inference_steps").fill("2")
    expect(page.get_by_label("Steps: ")).to_have_value("2")
    page.get_by_role("button", name="Random seed").click()
    seed = page.locator("#seed").input_value()
    assert seed.isdigit()
    page.get_by_label("What should happen to it?").fill("make it night")
    expect(page.locator("#estimate")).to_contain_text("costs 0.282")
    page.get_by_text("Code for this request").click()
    expect(page.locator("#as-curl")).to_contain_text(f"seed={seed}")

    record_job_states(page)
    # The worker waits until the stream is open, or the run may have ended before.
    with service.paused_worker():
        page.get_by_role("button", name="Generate").dblclick()
        job = page.locator(".job")
        expect(job).to_have_count(1)
        expect(job.locator("[data-status]")).not_to_have_text("queued")
    expect(page.locator(".job.succeeded img")).to_have_js_property("complete", True)
    assert any(re.match(r"step \d+ of 2", state) for state in job_states(page))
    assert "Preview" in job_states(page)
    expect(page.locator(".job.succeeded")).to_contain_text(f"seed {seed}")
    expect(job).to_have_count(1)
    expect(page.get_by_alt_text("Input picture: sample.jpg")).to_be_visible()

    picture = job.locator(".frame a")
    picture.click()
    expect(page.get_by_role("dialog", name="Picture")).to_contain_text(f"make it night, seed {seed}")
    page.keyboard.press("Escape")
    expect(picture).to_be_focused()
    with page.expect_download() as download:
        page.keyboard.press("d")
    assert download.value.suggested_filename.endswith(".png")
    page.keyboard.press("f")
    expect(job.get_by_role("button", name="Favourite")).to_have_attribute("aria-pressed", "true")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.keyboard.press("s")
    expect(job.get_by_role("button", name="Copy the link")).to_be_focused()
    address = job.get_by_role("link", name="Open the link").evaluate("link => link.href")
    wait_until(lambda: page.evaluate("navigator.clipboard.readText()") == address, "the copy")
    assert httpx.get(address, timeout=WAIT_SECONDS).status_code == 200
    check_everywhere(page)
    job.get_by_role("button", name="Revoke").click()
    expect(job).to_contain_text("The link was revoked.")
    assert httpx.get(address, timeout=WAIT_SECONDS).status_code == 404
    picture.focus()
    page.keyboard.press("Delete")
    expect(job).to_contain_text("Moved to the trash")
    expect(page.get_by_role("button", name="Undo")).to_be_focused()
    page.keyboard.press("Enter")
    expect(job.get_by_role("button", name="Favourite")).to_have_attribute("aria-pressed", "true")

    page.get_by_role("link", name="Use as input").click()
    expect(page.get_by_text("Result of make it night")).to_be_visible()
    page.get_by_text("Recent").click()
    page.locator("details", has_text="Recent").get_by_role("link").first.click()
    expect(page.get_by_label("What should happen to it?")).to_have_value("make it night")
    page.wait_for_load_state()  # earlier the scripts do not run
    page.locator("#model_id").select_option("dreamsite/tiny-redraw")  # the other model has no use for many steps
    page.locator("#num_inference_steps").fill("200")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".job [data-status]")).to_contain_text("step")
    page.goto(f"{service.url}/")
    expect(page.locator(".job [data-status]")).to_contain_text("step")
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator(".job.canceled")).to_contain_text("It was canceled")
    check_everywhere(page)


@needs_chromium
def test_the_form_works_by_keyboard_and_shows_errors(open_studio: Callable[..., Page], tmp_path: Any) -> None:
    page = open_studio()
    large = tmp_path / "large.png"
    large.write_bytes(encoded(scene()) + bytes(1_100_000))
    page.set_input_files("#image", large)
    expect(page.locator("#image-errors")).to_contain_text("the limit is 1 MB")
    page.set_input_files("#image", {"name": "broken.png", "mimeType": "image/png", "buffer": photo(64, 64)[:40]})
    expect(page.get_by_text("This browser cannot show it")).to_be_visible()
    page.locator("#prompt").focus()
    page.keyboard.type("make it night")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#image-errors")).to_contain_text("The picture is damaged, cut short")
    expect(page.locator("#image")).to_be_focused()
    page.set_input_files("#image", {"name": "a.png", "mimeType": "image/png", "buffer": photo(64, 64)})
    expect(page.locator("#image-errors")).to_be_empty()
    page.set_input_files("#image", large)
    expect(page.locator("#image-errors")).to_contain_text("the limit is 1 MB")
    expect(page.get_by_alt_text("Input picture: a.png")).to_be_visible()
    assert page.locator("#image").evaluate("field => field.files[0].name") == "a.png", (
        "the form sends the picture that it shows"
    )
    page.locator("#num_inference_steps").fill("7")
    page.locator("#num_inference_steps").fill("")
    page.locator("#num_inference_steps").press("Tab")
    expect(page.locator("#num_inference_steps")).to_have_value("7")
    page.locator("#num_inference_steps").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Home")
    expect(page.locator("#num_inference_steps")).to_have_value("1")
    page.locator("#num_inference_steps").fill("")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".job.succeeded")).to_be_visible()
    expect(page.locator("#num_inference_steps")).to_have_value("1")
    page.locator("#seed").fill("5")
    page.keyboard.press("Enter")
    expect(page.locator(".job.succeeded")).to_have_count(2)
    page.locator("#seed").fill("-1")
    page.keyboard.press("Enter")
    expect(page.locator(".job.succeeded")).to_have_count(3)
    expect(page.locator(".job").first).to_contain_text(re.compile(r"seed \d"))
    expect(page.locator("#columns-errors")).to_be_empty()


@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_another_model_shows_its_own_parameters(
    browser: Browser, live_server: LiveServer, redis: None, tiny_edit: DiffusionModel, alice: User
) -> None:
    DiffusionModel.objects.filter(pk=tiny_edit.pk).update(example_prompts="make it night\n\n  paint it in oil \n")
    turbo = DiffusionModel.objects.create(
        id="some/turbo", family="turbo", enabled=True, max_images=2, example_prompts="a <b>bold</b> cat"
    )
    Lora.objects.create(id="some/style", enabled=True).base_models.add(turbo)
    page = new_context(browser).new_page()
    open_alices_studio(page, live_server.url)
    page.get_by_text("Ideas").click()
    expect(page.locator("#ideas li")).to_have_text(["make it night", "paint it in oil"])
    page.get_by_role("link", name="paint it in oil").click()
    expect(page.get_by_label("What should happen to it?")).to_have_value("paint it in oil")
    page.get_by_text("Negative prompt, LoRAs, output").click()
    expect(page.get_by_label("Negative prompt")).to_be_hidden()
    expect(page.get_by_label("some/style")).to_be_hidden()
    expect(page.locator("#strength")).to_be_disabled()
    expect(page.locator("#output_quality")).to_be_hidden()
    page.locator("#output_format").select_option("webp")
    expect(page.locator("#output_quality")).to_be_visible()

    page.locator("#model_id").select_option("some/turbo")
    expect(page.locator("#strength")).to_be_visible()
    expect(page.locator("#guidance_scale")).to_be_hidden()
    expect(page.get_by_label("some/style")).to_be_visible()
    expect(page.locator("#num_inference_steps")).to_have_value("2")
    expect(page.locator("#columns_field option[value=guidance_scale]")).to_be_disabled()
    page.get_by_text("Ideas").click()
    page.get_by_role("link", name="a <b>bold</b> cat").click()
    expect(page.get_by_label("What should it show?")).to_have_value("a <b>bold</b> cat")
    page.locator("#num_inference_steps").fill("3")
    page.locator("#model_id").select_option("dreamsite/tiny-edit")
    expect(page.locator("#num_inference_steps")).to_have_value("3")

    page.evaluate(
        """bytes => {
          const carrier = new DataTransfer();
          carrier.items.add(new File([new Uint8Array(bytes)], "pasted.png", { type: "image/png" }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: carrier }));
        }""",
        list(photo(120, 80)),
    )
    expect(page.get_by_alt_text("Input picture: pasted.png")).to_be_visible()
    page.locator("#prompt").fill("make it night")
    expect(page.locator("#estimate")).to_contain_text("Its pool has no active worker")

    page.locator("#model_id").select_option("some/turbo")
    expect(page.locator("#num_inference_steps")).to_have_value("3")
    page.goto(f"{live_server.url}/history/")
    page.go_back()
    expect(page.locator("#prompt")).to_have_value("make it night")
    expect(page.locator("#model_id")).to_have_value("some/turbo")
    expect(page.locator("#guidance_scale")).to_be_hidden()
    expect(page.locator("#num_inference_steps")).to_have_value("3")
    expect(page.get_by_label("Steps: ")).to_have_value("3")
    page.context.close()


@needs_chromium
def test_the_form_survives_a_sign_out_in_another_tab(open_studio: Callable[..., Page], service: Service) -> None:
    page = open_studio()
    page.set_input_files("#image", {"name": "a.png", "mimeType": "image/png", "buffer": photo(64, 64)})
    page.get_by_label("What should happen to it?").fill("prepared before")
    page.locator("#num_inference_steps").fill("1")
    other = page.context.new_page()
    other.goto(f"{service.url}/history/")
    sign_out(other)
    page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("alert")).to_contain_text("You were signed out.")
    sign_in_again(other, service)
    page.get_by_role("button", name="Generate").click()
    expect(page.locator(".job.succeeded")).to_contain_text("prepared before")
    with service.client() as api:
        assert len(api.get("/generations", params={"prompt": "prepared before"}).json()["results"]) == 1


@needs_chromium
def test_a_job_is_followed_over_lost_connections_and_a_sign_out(browser: Browser, service: Service) -> None:
    page = new_context(browser).new_page()
    script_errors: list[str] = []
    page.on("pageerror", lambda error: script_errors.append(str(error)))
    sign_in_again(page, service)
    page.set_input_files("#image", {"name": "a.png", "mimeType": "image/png", "buffer": photo(64, 64)})
    page.locator("#num_inference_steps").fill("1")
    status = page.locator(".job [data-status]")

    def generate(prompt: str) -> None:
        page.get_by_label("What should happen to it?").fill(prompt)
        page.get_by_role("button", name="Generate").click()
        expect(status).not_to_have_text("queued")

    with service.paused_worker():
        generate("made in a tunnel")
        page.context.set_offline(True)
        expect(status).to_have_text("Connection lost, trying again")
        expect(page.locator(".job progress")).to_be_hidden()
        expect(page).to_have_title("Studio · Dreamsite")
    with service.client() as api:
        wait_until(lambda: api.get("/generations", params={"prompt": "tunnel", "state": "succeeded"}).json()["results"])
    page.context.set_offline(False)
    expect(page.locator(".job.succeeded")).to_contain_text("made in a tunnel")

    # The end of a job meets a broken connection, twice.
    broken = re.compile(r"/studio/[0-9a-f-]{36}$")
    page.route(broken, lambda route: route.abort(), times=2)
    generate("made while it broke")
    expect(page.locator(".job.succeeded")).to_have_count(2)

    with service.paused_worker():
        generate("made while signed out")
        page.context.clear_cookies()
    expect(status).to_have_text("You were signed out; sign in to see it")
    expect(status.get_by_role("link")).to_have_attribute("href", f"{service.url}/")
    expect(page).to_have_title("Studio · Dreamsite")
    sign_in_again(page.context.new_page(), service)
    expect(page.locator(".job.succeeded")).to_have_count(3)
    assert script_errors == []
    page.context.close()


@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_the_studio_names_its_keys_where_there_are_keys(
    browser: Browser, live_server: LiveServer, redis: None, tiny_edit: DiffusionModel, alice: User
) -> None:
    make_generation(alice)
    for options, key in (({}, "Ctrl ↵"), ({"is_mobile": True, "has_touch": True}, None)):
        page = new_context(browser, 1440 if key else 390, **options).new_page()
        if key is None:
            page.add_init_script("Object.defineProperty(navigator, 'platform', { get: () => 'iPhone' })")
        page.goto(f"{live_server.url}/accounts/sign-in?next=/")
        page.get_by_label("Username").fill("alice")
        page.get_by_label("Password").fill("wrong")
        page.keyboard.press("Enter")
        # The field was focused before, too.
        expect(page.get_by_label("Password")).to_be_empty()
        page.wait_for_load_state()
        expect(page.get_by_label("Password")).to_be_focused()
        page.keyboard.type("alice-password")
        page.keyboard.press("Enter")
        page.wait_for_url(f"{live_server.url}/")
        page.wait_for_load_state()
        if key:
            expect(page.get_by_role("button", name="Generate")).to_contain_text(key)
            page.keyboard.press("/")
            expect(page.locator("#prompt")).to_be_focused()
            page.keyboard.type("why?")
            expect(page.locator("#prompt")).to_have_value("why?")
            page.locator("#prompt").blur()
            page.keyboard.press("?")
            expect(page.get_by_role("dialog", name="Keyboard shortcuts")).to_contain_text(f"{key}Generate")
            page.keyboard.press("Escape")
        else:
            expect(page.locator("#generate-key")).to_be_hidden()
            expect(page.get_by_role("button", name="Keyboard shortcuts")).to_be_hidden()
            top, bottom = (page.locator(part).bounding_box() for part in ("#compose", "#drop"))
            assert top
            assert bottom
            assert top["y"] - bottom["y"] - bottom["height"] < 24, "a gap as anywhere on the page"
        page.context.close()
    page = new_context(browser).new_page()
    page.add_init_script("Object.defineProperty(navigator, 'platform', { get: () => 'MacIntel' })")
    page.goto(f"{live_server.url}/accounts/sign-in?next=/")
    page.get_by_label("Username").fill("alice")
    page.get_by_label("Password").fill("alice-password")
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Generate")).to_contain_text("⌘ ↵")
    page.context.close()


@needs_chromium
def test_it_needs_no_scripts(open_studio: Callable[..., Page], service: Service) -> None:
    page = open_studio(java_script_enabled=False)
    button = page.get_by_role("button", name="Show parameters").bounding_box()
    assert button
    assert button["height"] < 48, "one line"
    page.set_input_files("#image", {"name": "a.png", "mimeType": "image/png", "buffer": photo(64, 64)})
    page.get_by_label("What should happen to it?").fill("without scripts")
    page.locator("#num_inference_steps").fill("1")
    page.get_by_role("button", name="Generate").click()
    page.wait_for_url(re.compile(r"/history/[0-9a-f-]{36}/$"))
    expect(page.get_by_text("the studio", exact=True)).to_be_visible()
    expect(page.get_by_alt_text("The result: without scripts")).to_be_visible()
    page.goto(f"{service.url}/")
    page.set_input_files(
        "#image", {"name": "a.bmp", "mimeType": "image/bmp", "buffer": encoded(scene(800, 600), "BMP")}
    )
    page.get_by_label("What should happen to it?").fill("too large")
    page.get_by_role("button", name="Generate").click()
    expect(page.locator("#image-errors")).to_contain_text("The picture was too large")


def test_event_streams_of_pages_need_a_session(service: Service) -> None:
    with service.client() as api:
        record = api.post(
            "/image-to-image",
            data={"prompt": "followed", "num_inference_steps": "2"},
            files={"image": photo(64, 64)},
            headers={"Prefer": "respond-async"},
        ).json()
        assert api.get(f"/history/{record['id']}/events").status_code == 403, "a token opens the API, not the pages"
    with httpx.Client(base_url=service.url, follow_redirects=True, timeout=WAIT_SECONDS) as client:
        form = client.get("/accounts/sign-in").text
        token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', form)
        assert token is not None
        fields = {"username": "admin", "password": service.password, "csrfmiddlewaretoken": token[1]}
        client.post("/accounts/sign-in", data=fields)
        answer = client.get(f"/history/{record['id']}/events")
        assert answer.headers["Content-Type"] == "text/event-stream"
        assert "event: succeeded" in answer.text
        assert client.get(f"/generations/{record['id']}/events").status_code == 401, "a session opens no API"
