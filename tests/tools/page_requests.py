"""Requests of pages and of the API, in the process that serves them: `tests.tools.bench_pages` starts it."""

import json
import time
from collections.abc import Mapping
from typing import Any

from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts.models import ApiToken, User
from generation.models import Generation, State
from tests.tools.cpu_time import cpu_seconds


def measure(page_set: Mapping[str, Any], rounds: int) -> None:
    """Print for each address its label, the times of each round, its queries, its rows and its slowest query, as JSON."""
    rights = {"is_staff": True, "is_superuser": True} if page_set["username"] == "staff" else {}
    user, _ = User.objects.update_or_create(rights, username=page_set["username"])
    _, token = ApiToken.objects.issue(user, "bench")
    client = Client(SERVER_NAME="localhost", headers={"Authorization": f"Bearer {token}"})
    client.force_login(user)
    made = Generation.objects.filter(state=State.SUCCEEDED, deleted=None, trashed=None)
    mine = made if user.is_staff else made.filter(user=user)
    oldest = mine.order_by("pk").values_list("pk", flat=True)[0]
    results = []
    for name, pattern in page_set["addresses"].items():
        address = pattern.replace("{oldest}", str(oldest)).replace("{user}", str(user.pk))
        times = []
        for _ in range(rounds):
            start, cpu_start = time.perf_counter(), cpu_seconds()
            response = client.get(address)
            times.append([time.perf_counter() - start, cpu_seconds() - cpu_start])
            assert response.status_code == 200, (address, response.status_code)
        with CaptureQueriesContext(connection) as queries:
            client.get(address)
        slowest = max(queries.captured_queries, key=lambda query: float(query["time"]), default=None)
        rows = response.content.count(page_set["row_html"].encode())
        results.append([name, times, len(queries), rows, slowest])
    print(json.dumps(results))  # noqa: T201
