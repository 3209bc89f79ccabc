"""The operations page: alerts, pools and workers, metrics, and what operators may do."""

import re
from collections.abc import Iterator
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.contrib.auth.models import Permission
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from accounts.models import User
from generation.broker import workers
from generation.broker.connection import redis_client
from generation.jobs import (
    control,
    forecast,
    queue,
    user_queues,
)
from generation.models import (
    DiffusionModel,
    Generation,
    PausedPool,
    QueueSample,
    State,
    WorkerCommand,
)
from generation.parameters import ErrorCode
from generation.staff.operations import charts, metrics
from tests.support.admin import audited_changes
from tests.support.generations import make_generation
from tests.support.workers import age_heartbeat, register_worker

PAGE = "/admin/operations/"


pytestmark = pytest.mark.usefixtures("redis")


@pytest.fixture
def operator(client: Client, bob: User) -> Client:
    """Bob as staff with only the permission to operate."""
    User.objects.filter(pk=bob.pk).update(is_staff=True)
    bob.user_permissions.add(Permission.objects.get(codename="operate"))
    client.force_login(bob)
    return client


def text(client: Client, address: str = PAGE) -> str:
    answer = client.get(address)
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", answer.content.decode()))


def test_it_works(operator: Client, alice: User) -> None:
    register_worker()
    make_generation(alice)
    make_generation(alice, State.FAILED)
    make_generation(alice, State.QUEUED)
    make_generation(alice, State.RUNNING)
    page = text(operator)
    for phrase in (
        "No alerts.",
        "here-1",
        "cpu of here, pid 7",
        "1.5 of 16 GB",
        "2 h 1 min",
        "dreamsite/tiny-edit",
        "out_of_memory",
        "1 succeeded, 0 canceled, 1 failed",
        "half within 2.4 s",
    ):
        assert phrase in page
    assert "no-store" in operator.get(PAGE)["Cache-Control"]


def test_who_may_open_the_page(client: Client, alice: User, charlie: User) -> None:
    posts = [f"{PAGE}pools/default/pause", f"{PAGE}pools/default/resume", f"{PAGE}command", f"{PAGE}remove-worker"]
    for address in (PAGE, f"{PAGE}live"):
        assert client.get(address)["Location"].startswith("/admin/login/")
    User.objects.filter(pk=alice.pk).update(is_staff=True)
    client.force_login(alice)
    assert {client.get(address).status_code for address in (PAGE, f"{PAGE}live")} == {403}
    assert {client.post(address).status_code for address in posts} == {403}
    assert "Operations" not in client.get("/admin/").content.decode()
    client.force_login(charlie)
    assert client.get(PAGE).status_code == 200
    assert f'href="{PAGE}"' in client.get("/admin/").content.decode()
    assert {client.get(address).status_code for address in posts} == {405}
    assert not PausedPool.objects.exists()


def test_htmx_reloads_the_page_when_the_session_has_ended(client: Client, db: None) -> None:
    answer = client.get(f"{PAGE}live", headers={"HX-Request": "true"})
    assert answer["HX-Refresh"] == "true"


def test_the_page_takes_a_constant_number_of_queries(operator: Client, alice: User) -> None:
    register_worker()
    counted: list[list[int]] = []
    for count in (1, 9):
        for number in range(count):
            make_generation(alice, list(State)[number % 5], created=timezone.now() - timedelta(minutes=number))
            register_worker(f"here-{number}")
        cache.clear()
        numbers = []
        for address in (PAGE, f"{PAGE}live"):
            with CaptureQueriesContext(connection) as queries:
                operator.get(address)
            numbers.append(len(queries))
        counted.append(numbers)
    # Each slot with runs takes one query for its sample.
    assert max(counted[0][0], counted[1][0]) <= 21 + 24
    assert counted[0][1] <= counted[1][1] <= 15


def test_alerts_are_shown(operator: Client, alice: User, settings: Settings) -> None:
    page = text(operator)
    assert "The pool default has no active worker; 0 requests wait in it." in page
    make_generation(alice, State.QUEUED, created=timezone.now() - timedelta(minutes=5))
    assert "1 request waits in it" in text(operator)
    register_worker()
    behind = r"its oldest request has waited 5 min \d+ s, and 2 min 0 s is the target; 1 request waits\."
    assert re.search(behind, text(operator))
    settings.QUEUE_TARGET_SECONDS = 600.0
    assert "No alerts." in text(operator)
    age_heartbeat("here-1", 40)
    page = text(operator)
    assert "The worker here-1 of the pool default has sent no heartbeat for 40 s" in page
    assert "has no active worker" in page
    register_worker(problem="The default model dreamsite/tiny-edit could not be loaded.", models=[])
    assert "The default model dreamsite/tiny-edit could not be loaded." in text(operator)


