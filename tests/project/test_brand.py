"""The name, logo and accent colour of the site, and the web app manifest."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest
from django.test import Client
from PIL import Image
from playwright.sync_api import BrowserContext, expect
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from dreamsite import accent
from dreamsite.checks import check_settings
from tests.support.browser import check_everywhere, needs_chromium, record_refusals
from tests.support.environment import ROOT
from tests.support.generations import make_generation

SVG = '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 9 9"><script>alert(1)</script><path d="M0 0h9v9z"/></svg>'
THEME = ROOT / "dreamsite" / "static" / "dreamsite" / "theme.css"


@pytest.fixture
def logo(tmp_path: Path) -> Path:
    path = tmp_path / "logo.png"
    Image.new("RGB", (200, 200), "teal").save(path)
    return path


def grounds() -> tuple[list[str], list[str]]:
    """Return the backgrounds of the pages in light and dark."""
    pairs = re.findall(r"--(?:bg|panel|sunken): light-dark\((#\w+), (#\w+)\);", THEME.read_text())
    assert len(pairs) == 3
    light, dark = zip(*pairs, strict=True)
    return list(light), list(dark)


def test_the_accents_grounds_are_those_of_the_theme() -> None:
    light, dark = grounds()
    assert (set(light), set(dark)) == (set(accent.LIGHT_GROUNDS), set(accent.DARK_GROUNDS))


@pytest.mark.parametrize("chosen", ["#ffff00", "#000000", "#ffffff", "#7f7f7f", "#ff0000", "#00e5ff", "#10142a"])
def test_any_accent_can_be_read_in_light_and_dark(chosen: str) -> None:
    (on_light, on_dark), (light, dark) = accent.light_and_dark(chosen), grounds()
    assert min(accent.contrast(on_light, ground) for ground in light) >= 4.5
    assert min(accent.contrast(on_dark, ground) for ground in dark) >= 4.5
    # --on-accent of theme.css.
    assert accent.contrast(on_light, "#ffffff") >= 4.5
    assert accent.contrast(on_dark, "#10142a") >= 4.5


def test_an_accent_that_can_be_read_is_not_changed() -> None:
    assert accent.light_and_dark("#1d4ed8")[0] == "#1d4ed8"
    assert accent.light_and_dark("#93a9ff")[1] == "#93a9ff"
    assert round(accent.contrast("#000000", "#ffffff"), 2) == 21


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SITE_NAME", ""),
        ("SITE_NAME", "x" * 41),
        ("SITE_NAME", "a\nb"),
        ("SITE_ACCENT", "red"),
        ("SITE_LOGO", "/no.png"),
    ],
)
def test_the_checks_refuse(settings: Any, name: str, value: str) -> None:
    setattr(settings, name, value)
    (error,) = check_settings(None)
    assert error.msg.startswith(f"{name}={value!r} must be ")


def test_a_logo_is_judged_by_its_bytes(settings: Any, tmp_path: Path) -> None:
    path = tmp_path / "logo.png"
    for size, is_valid in (((200, 200), True), ((200, 100), False), ((64, 64), False)):
        path = tmp_path / f"{size}.svg"
        Image.new("RGB", size).save(path, "PNG")
        settings.SITE_LOGO = str(path)
        assert (check_settings(None) == []) == is_valid, size
    path = tmp_path / "page.png"
    path.write_text("<html>")
    settings.SITE_LOGO = str(path)
    assert "PNG" in check_settings(None)[0].msg


def test_an_svg_is_served_as_a_picture_that_can_do_nothing(client: Client, settings: Any, tmp_path: Path) -> None:
    path = tmp_path / "logo.svg"
    path.write_text(SVG)
    settings.SITE_LOGO = str(path)
    answer = client.get("/brand/logo")
    assert (answer["Content-Type"], answer["X-Content-Type-Options"]) == ("image/svg+xml", "nosniff")
    assert answer["Content-Security-Policy"] == "default-src 'none'; style-src 'unsafe-inline'; sandbox"
    assert "<script>alert" not in client.get("/accounts/sign-in").content.decode()


def test_without_settings_it_is_dreamsite(client: Client) -> None:
    assert [client.get(f"/brand/{name}").status_code for name in ("logo", "colours.css")] == [404, 404]
    manifest = json.loads(client.get("/manifest.webmanifest").content)
    assert (manifest["name"], manifest["start_url"], manifest["display"]) == ("Dreamsite", "/", "standalone")
    assert {icon["purpose"] for icon in manifest["icons"]} == {"any", "maskable"}
    for icon in manifest["icons"]:
        answer = client.get(icon["src"])
        assert answer["Content-Type"] == icon["type"]
        content = io.BytesIO(b"".join(answer))
        if icon["type"] == "image/png":
            with Image.open(content) as picture:
                assert f"{picture.width}x{picture.height}" == icon["sizes"]


def test_every_page_has_the_name(client: Client, settings: Any, logo: Path, charlie: User, redis: None) -> None:
    settings.SITE_NAME = "Atelier & Co"
    settings.SITE_LOGO = str(logo)
    made = make_generation(charlie)
    client.force_login(charlie)
    for address in (
        "/",
        "/history/",
        "/settings/",
        f"/history/{made.pk}/",
        "/nothing",
        "/admin/",
        "/admin/operations/",
    ):
        page = client.get(address, headers={"accept": "text/html"}).content.decode()
        assert "Atelier &amp; Co" in page.partition("</title>")[0], address
        assert "Dreamsite" not in page, address
        assert 'src="/brand/logo"' in page, address
    manifest = json.loads(client.get("/manifest.webmanifest").content)
    assert manifest["name"] == "Atelier & Co"
    assert manifest["icons"] == [{"src": "/brand/logo", "type": "image/png", "sizes": "200x200", "purpose": "any"}]


@needs_chromium
@pytest.mark.django_db(transaction=True)
def test_a_page_with_another_look(context: BrowserContext, live_server: LiveServer, settings: Any, logo: Path) -> None:
    settings.SITE_NAME = "The picture workshop of a long street"
    settings.SITE_LOGO = str(logo)
    settings.SITE_ACCENT = "#ffcc00"
    page = context.new_page()
    refusals = record_refusals(page)
    page.goto(f"{live_server.url}/accounts/sign-in")
    light, dark = accent.light_and_dark("#ffcc00")
    button = page.get_by_role("button", name="Sign in")
    for scheme, colour in (("light", light), ("dark", dark)):
        page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
        red, green, blue = bytes.fromhex(colour[1:])
        expect(button).to_have_css("background-color", f"rgb({red}, {green}, {blue})")
    check_everywhere(page)
    assert page.locator(".logo img").evaluate("image => image.naturalWidth") == 200
    manifest = context.new_cdp_session(page).send("Page.getAppManifest")
    assert manifest["errors"] == []
    assert json.loads(manifest["data"])["name"] == settings.SITE_NAME
    assert refusals == []
