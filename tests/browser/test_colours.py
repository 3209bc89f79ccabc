"""What the browser shows of a picture is what the service uses."""

import base64
import io

import pytest
from playwright.sync_api import Browser

from generation.images import uploads
from tests.support import browser as chromium
from tests.support import colours

pytestmark = [chromium.needs_chromium, pytest.mark.filterwarnings("ignore:::PIL")]

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


def test_pictures_of_all_kinds_of_colours_are_used_as_the_browser_shows_them(browser: Browser) -> None:
    samples = colours.samples()
    addresses = [
        f"data:{sample.media_type};base64,{base64.b64encode(sample.content).decode()}" for _, sample in samples.values()
    ]
    with chromium.new_context(browser) as context:
        drawn = context.new_page().evaluate(DRAW, addresses)
    apart = {}
    for (name, (_, sample)), row in zip(samples.items(), drawn, strict=True):
        used = colours.patches(uploads.read_upload(io.BytesIO(sample.content), max_pixels=4_000_000).picture)
        for number, colour in enumerate(used):
            at = 4 * (number * colours.SIDE + colours.SIDE // 2)
            shown = row[at : at + 3]
            if max(abs(a - b) for a, b in zip(colour, shown, strict=True)) > 3:
                apart[name, number] = (colour, shown)
    assert apart == {}