def test_a_disk_is_an_alert_before_and_when_requests_are_refused(
    operator: Client, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    register_worker()
    usage = SimpleNamespace(free=30 * 10**9, total=10**12)
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage)
    page = text(operator)
    assert "is nearly full: 30.0 of 1000 GB are free. Below 20.0 GB (MIN_FREE_DISK) requests are refused" in page
    assert "is nearly full" in operator.get("/admin/").content.decode()
    settings.MIN_FREE_DISK = 0.04
    assert "is full: 30.0 of 1000 GB are free. Requests are refused with disk_full" in text(operator)
    settings.MIN_FREE_DISK = 0.01
    usage.free = 60 * 10**9
    assert "No alerts." in text(operator)


def test_unusually_many_failures_are_an_alert(operator: Client, alice: User) -> None:
    register_worker()
    yesterday = timezone.now() - timedelta(hours=5)
    for number in range(10):
        make_generation(alice, State.FAILED if number < 5 else State.SUCCEEDED, created=yesterday)
    for number in range(8):
        make_generation(alice, State.FAILED if number < 4 else State.SUCCEEDED)
    assert "No alerts." in text(operator)
    make_generation(alice, State.SUCCEEDED, created=yesterday)
    Generation.objects.filter(created=yesterday, state=State.FAILED).update(state=State.SUCCEEDED)
    assert (
        "4 of 8 requests of the last 15 minutes failed (50%; 0.0% in the day before), most with out_of_memory"
        in text(operator)
    )
    Generation.objects.filter(state=State.FAILED).update(error_code=ErrorCode.MODEL_FAILED)
    assert "The model dreamsite/tiny-edit could not be loaded or run 4 times in the last 15 minutes." in text(operator)


def test_without_redis_the_page_says_so(operator: Client, settings: Settings) -> None:
    redis_client.cache_clear()
    try:
        settings.REDIS_URL = "redis://127.0.0.1:1"
        page = text(operator)
        assert "Redis cannot be reached: requests are refused with 503" in page
        assert "the workers are unknown" in page
        answer = operator.post(f"{PAGE}command", {"action": "drain", "worker": "here-1"}, follow=True)
        assert "nothing was done" in answer.content.decode()
    finally:
        redis_client.cache_clear()
    assert not WorkerCommand.objects.exists()


@pytest.fixture
def evicting_redis() -> Iterator[None]:
    """The Redis of the tests as many hosts configure it: with a limit of memory at which it removes keys."""
    redis_client().config_set("maxmemory", 2**30)
    redis_client().config_set("maxmemory-policy", "allkeys-lru")
    yield
    redis_client().execute_command("ACL", "SETUSER", "default", "+info")  # type: ignore[no-untyped-call]
    redis_client().config_set("maxmemory", 0)
    redis_client().config_set("maxmemory-policy", "noeviction")


def test_a_redis_that_evicts_is_an_alert(operator: Client, evicting_redis: None) -> None:
    register_worker()
    assert "Redis removes keys when its memory is full (maxmemory-policy allkeys-lru)" in text(operator)
    ready = operator.get("/ready")
    assert (ready.status_code, ready.json()["status"]) == (200, "OK")
    assert "noeviction, not allkeys-lru" in ready.json()["warnings"][0]
    redis_client().execute_command("ACL", "SETUSER", "default", "-info")  # type: ignore[no-untyped-call]
    assert "No alerts." in text(operator)
    assert operator.get("/ready").json() == {"status": "OK"}


@pytest.mark.parametrize(("limit", "policy"), [(2**30, "noeviction"), (0, "allkeys-lru")])
def test_a_redis_that_keeps_all_keys_is_no_alert(
    operator: Client, evicting_redis: None, limit: int, policy: str
) -> None:
    redis_client().config_set("maxmemory", limit)
    redis_client().config_set("maxmemory-policy", policy)
    register_worker()
    assert "No alerts." in text(operator)


