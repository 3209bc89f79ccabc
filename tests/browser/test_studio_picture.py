"""The studio's picture in a real browser: dragged, pasted and chosen, from this site, from others and from files."""

import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import ThreadingHTTPServer
from pathlib import Path

import pytest
from playwright.sync_api import BrowserContext, FilePayload, Page, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation.images.kinds import FORMATS
from generation.models import ContactSheet, DiffusionModel, Generation
from tests.support.browser import check_everywhere, needs_chromium
from tests.support.generations import make_generation
from tests.support.heif import heic
from tests.support.pictures import photo
from tests.support.servers import QuietHandler

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]

DRAGGED = """image => {
  const link = image.closest("a")?.href ?? image.src;
  return { "text/uri-list": link, "text/html": `<img src="${image.src}" alt="">` };
}"""
"""What a browser's drag of this picture carries to another page."""

SEND = """([type, selector, data]) => {
  const transfer = new DataTransfer();
  for (const [kind, text] of Object.entries(data)) transfer.setData(kind, text);
  const options = { bubbles: true, cancelable: true, dataTransfer: transfer, clipboardData: transfer };
  const event = type === "drop" ? new DragEvent(type, options) : new ClipboardEvent(type, options);
  return document.querySelector(selector).dispatchEvent(event);
}"""
"""Dispatches a drop or paste, and returns whether the browser then does what it does by itself."""


class PictureHandler(QuietHandler):
    """Lets pages of all sites read what is in the folder `open`."""

    def end_headers(self) -> None:
        if self.path.startswith("/open/"):
            self.send_header("Access-Control-Allow-Origin", "*")
        super().end_headers()


def a_file(name: str, content: bytes) -> FilePayload:
    return {"name": name, "mimeType": "application/octet-stream", "buffer": content}


