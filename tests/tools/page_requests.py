"""Requests of pages and of the API, in the process that serves them: `tests.tools.bench_pages` starts it."""

import json
import re
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import ApiToken, User
from generation.models import Generation, State
from tests.tools.cpu_time import cpu_seconds


def measure(page_set: Mapping[str, Any], rounds: int) -> None:
    """Print for each address its label, the times of each round, its queries, its rows and its slowest query, as JSON."""
    results = []
    for name, get in _requests(page_set):
        times = []
        for _ in range(rounds):
            start, cpu_start = time.perf_counter(), cpu_seconds()
            response = get()
            times.append([time.perf_counter() - start, cpu_seconds() - cpu_start])
            assert response.status_code == 200, (name, response.status_code)
        with CaptureQueriesContext(connection) as queries:
            get()
        slowest = max(queries.captured_queries, key=lambda query: float(query["time"]), default=None)
        rows = response.content.count(page_set["row_html"].encode())
        results.append([name, times, len(queries), rows, slowest])
    print(json.dumps(results))  # noqa: T201


def explain(page_set: Mapping[str, Any]) -> None:
    """Print for each address its label and how the database reads the generations that it shows, as JSON."""
    plans = []
    for name, get in _requests(page_set):
        with CaptureQueriesContext(connection) as queries:
            get()
        texts = [query["sql"] for query in queries.captured_queries if _LISTS.search(query["sql"])]
        # The others count, or have the columns of a badge.
        plans.append([name, _plan(max(texts, key=len)) if texts else ""])
    print(json.dumps(plans))  # noqa: T201


_LISTS = re.compile(r'^SELECT .*FROM "generation_generation" .*ORDER BY', re.S)
_TOLD = re.compile("(?i)(scan|search).*generation_(generation|words)|sort|b-tree")


def _plan(query: str) -> str:
    """Return the steps of a plan that read generations or the index of their words, and those that sort."""
    is_postgresql = connection.vendor == "postgresql"
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN {query}" if is_postgresql else f"EXPLAIN QUERY PLAN {query}")
        steps = [row[0] if is_postgresql else row[3] for row in cursor.fetchall()]
    told = [step.partition("  (cost")[0].strip(" ->") for step in steps if _TOLD.search(step)]
    return "; ".join(told)


def _requests(page_set: Mapping[str, Any]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Yield for each address its label, and a function that requests it as the user of the set, with session and token."""
    rights = {"is_staff": True, "is_superuser": True} if page_set["username"] == "staff" else {}
    user, _ = User.objects.update_or_create(rights, username=page_set["username"])
    _, token = ApiToken.objects.issue(user, "bench")
    client = Client(SERVER_NAME="localhost", headers={"Authorization": f"Bearer {token}"})
    client.force_login(user)
    made = Generation.objects.filter(state=State.SUCCEEDED, deleted=None, trashed=None)
    mine = made if user.is_staff else made.filter(user=user)
    oldest = mine.order_by("pk").values_list("pk", flat=True)[0]
    for name, pattern in page_set["addresses"].items():
        address = pattern.replace("{oldest}", str(oldest)).replace("{user}", str(user.pk))
        yield name, partial(client.get, address)
