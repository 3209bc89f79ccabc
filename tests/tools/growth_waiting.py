"""What `tests.tools.bench_growth_clients` needs of the service: `manage.py shell` calls the functions here."""

import json
import sys
import time

from django.utils import timezone

from accounts.models import ApiToken, User
from generation.broker import progress
from generation.models import Generation, State
from generation.parameters import ErrorCode
from tests.support.workers import register_worker
from tests.tools import growth_queue


def prepare(waiting: int) -> None:
    """Fill the queue of one user, whose worker never claims. Print a token of the user, and the ids, as JSON."""
    register_worker()
    growth_queue.fill(waiting, 1)
    _, token = ApiToken.objects.issue(User.objects.order_by("pk")[0], "bench")
    print(json.dumps({"token": token, "ids": [str(pk) for pk in Generation.objects.values_list("pk", flat=True)]}))  # noqa: T201


def count_queued() -> None:
    """Print for each line that is read how many generations are queued."""
    for _ in sys.stdin:
        print(Generation.objects.filter(state=State.QUEUED).count(), flush=True)  # noqa: T201


def end_all() -> None:
    """Cancel all, and publish that. Print when that began."""
    ids = list(Generation.objects.filter(state=State.QUEUED).values_list("pk", flat=True))
    moment = time.time()
    Generation.objects.filter(pk__in=ids).update(
        state=State.CANCELED, finished=timezone.now(), error_code=ErrorCode.CANCELED
    )
    for generation_id in ids:
        progress.publish(generation_id, State.CANCELED)
    print(json.dumps(moment))  # noqa: T201
