"""Checks of an open page by axe-core against WCAG 2.2 AA."""

from collections.abc import Sequence
from typing import Literal

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

WCAG = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"], "resultTypes": ["violations"]}
DJANGOS_OWN = {"exclude": [[".selector"], [".datetime"]]}
"""Widgets of Django's own admin, which axe skips: selection lists and dates."""


def violations(page: Page) -> list[str]:
    """Return the serious and critical violations on the open page, with their elements."""
    page.wait_for_load_state()  # earlier styles may be missing
    problems = Axe().run(page, context=DJANGOS_OWN, options=WCAG).response["violations"]
    return [
        f"{page.url} {violation['id']}: {[node['html'][:200] for node in violation['nodes']]}"
        for violation in problems
        if violation["impact"] in ("serious", "critical")
    ]


def problems_of(page: Page, views: Sequence[tuple[int, Literal["light", "dark"]]]) -> list[str]:
    """Return the serious violations on the open page in each of these widths and colour schemes."""
    problems = []
    for width, scheme in views:
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        problems += [f"{width} {scheme} {violation}" for violation in violations(page)]
    return problems
