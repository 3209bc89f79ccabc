"""What `tests.tools.bench_growth_workers` measures: `manage.py shell` calls the functions here."""

import json
import sys
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from uuid import UUID

from django.test import Client
from django.utils import timezone

from accounts.models import User
from generation.broker import progress, workers
from generation.broker.progress import Progress
from generation.maintenance import reaper
from generation.models import Generation, State
from tests.support.generations import make_generation
from tests.support.workers import register_worker
from tests.tools.cpu_time import costs, least_cpu

ROUNDS = 10


def register(count: int) -> None:
    """Be `count` workers that each run a generation. Print the least CPU milliseconds of what reads about them, as JSON."""
    staff, _ = User.objects.get_or_create({"is_staff": True, "is_superuser": True}, username="staff")
    Generation.objects.all().delete()
    for number in range(count):
        name = f"worker-{number}"
        register_worker(name, host=f"host-{number // 8}")
        generation = make_generation(staff, State.RUNNING)
        lease = {"worker": name, "lease_expires": timezone.now() + timedelta(hours=1)}
        Generation.objects.filter(pk=generation.pk).update(**lease)
    client = Client(SERVER_NAME="localhost")
    client.force_login(staff)

    def open_operations() -> None:
        assert client.get("/admin/operations/").status_code == 200

    # The first round of a minute does more.
    reaper.reap()
    calls: dict[str, Callable[[], object]] = {
        "the list of workers": workers.registered,
        "a round of the reaper": reaper.reap,
        "a round of a worker's reaper, just after another": partial(reaper.reap, only_if_due=True),
        "the operations page": open_operations,
    }
    print(json.dumps({name: least_cpu(call, ROUNDS) for name, call in calls.items()}))  # noqa: T201


def report_steps(rounds: int) -> None:
    """Report a step of each running generation a second, for so many seconds. Print the CPU milliseconds of one, as JSON."""
    ids = list(Generation.objects.filter(state=State.RUNNING).values_list("pk", flat=True))
    print("ready", flush=True)  # noqa: T201
    reports: list[float] = []
    begin = time.monotonic()
    for second in range(rounds):
        for number, generation_id in enumerate(ids):
            time.sleep(max(0.0, begin + second + number / len(ids) - time.monotonic()))
            report = partial(progress.report, [generation_id], Progress(second, rounds, "denoising"))
            reports += [cpu for _, cpu in costs(report, 1)]
    print(json.dumps(1000 * min(reports)))  # noqa: T201


def publish_events() -> None:
    """Publish an event for each id of a line that is read, whose first word is a mark. Print when that began."""
    for line in sys.stdin:
        mark, *ids = line.split()
        data = {"step": 1, "of": 2, "phase": "denoising", "mark": mark}
        moment = time.time()
        for generation_id in ids:
            progress.publish(UUID(generation_id), "progress", data)
        print(moment, flush=True)  # noqa: T201
