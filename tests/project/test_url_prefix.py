"""The site below a path: every page, script and address through a reverse proxy."""

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from django.urls import URLResolver, get_resolver
from playwright.sync_api import Browser, expect
from pytest_django import Settings

from dreamsite.checks import check_settings
from dreamsite.url_prefix import OWN_PATHS
from tests.support import pictures
from tests.support.browser import WAIT_MILLISECONDS, needs_chromium
from tests.support.environment import ROOT
from tests.support.proxies import Proxy, proxy
from tests.support.servers import free_port
from tests.support.service import WAIT_SECONDS, Service, generate_two, send_form, wait_until

PREFIX = "/apps/dream"
BELOW = re.compile(rf"{PREFIX}(/|\Z)")
COOKIES = ("csrftoken", "known", "sessionid")
SAMPLE = ROOT / "dreamsite" / "static" / "sample.jpg"


class Addresses(HTMLParser):
    """The values of all attributes of a page that are addresses of this host."""

    def __init__(self, page: str, origin: str) -> None:
        super().__init__()
        self.paths: set[str] = set()
        self.links: set[str] = set()
        self._origin = origin
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            address = (value or "").removeprefix(self._origin)
            # The key of the search is a slash.
            if address.startswith("/") and name != "data-key":
                self.paths.add(address)
                if name in ("href", "src", "data-document", "hx-get"):
                    self.links.add(address)


@pytest.fixture(scope="module")
def told(service: Service) -> Iterator[Proxy]:
    """A proxy that removes the prefix and names it, in front of a service without URL_PREFIX."""
    with proxy(service.url, PREFIX, removes=True) as running:
        yield running


@pytest.fixture(scope="module")
def configured(service: Service) -> Iterator[Service]:
    """Another web process of the service, with URL_PREFIX. Only `url` is its own."""
    port = str(free_port())
    environment = {**service.environment, "URL_PREFIX": PREFIX, "PORT": port}
    process = subprocess.Popen([sys.executable, "manage.py", "web"], cwd=ROOT, env=environment)
    # As if it were empty, or its database would be replaced.
    other = Service(service.data_dir, True)
    other.url, other.token, other.password = f"http://127.0.0.1:{port}", service.token, service.password
    try:
        wait_until(lambda: answers(other.url), "the start of the web process")
        yield other
    finally:
        process.terminate()
        process.wait(WAIT_SECONDS)


def answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health").status_code == 200
    except httpx.TransportError:
        return False


@contextmanager
def signed_in(site: Proxy, service: Service) -> Iterator[httpx.Client]:
    """Yield the administrator's browser, signed in below the prefix; its addresses begin with a slash after that."""
    accept = "text/html,application/xhtml+xml,*/*;q=0.8"
    with httpx.Client(base_url=site.url, headers={"Accept": accept}, timeout=WAIT_SECONDS) as browser:
        assert browser.get("/history/").headers["Location"] == f"{PREFIX}/accounts/sign-in?next={PREFIX}/history/"
        browser.get("/accounts/sign-in")
        form = {"username": "admin", "password": service.password, "next": f"{PREFIX}/history/"}
        form["csrfmiddlewaretoken"] = browser.cookies["csrftoken"]
        answer = browser.post("/accounts/sign-in", data=form, headers={"Origin": site.origin})
        assert (answer.status_code, answer.headers["Location"]) == (302, f"{PREFIX}/history/")
        assert {cookie.name: cookie.path for cookie in browser.cookies.jar} == dict.fromkeys(COOKIES, PREFIX)
        yield browser


def client(site: Proxy, service: Service) -> httpx.Client:
    headers = {"Authorization": f"Bearer {service.token}"}
    return httpx.Client(base_url=site.url, headers=headers, timeout=WAIT_SECONDS)


