"""How fast the history and the admin are at size: a million generations, a tenth of them one user's, on both databases."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping

from tests.support import servers
from tests.support.environment import ROOT
from tests.tools import bench_admin, bench_history
from tests.tools.bench_queue import Line

GENERATIONS = 1_000_000
USERS = 1000
ROUNDS = 5

SCRIPT = """
import json, os, time
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from accounts.models import User

asked = json.loads(os.environ["ASKED"])
user, _ = User.objects.get_or_create(username=asked["as"])
if asked["as"] == "staff":
    User.objects.filter(pk=user.pk).update(is_staff=True, is_superuser=True)
client = Client(SERVER_NAME="localhost")
client.force_login(user)
answers = []
for name, address in asked["addresses"].items():
    took = []
    for _ in range(asked["rounds"]):
        start, busy = time.perf_counter(), time.process_time()
        answer = client.get(address)
        took.append([time.perf_counter() - start, time.process_time() - busy])
        assert answer.status_code == 200, answer.status_code
    with CaptureQueriesContext(connection) as queries:
        client.get(address)
    slowest = max(queries.captured_queries, key=lambda query: float(query["time"]))
    shown = answer.content.count(asked["mark"].encode())
    answers.append([name, took, len(queries), shown, slowest])
print(json.dumps(answers))
"""

Page = tuple[str, list[tuple[float, float]], int, int, dict[str, str]]
"""Its name, the seconds of each time and those of the CPU, how many queries and rows it took, and its slowest query."""


def measure_pages() -> Iterator[Line]:
    """Server time of pages, the middle of some: what the machine else does is in it, but not in the time of the CPU."""
    yield from _measure("SQLite", {})
    with servers.postgresql() as database:
        yield from _measure("PostgreSQL", {"DATABASE_URL": database.url})


def _measure(database: str, environment: Mapping[str, str]) -> Iterator[Line]:
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        host = {**os.environ, "DATA_DIR": folder, "LOG_LEVEL": "ERROR", **environment}
        _manage(host, "migrate", "-v", "0")
        start = time.perf_counter()
        _manage(host, "demo_data", "--generations", str(GENERATIONS), "--users", str(USERS))
        yield f"{database}: {GENERATIONS:,} generations seeded", f"{time.perf_counter() - start:.0f} s"
        for kind in ("history", "admin"):
            yield from measured(host, database, kind)


def measured(environment: Mapping[str, str], database: str, kind: str) -> Iterator[Line]:
    counts = set()
    for name, took, queries, shown, slowest in pages(environment, kind):
        counts.add(queries)
        wall, busy = (statistics.median(column) * 1000 for column in zip(*took, strict=True))
        what = f"{wall:.0f} ms, {busy:.0f} of them of the CPU; slowest query {float(slowest['time']) * 1000:.0f} ms"
        yield f"{database}, {kind}: {name}, {shown} shown", what
    yield f"{database}, {kind}: queries of a page", ", ".join(map(str, sorted(counts)))


def pages(environment: Mapping[str, str], kind: str) -> list[Page]:
    asked = {"history": bench_history.asked, "admin": bench_admin.asked}[kind]()
    host = {**environment, "ASKED": json.dumps({**asked, "rounds": ROUNDS})}
    found: list[Page]
    found = json.loads(_manage(host, "shell", "-v", "0", "-c", SCRIPT).splitlines()[-1])
    return found


def _manage(environment: Mapping[str, str], *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