def test_metrics_are_of_the_window(alice: User) -> None:
    now = timezone.now()
    for age in (timedelta(0), timedelta(minutes=59), timedelta(hours=3), timedelta(days=6), timedelta(days=9)):
        make_generation(alice, created=now - age)
    make_generation(alice, State.FAILED)
    make_generation(alice, State.CANCELED)
    Generation.objects.update(cost=2.0)
    counts = {}
    for window in metrics.WINDOWS.values():
        measured = metrics.measure(window, now)
        assert len(measured.slots) == window.slots
        counts[window.name] = [
            sum(getattr(slot, kind) for slot in measured.slots) for kind in ("succeeded", "failed", "canceled")
        ]
        assert measured.failures == [("out_of_memory", 1)]
        assert measured.costs == [("alice", 2.0 * sum(counts[window.name]), sum(counts[window.name]))]
    assert counts["hour"][1:] == counts["day"][1:] == counts["week"][1:] == [1, 1]
    assert counts["hour"][0] in (1, 2)
    assert [counts["day"][0], counts["week"][0]] == [3, 4]


def test_percentiles_are_read_from_the_beginning_of_each_slot(alice: User, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "PER_SLOT", 4)
    now = timezone.now()
    begin = metrics.WINDOWS["hour"].starts(now)[3]
    for number in range(6):
        row = make_generation(alice, created=begin + timedelta(seconds=number))
        row.started, row.finished = row.created + timedelta(seconds=1), row.created + timedelta(seconds=2 + number)
        row.phases = {"denoising": 1.0 + number}
        row.save()
    measured = metrics.measure(metrics.WINDOWS["hour"], now)
    slot = measured.slots[3]
    assert slot.succeeded == 6
    assert measured.is_sampled
    assert slot.total == metrics.Spread(3.0, 5.0)
    assert slot.phases == {"queue": metrics.Spread(1.0, 1.0), "denoising": metrics.Spread(2.0, 4.0)}
    total = charts.latency(measured)
    assert total
    assert [chart.name for chart in charts.phases(measured)] == ["queue", "denoising"]
    assert total.rows[0][1:] == ["3.0 s", "5.0 s"]
    assert dict(total.lines)["p50"].startswith("M")


def test_the_axes_begin_with_the_data(alice: User) -> None:
    now = timezone.now()
    window = metrics.WINDOWS["day"]
    starts = window.starts(now)
    make_generation(alice, created=starts[-3])
    shown = metrics.measure(window, now).from_first_data()
    assert [slot.start for slot in shown.slots] == starts[-1 - metrics.MIN_SLOTS : -1]
    QueueSample.objects.create(pool="default", minute=starts[-12], depth=1, oldest_seconds=2)
    shown = metrics.measure(window, now).from_first_data()
    assert [slot.start for slot in shown.slots] == starts[-12:-1]
    assert [bool(peak) for peak in shown.backlogs["default"]] == [True] + 10 * [False]
    make_generation(alice, State.FAILED, created=starts[-20])
    shown = metrics.measure(window, now).from_first_data()
    assert (shown.slots[0].start, shown.slots[0].failed) == (starts[-20], 1)
    assert charts.throughput(shown).rows[0][1:] == ["0", "0", "1"]


def test_a_worker_shows_the_picture_that_it_edits(operator: Client, alice: User, bob: User) -> None:
    register_worker()
    running = make_generation(alice, State.RUNNING)
    Generation.objects.filter(pk=running.pk).update(worker="here-1")
    picture = f'src="/media/{running.input_thumbnail.name}'
    page = operator.get(PAGE).content.decode()
    assert str(running.pk)[-8:] in page
    assert picture not in page, "who may not see generations sees no picture of them"
    bob.user_permissions.add(Permission.objects.get(codename="view_generation"))
    assert picture in operator.get(PAGE).content.decode()


def test_a_lone_slot_is_a_visible_dash(alice: User) -> None:
    make_generation(alice)
    chart = charts.latency(metrics.measure(metrics.WINDOWS["day"], timezone.now()))
    assert chart
    for _, path in chart.lines:
        assert (dash := re.fullmatch(r"M[\d.]+ [\d.]+h([\d.]+)", path))
        assert float(dash[1]) > 5


def test_an_empty_service_has_empty_charts(db: None) -> None:
    measured = metrics.measure(metrics.WINDOWS["week"], timezone.now())
    chart = charts.throughput(measured)
    assert (chart.bars, chart.rows, charts.latency(measured), charts.phases(measured)) == ([], [], None, [])
    assert measured.from_first_data() == measured
    assert chart.summary == "0 succeeded, 0 canceled, 0 failed"


