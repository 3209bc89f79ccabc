"""The usage page: by day, token and model, and against the limits, with few queries."""

import re
from datetime import timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.models import ApiToken, User
from generation.jobs import queue, usage
from generation.library import deletion
from generation.models import GeneratedImage, Generation, State
from tests.support.generations import make_generation

PAGE = "/usage/"


def make_used(user: User, state: State = State.SUCCEEDED, cost: float = 2.5, **fields: Any) -> Generation:
    generation = make_generation(user, state, **fields)
    Generation.objects.filter(pk=generation.pk).update(cost=cost)
    return generation


def text(answer: Any) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", answer.content.decode()))


def test_it_works(client: Client, alice: User, alices: ApiToken) -> None:
    make_used(alice, token=alices, num_images_per_prompt=2)
    make_used(alice, token=alices, created=timezone.now() - timedelta(days=3))
    make_used(alice)
    client.force_login(alice)
    answer = client.get(PAGE)
    assert "3 requests in the last 30 days" in text(answer)
    assert "laptop 2 requests" in text(answer)
    assert "the studio 1 request" in text(answer)
    assert "dreamsite/tiny-edit 3 requests" in text(answer)
    assert "5 of 5,000" in text(answer)
    assert "4 pictures in the last 7 days" in text(client.get(PAGE, {"by": "images", "days": "7"}))
    assert "7.5 spent in the last 90 days" in text(client.get(PAGE, {"by": "cost", "days": "90"}))


def test_the_chart_is_accessible(client: Client, alice: User) -> None:
    make_used(alice)
    client.force_login(alice)
    page = client.get(PAGE).content.decode()
    assert 'role="img" aria-labelledby="chart-title chart-desc"' in page
    assert f"<title>{timezone.localdate():%-d %b %Y}: 1 request</title>" in page
    assert page.count("<tbody>") == 3
    assert len(re.findall(r'<th scope="row">\d+ \w+ \d{4}</th>', page)) == 30
    assert page.count('role="meter"') == 5


def test_an_empty_period_says_so(client: Client, alice: User) -> None:
    client.force_login(alice)
    answer = client.get(PAGE)
    assert "No usage in this period." in text(answer)
    assert "By token" not in text(answer)


@pytest.mark.parametrize("query", [{"by": "x", "days": "31"}, {"by": "", "days": "-1"}, {"days": "9" * 40}])
def test_unknown_values_fall_back_to_the_defaults(client: Client, alice: User, query: dict[str, str]) -> None:
    client.force_login(alice)
    assert "0 requests in the last 30 days" in text(client.get(PAGE, query))


def test_the_usage_is_private(client: Client, alice: User, bob: User) -> None:
    assert client.get(PAGE).status_code == 302
    make_used(alice)
    client.force_login(bob)
    assert "0 requests" in text(client.get(PAGE))


def test_days_are_those_of_the_time_zone(alice: User, settings: Any) -> None:
    for name in ("Asia/Kathmandu", "America/New_York", "UTC"):
        settings.TIME_ZONE = name
        Generation.objects.all().delete()
        with timezone.override(ZoneInfo(name)):
            today = timezone.localtime().replace(hour=0, minute=0, second=0, microsecond=0)
            make_used(alice, created=today - timedelta(minutes=1))
            make_used(alice, created=today)
            days = list(usage.of(alice, 7).amounts["requests"].days.values())
        assert days[-2:] == [1, 1]


def test_deleted_generations_count(alice: User) -> None:
    generation = make_used(alice, num_images_per_prompt=2)
    deletion.delete(Generation.objects.get(pk=generation.pk))
    amounts = usage.of(alice, 7).amounts
    assert [amounts[measure].total for measure in usage.MEASURES] == [1, 2, 2.5]


def test_a_failure_counts_as_a_request_without_pictures(alice: User) -> None:
    make_used(alice, state=State.FAILED, cost=0)
    amounts = usage.of(alice, 7).amounts
    assert [amounts[measure].total for measure in usage.MEASURES] == [1, 0, 0]


def test_the_limits_are_those_of_the_user(client: Client, alice: User, settings: Any) -> None:
    make_used(alice, State.QUEUED)
    make_used(alice, State.RUNNING, cost=40)
    User.objects.filter(pk=alice.pk).update(max_queued=1, max_daily_cost=50)
    settings.USER_MAX_PER_MINUTE = 0
    client.force_login(alice)
    answer = client.get(PAGE)
    for words in ("42.5 of 50", "Queued 1 of 1", "Running 1 of 4", "no limit", "of 8.0 GB"):
        assert words in text(answer)
    assert answer.content.count(b'class="meter full"') == 1


def test_the_page_takes_a_constant_number_of_queries(
    client: Client, alice: User, alices: ApiToken, django_assert_num_queries: Any
) -> None:
    client.force_login(alice)
    for number in (1, 6):
        for _ in range(number):
            make_used(alice, token=ApiToken.objects.issue(alice, "one more")[0])
        with django_assert_num_queries(9):
            assert client.get(PAGE).status_code == 200


def test_only_the_days_of_the_period_count(alice: User) -> None:
    make_used(alice, created=timezone.now() - timedelta(days=40))
    assert [usage.of(alice, days).amounts["images"].total for days in (30, 90)] == [0, 1]


def test_canceling_is_free(alice: User) -> None:
    generation = make_used(alice, State.QUEUED)
    queue.cancel(generation)
    amounts = usage.of(alice, 7).amounts
    assert (amounts["requests"].total, amounts["cost"].total) == (1, 0)
    assert not GeneratedImage.objects.exists()


@pytest.mark.skipif(connection.vendor != "sqlite", reason="asks for SQLite's plan")
def test_usage_reads_indexes_only(alice: User) -> None:
    make_used(alice)
    with CaptureQueriesContext(connection) as queries:
        usage.of(alice, 90)
    with connection.cursor() as cursor:
        cursor.execute(f"EXPLAIN QUERY PLAN {queries[0]['sql']}")
        plan = [row[-1] for row in cursor.fetchall()]
    steps = [step for step in plan if step.startswith(("SEARCH", "SCAN generation", "SCAN image"))]
    assert len(steps) == 2
    assert all("COVERING INDEX" in step for step in steps)
