"""`make screenshots`: take the pictures of the docs from a real service that edits the bundled sample photo."""

import io
import tempfile
from pathlib import Path

from PIL import Image, ImageFilter
from playwright.sync_api import Page

from tests.support.browser import chromium
from tests.support.environment import ROOT
from tests.support.service import Service

DOCS = ROOT / "docs"
ISLAND = ROOT / "dreamsite" / "static" / "dreamsite" / "samples" / "island.jpg"
SKY, HORIZON = 150, 0.58
SAMPLE = ROOT / "dreamsite" / "static" / "sample.jpg"
PROMPTS = [
    "make it look like winter",
    "invert the colors",
    "make it a mosaic",
    "turn it into a watercolor painting",
    "make it look vintage",
    "turn it into a cartoon",
    "make it sunset",
    "pixel art",
    "make it an oil painting",
    "turn it into a pencil sketch",
    "make it night",
]


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="shots") as folder, Service(Path(folder)) as service:
        for prompt in PROMPTS:
            generate(service, prompt)
            if prompt == "make it a mosaic":
                generate(service, "tiger", model_id="dreamsite/tiny-redraw", strength="0.9")
        with chromium() as browser:
            desk = browser.new_page(viewport={"width": 1440, "height": 900}, color_scheme="light")
            sign_in(desk, service)
            shoot(desk, f"{service.url}/history/", "history.png")
            desk.locator(".tile > a").first.click()
            desk.wait_for_url("**/history/*/")
            last = desk.url.rstrip("/").rpartition("/")[2]
            desk.emulate_media(color_scheme="dark")
            shoot(desk, desk.url, "generation.png")
            desk.emulate_media(color_scheme="light")
            shoot(desk, f"{service.url}/?from={last}&mode=remix", "studio.png")
            shoot_mask(desk, service)
            phone = browser.new_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
            sign_in(phone, service)
            shoot(phone, f"{service.url}/history/", "phone.png")


def shoot(page: Page, url: str, name: str) -> None:
    page.goto(url, wait_until="networkidle")
    page.screenshot(path=DOCS / name)


def shoot_mask(page: Page, service: Service) -> None:
    """Mark the sky of a photo in the studio, make it night, and take a picture of both."""
    page.goto(f"{service.url}/")
    page.get_by_role("link", name="Start over").click()
    page.set_input_files("#image", ISLAND)
    page.get_by_role("button", name="Change a part only").click()
    page.locator("[data-mask-file]").set_input_files({"name": "sky.png", "mimeType": "image/png", "buffer": sky_mask()})
    page.get_by_text("% may change").first.wait_for()
    page.get_by_role("button", name="Done").click()
    page.locator("#prompt").fill("make it night")
    page.locator("#seed").fill("7")
    page.get_by_text("Edge and detail").click()
    page.get_by_label("Soft edge, in pixels").fill("1")
    page.get_by_role("button", name="Generate").click()
    page.locator(".job.succeeded").wait_for()
    page.wait_for_load_state("networkidle")
    page.screenshot(path=DOCS / "mask.png")


def sky_mask() -> bytes:
    """Return a mask of the sky above the island: what is bright, down to the horizon."""
    with Image.open(ISLAND) as photo:
        mask = photo.convert("L").filter(ImageFilter.MedianFilter(3)).point(lambda value: 255 * (value > SKY))
    # So far that no bright edge is left.
    mask = mask.filter(ImageFilter.MaxFilter(3))
    mask.paste(0, (0, round(HORIZON * mask.height), mask.width, mask.height))
    stream = io.BytesIO()
    mask.save(stream, "PNG")
    return stream.getvalue()


def generate(service: Service, prompt: str, **more: str) -> None:
    with service.client() as client, SAMPLE.open("rb") as photo:
        fields = {"prompt": prompt, "num_inference_steps": "2", "seed": "7", **more}
        client.post("/image-to-image", data=fields, files={"image": photo}).raise_for_status()


def sign_in(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/history/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(service.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/history/")


if __name__ == "__main__":
    main()
