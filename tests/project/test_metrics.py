"""`GET /metrics`: who may read it, what it says, and that dashboard and alerts ask for what there is."""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import httpx
import pytest
import yaml
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics_families
from prometheus_client.parser import text_string_to_metric_families as text_families
from pytest_django import Settings

from accounts.models import ApiToken, User
from dreamsite.metrics.collector import registry
from generation.broker import counters
from generation.broker.connection import redis_client
from generation.jobs import queue
from generation.maintenance import reaper
from generation.models import Backup, PausedPool
from generation.parameters import ErrorCode
from tests.support.environment import ROOT
from tests.support.generations import make_generation
from tests.support.jobs import claim, claimed, expire, image_of, submit
from tests.support.servers import EmbeddedRedis
from tests.support.service import METRICS_TOKEN, Service, wait_until
from tests.support.workers import age_heartbeat, register_worker

TOKEN = "0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def _nothing_counted() -> Iterator[None]:
    counters._pending.clear()
    yield
    counters._pending.clear()


@pytest.fixture
def open_metrics(settings: Settings, redis: None, tiny_edit: object) -> None:
    """The tests' address may read the metrics."""
    settings.METRICS_NETWORKS = ["127.0.0.0/8"]


def values(client: Client) -> dict[str, float]:
    """Return the value of each series, by its name and labels as a query would have them."""
    response = client.get("/metrics")
    assert response.status_code == 200
    return parsed(response.content.decode())


def parsed(text: str) -> dict[str, float]:
    return {
        sample.name
        + (
            "{" + ",".join(f"{key}={sample.labels[key]}" for key in sorted(sample.labels)) + "}"
            if sample.labels
            else ""
        ): sample.value
        for family in text_families(text)
        for sample in family.samples
    }


# Who may read them


@pytest.mark.django_db
def test_metrics_are_off_until_somebody_may_read_them(client: Client) -> None:
    response = client.get("/metrics")
    assert (response.status_code, response["Content-Type"]) == (404, "text/plain; charset=utf-8")
    assert "METRICS_TOKEN or METRICS_NETWORKS" in response.content.decode()


@pytest.mark.usefixtures("redis", "tiny_edit")
@pytest.mark.django_db
def test_the_token_reads_them(client: Client, settings: Settings, alices_token: str) -> None:
    settings.METRICS_TOKEN = TOKEN
    for wrong in ("", "Bearer", f"Bearer {TOKEN}x", f"Basic {TOKEN}", f"Bearer {alices_token}", "Bearer ü"):
        response = client.get("/metrics", headers={"Authorization": wrong} if wrong else {})
        assert (response.status_code, response["WWW-Authenticate"]) == (401, "Bearer")
        assert TOKEN not in response.content.decode()
    assert client.get("/metrics", headers={"Authorization": f"bearer {TOKEN}"}).status_code == 200


@pytest.mark.usefixtures("redis", "tiny_edit")
@pytest.mark.django_db
def test_addresses_of_a_network_read_them(client: Client, settings: Settings) -> None:
    settings.METRICS_NETWORKS = ["10.1.0.0/16", "fd00::/8"]
    for address in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::7"):
        assert client.get("/metrics", REMOTE_ADDR=address).status_code == 200
    for address in ("10.2.0.1", "2001:db8::1", ""):
        # What a client says of itself does not count.
        refused = client.get("/metrics", REMOTE_ADDR=address, headers={"X-Forwarded-For": "10.1.2.3"})
        assert refused.status_code == 403
        assert f"Your address, {address or 'unknown'}," in refused.content.decode()


