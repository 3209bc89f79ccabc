"""`make screenshots`: the pictures of the README, taken from a real service that edits the shipped sample photo."""

import tempfile
from pathlib import Path

from playwright.sync_api import Page

from tests.browser import chromium
from tests.environment import ROOT
from tests.service import Service

DOCS = ROOT / "docs"
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
        with chromium() as browser:
            page = browser.new_page(viewport={"width": 1440, "height": 640}, color_scheme="light")
            sign_in(page, service)
            page.goto(f"{service.url}/history/", wait_until="networkidle")
            page.screenshot(path=DOCS / "history.png")


def generate(service: Service, prompt: str) -> None:
    with service.client() as client, SAMPLE.open("rb") as photo:
        fields = {"prompt": prompt, "num_inference_steps": "20", "seed": "7"}
        client.post("/image-to-image", data=fields, files={"image": photo}).raise_for_status()


def sign_in(page: Page, service: Service) -> None:
    page.goto(f"{service.url}/history/")
    page.get_by_label("Username").fill("admin")
    page.get_by_label("Password").fill(service.password)
    page.get_by_role("button", name="Sign in").click()
    page.wait_for_url("**/history/")


if __name__ == "__main__":
    main()
