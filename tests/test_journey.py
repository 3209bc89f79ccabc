"""One person's way through the real service: sign in, make a token, post a picture with it, find it in the history."""

import httpx
from playwright.sync_api import expect

from tests import pictures
from tests.browser import chromium, needs_chromium
from tests.service import Service


@needs_chromium
def test_from_sign_in_to_a_picture_in_the_history(service: Service) -> None:
    with chromium() as browser:
        page = browser.new_page()
        page.goto(service.url)
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill(service.password)
        page.get_by_role("button", name="Sign in").click()

        page.get_by_role("link", name="Tokens").click()
        page.get_by_label("Name").fill("journey")
        page.get_by_role("button", name="Create token").click()
        token = page.locator("#raw").inner_text()

        answer = httpx.post(
            f"{service.url}/image-to-image",
            headers={"Authorization": f"Bearer {token}"},
            data={"prompt": "a journey by night", "num_inference_steps": "1", "seed": "424242"},
            files={"image": ("a.png", pictures.photo(160, 128))},
            timeout=120,
        )
        assert answer.status_code == 200

        page.get_by_role("link", name="History", exact=True).first.click()
        page.get_by_role("link", name="a journey by night").click()
        expect(page.get_by_role("heading", level=1)).to_have_text("a journey by night")
        expect(page.get_by_text("424242").first).to_be_visible()
        for name in ("The input picture", "The result: a journey by night"):
            picture = page.get_by_alt_text(name).first
            expect(picture).to_be_visible()
            assert picture.evaluate("picture => picture.decode().then(() => picture.naturalWidth)") == 160

        page.goto(f"{service.url}/admin/generation/generation/")
        row = page.locator("#result_list tbody tr").filter(has_text="a journey by night")
        expect(row).to_contain_text("424242")
        assert row.locator("img").count() == 2