def test_no_address_of_any_page_leaves_the_prefix(told: Proxy, service: Service) -> None:
    with client(told, service) as api:
        generation_id = generate_two(api)
    with signed_in(told, service) as browser:
        browser.follow_redirects = True
        page = send_form(browser, f"/history/{generation_id}/share", {"picture": "1", "days": "7"})
        browser.follow_redirects = False
        seen: set[str] = set()
        shared = re.findall(rf"{told.origin}({PREFIX}/s/[\w-]+)", page)
        # The last one first: other pages of this kind may lack pictures.
        waiting = [f"{PREFIX}/", *shared, f"{PREFIX}/history/{generation_id}/"]
        while waiting:
            address = waiting.pop()
            # One of each kind of page is enough: ids and queries do not matter.
            kind = re.sub(r"[0-9a-f]{8}-[0-9a-f-]{27}|\d+", "*", urlsplit(address).path)
            if kind in seen:
                continue
            seen.add(kind)
            answer = browser.get(told.origin + address)
            assert answer.status_code in (200, 302), address
            for cookie in answer.headers.get_list("set-cookie"):
                assert f"; Path={PREFIX}" in cookie
            if location := answer.headers.get("location"):
                assert BELOW.match(location), (address, location)
                waiting.append(location)
            if answer.headers["content-type"].startswith("text/html"):
                found = Addresses(answer.text, told.origin)
                assert [path for path in found.paths if not BELOW.match(path)] == [], address
                waiting += found.links
            if not answer.headers["content-type"].startswith(("image/", "application/zip")):
                texts = re.findall(rf"{told.origin}([^\s\"'<&]*)", answer.text)
                assert [text for text in texts if not BELOW.match(text)] == [], address
    pages = {kind.removeprefix(PREFIX) for kind in seen}
    assert {"/", "/history/", "/tokens/", "/docs", "/openapi.json", "/history/*/", "/history/*/*.png"} <= pages
    assert {"/admin/", "/admin/operations/", "/admin/review/", "/admin/generation/generation/*/change/"} <= pages
    assert len([kind for kind in pages if kind.startswith("/static/")]) > 40
    assert any(kind.startswith("/s/") for kind in pages)


def test_scripts_take_addresses_from_the_page() -> None:
    scripts = {path.name: path.read_text() for path in (ROOT / "dreamsite" / "static" / "dreamsite").glob("*.js")}
    assert scripts
    assert [(name, found) for name, text in scripts.items() for found in re.findall(r"""["'`]/[a-z].*""", text)] == []


def test_addresses_of_the_api_are_below_the_prefix(told: Proxy, service: Service) -> None:
    check_api(told, service)


def test_the_setting_needs_no_header(configured: Service) -> None:
    with proxy(configured.url, PREFIX, removes=False) as site:
        check_api(site, configured)
        with signed_in(site, configured) as browser:
            assert browser.get("/history/").status_code == 200
            style = re.findall(r'href="([^"]+/base\.css)"', browser.get("/history/").text)[0]
            assert browser.get(site.origin + style).headers["content-type"].startswith("text/css")
    # The proxy may remove the prefix, and monitoring needs none.
    for path in ("/history/", f"{PREFIX}/history/"):
        assert (
            httpx.get(configured.url + path).headers["Location"].startswith(f"{PREFIX}/accounts/sign-in?next={PREFIX}/")
        )
    assert [httpx.get(f"{configured.url}{path}").status_code for path in ("/ready", f"{PREFIX}/health")] == [200, 200]
    assert httpx.get(f"{configured.url}{PREFIX}").headers["Location"].endswith(f"?next={PREFIX}/")
    for path in (f"/{PREFIX}/history/", PREFIX.replace("/", "//") + "//history//"):
        assert "/accounts/sign-in?" in httpx.get(configured.url + path).headers["Location"]
    for path in (f"{PREFIX}y/history/", f"/{PREFIX}/admin/", f"{PREFIX}//ready"):
        assert httpx.get(configured.url + path).status_code == 404


def check_api(site: Proxy, service: Service) -> None:
    """Request what has addresses in it, held and not held, and as a stream."""
    with client(site, service) as api:
        ids = [generate_two(api) for _ in range(2)]
        form: dict[str, Any] = {
            "data": {"prompt": "make it night", "num_inference_steps": "1"},
            "files": {"image": pictures.photo(64, 64)},
        }
        held = api.post("/image-to-image", **form)
        assert held.status_code == 200
        picture = held.json()["images"][0]["url"]
        assert picture.startswith(f"{site.url}/media/")
        assert httpx.get(picture).headers["content-type"] == "image/png"
        pending = api.post("/image-to-image", **form, headers={"Prefer": "respond-async"})
        assert pending.headers["Location"].startswith(f"{site.url}/generations/")
        wait_until(lambda: api.get(pending.headers["Location"]).json()["state"] == "succeeded", "its end")
        stream = api.get(f"{pending.headers['Location']}/events").text
        assert re.findall(r'"url": "([^"]*)/media/', stream) == [site.url] * stream.count('"url"') != []
        page = api.get("/generations", params={"limit": "1"})
        assert page.json()["next"].startswith(f"{site.url}/generations?")
        assert page.links["next"]["url"].startswith(f"{site.url}/generations?")
        assert api.get(f"/generations/{ids[0]}/images/0").headers["Location"].startswith(f"{site.url}/media/")
        edited: dict[str, Any] = {
            "data": {"prompt": "x", "response_format": "url"},
            "files": {"image": pictures.photo(64, 64)},
        }
        assert api.post("/v1/images/edits", **edited).json()["data"][0]["url"].startswith(f"{site.url}/media/")
        assert api.get("/openapi.json").json()["servers"] == [{"url": f"{PREFIX}/"}]
        assert api.post("/v1/images/nothing").json()["error"]["code"] == "not_found"
    assert site.outside == []


