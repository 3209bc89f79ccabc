"""What `tests.tools.bench_growth_queue` measures: `manage.py shell` calls the functions here."""

import json
import random
import sys
import time
from collections.abc import Callable, Mapping
from io import BytesIO

from django.core.cache import cache
from django.db import connection
from django.utils import timezone

from accounts.models import User
from generation.images.inputs import Inputs
from generation.images.uploads import read_upload
from generation.jobs import forecast, queue, submission
from generation.models import Generation, RunTiming, State, UserQueue, UserShare
from generation.parameters import ImageToImageParameters
from tests.support import pictures
from tests.support.generations import make_generation
from tests.support.workers import register_worker
from tests.tools.cpu_time import costs, least_cpu

WARM = {"dreamsite/tiny-edit": ""}
ROUNDS = 50
SLOW_ROUNDS = 10


def fill(waiting: int, users: int) -> None:
    """Replace all requests by `waiting` queued ones, in turn of `users` users with different usage."""
    Generation.objects.filter(note="a copy")._raw_delete("default")
    Generation.objects.all().delete()
    User.objects.bulk_create(
        User(username=f"user {number}", folded_username=f"user {number}")
        for number in range(User.objects.count(), users)
    )
    ids = list(User.objects.order_by("pk").values_list("pk", flat=True)[:users])
    first = make_generation(User.objects.get(pk=ids[0]), State.QUEUED)
    Generation.objects.filter(pk=first.pk).update(batch_key=first.get_recipe().batch_key)
    _copy(first, waiting - 1, ids)
    rng = random.Random(7)
    UserShare.objects.all().delete()
    shares = [UserShare(user_id=user, decayed_usage=timezone.now().timestamp() / 600 - rng.random()) for user in ids]
    UserShare.objects.bulk_create(shares)
    UserQueue.objects.bulk_create(
        UserQueue(share=share, pool=first.pool, priority=first.priority, decayed_usage=share.decayed_usage)
        for share in shares[:waiting]
    )
    RunTiming.objects.get_or_create(
        model_id=first.model_id, pixels=6144, images=1, defaults={"step_seconds": 0.05, "other_seconds": 0.1}
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def _copy(first: Generation, count: int, users: list[int]) -> None:
    """Insert copies of this row with ids of the next milliseconds, by the database itself: a hundred thousand in seconds."""
    meta = first._meta
    columns = [str(field.column) for field in meta.concrete_fields if field.name not in ("id", "user", "note")]
    is_postgresql = connection.vendor == "postgresql"
    hexadecimal = "lpad(to_hex({}), 12, '0')" if is_postgresql else "printf('%%012x', {})"
    new_id = f"{hexadecimal.format('%s + n')} || '70008000' || {hexadecimal.format('n')}"
    sql = f"""
        WITH RECURSIVE series(n) AS (SELECT CAST(1 AS bigint) UNION ALL SELECT n + 1 FROM series WHERE n < %s)
        INSERT INTO {meta.db_table} (id, user_id, note, {", ".join(columns)})
        SELECT {f"CAST({new_id} AS uuid)" if is_postgresql else new_id}, users.id, 'a copy',
            {", ".join(f"first.{column}" for column in columns)}
        FROM series
        JOIN (SELECT id, row_number() OVER (ORDER BY id) - 1 AS place FROM accounts_user) users
            ON users.place = series.n %% %s
        CROSS JOIN {meta.db_table} first
        WHERE first.note = '' AND series.n <= %s
    """  # noqa: S608  names of our tables
    if count:
        with connection.cursor() as cursor:
            cursor.execute(sql, [count, first.pk.int >> 80, len(users), count])


def measure_calls(waiting: int, users: int) -> None:
    """Fill the queue, and print the least CPU milliseconds of each call, as JSON."""
    fill(waiting, users)
    register_worker()
    user = User.objects.order_by("pk")[0]
    inputs = Inputs(read_upload(BytesIO(pictures.photo(64, 64)), max_pixels=10_000))
    parameters = ImageToImageParameters(prompt="make it night")

    def draft() -> Generation:
        return submission.build(submission.Request(user, None, parameters, inputs))

    def claim() -> None:
        assert queue.claim("default", "worker-1", WARM)

    def submit() -> None:
        submission.submit(draft(), inputs)

    def expect() -> None:
        cache.clear()
        last = Generation.objects.filter(state=State.QUEUED).order_by("pk")[0]
        assert forecast.of_queued([last])

    def estimate() -> None:
        assert submission.estimate(draft())

    calls = {
        "forecast": (expect, SLOW_ROUNDS),
        "dry run": (estimate, SLOW_ROUNDS),
        "submit": (submit, ROUNDS),
        "claim": (claim, min(ROUNDS, waiting)),
    }
    _print({name: least_cpu(call, rounds) for name, (call, rounds) in calls.items()})


def _seconds(call: Callable[[], object], rounds: int) -> list[float]:
    return [wall for wall, _ in costs(call, rounds)]


def claim_at_once(number: int) -> None:
    """Claim so often once a line is read. Print begin and end, the seconds of each claim, and the ids."""
    ids: list[str] = []

    def claim() -> None:
        ids.extend(str(generation.pk) for generation in queue.claim("default", "worker-1", WARM))

    claim()
    ids.clear()
    print("ready", flush=True)  # noqa: T201
    sys.stdin.readline()
    begin = time.time()
    seconds = _seconds(claim, number)
    _print({"begin": begin, "end": time.time(), "seconds": seconds, "ids": ids})


def _print(result: Mapping[str, object]) -> None:
    print(json.dumps(result), flush=True)  # noqa: T201
