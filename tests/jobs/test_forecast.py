"""Forecasts of queued generations: position, reason, start and finish."""

import math
from datetime import datetime, timedelta

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import ApiToken, User
from generation.broker import progress
from generation.images.inputs import Inputs
from generation.jobs import forecast, submission
from generation.jobs.forecast import Forecast
from generation.models import (
    DiffusionModel,
    Generation,
    RunTiming,
    State,
)
from generation.parameters import ImageToImageParameters
from tests.support.generations import make_generation
from tests.support.jobs import claim, claimed, submit
from tests.support.workers import register_worker

pytestmark = pytest.mark.usefixtures("redis", "tiny_edit")
MODEL = "dreamsite/tiny-edit"


@pytest.fixture
def token(alice: User) -> ApiToken:
    return ApiToken.objects.issue(alice, "laptop")[0]


@pytest.fixture
def timing(tiny_edit: DiffusionModel) -> RunTiming:
    """Return a timing of 1 s per step of one picture of 128 x 128, and of 1 s for all else."""
    return RunTiming.objects.create(model_id=MODEL, pixels=128 * 128, images=1, step_seconds=1.0, other_seconds=1.0)


def of_queued(generation: Generation) -> Forecast:
    return forecast.of_queued([generation])[generation.pk]


def ends_in(seconds: float, generation: Generation) -> bool:
    before = timezone.now()
    expected = of_queued(generation)
    assert expected.finish
    return is_later(seconds, expected.finish, before)


def is_later(seconds: float, end: datetime, before: datetime) -> bool:
    """Return whether `end` is `seconds` after a forecast that was made between `before` and now."""
    moment, slack = end - timedelta(seconds=seconds), timedelta(seconds=0.3)
    return before - slack <= moment <= timezone.now() + slack


def test_it_works(token: ApiToken, timing: RunTiming) -> None:
    register_worker("worker-1", models=[MODEL])
    first, second = (submit(token, num_inference_steps="2") for _ in range(2))
    expected = of_queued(second)
    assert (expected.position, expected.reason) == (2, "1 request runs before it.")
    assert ends_in(3.0 * scale(first), first)
    assert ends_in(6.0 * scale(second), second)


def scale(generation: Generation) -> float:
    return math.prod(generation.get_recipe().canvas_size) / (128 * 128)


def test_two_workers_share_the_queue(token: ApiToken, timing: RunTiming) -> None:
    for name in ("worker-1", "worker-2"):
        register_worker(name, models=[MODEL])
    rows = [submit(token, num_inference_steps="2") for _ in range(4)]
    assert ends_in(6.0 * scale(rows[3]), rows[3])


def test_a_running_generation_counts_with_its_remaining_time(token: ApiToken, timing: RunTiming) -> None:
    register_worker("worker-1", models=[MODEL])
    running = claimed(token)
    progress.report([running.pk], progress.Progress(3, 4, "denoising"))
    queued = submit(token, num_inference_steps="2")
    assert ends_in((3.0 * 0.25 + 3.0) * scale(queued), queued)
    before = timezone.now()
    finish = forecast.of_running([running], progress.latest([running.pk]))[running.pk]
    assert is_later(3.0 * 0.25 * scale(running), finish, before)


def test_positions_are_in_claim_order(token: ApiToken, bob: User, timing: RunTiming) -> None:
    register_worker("worker-1", models=[MODEL])
    bobs = ApiToken.objects.issue(bob, "laptop")[0]
    rows = [submit(token), submit(token), submit(bobs), submit(token, priority="low"), submit(bobs)]
    places = {row.pk: of_queued(row).position for row in rows}
    claimed_order = [row.pk for row in iter(lambda: claim(warm=[MODEL]), None)]
    assert sorted(places, key=lambda pk: places[pk]) == claimed_order


