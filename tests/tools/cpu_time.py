"""The CPU time of calls: other load on the machine adds to their wall time only."""

import time
from collections.abc import Callable
from pathlib import Path

from django.db import connection


def cpu_seconds() -> float:
    """Return the CPU time of this process so far, and of PostgreSQL's for its connection, which is on this machine."""
    if connection.vendor != "postgresql" or connection.connection is None:
        return time.process_time()
    server = connection.connection.info.backend_pid
    return time.process_time() + int(Path(f"/proc/{server}/schedstat").read_text().split()[0]) / 1e9


def costs(call: Callable[[], object], rounds: int) -> list[tuple[float, float]]:
    """Return the wall and the CPU seconds of each round."""
    found = []
    for _ in range(rounds):
        wall, cpu = time.perf_counter(), cpu_seconds()
        call()
        found.append((time.perf_counter() - wall, cpu_seconds() - cpu))
    return found


def least_cpu(call: Callable[[], object], rounds: int) -> float:
    """Return the CPU milliseconds of the round that took the least: what the others took more is noise."""
    return 1000 * min(cpu for _, cpu in costs(call, rounds))
