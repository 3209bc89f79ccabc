"""Installations that `tests.tools.bench_growth` measures: an empty database, a Redis, and processes of `manage.py shell`."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from tests.support import servers
from tests.support.environment import ROOT
from tests.support.service import migrated_database

DATABASES = ("SQLite", "PostgreSQL")

_HIGH_LIMITS = {
    # They are checked and never reached.
    "USER_MAX_RUNNING": "1000000",
    "USER_MAX_QUEUED": "1000000",
    "USER_MAX_PER_MINUTE": "1000000",
    "USER_MAX_DAILY_COST": "1e12",
    "USER_MAX_BYTES": str(2**60),
    "MAX_QUEUE": "1000000",
    "CONNECTIONS_PER_ADDRESS": "0",
    "WAIT_SECONDS": "3600",
    "LOG_LEVEL": "ERROR",
}


@contextmanager
def installation(database: str, **settings: str) -> Iterator[Mapping[str, str]]:
    """Yield the environment of processes with an empty database and a Redis. `settings` come in addition."""
    with ExitStack() as running:
        folder = running.enter_context(tempfile.TemporaryDirectory(prefix="growth"))
        redis = servers.EmbeddedRedis(Path(folder))
        redis.start()
        running.callback(redis.stop)
        environment = {**os.environ, **_HIGH_LIMITS, "DATA_DIR": folder, "DATABASE_URL": "", **settings}
        if database == "PostgreSQL":
            environment["DATABASE_URL"] = running.enter_context(servers.postgresql()).url
            subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], cwd=ROOT, env=environment, check=True)
        else:
            shutil.copy(migrated_database(), folder)
        yield environment


def result(environment: Mapping[str, str], module: str, call: str) -> Any:
    """Call a function of `tests.tools.MODULE` in a process of its own, and return what it printed last, as JSON."""
    printed = subprocess.run(
        _command(module, call), cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    return json.loads(printed.splitlines()[-1])


def start(environment: Mapping[str, str], module: str, call: str) -> "subprocess.Popen[str]":
    """Start a process that calls such a function, with pipes for its lines."""
    pipe = subprocess.PIPE
    return subprocess.Popen(_command(module, call), cwd=ROOT, env=environment, stdin=pipe, stdout=pipe, text=True)


def read_line(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def send_line(process: "subprocess.Popen[str]", line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _command(module: str, call: str) -> Sequence[str]:
    code = f"from tests.tools import {module}; {module}.{call}"
    return [sys.executable, "manage.py", "shell", "--no-imports", "-v", "0", "-c", code]
