"""The studio's first visit, and how it presents models, in a real browser."""

import re

import pytest
from playwright.sync_api import Browser, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.models import DiffusionModel, RunTiming
from tests.support.browser import check_everywhere, needs_chromium, new_context, open_studio
from tests.support.generations import make_generation
from tests.support.pictures import photo

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]

PURPOSE = "Say what should happen to a picture"


@pytest.fixture
def page(browser: Browser) -> Page:
    return new_context(browser).new_page()


def test_a_first_visit_explains_itself(
    page: Page, live_server: LiveServer, tiny_edit: DiffusionModel, alice: User
) -> None:
    DiffusionModel.objects.create(id="some/turbo", family="turbo", enabled=True)
    page.goto(live_server.url)
    expect(page.get_by_text(PURPOSE)).to_be_visible()
    assert (
        page.get_by_alt_text("An island").evaluate("picture => picture.decode().then(() => picture.naturalWidth)") > 0
    )
    open_studio(page, live_server.url)
    expect(page.get_by_text(PURPOSE)).to_be_visible()
    expect(page.locator(".samples img")).to_have_count(3)
    expect(page.locator(".ideas li")).to_have_count(6)
    check_everywhere(page)
    assert page.evaluate(
        "Promise.all(Array.from(document.images, (picture) => !picture.src || picture.decode())).then(() => true)"
    )
    page.get_by_role("button", name="Use the photo of an island").click()
    expect(page.get_by_alt_text("Input picture: island.jpg")).to_be_visible()
    expect(page.get_by_text("No picture at hand?")).to_be_hidden()
    page.locator("#model_id").select_option("some/turbo")
    page.get_by_role("link", name="make it a cartoon").click()
    expect(page.get_by_alt_text("Input picture: red-panda.jpg")).to_be_visible()
    expect(page.locator("#prompt")).to_have_value("make it a cartoon")
    expect(page.locator("#model_id")).to_have_value("dreamsite/tiny-edit")
    expect(page.locator("#generate")).to_be_focused()

    make_generation(alice)
    page.reload()
    expect(page.locator("#prompt")).to_be_visible()
    expect(page.locator(".samples, .ideas")).to_have_count(0)
    expect(page.get_by_text(PURPOSE)).to_have_count(0)
    page.context.close()


def test_a_model_says_what_it_does_and_what_it_wants(
    page: Page, live_server: LiveServer, tiny_edit: DiffusionModel, alice: User
) -> None:
    DiffusionModel.objects.create(
        id="some/turbo", family="turbo", enabled=True, summary="Redraws <b>fast</b>.", placeholder="a red barn"
    )
    RunTiming.objects.create(model_id="some/turbo", pixels=512 * 512, images=1, step_seconds=1.5, other_seconds=1)
    open_studio(page, live_server.url)
    expect(page.get_by_label("What should happen to it?")).to_have_attribute(
        "placeholder", "make it a snowy winter day"
    )
    page.get_by_label("Model", exact=True).select_option("some/turbo: Redraws <b>fast</b>.")
    expect(page.get_by_label("What should it show?")).to_have_attribute("placeholder", "a red barn")
    expect(page.locator("#chosen-model")).to_have_text(re.compile(r"Redraws <b>fast</b>\.\s+Usually 4 s\."))
    expect(page.locator("#chosen-model img")).to_be_hidden()
    expect(page.locator("#chosen-model svg")).to_be_visible()
    page.get_by_label("Model", exact=True).select_option(index=0)
    expect(page.locator("#chosen-model img")).to_be_visible()

    page.set_input_files("#image", {"name": "a.png", "mimeType": "image/png", "buffer": photo(192, 128)})
    page.locator("#prompt").fill("a bowl of soup, please")
    warning = page.locator("#prompt-warnings")
    expect(warning).to_contain_text("dreamsite/tiny-edit knows none of these words")
    page.set_viewport_size({"width": 390, "height": 900})
    page.locator("#prompt").evaluate("field => field.scrollIntoView({ block: 'center' })")
    box, bar = warning.bounding_box(), page.locator(".generate-bar").bounding_box()
    assert box is not None
    assert bar is not None
    assert box["y"] + box["height"] < bar["y"], "it is in sight beside the prompt"
    page.locator("#prompt").fill("Make It NIGHT")
    expect(warning).to_be_empty()
    page.context.close()


def test_sliders_lead_back_to_what_is_recommended(
    page: Page, live_server: LiveServer, tiny_edit: DiffusionModel, alice: User
) -> None:
    DiffusionModel.objects.create(id="some/sd", family="stable-diffusion", enabled=True)
    open_studio(page, live_server.url)
    page.locator("#model_id").select_option("some/sd")
    steps, guidance = page.locator("#num_inference_steps"), page.locator("#guidance_scale")
    expect(page.locator('[data-slider="guidance_scale"] .ends')).to_have_text("freercloser to the words")
    guidance.fill("12")
    page.get_by_role("button", name="Quick").click()
    expect(steps).to_have_value("15")
    expect(guidance).to_have_value("7.5")
    guidance.fill("3")
    page.get_by_role("button", name="Recommended").click()
    expect(steps).to_have_value("30")
    expect(guidance).to_have_value("7.5")
    guidance.fill("3")
    page.get_by_label("Guidance: ").first.dblclick()
    expect(guidance).to_have_value("7.5")
    page.context.close()
