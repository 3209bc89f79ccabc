"""The claim order: priority, then the user with the least usage, then warm models, then arrival."""

import math
from datetime import timedelta

import pytest
from django.utils import timezone
from pytest_django import Settings

from accounts.models import ApiToken, User
from generation.jobs import fair_share, queue
from generation.maintenance import reaper
from generation.models import (
    MAX_AFFINITY_SKIPS,
    DiffusionModel,
    Generation,
    UserShare,
)
from generation.parameters import ErrorCode, InvalidField
from tests.support.jobs import claim, expire, submit

pytestmark = pytest.mark.usefixtures("redis", "tiny_edit")


@pytest.fixture
def charlies(charlie: User) -> ApiToken:
    return ApiToken.objects.issue(charlie, "laptop")[0]


@pytest.fixture(autouse=True)
def unlimited(settings: Settings) -> None:
    settings.LIMITS = False


def order(*warm: str) -> list[Generation]:
    """Return the queued generations in the order in which one worker claims them."""
    return list(iter(lambda: claim(warm=warm), None))


def test_many_requests_of_one_user_do_not_delay_another(alices: ApiToken, bobs: ApiToken) -> None:
    flood = [submit(alices) for _ in range(200)]
    assert claim() == flood[0]
    assert claim() == flood[1]
    late = submit(bobs)
    assert claim() == late
    assert claim() == flood[2]


def test_usage_is_cost_not_number(alices: ApiToken, bobs: ApiToken) -> None:
    dear = [submit(alices, num_inference_steps="2") for _ in range(2)]
    cheap = [submit(bobs, num_inference_steps="1") for _ in range(6)]
    assert order() == [dear[0], *cheap[:2], dear[1], *cheap[2:]]


def test_a_higher_priority_comes_first(alices: ApiToken, charlies: ApiToken) -> None:
    low, normal = submit(alices, priority="low"), submit(alices)
    high = submit(charlies, priority="high")
    assert order() == [high, normal, low]


def test_high_is_for_staff(alices: ApiToken) -> None:
    with pytest.raises(InvalidField, match="high is for staff; choose low or normal"):
        submit(alices, priority="high")


def test_a_generation_that_lost_its_worker_comes_first(alices: ApiToken, bobs: ApiToken) -> None:
    lost = submit(alices)
    generation = claim()
    assert generation == lost
    submit(bobs)
    submit(bobs)
    expire(generation)
    reaper.reap()
    assert claim() == lost


def test_a_lost_attempt_counts_once(alices: ApiToken, alice: User) -> None:
    submit(alices)
    for _ in range(2):
        generation = claim()
        assert generation
        served = UserShare.objects.get(user=alice).decayed_usage
        queue.release(generation)
    assert UserShare.objects.get(user=alice).decayed_usage == served


def test_a_warm_model_is_preferred_up_to_the_maximum_of_skips(alices: ApiToken, settings: Settings) -> None:
    DiffusionModel.objects.create(id="someone/cold", family="stable-diffusion", enabled=True)
    cold = submit(alices, model_id="someone/cold")
    warm = [submit(alices) for _ in range(MAX_AFFINITY_SKIPS + 3)]
    expected = [*warm[:MAX_AFFINITY_SKIPS], cold, *warm[MAX_AFFINITY_SKIPS:]]
    assert order("dreamsite/tiny-edit") == expected


def test_without_a_warm_model_arrival_decides(alices: ApiToken) -> None:
    DiffusionModel.objects.create(id="someone/cold", family="stable-diffusion", enabled=True)
    rows = [submit(alices, model_id="someone/cold"), submit(alices)]
    assert order() == rows


def test_usage_halves_in_a_half_life() -> None:
    now = timezone.now()
    later = now + timedelta(seconds=fair_share.HALF_LIFE)
    served = fair_share.charge(0.0, 8.0, now)
    # A cost of 8 one half-life ago counts as 4 now, so with 4 more it is 8.
    assert fair_share.charge(served, 4.0, later) == pytest.approx(fair_share.charge(0.0, 8.0, later))
    assert fair_share.charge(served, 1.0, now) > served


def test_cost_counts_the_steps_that_are_run(alices: ApiToken) -> None:
    DiffusionModel.objects.create(id="someone/model", family="stable-diffusion", enabled=True, cost_weight=3.0)
    row = submit(alices, model_id="someone/model", strength="0.5", num_inference_steps="20", num_images_per_prompt="2")
    assert row.cost == pytest.approx(10 * math.prod(row.get_recipe().canvas_size) / 1e6 * 2 * 3.0)


def test_undone_work_is_refunded(alices: ApiToken, alice: User) -> None:
    first, second = submit(alices), submit(alices)
    for row in (first, second):
        assert claim() == row
        row.refresh_from_db()
    both = UserShare.objects.get(user=alice).decayed_usage
    queue.fail(second, ErrorCode.MODEL_FAILED, "It failed.", 0.0)
    assert second.started
    one = UserShare.objects.get(user=alice).decayed_usage
    assert first.started
    assert one == pytest.approx(fair_share.charge(0.0, first.cost, first.started), abs=1e-6)
    assert one < both
    queue.finish_canceled(first, ErrorCode.CANCELED, 0.25)
    assert UserShare.objects.get(user=alice).decayed_usage == pytest.approx(one - 2, abs=1e-3)


def test_a_user_who_may_run_nothing_does_not_block_others(
    alices: ApiToken, bobs: ApiToken, alice: User, settings: Settings
) -> None:
    settings.LIMITS = True
    User.objects.filter(pk=alice.pk).update(max_running=0)
    submit(alices)
    bobs_row = submit(bobs)
    assert claim() == bobs_row
    assert claim() is None
