"""What the browser shows of a picture is what the service uses."""

import base64

import httpx
import pytest
from PIL import ExifTags, Image
from playwright.sync_api import Browser
from pytest_django.live_server_helper import LiveServer

from generation.models import DiffusionModel, Generation
from tests.support import camera_files, colours, pictures
from tests.support.browser import needs_chromium, new_context

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]

DRAW = """async (addresses) => {
  const drawn = [];
  for (const address of addresses) {
    const picture = new Image();
    picture.src = address;
    await picture.decode();
    const canvas = document.createElement("canvas");
    canvas.width = picture.naturalWidth;
    canvas.height = picture.naturalHeight;
    const context = canvas.getContext("2d");
    context.drawImage(picture, 0, 0);
    drawn.push(Array.from(context.getImageData(0, canvas.height / 2, canvas.width, 1).data));
  }
  return drawn;
}"""


MEASURE = """async (addresses) => {
  const sizes = [];
  for (const address of addresses) {
    const picture = Object.assign(new Image(), { src: address });
    await picture.decode();
    sizes.push([picture.naturalWidth, picture.naturalHeight]);
  }
  return sizes;
}"""


def address(content: bytes, media_type: str) -> str:
    return f"data:{media_type};base64,{base64.b64encode(content).decode()}"


def stored(api: httpx.Client, content: bytes) -> Image.Image:
    """Send a picture, and return what is stored of it."""
    files = {"image": ("picture", content)}
    response = api.post("/image-to-image", data={"prompt": "make it night"}, files=files)
    assert response.status_code == 202, response.text
    with Generation.objects.latest("created").input.open() as file, Image.open(file) as picture:
        return picture.convert("RGB")


def test_pictures_of_all_kinds_of_colours_are_used_as_the_browser_shows_them(
    browser: Browser, live_server: LiveServer, alices_token: str, tiny_edit: DiffusionModel
) -> None:
    samples = colours.samples()
    addresses = [address(sample.content, sample.media_type) for _, sample in samples.values()]
    with new_context(browser) as context:
        drawn = context.new_page().evaluate(DRAW, addresses)
    with httpx.Client(base_url=live_server.url, headers={"Authorization": f"Bearer {alices_token}"}) as api:
        used = [colours.patches(stored(api, sample.content)) for _, sample in samples.values()]
    apart = {}
    for name, row, patches in zip(samples, drawn, used, strict=True):
        for number, colour in enumerate(patches):
            at = 4 * (number * colours.SIDE + colours.SIDE // 2)
            shown = row[at : at + 3]
            if max(abs(a - b) for a, b in zip(colour, shown, strict=True)) > 3:
                apart[name, number] = (colour, shown)
    assert apart == {}


def test_pictures_are_turned_as_the_browser_turns_them(
    browser: Browser, live_server: LiveServer, alices_token: str, tiny_edit: DiffusionModel
) -> None:
    photos = {
        (format_, name): pictures.photo(64, 48, format_, **{name: data})
        for format_ in ("JPEG", "PNG", "WEBP", "AVIF")
        for name, data in (("exif", exif_orientation(6)), ("xmp", camera_files.xmp_orientation(6)))
    }
    addresses = [address(content, Image.MIME[format_]) for (format_, _), content in photos.items()]
    with new_context(browser) as context:
        shown = context.new_page().evaluate(MEASURE, addresses)
    with httpx.Client(base_url=live_server.url, headers={"Authorization": f"Bearer {alices_token}"}) as api:
        used = [stored(api, content).size for content in photos.values()]
    assert dict(zip(photos, used, strict=True)) == dict(zip(photos, map(tuple, shown), strict=True))
    assert {name for name, size in zip(photos, used, strict=True) if size == (48, 64)} == {
        ("JPEG", "exif"),
        ("PNG", "exif"),
        ("AVIF", "exif"),
    }


def exif_orientation(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return exif.tobytes()
