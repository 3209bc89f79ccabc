"""How the studio sends a picture, in a real browser: how much of it is sent, and what phones reduce."""

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from PIL import ExifTags, Image, ImageStat
from playwright.sync_api import Browser, BrowserContext, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.models import ContactSheet, DiffusionModel, Generation
from tests.support import browser as browser_support
from tests.support.browser import check_everywhere, needs_chromium, new_context
from tests.support.pictures import encoded, photo, scene

pytestmark = [
    needs_chromium,
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis", "tiny_edit"),
]

SLOW = {"offline": False, "latency": 0, "downloadThroughput": -1, "uploadThroughput": 60_000}
FAST = SLOW | {"uploadThroughput": -1}


@pytest.fixture
def open_studio(browser: Browser, live_server: LiveServer, alice: User) -> Iterator[Callable[..., Page]]:
    """Opens the studio as alice, in a new profile of the browser with these options."""
    contexts: list[BrowserContext] = []

    def open_(width: int = 1440, **options: Any) -> Page:
        context = new_context(browser, width, **options)
        contexts.append(context)
        page = context.new_page()
        browser_support.open_studio(page, live_server.url)
        return page

    yield open_
    for context in contexts:
        context.close()


def choose(page: Page, name: str, content: bytes) -> None:
    page.set_input_files("#image", {"name": name, "mimeType": "application/octet-stream", "buffer": content})
    expect(page.get_by_alt_text(f"Input picture: {name}")).to_be_visible()


def generate(page: Page, prompt: str) -> tuple[Generation, int]:
    """Generate, and return the generation and how many bytes were sent for it."""
    page.locator("#prompt").fill(prompt)
    with page.expect_response(lambda response: response.status == 201) as response:
        page.get_by_role("button", name="Generate").click()
    expect(page.get_by_role("article", name=prompt)).to_be_visible()
    return Generation.objects.get(prompt=prompt), int(response.value.request.all_headers()["content-length"])


def test_an_upload_says_how_much_is_sent_and_loses_nothing(open_studio: Callable[..., Page]) -> None:
    page = open_studio()
    network = page.context.new_cdp_session(page)
    network.send("Network.enable")
    network.send("Network.emulateNetworkConditions", SLOW)
    choose(page, "large.bmp", photo(900, 600, "BMP"))
    expect(page.locator("#reduction")).to_be_hidden()
    page.locator("#prompt").fill("make it night")
    button, line, status = (page.locator(part) for part in ("#generate", ".job", ".job [data-status]"))

    button.click()
    expect(status).to_have_text(re.compile(r"^sending, [1-9]\d? %$"))
    expect(line).to_contain_text("make it night")
    assert line.locator("progress").evaluate("bar => bar.value") > 0
    check_everywhere(page)
    button.click(force=True)  # it sends the picture already
    line.get_by_role("button", name="Cancel").click()
    expect(line).to_have_count(0)
    expect(page.get_by_role("alert")).to_be_empty()

    button.click()
    expect(status).to_have_text(re.compile(r"^sending, [1-9]\d? %$"))
    page.context.set_offline(True)
    expect(page.get_by_role("alert")).to_have_text(
        "The connection was lost. Nothing here is lost; press Generate to send it again."
    )
    expect(line).to_have_count(0)
    page.context.set_offline(False)
    network.send("Network.emulateNetworkConditions", FAST)
    assert not Generation.objects.exists()
    button.click()
    expect(page.get_by_role("article", name="make it night")).to_have_count(1)
    expect(page.get_by_role("alert")).to_be_empty()
    assert Generation.objects.get().input_width == 900