def test_the_client_of_a_trusted_proxy_is_the_one_that_counts(service: Service) -> None:
    """The service trusts the tests as its proxy, and only 127.0.0.1 may read its metrics."""
    url = f"{service.url}/metrics"
    assert httpx.get(url, headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 401
    assert httpx.get(url).status_code == 200
    assert httpx.get(
        url, headers={"X-Forwarded-For": "192.0.2.1", "Authorization": f"Bearer {METRICS_TOKEN}"}
    ).is_success


# What they say


def test_prometheus_reads_both_formats(client: Client, open_metrics: None, alices: ApiToken) -> None:
    claimed(alices)
    response = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response["Content-Type"].startswith("application/openmetrics-text")
    families = openmetrics_families(response.content.decode())  # type: ignore[no-untyped-call]
    samples = {sample.name for family in families for sample in family.samples}
    assert samples == {name.partition("{")[0] for name in values(client)}


@pytest.mark.django_db(transaction=True)
def test_the_way_of_a_generation_is_counted(client: Client, open_metrics: None, alices: ApiToken) -> None:
    submit(alices)
    submit(alices)
    assert values(client)["dreamsite_queue_depth{pool=default}"] == 2
    first, second = claim(), claim()
    assert first is not None
    assert second is not None
    assert queue.finish(first, [image_of(first)], [], {"denoising": 1.5, "storing": 0.2}, 100)
    # As after a broken connection.
    assert queue.finish(first, [], [], {"denoising": 1.5}, 100)
    assert queue.fail(second, ErrorCode.OUT_OF_MEMORY, "no", 1.0)
    found = values(client)
    assert found["dreamsite_generations_submitted_total{origin=api,pool=default}"] == 2
    assert found["dreamsite_generations_claimed_total{pool=default}"] == 2
    assert (
        found["dreamsite_batch_pictures_sum{pool=default}"]
        == found["dreamsite_batch_pictures_count{pool=default}"]
        == 2
    )
    assert found["dreamsite_queue_wait_seconds_count{pool=default}"] == 2
    assert found["dreamsite_generations_finished_total{code=none,state=succeeded}"] == 1
    assert found["dreamsite_generations_finished_total{code=out_of_memory,state=failed}"] == 1
    assert found["dreamsite_phase_seconds_sum{phase=denoising}"] == 1.5
    buckets = [
        found[f"dreamsite_phase_seconds_bucket{{le={bound},phase=denoising}}"] for bound in ("1.0", "2.5", "+Inf")
    ]
    assert buckets == [0, 1, 1]
    assert found["dreamsite_pictures_total{safety=unchecked}"] == 1


def test_a_lost_worker_is_counted(client: Client, open_metrics: None, alices: ApiToken) -> None:
    generation = claimed(alices)
    assert values(client)["dreamsite_leases_expired_total"] == 0
    expire(generation)
    assert reaper.reap() == 1
    assert values(client)["dreamsite_leases_expired_total"] == 1


def test_what_is_now_is_read_from_rows_registry_and_disks(client: Client, open_metrics: None, alice: User) -> None:
    register_worker("here-1", memory_used=3, memory_total=8)
    register_worker("here-2", problem="The disk is full.")
    register_worker("here-3", is_drained=True)
    register_worker("here-4")
    age_heartbeat("here-4", 60)
    PausedPool.objects.create(pool="default", by="charlie")
    generation = make_generation(alice, flagged=[0])
    found = values(client)
    assert found["dreamsite_workers{pool=default,state=ready}"] == 2
    assert found["dreamsite_workers{pool=default,state=drained}"] == 1
    assert found["dreamsite_workers{pool=default,state=stale}"] == 1
    assert found["dreamsite_device_memory_used_bytes{device=cpu,host=here,pool=default,worker=here-1}"] == 3
    assert found["dreamsite_worker_problem{device=cpu,host=here,pool=default,worker=here-2}"] == 1
    assert found["dreamsite_pool_paused{pool=default}"] == 1
    assert found["dreamsite_review_waiting{queue=flagged}"] == 1
    assert found["dreamsite_stored_bytes"] == generation.input_bytes + generation.output_bytes
    assert found["dreamsite_migrations_pending"] == 0
    assert any(name.startswith("dreamsite_disk_free_bytes") and value > 0 for name, value in found.items())


def test_the_last_complete_backup_is_dated(client: Client, open_metrics: None, settings: Settings) -> None:
    name = "dreamsite_last_backup_timestamp_seconds"
    settings.BACKUP_TO = "/backups"
    assert values(client)[name] == 0
    cache.clear()
    now = timezone.now()
    for place, age, problem in (("/backups", 3, ""), ("/backups", 2, "A file is missing."), ("/elsewhere", 1, "")):
        created = now - timedelta(hours=age)
        Backup.objects.create(place=place, created=created, finished=created, problem=problem)
    Backup.objects.create(place="/backups")
    assert values(client)[name] == pytest.approx((now - timedelta(hours=3)).timestamp())
    settings.BACKUP_TO = ""
    cache.clear()
    assert name not in values(client)


def test_a_second_scrape_asks_the_database_nothing(client: Client, open_metrics: None, alice: User) -> None:
    make_generation(alice)
    values(client)
    with CaptureQueriesContext(
        connection,
    ) as queries:
        values(client)
    assert len(queries) == 0


def test_the_processes_of_the_service_count_together(service: Service, alices_key: str) -> None:
    """The submission is counted by a web process, the claim and the end by a worker, the refusal before Django has it."""

    def figures() -> dict[str, float]:
        return parsed(httpx.get(f"{service.url}/metrics").text)

    def difference(name: str) -> float:
        return figures().get(name, 0) - before.get(name, 0)

    before = figures()
    with service.client(alices_key) as client:
        files = {"image": (ROOT / "dreamsite" / "static" / "sample.jpg").read_bytes()}
        fields = {"prompt": "make it night", "num_inference_steps": "1"}
        assert client.post("/image-to-image", data=fields, files=files).status_code == 200
        assert client.post("/image-to-image", data={"prompt": "x" * 2_000_000}).status_code == 413
        assert client.get("/models/nowhere").status_code == 404
    wait_until(lambda: difference("dreamsite_generations_finished_total{code=none,state=succeeded}") >= 1)
    assert difference("dreamsite_generations_submitted_total{origin=api,pool=default}") >= 1
    assert difference("dreamsite_generations_claimed_total{pool=default}") >= 1
    assert difference("dreamsite_phase_seconds_count{phase=storing}") >= 1
    assert difference("dreamsite_refusals_total{code=upload_too_large}") >= 1
    assert difference("dreamsite_refusals_total{code=not_found}") >= 1
    assert difference("dreamsite_http_requests_total{method=POST,status=200}") >= 1


# When a part is away


def test_without_redis_the_rest_is_answered_and_nothing_is_lost(
    client: Client, open_metrics: None, redis_server: EmbeddedRedis
) -> None:
    counters.add(counters.REFUSALS, "queue_full")
    redis_server.stop()
    try:
        found = values(client)
    finally:
        redis_server.start()
    assert (found["dreamsite_up{part=redis}"], found["dreamsite_up{part=database}"]) == (0, 1)
    assert "dreamsite_queue_depth{pool=default}" in found
    assert values(client)["dreamsite_refusals_total{code=queue_full}"] == 1


def test_what_others_wrote_into_redis_is_left_out(client: Client, open_metrics: None) -> None:
    counters.add(counters.REFUSALS, "queue_full")
    counters.flush()
    entries = {
        b"\xff": b"1",
        b'["dreamsite_refusals"]': b"1",
        b'["dreamsite_refusals", "a", "b"]': b"1",
        b'["dreamsite_refusals", "c"]': b"nan",
        b'["another", "c"]': b"1",
        b'{"a": 1}': b"1",
    }
    for field, amount in entries.items():
        redis_client().hset("dreamsite:counters", field, amount)
    found = values(client)
    assert {name for name in found if name.startswith("dreamsite_refusals")} == {
        "dreamsite_refusals_total{code=queue_full}"
    }


# Dashboard and alerts


def described() -> dict[str, set[str]]:
    """Return the labels of each name that a query can ask for."""
    names = {"up": {"job", "instance"}}
    for family in registry.collect():
        labels = {"job", "instance", *getattr(family, "_labelnames", ())}
        match family.type:
            case "counter":
                names[f"{family.name}_total"] = labels
            case "histogram":
                names |= {f"{family.name}_{part}": labels for part in ("bucket", "sum", "count")}
                names[f"{family.name}_bucket"] = labels | {"le"}
            case "info":
                names[f"{family.name}_info"] = labels | set(family.samples[0].labels)
            case _:
                names[family.name] = labels
    return names


def dashboard_queries() -> list[str]:
    dashboard = json.loads((ROOT / "deploy" / "grafana.json").read_text())
    panels = [panel for panel in dashboard["panels"] if panel["type"] != "row"]
    assert len(panels) > 10
    variables = [variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
    return [target["expr"] for panel in panels for target in panel["targets"]] + variables


def alert_rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((ROOT / "deploy" / "alerts.yaml").read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def check_query(query: str, known: dict[str, set[str]]) -> None:
    """Fail if a query names a metric or a label that there is not."""
    names = re.findall(r"\bdreamsite_[a-z_]+|\bup\b", query)
    assert names, query
    assert [name for name in names if name not in known] == [], query
    labels = {label.strip() for group in re.findall(r"\bby \(([^)]*)\)", query) for label in group.split(",")}
    labels |= {label for group in re.findall(r"\{([^}]*)\}", query) for label in re.findall(r"(\w+) *[!=]", group)}
    assert labels <= set().union(*(known[name] for name in names)), query


@pytest.mark.usefixtures("redis", "tiny_edit")
@pytest.mark.django_db
def test_every_query_names_metrics_that_exist() -> None:
    known = described()
    queries = [*dashboard_queries(), *(rule["expr"] for rule in alert_rules())]
    for query in queries:
        check_query(query, known)
    asked = set(re.findall(r"dreamsite_[a-z_]+", " ".join(queries)))
    assert {name for name in known if not name.endswith(("_bucket", "_sum", "_count"))} - asked == {"up"}


def test_every_alert_leads_to_its_runbook() -> None:
    headings = re.findall(r"^#+ (.*)$", (ROOT / "docs" / "operate.md").read_text(), re.M)
    anchors = {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    for rule in alert_rules():
        assert rule["labels"]["severity"] in ("critical", "warning")
        page, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert page == "docs/operate.md"
        assert anchor in anchors, rule["alert"]
        assert rule["annotations"]["summary"]


@pytest.mark.usefixtures("redis", "tiny_edit")
@pytest.mark.django_db
def test_every_metric_is_documented() -> None:
    guide = (ROOT / "docs" / "operate.md").read_text()
    rows = set(re.findall(r"^\| `(dreamsite_\w+)` \|", guide, re.M))
    names = {name for name in described() if not name.endswith(("_bucket", "_sum", "_count"))} - {"up"}
    histograms = {family.name for family in registry.collect() if family.type == "histogram"}
    assert rows == names | histograms
