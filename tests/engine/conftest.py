"""Fixtures of the tests of the engine."""

import pytest

from generation.engine.engine import Engine, EngineSettings


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    """An engine with the bundled models alone."""
    return Engine(EngineSettings(models_dir=tmp_path_factory.mktemp("models"), offline=True))
