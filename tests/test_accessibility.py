"""Every page as axe-core judges it by WCAG 2.2 AA: nothing serious, in light and dark, on a desk and on a phone."""

from collections.abc import Iterator
from typing import Literal

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import BrowserContext, Page
from pytest_django.live_server_helper import LiveServer

from accounts.models import User
from generation import sharing
from generation.models import Exploration, Generation, State
from tests.browser import needs_chromium, sign_in
from tests.generations import make_generation

pytestmark = [needs_chromium, pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis")]

WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
SEEN_AS: tuple[tuple[int, Literal["light", "dark"]], ...] = ((1440, "light"), (1440, "dark"), (390, "light"))


def pages(alice: User) -> Iterator[str]:
    """An address of each page of the site, with something of everything on it."""
    whole = make_generation(alice, num_images_per_prompt=2, flagged=[1])
    running, failed = make_generation(alice, State.RUNNING), make_generation(alice, State.FAILED)
    gone = make_generation(alice)
    Generation.objects.filter(pk=gone.pk).update(trashed=gone.created)
    sheet = Exploration.objects.create(user=alice, columns={"field": "seed", "values": ["1", "2"]})
    for cell in range(2):
        Generation.objects.filter(pk=make_generation(alice, seed=cell).pk).update(exploration=sheet, cell=cell)
    link = sharing.share(whole, 0, None, with_recipe=True)
    yield from ("/", f"/?from={whole.pk}", "/history/", "/history/?q=nothing", "/history/?state=failed")
    for generation in (whole, running, failed):
        yield f"/history/{generation.pk}/"
    yield from (
        f"/sheets/{sheet.pk}/",
        f"/history/{whole.pk}/?sharing",
        "/trash/",
        "/tokens/",
        "/usage/",
        "/settings/",
        "/settings/export",
    )
    yield from ("/settings/delete", "/accounts/password", f"/s/{link.code}", "/s/unknown", "/history/unknown/")


def violations(page: Page) -> list[str]:
    """What is serious or worse, with the elements that are meant."""
    found = Axe().run(page, options=WCAG).response["violations"]
    return [
        f"{page.url} {one['id']}: {[node['html'][:200] for node in one['nodes']]}"
        for one in found
        if one["impact"] in ("serious", "critical")
    ]


def test_axe_finds_nothing_serious(context: BrowserContext, alice: User, live_server: LiveServer) -> None:
    addresses = list(pages(alice))
    page = context.new_page()
    # A colour on its way to another is judged as if it stayed there.
    page.emulate_media(reduced_motion="reduce")
    page.goto(f"{live_server.url}/history/")
    found = violations(page)
    sign_in(page)
    for address in addresses:
        page.goto(live_server.url + address)
        for width, scheme in SEEN_AS:
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            found += [f"{width} {scheme} {one}" for one in violations(page)]
    assert not found, "\n".join(found)