@needs_chromium
def test_a_picture_is_made_and_downloaded_in_the_browser(
    browser: Browser, service: Service, configured: Service
) -> None:
    with proxy(configured.url, PREFIX, removes=False) as site:
        page = browser.new_page()
        page.set_default_timeout(WAIT_MILLISECONDS)
        # Another site of the host has cookies of the same names.
        page.context.add_cookies([{"name": name, "value": "another's", "url": f"{site.origin}/"} for name in COOKIES])
        page.goto(f"{site.url}/")
        page.get_by_label("Username").fill("admin")
        page.get_by_label("Password").fill(configured.password)
        page.get_by_role("button", name="Sign in").click()
        page.wait_for_url(f"{site.url}/")  # until its scripts run: earlier keys do nothing
        page.locator("input[type=file]").first.set_input_files(SAMPLE)
        page.get_by_label("What should happen to it?").fill("make it night")
        page.locator("#num_inference_steps").fill("1")
        # The worker waits until the stream is open, so that the picture's address comes from it.
        with service.paused_worker(), page.expect_response(re.compile("/events$")):
            page.keyboard.press("Control+Enter")
        expect(page.locator(".job").first.get_by_alt_text("Result 1")).to_be_visible()
        assert [key for key in page.evaluate("Object.keys(localStorage)") if key.startswith(f"draft:{PREFIX}/")]
        page.goto(f"{site.url}/history/")
        page.get_by_role("link", name="make it night").first.click()
        with page.expect_download() as download:
            page.locator(".downloads summary").click()
            page.get_by_role("link", name="PNG").click()
        assert download.value.path().read_bytes().startswith(b"\x89PNG")
        page.close()
    # The browser asks for the icon of the host by itself.
    assert [path for path in site.outside if path != "/favicon.ico"] == []


@pytest.mark.parametrize("prefix", ["//evil.example", "/a/../b", "/admin", "/studio/x", "evil", "/a b", "/a,/b", "/é"])
def test_a_prefix_that_is_no_path_is_ignored(service: Service, prefix: str) -> None:
    page = httpx.get(f"{service.url}/accounts/sign-in", headers={b"X-Forwarded-Prefix": prefix.encode("latin-1")})
    assert page.status_code == 200
    assert 'href="/static/dreamsite/base.css"' in page.text


def test_a_named_prefix_opens_no_other_path(service: Service) -> None:
    """A client's own header, which a proxy passes on, must not lead around the proxy's rules for paths."""
    for path in ("/elsewhere/ready", "/elsewhere/admin/login/"):
        assert httpx.get(service.url + path, headers={"X-Forwarded-Prefix": "/elsewhere"}).status_code == 404


def test_only_trusted_proxies_name_a_prefix(service: Service, limited_service: Service) -> None:
    headers = {"X-Forwarded-Prefix": "/elsewhere/"}
    assert '"/elsewhere/static/' in httpx.get(f"{service.url}/accounts/sign-in", headers=headers).text
    assert "elsewhere" not in httpx.get(f"{limited_service.url}/accounts/sign-in", headers=headers).text


def test_the_sites_own_paths_are_known() -> None:
    routes = []
    for entry in get_resolver().url_patterns:
        inner = entry.url_patterns if isinstance(entry, URLResolver) and not str(entry.pattern) else [entry]
        routes += [str(pattern.pattern) for pattern in inner]
    segments = {re.split(r"[/(<]", route.removeprefix("^"))[0] for route in routes}
    assert segments - {""} | {"health", "static"} == OWN_PATHS


@pytest.mark.parametrize("prefix", ["dream", "/studio", "/", "/a//b", "/a/.."])
def test_a_setting_that_is_no_path_is_refused(settings: Settings, prefix: str) -> None:
    settings.URL_PREFIX = prefix
    assert [error.id for error in check_settings(None)] == ["dreamsite.URL_PREFIX"]
