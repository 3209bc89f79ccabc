"""One attempt at a batch: each generation ends once, also if others fail, the lease is lost or the worker dies."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.db import connection
from django.utils import timezone
from pytest_django import Settings

from accounts.models import ApiToken
from generation.engine.engine import Engine, EngineSettings
from generation.images import storage
from generation.jobs import fair_share, queue
from generation.library import files
from generation.maintenance import reaper
from generation.models import (
    DiffusionModel,
    Environment,
    Generation,
    RunTiming,
    State,
    UserShare,
)
from generation.parameters import ErrorCode
from generation.worker.lease_keeper import LeaseKeeper
from tests.support.execution import run_batch
from tests.support.generations import unnamed_files
from tests.support.jobs import claim, expire, submit

STEPS = "2"
WARM = {"dreamsite/tiny-edit": "fingerprint"}

pytestmark = [pytest.mark.usefixtures("redis", "tiny_edit"), pytest.mark.django_db(transaction=True)]


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    return Engine(EngineSettings(models_dir=tmp_path_factory.mktemp("models"), dtype="float32", offline=True))


@pytest.fixture
def batching(settings: Settings, tiny_edit: DiffusionModel) -> None:
    settings.MAX_BATCH = 4
    DiffusionModel.objects.update(batching_verified=WARM[tiny_edit.pk])


def at_step(number: int, event: Callable[[], object]) -> Callable[[], bool]:
    """Return a `should_release` that calls `event` at its call of this number."""
    calls = iter(range(1, 1000))

    def should_release() -> bool:
        if next(calls) == number:
            event()
        return False

    return should_release


def states() -> list[str]:
    return list(Generation.objects.order_by("pk").values_list("state", flat=True))


def output_files(generation: Generation) -> list[str]:
    folder = f"outputs/{generation.created:%Y/%m/%d}/{generation.pk}"
    return sorted(default_storage.listdir(folder)[1]) if default_storage.exists(folder) else []


def submit_and_claim(token: ApiToken, **fields: str) -> Generation:
    submit(token, num_inference_steps=STEPS, **fields)
    generation = claim()
    assert generation
    return generation


def test_it_works(alices: ApiToken, engine: Engine) -> None:
    generation = submit_and_claim(alices)
    run_batch([generation], engine)
    generation.refresh_from_db()
    assert generation.state == State.SUCCEEDED
    assert generation.phases.keys() >= {"encoding", "denoising", "decoding", "safety", "storing"}
    assert output_files(generation) == ["1-0-small.webp", "1-0.png"]
    assert RunTiming.objects.get().step_seconds > 0
    assert unnamed_files() == []


def test_generations_that_were_made_with_the_same_share_one_environment(
    alices: ApiToken, engine: Engine, settings: Settings, tmp_path: Path
) -> None:
    for seed in ("1", "2"):
        run_batch([submit_and_claim(alices, seed=seed)], engine)
    first, second = Generation.objects.all()
    assert first.environment == second.environment == Environment.objects.get()
    assert first.calls == [[1, 0]]
    assert first.receipt
    assert first.receipt["batch_sizes"] == [1]
    assert first.receipt["packages"]["dreamsite"] == settings.VERSION
    other = Engine(EngineSettings(models_dir=tmp_path, dtype="bfloat16", offline=True))
    run_batch([submit_and_claim(alices)], other)
    assert Environment.objects.count() == 2


def test_compatible_requests_of_several_users_are_one_batch(
    alices: ApiToken, bobs: ApiToken, engine: Engine, batching: None
) -> None:
    submit(alices, num_inference_steps=STEPS, prompt="make it night", num_images_per_prompt="2")
    submit(bobs, num_inference_steps=STEPS, prompt="pixel art", guidance_scale="3", seed="5")
    submit(bobs, num_inference_steps="1")
    batch = queue.claim("default", "worker-1", WARM)
    assert len(batch) == 2
    run_batch(batch, engine)
    assert states() == [State.SUCCEEDED, State.SUCCEEDED, State.QUEUED]
    assert [row.images.count() for row in Generation.objects.order_by("pk")] == [2, 1, 0]
    assert [row.calls for row in Generation.objects.order_by("pk")] == [[[3, 0], [3, 1]], [[3, 2]], None]


def test_a_batch_has_at_most_the_allowed_pictures(alices: ApiToken, batching: None, settings: Settings) -> None:
    settings.USER_MAX_RUNNING = 0
    for images in ("3", "2", "1"):
        submit(alices, num_images_per_prompt=images)
    assert [row.image_count for row in queue.claim("default", "worker-1", WARM)] == [3, 1]


def test_a_batch_respects_its_users_limits(alices: ApiToken, batching: None, settings: Settings) -> None:
    settings.USER_MAX_RUNNING = 2
    for _ in range(4):
        submit(alices)
    assert len(queue.claim("default", "worker-1", WARM)) == 2


def test_a_model_that_was_not_verified_is_not_batched(alices: ApiToken, batching: None) -> None:
    DiffusionModel.objects.update(batching_verified="")
    submit(alices)
    submit(alices)
    assert len(queue.claim("default", "worker-1", WARM)) == 1


def test_a_model_whose_files_are_not_those_that_were_verified_is_not_batched(alices: ApiToken, batching: None) -> None:
    for warm in ({"dreamsite/tiny-edit": "another"}, {}):
        submit(alices)
        submit(alices)
        assert len(queue.claim("default", "worker-1", warm)) == 1


def test_canceling_one_of_a_batch_does_not_affect_the_others(alices: ApiToken, engine: Engine, batching: None) -> None:
    rows = [submit(alices, num_inference_steps=STEPS) for _ in range(3)]
    batch = queue.claim("default", "worker-1", WARM)
    run_batch(batch, engine, at_step(4, lambda: queue.cancel(rows[1])))
    assert states() == [State.SUCCEEDED, State.CANCELED, State.SUCCEEDED]
    assert output_files(rows[1]) == []
    rows[1].refresh_from_db()
    assert 0 < rows[1].cost < rows[0].cost


def test_a_request_with_a_missing_input_fails_alone(alices: ApiToken, engine: Engine, batching: None) -> None:
    rows = [submit(alices, num_inference_steps=STEPS) for _ in range(2)]
    storage.discard([str(rows[0].input.name)])
    run_batch(queue.claim("default", "worker-1", WARM), engine)
    assert states() == [State.FAILED, State.SUCCEEDED]
    assert Generation.objects.order_by("pk")[0].error_code == ErrorCode.STORAGE_FAILED


@pytest.mark.parametrize(("usual_seconds", "share"), [(1e-6, 1.0), (None, 0.0)])
def test_a_run_that_fails_costs_the_time_that_it_used(
    alices: ApiToken, engine: Engine, usual_seconds: float | None, share: float
) -> None:
    """Else a user whose requests fail after a long loading would always be the next."""
    model = DiffusionModel.objects.create(id="someone/broken", family="stable-diffusion", enabled=True)
    if usual_seconds is not None:
        RunTiming.objects.create(
            model=model, pixels=10_000, images=1, step_seconds=usual_seconds, other_seconds=usual_seconds
        )
    submitted = submit(alices, model_id=model.pk, num_inference_steps=STEPS)
    run_batch(queue.claim("default", "worker-1", WARM), engine)
    failed = Generation.objects.get()
    assert failed.state == State.FAILED
    assert failed.cost == pytest.approx(share * submitted.cost)
    usage = UserShare.objects.get(user=alices.user).decayed_usage
    assert failed.started
    assert usage == pytest.approx(share and fair_share.charge(0.0, submitted.cost, failed.started), abs=1e-3)


def test_a_stopping_worker_releases_its_batch(alices: ApiToken, engine: Engine) -> None:
    generation = submit_and_claim(alices)
    run_batch([generation], engine, lambda: True)
    generation.refresh_from_db()
    assert (generation.state, generation.attempt, generation.crash_count) == (State.QUEUED, 1, 0)


def test_the_result_of_a_lost_lease_is_dropped(alices: ApiToken, engine: Engine, settings: Settings) -> None:
    generation = submit_and_claim(alices)

    def lose_the_lease() -> None:
        expire(generation)
        reaper.reap()
        assert claim("worker-2")

    run_batch([generation], engine, at_step(4, lose_the_lease))
    generation.refresh_from_db()
    assert (generation.state, generation.attempt, generation.worker) == (State.RUNNING, 2, "worker-2")
    assert output_files(generation) == []
    assert unnamed_files() == []


def test_a_result_that_comes_before_the_next_claim_counts(alices: ApiToken, engine: Engine, settings: Settings) -> None:
    """For example, the database was away for longer than the lease. No other attempt has begun, so the pictures count."""
    # On a busy machine a renewal would find the lease lost.
    settings.LEASE_SECONDS = 3600.0
    generation = submit_and_claim(alices)

    def expire_and_reap() -> None:
        expire(generation)
        reaper.reap()

    run_batch([generation], engine, at_step(4, expire_and_reap))
    assert states() == [State.SUCCEEDED]
    assert output_files(generation) == ["1-0-small.webp", "1-0.png"]


def test_finishing_twice_has_no_further_effect(alices: ApiToken, engine: Engine) -> None:
    """As if the connection broke at the commit: the second call returns True."""
    generation = submit_and_claim(alices)
    run_batch([generation], engine)
    assert queue.finish(generation, [], [], {}, 100)
    assert generation.images.count() == 1


def test_each_stored_picture_is_progress(alices: ApiToken, engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several photos of many megapixels, made with a mask, take minutes to encode."""
    order = []

    def store(name: str, content: bytes) -> str:
        order.append(name.rpartition("/")[2])
        return default_storage.save(name, ContentFile(content))

    def record(keeper: LeaseKeeper, phase: str) -> None:
        order.append(phase)

    generation = submit_and_claim(alices, num_images_per_prompt="2")
    monkeypatch.setattr(storage, "store", store)
    monkeypatch.setattr(LeaseKeeper, "record_progress", record)
    run_batch([generation], engine)
    first, second = (["storing", f"1-{index}.png", f"1-{index}-small.webp"] for index in (0, 1))
    assert order[order.index("storing") :] == [*first, *second, "storing"]
    assert states() == [State.SUCCEEDED]


