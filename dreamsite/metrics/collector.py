"""The metrics of the whole service, the same whichever web process answers.

What has happened is counted in Redis, by `generation.broker.counters`; what is now is read from the database, the registry of
workers and the disks. No query reads more than a bounded part of an index, but for the sum of the stored bytes, which reads a
whole one and is kept for `_SUM_SECONDS`.
"""

import math
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import django
from django.conf import settings
from django.core.cache import cache
from django.db import InterfaceError, OperationalError
from django.db.models import Sum
from django.utils import timezone
from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector
from redis import RedisError

from generation.broker import counters, workers
from generation.broker.workers import WorkerInfo
from generation.images import disk
from generation.jobs import backlog
from generation.models import Backup, Generation, PausedPool, State
from generation.models.schema import pending_migrations
from generation.moderation import review_queue

_SECONDS = 5.0
"""How long figures of the database are kept, since several servers may ask."""

_SUM_SECONDS = 600.0

T = TypeVar("T")


class ServiceCollector(Collector):
    """Collects all metrics. Those of a part that cannot be reached are left out, and `dreamsite_up` says so."""

    def collect(self) -> Iterator[Metric]:
        versions = {
            "version": settings.VERSION,
            "python": platform.python_version(),
            "django": django.get_version(),
        }
        yield InfoMetricFamily("dreamsite_build", "Versions of the web process that answered.", versions)
        yield _gauge("dreamsite_batch_limit", "MAX_BATCH: the most pictures of a batch.", settings.MAX_BATCH)
        up = GaugeMetricFamily("dreamsite_up", "Whether this part could be reached.", labels=["part"])
        for part, collect in (("redis", _of_redis), ("database", _of_database)):
            try:
                found = list(collect())
            except (RedisError, OperationalError, InterfaceError):
                found = []
            up.add_metric([part], bool(found))
            yield from found
        yield up
        yield from _of_disks()


registry = CollectorRegistry()
registry.register(ServiceCollector())


def _of_redis() -> Iterator[Metric]:
    counters.flush()
    for metric, series in counters.totals().items():
        yield _happened(metric, series)
    yield from _of_workers(workers.registered())


def _happened(metric: counters.Metric, series: Iterable[counters.Series]) -> Metric:
    """Return a counter or a histogram."""
    if not metric.buckets:
        counter = CounterMetricFamily(metric.name, metric.help, labels=metric.labels)
        for one in series:
            counter.add_metric(one.labels, one.amount)
        return counter
    histogram = HistogramMetricFamily(metric.name, metric.help, labels=metric.labels)
    for one in series:
        count, buckets = 0.0, []
        for bound, amount in one.buckets.items():
            count += amount
            buckets.append(("+Inf" if bound == math.inf else str(bound), count))
        histogram.add_metric(one.labels, buckets, one.amount)
    return histogram


def _of_workers(infos: Iterable[WorkerInfo]) -> Iterator[Metric]:
    states = Counter({(pool, "ready"): 0 for pool in settings.POOLS})
    labels = ("worker", "pool", "host", "device")
    used = GaugeMetricFamily("dreamsite_device_memory_used_bytes", "Memory in use on a worker's device.", labels=labels)
    total = GaugeMetricFamily("dreamsite_device_memory_bytes", "Memory of a worker's device.", labels=labels)
    problems = GaugeMetricFamily("dreamsite_worker_problem", "Whether a worker reports a problem.", labels=labels)
    for info in infos:
        states[info.pool, "stale" if info.is_stale else "drained" if info.is_drained else "ready"] += 1
        if not info.is_stale:
            values = (info.name, info.pool, info.host, info.device)
            used.add_metric(values, info.memory_used)
            total.add_metric(values, info.memory_total)
            problems.add_metric(values, bool(info.problem))
    alive = GaugeMetricFamily(
        "dreamsite_workers", "Workers by state; a stale one has sent no heartbeat.", labels=["pool", "state"]
    )
    for (pool, state), count in sorted(states.items()):
        alive.add_metric([pool, state], count)
    yield from (alive, used, total, problems)


