"""Limits of users: exact under any number of simultaneous requests, and explained by each refusal."""

from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings
from uuid_utils.compat import uuid7

from accounts.models import ApiToken, User
from generation.jobs import queue
from generation.jobs.limits import OverLimit, QueueFull
from generation.models import (
    Generation,
    State,
)
from generation.parameters import ErrorCode
from tests.support.generations import unnamed_files
from tests.support.jobs import claim, claimed, submit, submit_at_once

pytestmark = pytest.mark.usefixtures("redis", "tiny_edit")


@pytest.fixture
def token(alice: User) -> ApiToken:
    return ApiToken.objects.issue(alice, "laptop")[0]


def refusal_of(token: ApiToken, **fields: str) -> OverLimit:
    with pytest.raises(OverLimit) as error:
        submit(token, **fields)
    return error.value


def test_queued_requests_are_limited(token: ApiToken, settings: Settings) -> None:
    settings.USER_MAX_QUEUED = 2
    submit(token), submit(token)
    error = refusal_of(token)
    assert (error.code, error.limit, error.remaining) == (ErrorCode.TOO_MANY_QUEUED, 2, 0)
    assert "You have 2 queued requests of at most 2" in error.message
    assert claim()
    submit(token)


def test_requests_per_minute_are_limited(token: ApiToken, settings: Settings) -> None:
    settings.USER_MAX_PER_MINUTE = 2
    first = submit(token)
    submit(token)
    error = refusal_of(token)
    assert error.code is ErrorCode.TOO_MANY_REQUESTS
    assert 55 <= error.reset <= 61
    assert f"in {error.reset} seconds" in error.message
    assert (error.headers["Retry-After"], "X-Should-Retry" in error.headers) == (str(error.reset), False)
    queue.cancel(first)
    assert refusal_of(token).code is ErrorCode.TOO_MANY_REQUESTS


def test_daily_cost_is_limited(token: ApiToken, settings: Settings) -> None:
    cost = submit(token, num_inference_steps="2").cost
    settings.USER_MAX_DAILY_COST = cost * 2.75
    submit(token, num_inference_steps="2")
    error = refusal_of(token, num_inference_steps="2")
    assert error.code is ErrorCode.COST_EXCEEDED
    assert error.remaining == pytest.approx(cost * 0.75)
    assert error.reset <= 24 * 3600 + 1
    assert (error.headers["Retry-After"], error.headers["X-Should-Retry"]) == (str(error.reset), "false")
    submit(token, num_inference_steps="1")


def test_failed_generations_cost_what_they_used_and_unstarted_ones_nothing(token: ApiToken) -> None:
    failed, canceled = claimed(token), submit(token)
    queue.fail(failed, ErrorCode.MODEL_FAILED, "It failed.", 0.25)
    queue.cancel(canceled)
    costs = list(Generation.objects.order_by("pk").values_list("cost", flat=True))
    assert costs == [pytest.approx(failed.cost / 4), 0.0]


def test_a_canceled_generation_costs_its_finished_share(token: ApiToken) -> None:
    generation = claimed(token)
    assert queue.finish_canceled(generation, ErrorCode.CANCELED, 0.25)
    assert Generation.objects.get().cost == pytest.approx(generation.cost / 4)


def test_limits_of_a_user_override_the_settings(token: ApiToken, alice: User, settings: Settings) -> None:
    settings.USER_MAX_QUEUED = 1
    User.objects.filter(pk=alice.pk).update(max_queued=2)
    token.user.refresh_from_db()
    submit(token), submit(token)
    assert refusal_of(token).limit == 2


def test_running_requests_are_limited(token: ApiToken, bob: User, settings: Settings) -> None:
    settings.USER_MAX_RUNNING = 2
    rows = [submit(token) for _ in range(4)]
    assert [claim(), claim(), claim()] == [rows[0], rows[1], None]
    bobs = submit(ApiToken.objects.issue(bob, "laptop")[0])
    assert claim() == bobs
    Generation.objects.filter(pk=rows[0].pk).update(state=State.SUCCEEDED)
    assert claim() == rows[2]


def test_a_full_queue_refuses_before_anything_is_stored(token: ApiToken, settings: Settings) -> None:
    settings.MAX_QUEUE = 1
    submit(token)
    with pytest.raises(QueueFull):
        submit(token)
    assert unnamed_files() == []


def test_limits_can_be_switched_off(token: ApiToken, settings: Settings) -> None:
    settings.USER_MAX_QUEUED = 1
    settings.LIMITS = False
    for _ in range(3):
        submit(token)


def test_yesterday_does_not_count(token: ApiToken, settings: Settings) -> None:
    old = submit(token)
    before = timezone.now() - timedelta(days=1, minutes=1)
    Generation.objects.filter(pk=old.pk).update(id=uuid7(nanoseconds=int(before.timestamp() * 1e9)))
    settings.USER_MAX_DAILY_COST = old.cost
    submit(token)


@pytest.mark.django_db(transaction=True)
def test_fifty_at_once_do_not_exceed_a_limit(token: ApiToken, settings: Settings) -> None:
    settings.USER_MAX_QUEUED = 7
    assert (submit_at_once(token, 50), Generation.objects.count()) == (7, 7)
    assert unnamed_files() == []
