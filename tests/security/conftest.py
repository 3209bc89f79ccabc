"""What the attacks share: one web process, as an operator has it without any settings."""

from collections.abc import Iterator

import pytest

from tests.support.web_process import WebProcess


@pytest.fixture(scope="package")
def web(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebProcess]:
    """A web process with a Redis and a database of its own, and no worker."""
    with WebProcess(tmp_path_factory.mktemp("d")) as web:
        yield web