def _of_database() -> list[Metric]:
    return _kept("database", _SECONDS, lambda: [*_of_queue(), *_of_review(), *_of_schema(), _stored(), _last_backup()])


def _of_queue() -> Iterator[Metric]:
    now = timezone.now()
    depth = GaugeMetricFamily("dreamsite_queue_depth", "Queued generations.", labels=["pool"])
    oldest = GaugeMetricFamily(
        "dreamsite_queue_oldest_wait_seconds", "How long the oldest queued generation has waited.", labels=["pool"]
    )
    paused = GaugeMetricFamily("dreamsite_pool_paused", "Whether staff have paused the pool.", labels=["pool"])
    running = GaugeMetricFamily("dreamsite_generations_running", "Generations that workers run.", labels=["pool"])
    paused_pools = set(PausedPool.objects.values_list("pk", flat=True))
    running_pools = Counter(Generation.objects.filter(state=State.RUNNING).values_list("pool", flat=True))
    for waiting in backlog.backlogs(settings.POOLS):
        pool = [waiting.pool]
        depth.add_metric(pool, waiting.depth)
        seconds = (now - waiting.oldest).total_seconds() if waiting.oldest else 0.0
        oldest.add_metric(pool, max(0.0, seconds))
        paused.add_metric(pool, waiting.pool in paused_pools)
        running.add_metric(pool, running_pools[waiting.pool])
    yield from (depth, oldest, paused, running)


def _of_review() -> Iterator[Metric]:
    waiting = GaugeMetricFamily(
        "dreamsite_review_waiting",
        f"Pictures that wait for review, by queue; each is counted up to {review_queue.MOST_COUNTED + 1}.",
        labels=["queue"],
    )
    for queue, count in review_queue.counts().items():
        if queue:
            waiting.add_metric([queue], count)
    yield waiting
    oldest = review_queue.oldest_waiting()
    age = (timezone.now() - oldest).total_seconds() if oldest else 0.0
    yield _gauge("dreamsite_review_oldest_wait_seconds", "How long the oldest picture has waited for review.", age)


def _of_schema() -> Iterator[Metric]:
    yield _gauge(
        "dreamsite_migrations_pending",
        "Migrations of the database that are still to be run.",
        _kept("migrations", 60.0, lambda: len(pending_migrations())),
    )


def _stored() -> Metric:
    def stored_bytes() -> int:
        rows = Generation.objects.filter(deleted=None).order_by()
        return int(rows.aggregate(sum=Sum("input_bytes") + Sum("output_bytes"))["sum"] or 0)

    return _gauge(
        "dreamsite_stored_bytes",
        "Inputs, results and thumbnails of all users, and what the unfinished may add.",
        _kept("stored_bytes", _SUM_SECONDS, stored_bytes),
    )


def _last_backup() -> Metric:
    last = GaugeMetricFamily(
        "dreamsite_last_backup_timestamp_seconds",
        "When the last complete backup in BACKUP_TO was begun, as Unix time; 0 before the first.",
    )
    if settings.BACKUP_TO:
        row = Backup.objects.filter(place=settings.BACKUP_TO, problem="", finished__isnull=False).first()
        last.add_metric([], row.created.timestamp() if row else 0.0)
    return last


def _of_disks() -> Iterator[Metric]:
    free = GaugeMetricFamily("dreamsite_disk_free_bytes", "Free space of a disk of this host.", labels=["folder"])
    total = GaugeMetricFamily("dreamsite_disk_bytes", "Size of a disk of this host.", labels=["folder"])
    for found in disk.data_disks():
        free.add_metric([str(found.folder)], found.free)
        total.add_metric([str(found.folder)], found.total)
    yield from (free, total)


def _gauge(name: str, help_text: str, value: float) -> Metric:
    return GaugeMetricFamily(name, help_text, value)


def _kept(name: str, seconds: float, compute: Callable[[], T]) -> T:
    """Return what `compute` returned within the last `seconds` in this process."""
    key = f"metrics.{name}"
    found: T | None = cache.get(key)
    if found is None:
        found = compute()
        cache.set(key, found, seconds)
    return found
