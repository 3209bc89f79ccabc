"""What `tests.tools.bench_growth_pages` measures beside pages: `manage.py shell` calls the function here."""

import json

from django.db import connection

from accounts.models import User
from generation.maintenance import reaper
from tests.tools.cpu_time import least_cpu

ROUNDS = 10


def measure_rounds(users: int) -> None:
    """Add users until there are so many. Print the least CPU milliseconds of a round of the reaper, as JSON."""
    names = [f"crowd-{number}" for number in range(User.objects.count(), users)]
    User.objects.bulk_create([User(username=name, folded_username=name) for name in names], batch_size=2000)
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
    # The first round of a minute does more.
    reaper.reap()
    print(json.dumps(least_cpu(reaper.reap, ROUNDS)))  # noqa: T201
