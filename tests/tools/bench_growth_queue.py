"""Measure what the queue costs by waiting requests and users, on both databases, and how many claims at once it bears."""

import json
import statistics
from collections.abc import Iterator, Mapping

from tests.tools.bench_queue import Measurement
from tests.tools.growth_installation import DATABASES, installation, read_line, result, send_line, start
from tests.tools.growth_page import Lines, draw

WAITING = (10, 100, 1_000, 10_000, 100_000)
USERS = (1, 10, 100, 1_000, 10_000)
USUAL_USERS = 100
CLAIMING = 8
CLAIMS_OF_EACH = 500


def measure_queue() -> Iterator[Measurement]:
    """Fill the queue, and measure each call at each size."""
    claims, users_of, others = Lines(list), Lines(list), Lines(list)
    for database in DATABASES:
        with installation(database) as environment:
            for waiting in WAITING:
                for call, cpu in _calls(environment, waiting, min(USUAL_USERS, waiting)).items():
                    lines = claims if call == "claim" else others
                    lines[f"{call}, {database}"].append((waiting, cpu))
            for users in USERS:
                least = _calls(environment, WAITING[-1], users)
                for call in ("claim", "submit"):
                    users_of[f"{call}, {database}"].append((users, least[call]))
            yield from _claim_at_once(environment, database)
    yield from draw("claims", "A claim, by waiting requests", "waiting requests", claims, "ms of CPU")
    yield from draw("users", f"By users, {WAITING[-1]:,} requests waiting", "users", users_of, "ms of CPU")
    yield from draw("queue", "By waiting requests", "waiting requests", others, "ms of CPU")


def _calls(environment: Mapping[str, str], waiting: int, users: int) -> dict[str, float]:
    """Return the least CPU milliseconds of each call on a queue of this size."""
    least: dict[str, float] = result(environment, "growth_queue", f"measure_calls({waiting}, {users})")
    return least


def _claim_at_once(environment: Mapping[str, str], database: str) -> Iterator[Measurement]:
    """Claim with several processes. The queue is that of the last call, with the most users."""
    claimers = [start(environment, "growth_queue", f"claim_at_once({CLAIMS_OF_EACH})") for _ in range(CLAIMING)]
    for claimer in claimers:
        assert read_line(claimer) == "ready"
    for claimer in claimers:
        send_line(claimer, "go")
    results = [json.loads(claimer.communicate()[0]) for claimer in claimers]
    ids = [generation_id for found in results for generation_id in found["ids"]]
    duration = max(found["end"] for found in results) - min(found["begin"] for found in results)
    seconds = [second for found in results for second in found["seconds"]]
    p95 = statistics.quantiles(seconds, n=20)[-1]
    yield (
        f"{database}: claims a second, {CLAIMING} processes, {WAITING[-1]:,} waiting (aim: 300, p95 under 25 ms)",
        f"{len(ids) / duration:.0f}, p95 {1000 * p95:.0f} ms, {len(ids) - len(set(ids))} claimed twice",
    )
