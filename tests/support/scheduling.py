"""Distribute the tests over processes: tests of the shared services to one process, all others by files.

Tests without the database come first, since they take longest; the small files after them fill the processes evenly. Tests
that commit truncate the tables that migrations fill, so pytest-django runs them after the tests that need these tables full. To
keep this order within each process, a file, or each contiguous part of it, is assigned as a whole.
"""

import os
import re
from collections import Counter
from functools import cache
from itertools import groupby
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling

from tests.support.environment import ROOT

_SHARED_SERVICE = re.compile(r"\b(service|limited_service): Service\b")


class OrderedScheduling(LoadScopeScheduling):
    """Use with `--no-loadscope-reorder`."""

    _groups: dict[str, str]

    def _split_scope(self, nodeid: str) -> str:
        if not hasattr(self, "_groups"):
            self._groups = {}
            is_first = True
            for number, (file, run) in enumerate(groupby(self.collection or (), key=lambda one: one.split("::")[0])):
                # Only the first files use the services here; tests of the same files with the database come later.
                is_first = is_first and _uses_service(file)
                self._groups |= dict.fromkeys(run, "shared services" if is_first else f"{number} {file}")
        return self._groups[nodeid]


@pytest.hookimpl(tryfirst=True)
def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Return one process more than there are cores, since many tests wait for processes of the service."""
    return (os.cpu_count() or 1) + 1


def pytest_xdist_make_scheduler(config: Any, log: Any) -> OrderedScheduling:
    return OrderedScheduling(config, log)


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests without the database first, those in files that use the shared services before all.

    Raises UsageError for tests with the same node id, of which pytest-xdist would run only one.
    """
    repeated = [node_id for node_id, count in Counter(item.nodeid for item in items).items() if count > 1]
    if repeated:
        raise pytest.UsageError(f"several tests have the same node id: {', '.join(repeated)}")
    items.sort(key=lambda item: 2 if _uses_database(item) else 0 if _uses_service(item.nodeid.split("::")[0]) else 1)


def _uses_database(item: pytest.Item) -> bool:
    fixtures = {"db", "transactional_db", "live_server"}
    return item.get_closest_marker("django_db") is not None or bool(fixtures & set(getattr(item, "fixturenames", [])))


@cache
def _uses_service(file: str) -> bool:
    return _SHARED_SERVICE.search((ROOT / file).read_text()) is not None
