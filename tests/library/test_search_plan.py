"""Both query plans find the same generations, on SQLite and on PostgreSQL."""

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

from django.core.management import call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import User
from generation.filters import HistoryFilters
from generation.library import search, search_plan
from generation.models import Generation
from tests.support import servers
from tests.support.environment import ROOT
from tests.support.generations import make_generation

SIZE = 20
ROWS_FIRST = {"SCAN_LIMIT": 10**6, "PAGE": 0, "COMMON_MATCHES": 0}
"""Constants with which rows are read first, and the words of each are checked."""
WORDS_FIRST = {"SCAN_LIMIT": -1, "PAGE": 10**6}
"""Constants with which the index is read first."""
DEFAULTS: dict[str, int] = {}
SEARCHES: list[dict[str, Any]] = [
    {"q": "fog"},
    {"q": "li"},
    {"q": "lighthouse fog"},
    {"q": "fog over "},
    {"q": "over fog"},
    {"q": "grandma"},
    {"q": "xylophone"},
    {"q": "fog", "seed": 42},
    {"seed": 42},
    {"q": "fog", "state": ["failed"]},
    {"q": "fog", "state": ["queued"]},
    {"q": "fog", "state": ["failed"], "flagged": "true"},
    {"q": "soft-light", "favourite": "true"},
    {"q": "fog", "lora": "demo/claymation"},
    {"q": "fog", "since": str(date.today() - timedelta(days=300)), "until": str(date.today() - timedelta(days=90))},
]


def create_rows() -> None:
    """Create the demo data of three users."""
    options = {"verbosity": 0, "stdout": io.StringIO()}
    call_command("demo_data", generations=2000, users=3, beside_real_users=True, **options)


def search_results(constants: dict[str, int]) -> list[list[str]]:
    """Return the ids that each search finds with these constants of `search_plan`."""
    defaults = {name: getattr(search_plan, name) for name in constants}
    vars(search_plan).update(constants)
    try:
        return [[str(pk) for pk in _ids(query)] for query in SEARCHES]
    finally:
        vars(search_plan).update(defaults)


def _ids(query: dict[str, Any]) -> Iterator[UUID]:
    """Yield the ids on two pages of a history, of neighbours in it, and in the lists of staff."""
    user = User.objects.get(username="demo-2")
    history, filters = Generation.objects.owned_by(user), HistoryFilters.model_validate(query)
    first = [row.pk for row in search.page(history, user.pk, filters, SIZE)]
    yield from first
    if first:
        middle = first[len(first) // 2]
        yield from (row.pk for row in search.page(history, user.pk, filters, SIZE, middle))
        for side in search.neighbours(history, user.pk, filters, middle, 5):
            yield from (row.pk for row in side)
    for rows in (Generation.objects.all(), Generation.objects.filter(state="failed")):
        yield from (row.pk for row in search.search_all(rows, query.get("q", "demo-3"))[:SIZE])


def test_both_plans_find_the_same(db: None) -> None:
    create_rows()
    expected = search_results(DEFAULTS)
    assert [bool(ids) for ids in expected].count(True) >= len(SEARCHES) - 1
    assert search_results(ROWS_FIRST) == expected
    assert search_results(WORDS_FIRST) == expected


def test_both_plans_find_the_same_on_postgresql(tmp_path: Path) -> None:
    with servers.postgresql() as database:
        host = {**os.environ, "DATABASE_URL": database.url, "DATA_DIR": str(tmp_path), "LOG_LEVEL": "ERROR"}
        subprocess.run([sys.executable, "manage.py", "migrate", "-v", "0"], cwd=ROOT, env=host, check=True)
        script = """
import json
from tests.library import test_search_plan as module
module.create_rows()
plans = (module.DEFAULTS, module.ROWS_FIRST, module.WORDS_FIRST)
print(json.dumps([module.search_results(plan) for plan in plans]))
"""
        command = [sys.executable, "manage.py", "shell", "-v", "0", "-c", script]
        output = subprocess.run(command, cwd=ROOT, env=host, stdout=subprocess.PIPE, text=True, check=True).stdout
    expected, rows_first, words_first = json.loads(output.splitlines()[-1])
    assert [bool(ids) for ids in expected].count(True) >= len(SEARCHES) - 1
    assert rows_first == expected
    assert words_first == expected


def test_words_in_a_scan_of_rows_are_whole_words(alice: User) -> None:
    make_generation(alice, prompt="a lighthouse, soft light")
    rows = Generation.objects.filter(state="succeeded")

    def count(text: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            count = len(search.search_all(rows, text))
        assert "MATCH" not in queries[-1]["sql"]
        return count

    assert count("light") == count("lighth") == count("soft-li") == count("Alice soft") == 1
    assert count("ght") == count("lighth soft") == count("light-soft") == count("bob soft") == 0


def test_rare_pairs_of_filters_have_indexes(db: None) -> None:
    """With another index SQLite would read every failed row."""

    def plan(**filters: Any) -> str:
        return str(Generation.objects.filter(**filters).order_by("-pk")[:50].explain())

    assert "flagged_by_state" in plan(is_flagged=True, state="failed")