def test_a_paused_pool_starts_nothing_and_gives_the_reason(operator: Client, alice: User, bob: User) -> None:
    register_worker()
    register_worker("here-1", models=[])
    waiting = make_generation(alice, State.QUEUED)
    user_queues.repair()  # the row was not submitted
    page = operator.post(f"{PAGE}pools/default/pause", follow=True).content.decode()
    assert "The pool default is paused" in page
    assert "1 request waits in it" in page
    assert queue.claim("default", "here-1") == []
    estimate = forecast.of_queued([waiting])[waiting.pk]
    assert (estimate.reason, estimate.start, estimate.finish) == (
        "Its pool is paused; nothing new starts there until staff resume it.",
        None,
        None,
    )
    redis_client().flushall()
    assert queue.claim("default", "here-1") == []
    register_worker("here-1", models=[])
    operator.post(f"{PAGE}pools/default/pause")
    with pytest.MonkeyPatch.context():
        operator.post(f"{PAGE}pools/default/resume")
    assert [row.pk for row in queue.claim("default", "here-1")] == [waiting.pk]
    audited = audited_changes().order_by("pk").values_list("action", "target", "actor_name")
    assert list(audited) == [("pool.pause", "default", "bob"), ("pool.resume", "default", "bob")]
    assert operator.post(f"{PAGE}pools/nope/resume").status_code == 404
    assert operator.post(f"{PAGE}pools/nowhere/pause").status_code == 404


def test_commands_wait_for_their_worker(operator: Client, tiny_edit: DiffusionModel) -> None:
    register_worker()
    register_worker("stale-1")
    age_heartbeat("stale-1", 60)

    def send(**fields: str) -> str:
        return operator.post(f"{PAGE}command", {"worker": "here-1", **fields}, follow=True).content.decode()

    assert "Sent “drain” to here-1" in send(action="drain")
    assert "draining" in text(operator)
    send(action="drain")
    assert WorkerCommand.objects.count() == 1
    assert "The worker stale-1 has stopped" in send(action="drain", worker="stale-1")
    assert "There is no model &#x27;no/such&#x27;" in send(action="warm", target="no/such")
    DiffusionModel.objects.filter(pk="stabilityai/sd-turbo").update(pool="other")
    assert "belongs to the pool other" in send(action="warm", target="stabilityai/sd-turbo")
    assert operator.post(f"{PAGE}command", {"worker": "here-1", "action": "explode"}).status_code == 404
    send(action="resume")
    assert list(WorkerCommand.objects.order_by("pk").values_list("action", "state", "by")) == [
        ("drain", "failed", "bob"),
        ("resume", "waiting", "bob"),
    ]
    (command,) = control.claim("here-1")
    assert control.claim("here-1") == []
    control.succeed(command, "Resumed: it takes work.")
    control.fail(command, "too late")
    assert "Resumed: it takes work." in text(operator)
    assert [entry.action for entry in audited_changes().order_by("pk")][:1] == ["worker.drain"]


def test_commands_of_lost_workers_fail(tiny_edit: DiffusionModel) -> None:
    register_worker()
    started = control.send("here-1", WorkerCommand.Action.WARM, tiny_edit.pk, "charlie")
    control.claim("here-1")
    waits = control.send("here-1", WorkerCommand.Action.DRAIN, "", "charlie")
    redis_client().flushall()
    control.expire()
    assert set(WorkerCommand.objects.values_list("state", flat=True)) == {"running", "waiting"}
    long_ago = timezone.now() - timedelta(minutes=2)
    WorkerCommand.objects.filter(pk=started.pk).update(expires=long_ago)
    WorkerCommand.objects.filter(pk=waits.pk).update(expires=long_ago)
    control.expire()
    assert {command.pk: command.message for command in WorkerCommand.objects.all()} == {
        started.pk: "The worker was lost.",
        waits.pk: "The worker stopped before it claimed this.",
    }
    WorkerCommand.objects.update(created=timezone.now() - timedelta(days=8))
    control.expire()
    assert not WorkerCommand.objects.exists()


def test_a_stale_worker_is_removed_on_request(operator: Client) -> None:
    register_worker("stale-1")
    age_heartbeat("stale-1", 60)
    assert "stale-1" in text(operator)
    operator.post(f"{PAGE}remove-worker", {"worker": "stale-1"})
    assert workers.registered() == []
    assert audited_changes().get().action == "worker.remove"
    for name in ("stale-1", ""):
        operator.post(f"{PAGE}remove-worker", {"worker": name})
    assert audited_changes().count() == 1
