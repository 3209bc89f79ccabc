"""The CPU time of calls: other load on the machine adds to their wall time only."""

import time
from pathlib import Path

from django.db import connection


def cpu_seconds() -> float:
    """Return the CPU time of this process so far, and of PostgreSQL's for its connection, which is on this machine."""
    if connection.vendor != "postgresql" or connection.connection is None:
        return time.process_time()
    server = connection.connection.info.backend_pid
    return time.process_time() + int(Path(f"/proc/{server}/schedstat").read_text().split()[0]) / 1e9
