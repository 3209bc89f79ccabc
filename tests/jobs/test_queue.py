"""Leases, attempts and fences: one winner for every change of a row."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.files.storage import default_storage
from django.db import connections
from pytest_django import Settings
from uuid_utils.compat import uuid7

from accounts.models import ApiToken, User
from generation.broker import queues
from generation.broker.connection import redis_client
from generation.jobs import queue, submission
from generation.jobs.queue import LeaseStatus
from generation.maintenance import reaper
from generation.models import DiffusionModel, Generation, State
from generation.parameters import ErrorCode, RequestRefused
from tests.support.environment import ROOT
from tests.support.jobs import claim, claimed, expire, image_of, submit
from tests.support.servers import EmbeddedRedis

pytestmark = pytest.mark.usefixtures("redis", "tiny_edit")


@pytest.fixture
def token(alice: User) -> ApiToken:
    return ApiToken.objects.issue(alice, "laptop")[0]


def test_it_works(token: ApiToken) -> None:
    generation = submit(token, seed="7")
    assert queues.rq_queue("default").count == 1
    mine = claim()
    assert mine == generation
    assert (mine.state, mine.attempt, mine.worker) == (State.RUNNING, 1, "worker-1")
    assert queue.renew(mine) is LeaseStatus.HELD
    assert queue.finish(mine, [image_of(mine)], ["a warning"], {"denoising": 1.0}, 100)
    generation.refresh_from_db()
    assert (generation.state, generation.warnings[-1]) == (State.SUCCEEDED, "a warning")
    assert generation.images.count() == 1
    assert claim() is None


def test_the_oldest_of_the_pool_is_claimed_first(token: ApiToken) -> None:
    first, second = submit(token), submit(token)
    assert claim(pool="another") is None
    assert [claim(), claim()] == [first, second]


@pytest.mark.django_db(transaction=True)
def test_each_row_is_claimed_by_one_of_many_workers(token: ApiToken, settings: Settings) -> None:
    settings.LIMITS = False
    ids = {submit(token).pk for _ in range(40)}

    def claim_all(worker: str) -> list[Generation]:
        try:
            return list(iter(lambda: claim(worker), None))
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as pool:
        claimed = [row.pk for rows in pool.map(claim_all, ["a", "b", "c", "d"]) for row in rows]
    assert sorted(claimed) == sorted(ids)


def test_an_expired_lease_is_requeued_and_its_late_result_is_dropped(token: ApiToken) -> None:
    lost = claimed(token)
    expire(lost)
    assert reaper.reap() == 1
    again = claim("worker-2")
    assert again is not None
    assert (again.pk, again.attempt, again.crash_count) == (lost.pk, 2, 1)

    assert queue.renew(lost) is LeaseStatus.LOST
    assert not queue.finish(lost, [image_of(lost)], [], {}, 100)
    assert not queue.fail(lost, ErrorCode.INTERNAL, "late", 0.0)
    queue.release(lost)
    again.refresh_from_db()
    assert (again.state, again.worker, again.images.count()) == (State.RUNNING, "worker-2", 0)
    assert queue.finish(again, [image_of(again)], [], {}, 100)


def test_a_renewed_lease_is_not_reaped(token: ApiToken) -> None:
    generation = claimed(token)
    expire(generation)
    assert queue.renew(generation) is LeaseStatus.HELD
    assert reaper.reap() == 0


def test_a_request_that_loses_its_worker_three_times_fails(token: ApiToken) -> None:
    generation = submit(token)
    for _ in range(3):
        row = claim()
        assert row is not None
        expire(row)
        reaper.reap()
    generation.refresh_from_db()
    assert (generation.state, generation.error_code) == (State.FAILED, ErrorCode.WORKER_LOST)
    assert generation.cost > 0, "three workers ran it"
    assert claim() is None


def test_a_release_counts_as_no_crash(token: ApiToken) -> None:
    for _ in range(5):
        generation = claimed(token)
        queue.release(generation)
        generation.refresh_from_db()
        assert (generation.state, generation.crash_count) == (State.QUEUED, 0)


def test_a_lost_wake_up_is_sent_again(token: ApiToken) -> None:
    submit(token)
    redis_client().flushall()
    reaper.reap()
    assert queues.rq_queue("default").count == 1
    reaper.reap()
    assert queues.rq_queue("default").count == 1


def test_finished_ids_are_those_in_a_final_state(token: ApiToken) -> None:
    finished, queued = claimed(token), submit(token)
    queue.fail(finished, ErrorCode.MODEL_FAILED, "It failed.", 0.0)
    not_yet_submitted = uuid7()
    assert queue.finished_ids([finished.pk, queued.pk, not_yet_submitted]) == [finished.pk]


@pytest.mark.django_db(transaction=True)
def test_without_redis_nothing_is_half_created(
    token: ApiToken, settings: Settings, redis_server: EmbeddedRedis
) -> None:
    before = _files("inputs")
    redis_server.stop()
    try:
        with pytest.raises(submission.Unavailable):
            submit(token)
    finally:
        redis_server.start()
    assert not Generation.objects.exists()
    assert _files("inputs") == before


def test_a_request_whose_input_cannot_be_stored_is_refused(token: ApiToken, settings: Settings) -> None:
    blocked = settings.DATA_DIR / "blocked"
    blocked.touch()
    settings.MEDIA_ROOT = blocked
    with pytest.raises(submission.Unavailable):
        submit(token)
    assert not Generation.objects.exists()


def test_only_enabled_models_are_used(token: ApiToken, tiny_edit: DiffusionModel) -> None:
    with pytest.raises(RequestRefused) as error:
        submit(token, model_id="someone/secret")
    assert error.value.code is ErrorCode.UNKNOWN_MODEL
    DiffusionModel.objects.update(enabled=False)
    for model_id in ("", tiny_edit.id):
        with pytest.raises(RequestRefused):
            submit(token, model_id=model_id)


def test_only_allowed_loras_are_used(token: ApiToken) -> None:
    with pytest.raises(RequestRefused, match="LoRA repository 'someone/style' not found") as error:
        submit(token, loras='{"someone/style": 1}')
    assert error.value.code is ErrorCode.UNKNOWN_LORA


def test_no_other_module_changes_the_state_of_a_row() -> None:
    change = re.compile(r"\.update\(\s*state=State\.|\.state = State\.")
    modules = [path for path in (ROOT / "generation").rglob("*.py") if change.search(path.read_text())]
    assert modules == [ROOT / "generation" / "jobs" / "queue.py"]


def _files(folder: str) -> set[str]:
    if not default_storage.exists(folder):
        return set()
    folders, files = default_storage.listdir(folder)
    below = {name for child in folders for name in _files(f"{folder}/{child}")}
    return below | {f"{folder}/{name}" for name in files}
