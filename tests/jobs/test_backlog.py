"""Samples of the backlog: one a minute by the reaper, stored for some days, and plotted on the operations page."""

from datetime import datetime, timedelta
from itertools import pairwise

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from generation.jobs import backlog
from generation.maintenance import reaper
from generation.models import QueueSample, State
from generation.staff.operations import charts, metrics
from tests.support.generations import make_generation

pytestmark = pytest.mark.usefixtures("redis")


def create_sample(minute: datetime, depth: int, oldest_seconds: float, pool: str = "default") -> None:
    QueueSample.objects.create(pool=pool, minute=minute, depth=depth, oldest_seconds=oldest_seconds)


def test_the_reaper_stores_a_sample_a_minute_and_deletes_old_ones(alice: User, settings: Settings) -> None:
    settings.POOLS = ["default", "large"]
    now = timezone.now()
    for minutes in (4, 1):
        make_generation(alice, State.QUEUED, created=now - timedelta(minutes=minutes))
    create_sample(now - timedelta(days=9), 1, 1.0)
    reaper.reap()
    reaper.reap()
    samples = {sample.pool: sample for sample in QueueSample.objects.filter(minute__gte=now - timedelta(minutes=2))}
    assert QueueSample.objects.count() <= 4
    assert not QueueSample.objects.filter(minute__lt=now - backlog.RETENTION).exists()
    assert (samples["default"].depth, samples["large"].depth, samples["large"].oldest_seconds) == (2, 0, 0.0)
    assert 240 <= samples["default"].oldest_seconds < 300


def test_peaks_are_by_pool_and_slot_in_one_query(db: None) -> None:
    start = datetime(2026, 1, 1, tzinfo=timezone.get_default_timezone())
    for minute, depth, oldest in ((0, 3, 5.0), (1, 1, 60.0), (25, 7, 1.0)):
        create_sample(start + timedelta(minutes=minute), depth, oldest)
    create_sample(start + timedelta(minutes=12), 2, 2.0, "large")
    slots = list(pairwise(start + timedelta(minutes=10 * number) for number in range(4)))
    with CaptureQueriesContext(connection) as queries:
        peaks = backlog.peaks(slots)
    assert len(queries) == 1
    assert peaks == {
        "default": [backlog.Peak(3, 60.0), None, backlog.Peak(7, 1.0)],
        "large": [None, backlog.Peak(2, 2.0), None],
    }


def test_the_operations_page_plots_them(client: Client, charlie: User) -> None:
    client.force_login(charlie)
    page = "/admin/operations/?window=hour"
    assert "Backlog" not in client.get(page).content.decode()
    cache.clear()
    now = timezone.now().replace(second=0, microsecond=0)
    for minute in range(30):
        create_sample(now - timedelta(minutes=minute), minute, 3.0 * minute)
    text = client.get(page).content.decode()
    assert "<strong>Queued in default</strong>" in text
    assert "<strong>Oldest wait in default</strong>" in text
    depth, oldest = charts.waiting(metrics.measure(metrics.WINDOWS["hour"], timezone.now()))
    assert (depth.summary, oldest.summary) == ("at most 29", "at most 87 s")
    assert dict(depth.lines)["depth"].count("M") == 1
    assert depth.rows[-1][1] in ("0", "1")
    assert [tick.label for tick in depth.y_ticks] == ["0", "50"]
