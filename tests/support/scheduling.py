"""How the suite is shared out among processes: by files, in pytest-django's order.

Tests that commit empty the tables that migrations fill, so pytest-django puts them behind those that need these tables full.
A process must not get them earlier: what goes to it as one piece is a file, or the part of one that stands together.
"""

from itertools import groupby
from typing import Any

from xdist.scheduler import LoadScopeScheduling


class InOrder(LoadScopeScheduling):
    """Use with `--no-loadscope-reorder`."""

    _pieces: dict[str, str]

    def _split_scope(self, nodeid: str) -> str:
        if not hasattr(self, "_pieces"):
            runs = groupby(self.collection or (), key=lambda one: one.split("::")[0])
            self._pieces = {one: f"{number} {file}" for number, (file, run) in enumerate(runs) for one in run}
        return self._pieces[nodeid]


def pytest_xdist_make_scheduler(config: Any, log: Any) -> InOrder:
    return InOrder(config, log)
