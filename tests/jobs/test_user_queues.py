"""The queues of users: claims read what is next from indexes, and no waiting row is without its queue."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accounts.models import ApiToken, User
from generation.jobs import queue
from generation.maintenance import reaper
from generation.models import DiffusionModel, Generation, UserQueue
from tests.support.jobs import claim, submit

pytestmark = pytest.mark.usefixtures("redis", "tiny_edit")
WARM = ("dreamsite/tiny-edit",)


def queries_of_a_claim() -> CaptureQueriesContext:
    with CaptureQueriesContext(connection) as queries:
        assert claim(warm=WARM)
    return queries


def plan(sql: str) -> str:
    with connection.cursor() as cursor:
        return " ".join(step for *_, step in cursor.execute(f"EXPLAIN QUERY PLAN {sql}").fetchall())


def test_a_claim_reads_no_more_rows_the_more_wait(alices: ApiToken, bobs: ApiToken) -> None:
    for _ in range(3):
        submit(alices)
        submit(bobs)
    sqls = [query["sql"] for query in queries_of_a_claim().captured_queries]
    plans = {sql: plan(sql) for sql in sqls if sql.startswith("SELECT") and "'queued'" in sql}
    of_queues = [text for sql, text in plans.items() if 'FROM "generation_userqueue"' in sql]
    assert of_queues
    for text in of_queues:
        assert "INDEX next_user (pool=?)" in text
        assert "INDEX waiting (user_id=? AND pool=? AND priority=?)" in text
        assert "B-TREE" not in text, "they are read in the order of the index"
    for sql, text in plans.items():
        assert "SCAN" not in text.replace("SCAN CONSTANT ROW", ""), sql
        # Few are returned at a time, so they may be sorted.
        assert "B-TREE" not in text or "INDEX returned" in text, sql


def test_a_claim_asks_no_more_queries_the_more_wait(alices: ApiToken, bobs: ApiToken) -> None:
    counts = []
    for _ in range(2):
        for _ in range(4):
            submit(alices)
            submit(bobs)
        counts.append(len(queries_of_a_claim()))
    assert counts[0] == counts[1]


def test_a_claim_takes_few_queries(alices: ApiToken) -> None:
    submit(alices)
    sqls = [query["sql"] for query in queries_of_a_claim() if "SAVEPOINT" not in query["sql"]]
    assert len(sqls) <= 8, "\n".join(sqls)


def test_users_at_their_limit_are_passed_by(alices: ApiToken, bobs: ApiToken, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(max_running=1)
    first, _ = submit(alices), submit(alices)
    theirs = submit(bobs)
    assert [claim(), claim(), claim()] == [first, theirs, None]


def test_a_queue_without_rows_that_can_start_does_not_block_others(alices: ApiToken, bobs: ApiToken) -> None:
    canceled = submit(alices)
    queue.cancel(canceled)
    theirs = submit(bobs)
    assert [claim(), claim()] == [theirs, None]


def test_models_that_a_worker_lacks_are_left_to_others(alices: ApiToken, bobs: ApiToken) -> None:
    DiffusionModel.objects.create(id="someone/large", family="stable-diffusion", enabled=True)
    large, theirs = submit(alices, model_id="someone/large"), submit(bobs)
    assert queue.claim("default", "worker-1", lacking=["someone/large"]) == [theirs]
    assert queue.claim("default", "worker-1", lacking=["someone/large"]) == []
    assert claim() == large


def test_each_priority_of_a_user_has_its_queue(alices: ApiToken) -> None:
    low, normal = submit(alices, priority="low"), submit(alices)
    assert sorted(UserQueue.objects.values_list("priority", flat=True)) == [low.priority, normal.priority]
    assert claim() == normal
    usages = set(UserQueue.objects.values_list("decayed_usage", flat=True))
    assert usages == {Generation.objects.get(pk=low.pk).user.share.decayed_usage}
    assert claim() == low


def test_the_reaper_adds_what_a_process_of_an_earlier_version_did_not(alices: ApiToken) -> None:
    waiting = submit(alices)
    UserQueue.objects.all().delete()
    assert claim() is None
    reaper.reap()
    assert claim() == waiting


def test_the_reaper_removes_empty_queues_alone(alices: ApiToken, bobs: ApiToken) -> None:
    submit(alices)
    assert claim()
    waiting = submit(bobs)
    reaper.reap()
    assert [queue.share_id for queue in UserQueue.objects.all()] == [waiting.user_id]
    again = submit(alices)
    assert {claim(), claim()} == {waiting, again}