def test_files_of_an_attempt_that_died_while_storing_are_swept(alices: ApiToken) -> None:
    dead = submit_and_claim(alices)
    name = f"outputs/{dead.created:%Y/%m/%d}/{dead.pk}/1-0.png"
    files.stage([name], dead)
    storage.store(name, b"half a picture")
    expire(dead)
    reaper.reap()
    assert output_files(dead) == ["1-0.png"]
    assert claim()
    reaper.reap()
    assert output_files(dead) == []
    assert unnamed_files() == []


def test_the_sweep_leaves_files_that_were_unstaged_meanwhile(alices: ApiToken, engine: Engine) -> None:
    """The sweep reads the record while the attempt stores files, and the row after it succeeded."""
    generation = submit_and_claim(alices)
    name = f"outputs/{generation.created:%Y/%m/%d}/{generation.pk}/1-0.png"
    files.stage([name], generation)
    storage.store(name, b"a picture")
    finished = iter([True])

    def finish_after_the_records_were_read(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        is_of_the_row = sql.startswith('SELECT "generation_generation"."attempt"')
        if is_of_the_row and next(finished, False):
            assert queue.finish(generation, [], [], {}, 100)
        return execute(sql, params, many, context)

    with connection.execute_wrapper(finish_after_the_records_were_read):
        reaper.reap()
    assert next(finished, None) is None
    assert output_files(generation) == ["1-0.png"]


def test_files_of_a_submission_that_died_are_swept_after_a_while(alices: ApiToken) -> None:
    row = submit(alices)
    files.stage([str(row.input.name), str(row.input_thumbnail.name)], row)
    reaper.reap(abandoned=timedelta())
    assert default_storage.exists(str(row.input.name))
    Generation.objects.all().delete()
    reaper.reap()
    assert default_storage.exists(str(row.input.name))
    reaper.reap(abandoned=timedelta())
    assert not default_storage.exists(str(row.input.name))


def test_no_run_exceeds_max_seconds(alices: ApiToken, engine: Engine, settings: Settings) -> None:
    settings.MAX_SECONDS = 0.0
    generation = submit_and_claim(alices)
    run_batch([generation], engine)
    generation.refresh_from_db()
    assert (generation.state, generation.error_code) == (State.CANCELED, ErrorCode.DEADLINE)


def test_a_deadline_stops_a_run(alices: ApiToken, engine: Engine) -> None:
    generation = submit_and_claim(alices)
    generation.deadline = timezone.now()
    run_batch([generation], engine)
    generation.refresh_from_db()
    assert (generation.state, generation.error_code) == (State.CANCELED, ErrorCode.DEADLINE)