@pytest.fixture
def other_site(tmp_path: Path) -> Iterator[str]:
    """The origin of another site with two pictures: in `/open/` other sites may read them, in `/closed/` not."""
    for folder in ("open", "closed"):
        (tmp_path / folder).mkdir()
        for name in ("cat.png", "100%.png"):
            (tmp_path / folder / name).write_bytes(photo(120, 80))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(PictureHandler, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture
def open_page(
    context: BrowserContext, live_server: LiveServer, alice: User, tiny_edit: DiffusionModel
) -> Callable[[str], Page]:
    """Opens a page as alice."""

    def open_(path: str) -> Page:
        page = context.new_page()
        page.goto(live_server.url + path)
        if page.get_by_label("Username").count():
            page.get_by_label("Username").fill("alice")
            page.get_by_label("Password").fill("alice-password")
            page.get_by_role("button", name="Sign in").click()
            page.wait_for_url(live_server.url + path)
        page.wait_for_load_state()
        return page

    return open_


def test_pictures_of_ones_own_are_dragged_in_from_every_page(
    open_page: Callable[[str], Page], alice: User, tiny_edit: DiffusionModel
) -> None:
    first = make_generation(alice, prompt="the first", num_images_per_prompt=2)
    second = make_generation(alice, prompt="the second")
    sheet = ContactSheet.objects.create(user=alice, columns={"field": "seed", "values": ["1"]}, rows=None)
    Generation.objects.filter(pk=first.pk).update(contact_sheet=sheet, cell=0)
    page = open_page("/")
    source, picture = page.locator("input[name=source]"), page.locator("input[name=image][type=hidden]")

    page.drag_and_drop(".latest .strip li >> nth=0 >> img", "#prompt")
    expect(page.get_by_text("Result of the second")).to_be_visible()
    expect(source).to_have_value(str(second.pk))
    expect(page.locator("#prompt")).to_have_value("")
    page.drag_and_drop("nav >> text=History", "#estimate")
    expect(page.locator("#image-errors")).to_contain_text("There was no picture in it.")
    assert page.url.endswith("/"), "a drop leads nowhere"
    expect(source).to_have_value(str(second.pk))

    other = open_page("/history/")
    for path, selector, expected in (
        ("/history/", f"#tile-{second.pk} img", (str(second.pk), "0")),
        (f"/history/{first.pk}/?picture=2", ".after img", (str(first.pk), "1")),
        (f"/history/{first.pk}/?picture=2", "ul[aria-label=Results] li:first-child img", (str(first.pk), "0")),
        (f"/history/{second.pk}/?with={first.pk}.1", ".before img", (str(first.pk), "1")),
        (f"/sheets/{sheet.pk}/", ".cell img", (str(first.pk), "0")),
    ):
        other.goto(other.url.partition("/history")[0].partition("/sheets")[0] + path)
        data = other.locator(selector).evaluate(DRAGGED)
        assert page.evaluate(SEND, ["drop", "body", data]) is False
        expect(source).to_have_value(expected[0])
        expect(picture).to_have_value(expected[1])
        page.evaluate("document.querySelector('[data-stored]').remove()")
    other.goto(other.url.partition("/sheets")[0] + f"/history/{second.pk}/")
    page.evaluate(SEND, ["paste", "body", other.locator(".before img").evaluate(DRAGGED)])
    expect(page.locator("input[name=from]")).to_have_value(str(second.pk))
    expect(page.locator("#picture-caption")).to_have_text("96 × 64")

    page.evaluate(SEND, ["drop", "body", {"text/uri-list": f"{page.url}history/{first.pk}/?picture=2"}])
    expect(picture).to_have_value("1")
    page.locator("#prompt").fill("made from a dragged one")
    page.keyboard.press("Control+Enter")
    expect(page.locator(".job[data-generation]")).to_be_visible()
    made = Generation.objects.get(prompt="made from a dragged one")
    assert made.source == first.images.get(index=1)


def test_pictures_of_other_sites_are_taken_where_they_may_be_read(
    open_page: Callable[[str], Page], other_site: str
) -> None:
    page = open_page("/")
    page.evaluate(SEND, ["drop", "body", {"text/uri-list": f"{other_site}/open/100%.png"}])
    expect(page.get_by_alt_text("Input picture: 100%.png")).to_be_visible()
    page.evaluate(SEND, ["drop", "body", {"text/html": f'<a href="/"><img src="{other_site}/open/cat.png"></a>'}])
    expect(page.get_by_alt_text("Input picture: cat.png")).to_be_visible()
    expect(page.locator("#picture-caption")).to_have_text("120 × 80")
    address = {"text/uri-list": f"{other_site}/closed/cat.png", "text/plain": f"{other_site}/closed/cat.png"}
    assert page.evaluate(SEND, ["drop", "#prompt", address]) is False
    expect(page.locator("#image-errors")).to_have_text(
        f"{other_site.removeprefix('http://')} does not let other sites read its pictures. "
        "Save the picture and drop the file."
    )
    assert page.locator("#image").evaluate("field => field.files[0].name") == "cat.png", "the first picture stays"
    check_everywhere(page)
    pixel = page.evaluate("Object.assign(document.createElement('canvas'), {width: 8, height: 9}).toDataURL()")
    page.evaluate(SEND, ["paste", "body", {"text/plain": pixel}])
    expect(page.locator("#picture-caption")).to_have_text("8 × 9")
    assert page.evaluate(SEND, ["drop", "body", {"text/plain": "some words"}]) is False
    expect(page.locator("#image-errors")).to_contain_text("There was no picture in it. Drop a picture, or a PNG, JPEG")
    for event in ("drop", "paste"):
        assert page.evaluate(SEND, [event, "#prompt", {"text/plain": "some words"}]) is True, "words go to the prompt"


def test_a_file_is_judged_by_its_first_bytes_before_it_is_sent(open_page: Callable[[str], Page]) -> None:
    page = open_page("/")
    for kind in FORMATS:
        page.set_input_files("#image", a_file(f"{kind}.bin", photo(64, 48, kind)))
        expect(
            page.locator(f".drop :is([alt='Input picture: {kind}.bin'], .unshown:has-text('{kind}.bin'))")
        ).to_be_visible()
        expect(page.locator("#image-errors")).to_be_empty()
    for name, content in {
        "notes.txt": b"some words, and no picture at all",
        "film.mp4": b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom",
        "drawing.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "nothing.png": b"",
    }.items():
        page.set_input_files("#image", a_file(name, content))
        expect(page.locator("#image-errors")).to_contain_text(f"{name} is no picture that can be used. Choose a PNG,")
    assert page.locator("#image").evaluate("field => field.files[0].name") == f"{FORMATS[-1]}.bin"
    page.set_input_files("#image", a_file("IMG_0417.HEIC", heic()))
    expect(page.locator(".drop .unshown")).to_contain_text("IMG_0417.HEIC")
    expect(page.locator(".drop img")).to_have_count(0)
    check_everywhere(page)