def test_phones_send_what_the_model_takes(open_studio: Callable[..., Page]) -> None:
    DiffusionModel.objects.create(id="some/larger", family="instruct-pix2pix", enabled=True)
    page = open_studio(390, is_mobile=True, has_touch=True)
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    picture = Image.blend(scene(1600, 1200), Image.effect_noise((1600, 1200), 60).convert("RGB"), 0.5)
    picture.paste((255, 0, 0), (0, 0, 200, 1200))  # at the top, once it is upright
    content = encoded(picture, "JPEG", quality=90, exif=turned)
    assert len(content) > 600_000
    choose(page, "IMG_0417.jpg", content)
    sizes = page.locator("#sizes")
    expect(sizes).to_have_text(
        re.compile(r"^Sends .+ [kM]B instead of \d\.\d MB: 384 × 512, the size of the result\.$")
    )

    reduced, size = generate(page, "reduced")
    assert (reduced.input_width, reduced.input_height, reduced.input_format) == (384, 512, "JPEG")
    assert reduced.warnings == []
    assert 5000 < size < len(content) / 4
    with reduced.input.open() as file, Image.open(file) as stored:
        top = stored.convert("RGB").crop((0, 0, 384, 40))
    assert [value > 128 for value in ImageStat.Stat(top).mean] == [True, False, False], "it is upright"
    again, size = generate(page, "reduced again")
    assert again.input_width == 384
    assert size < 5000, "it names the picture"

    page.locator("#model_id").select_option("some/larger")
    expect(sizes).to_contain_text("665 × 886")
    larger, _ = generate(page, "larger")
    assert (larger.input_width, larger.input_height) == (665, 886)

    page.get_by_label("Send the original").check()
    expect(sizes).to_have_text(re.compile(r"^Sends .+ instead of .+\. The result is 665 × 886 either way\.$"))
    page.reload()
    expect(page.get_by_alt_text("Input picture: IMG_0417.jpg")).to_be_visible()
    expect(page.get_by_label("Send the original")).to_be_checked()
    original, size = generate(page, "original")
    assert (original.input_width, original.input_height) == (1200, 1600)
    assert size > len(content)
    for generation in (larger, original):
        assert (generation.get_recipe().width, generation.get_recipe().height) == (665, 886)
    check_everywhere(page)

    page.get_by_label("Send the original").uncheck()
    page.set_input_files("#mask", {"name": "mask.png", "mimeType": "image/png", "buffer": photo(60, 80)})
    expect(sizes).to_contain_text("with a mask the result keeps all pixels.")
    expect(page.get_by_label("Send the original")).to_be_hidden()
    page.get_by_role("button", name="Remove mask").tap()

    picture.putalpha(Image.effect_noise(picture.size, 60))
    choose(page, "cut out.png", encoded(picture))
    expect(sizes).to_contain_text("886 × 665")
    with_alpha, _ = generate(page, "with alpha")
    assert (with_alpha.input_width, with_alpha.input_format) == (886, "PNG")

    choose(page, "small.jpg", photo(1600, 1200, "JPEG", quality=30))
    expect(page.locator("#reduction")).to_be_hidden()
    assert generate(page, "small")[0].input_width == 1600


def test_a_contact_sheet_of_several_models_takes_the_original(open_studio: Callable[..., Page]) -> None:
    DiffusionModel.objects.create(id="some/larger", family="instruct-pix2pix", enabled=True)
    page = open_studio(390, is_mobile=True, has_touch=True)
    choose(page, "large.bmp", photo(900, 600, "BMP"))
    expect(page.locator("#sizes")).to_contain_text("512 × 341")
    page.locator("#prompt").fill("make it night")
    page.get_by_role("button", name="Adjust").click()
    page.get_by_text("Contact sheet", exact=True).click()
    for field, values, width in (("seed", "1, 2", 512), ("model_id", "dreamsite/tiny-edit\nsome/larger", 900)):
        page.locator("#columns_field").select_option(field)
        page.locator("#columns").fill(values)
        expect(page.locator("#reduction")).to_be_visible(visible=field == "seed")
        page.get_by_role("button", name="Create contact sheet").click()
        page.wait_for_url(re.compile(r"/sheets/"))
        sheet = ContactSheet.objects.latest("created")
        assert set(Generation.objects.filter(contact_sheet=sheet).values_list("input_width", flat=True)) == {width}
        page.go_back()
        page.wait_for_load_state()
        expect(page.get_by_alt_text("Input picture: large.bmp")).to_be_visible()
        if not page.locator("#columns").is_visible():
            page.get_by_role("button", name="Adjust").click()