def test_reasons(token: ApiToken, alice: User) -> None:
    row = submit(token)
    assert of_queued(row).reason == "Its pool has no active worker."
    assert of_queued(row).finish is None
    register_worker("worker-1", models=["someone/else"])
    assert of_queued(row).reason == "It is next; its model must be loaded first."
    register_worker("worker-1", models=[MODEL])
    assert of_queued(row).reason == "It is next, as soon as a worker is free."
    User.objects.filter(pk=alice.pk).update(max_running=1)
    assert claim() == row
    later = submit(token)
    later.user.refresh_from_db()
    assert of_queued(later).reason == "Its user has 1 running request, the maximum."


def test_without_recorded_timings_there_is_no_estimate(token: ApiToken) -> None:
    register_worker("worker-1", models=[MODEL])
    assert of_queued(submit(token)).finish is None


def test_timings_are_moving_averages(token: ApiToken) -> None:
    row = submit(token, num_inference_steps="2")
    forecast.record([row], {"denoising": 2.0, "encoding": 0.1, "decoding": 0.1, "safety": 0.1, "storing": 0.1})
    forecast.record([row], {"loading": 4.0, "denoising": 4.0, "decoding": 0.4})
    timing = RunTiming.objects.get()
    assert timing.step_seconds == pytest.approx(1.0 + 0.3 * 1.0)
    assert timing.other_seconds == pytest.approx(0.4)
    assert DiffusionModel.objects.get(pk=MODEL).load_seconds == 4.0


def test_a_cold_model_adds_its_loading_time(token: ApiToken, timing: RunTiming) -> None:
    DiffusionModel.objects.filter(pk=MODEL).update(load_seconds=30.0)
    register_worker("worker-1", models=["someone/else"])
    row = submit(token, num_inference_steps="2")
    assert ends_in(30.0 + 3.0 * scale(row), row)


def test_estimates_move_with_time(token: ApiToken, timing: RunTiming) -> None:
    register_worker("worker-1", models=[MODEL])
    expected = of_queued(submit(token))
    assert expected.start
    assert expected.start - timezone.now() < timedelta(seconds=1)


def drafts_of(user: User, count: int) -> list[Generation]:
    parameters = ImageToImageParameters(prompt="make it night", num_inference_steps=20)
    request = submission.Request(user, None, parameters, Inputs(), size=(128, 128))
    return [submission.build(request) for _ in range(count)]


def test_an_estimate_writes_nothing_and_is_what_a_submission_gets(
    token: ApiToken, alice: User, bob: User, timing: RunTiming
) -> None:
    register_worker("worker-1", models=[MODEL])
    bobs = ApiToken.objects.issue(bob, "laptop")[0]
    for waiting in (token, bobs, bobs, token):
        submit(waiting, num_inference_steps="2")
    drafts = drafts_of(bob, 3)
    with CaptureQueriesContext(connection) as queries:
        estimates = submission.estimate_together(drafts)
    statements = [query["sql"].split(maxsplit=1)[0].upper() for query in queries]
    assert statements
    assert set(statements) == {"SELECT"}
    submission.submit_together(drafts, Inputs())
    forecasts = forecast.of_queued(drafts)
    for draft, estimated in zip(drafts, estimates, strict=True):
        queued = forecasts[draft.pk]
        assert (estimated.position, estimated.reason) == (queued.position, queued.reason)
        assert duration(estimated) == duration(queued)


def duration(expected: Forecast) -> timedelta:
    assert expected.start
    assert expected.finish
    return expected.finish - expected.start


def test_many_forecasts_take_no_more_queries_than_few(alice: User, bob: User) -> None:
    register_worker()
    made = [make_generation(user, State.QUEUED) for user in (alice, bob) for _ in range(10)]
    counts = []
    for number in (2, 20):
        cache.clear()
        rows = list(Generation.objects.filter(pk__in=[row.pk for row in made[:number]]))
        with CaptureQueriesContext(connection) as queries:
            assert len(forecast.of_queued(rows)) == number
        counts.append(len(queries))
    assert counts[0] == counts[1]
