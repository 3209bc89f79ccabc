"""The browser of the tests of pages."""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.browser import chromium


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """One browser for all modules here. It ends before tests of other packages, which may run event loops of their own."""
    with chromium() as browser:
        yield browser
