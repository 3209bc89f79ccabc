"""What a round of the reaper costs: with many workers, with many waiting requests, and with nothing to do."""

from datetime import timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import User
from generation.broker import queues
from generation.maintenance import account_jobs, reaper
from generation.models import QueueSample, State
from tests.support.generations import make_generation

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("redis")]


@pytest.fixture
def sampled() -> None:
    """Let the backlog be sampled already, this minute and the next ones, so that no round does what is done once a minute."""
    minute = timezone.now().replace(second=0, microsecond=0)
    QueueSample.objects.bulk_create(
        QueueSample(pool="default", minute=minute + timedelta(minutes=after), depth=0, oldest_seconds=0)
        for after in range(10)
    )


def test_many_workers_run_no_more_rounds_than_one() -> None:
    reaper.reap(only_if_due=True)
    with CaptureQueriesContext(connection) as queries:
        reaper.reap(only_if_due=True)
    assert not queries.captured_queries
    with CaptureQueriesContext(connection) as queries:
        reaper.reap()
    assert queries.captured_queries


def test_a_round_with_nothing_to_do_writes_nothing(sampled: None) -> None:
    # The first one writes how far the rules of retention are.
    for _ in range(2):
        with CaptureQueriesContext(connection) as queries:
            reaper.reap()
            account_jobs.run_all(lambda: False)
    assert not [query["sql"] for query in queries if not query["sql"].startswith("SELECT")]


@pytest.mark.skipif(connection.vendor != "sqlite", reason="reads SQLite's plans")
def test_a_round_goes_through_no_table_of_what_waits_or_has_ended(sampled: None, alice: User) -> None:
    make_generation(alice, State.QUEUED)
    make_generation(alice, State.SUCCEEDED)
    reaper.reap()
    with CaptureQueriesContext(connection) as queries:
        reaper.reap()
    scans = []
    with connection.cursor() as cursor:
        for query in queries.captured_queries:
            if query["sql"].startswith("SELECT"):
                cursor.execute(f"EXPLAIN QUERY PLAN {query['sql']}")
                steps = [str(step[3]) for step in cursor.fetchall()]
                scans += [(query["sql"], step) for step in steps if step.startswith("SCAN generation_generat")]
    # That index has only what is still to be moved.
    assert [step for _, step in scans] == ["SCAN generation_generatedimage USING INDEX not_moved"], scans


def test_the_workers_of_every_pool_with_waiting_requests_are_woken(alice: User) -> None:
    for pool in ("default", "large", "large", "small"):
        generation = make_generation(alice, State.QUEUED)
        generation.pool = pool
        generation.save(update_fields=["pool"])
    make_generation(alice, State.SUCCEEDED)
    reaper.reap()
    woken = {pool: len(queues.rq_queue(pool)) for pool in ("default", "large", "small")}
    assert woken == {"default": 1, "large": 1, "small": 1}
