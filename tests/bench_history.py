"""How fast the history is at size: a million generations, a tenth of them one user's, on SQLite and PostgreSQL."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from tests import servers
from tests.bench_queue import Line
from tests.environment import ROOT

GENERATIONS = 1_000_000
USERS = 1000
ROUNDS = 5

PAGES = """
import json, time
from datetime import timedelta
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from accounts.models import User
from generation.models import first_id

user = User.objects.get(username="demo-1")
client = Client(SERVER_NAME="localhost")
client.force_login(user)
now = timezone.localdate()
ago = lambda days: now - timedelta(days=days)
old = first_id(timezone.now() - timedelta(days=650))
PAGES = {
    "the newest": "",
    "a page 22 months deep": f"before={old}",
    "succeeded": "state=succeeded",
    "failed": "state=failed",
    "canceled, 22 months deep": f"state=canceled&before={old}",
    "of a model": "model_id=stabilityai/sd-turbo",
    "failed, of a model": "state=failed&model_id=stabilityai/sd-turbo",
    "with a LoRA": "lora=demo/claymation",
    "with a LoRA, failed": "lora=demo/claymation&state=failed",
    "favourites": "favourite=true",
    "flagged": "flagged=true",
    "flagged favourites": "flagged=true&favourite=true",
    "a seed that many use": "seed=42",
    "a seed that nobody uses": "seed=2147483999",
    "a month a year ago": f"since={ago(395)}&until={ago(365)}",
    "failed in a month a year ago": f"since={ago(395)}&until={ago(365)}&state=failed",
    "a word that is in a third": "q=lighthouse",
    "a start of words": "q=li",
    "two words": "q=lighthouse+fog",
    "three words and a start": "q=lighthouse+soft+light+wat",
    "a word that nobody wrote": "q=xylophone",
    "a word, 22 months deep": f"q=fog&before={old}",
    "a word among favourites": "q=lighthouse&favourite=true",
    "a word among the failed": "q=fog&state=failed",
    "a word with a LoRA": "q=fog&lora=demo/claymation",
    "a word and a seed": "q=fog&seed=42",
    "a word in a month a year ago": f"q=fog&since={ago(395)}&until={ago(365)}",
    "a word of a title": "q=grandma",
}
answers = []
for name, query in PAGES.items():
    took = []
    for _ in range(ROUNDS):
        start, busy = time.perf_counter(), time.process_time()
        answer = client.get("/history/?" + query)
        took.append([time.perf_counter() - start, time.process_time() - busy])
        assert answer.status_code == 200, answer.status_code
    with CaptureQueriesContext(connection) as queries:
        client.get("/history/?" + query)
    slowest = max(queries.captured_queries, key=lambda query: float(query["time"]))
    answers.append([name, took, len(queries), answer.content.count(b"<article"), slowest])
print(json.dumps(answers))
"""


Page = tuple[str, list[tuple[float, float]], int, int, dict[str, str]]
"""Its name, the seconds of each time and those of the CPU, how many queries and tiles it took, and its slowest query."""


def measure_history() -> Iterator[Line]:
    """Server time of pages, the middle of some: what the machine else does is in it, but not in the time of the CPU."""
    yield from _measure("SQLite", {})
    with servers.postgresql() as database:
        yield from _measure("PostgreSQL", {"DATABASE_URL": database.url})


def _measure(database: str, environment: dict[str, str]) -> Iterator[Line]:
    with tempfile.TemporaryDirectory(prefix="bench") as folder:
        host = {**os.environ, "DATA_DIR": folder, "LOG_LEVEL": "ERROR", **environment}
        _manage(host, "migrate", "-v", "0")
        start = time.perf_counter()
        _manage(host, "demo_data", "--generations", str(GENERATIONS), "--users", str(USERS))
        yield f"{database}: {GENERATIONS:,} generations seeded", f"{time.perf_counter() - start:.0f} s"
        counts = set()
        for name, took, queries, tiles, slowest in pages(host):
            counts.add(queries)
            wall, busy = (statistics.median(column) * 1000 for column in zip(*took, strict=True))
            what = f"{wall:.0f} ms, {busy:.0f} of them of the CPU; slowest query {float(slowest['time']) * 1000:.0f} ms"
            yield f"{database}: {name}, {tiles} tiles", what
        yield f"{database}: queries of a page (one less where nothing is found)", " or ".join(map(str, sorted(counts)))


def pages(environment: dict[str, str]) -> list[Page]:
    script = PAGES.replace("ROUNDS", str(ROUNDS))
    found: list[Page]
    found = json.loads(_manage(environment, "shell", "-v", "0", "-c", script).splitlines()[-1])
    return found


def _manage(environment: dict[str, str], *arguments: str) -> str:
    command = [sys.executable, "manage.py", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True, check=True).stdout
