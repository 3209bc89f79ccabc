"""Measure how well a worker under load keeps its device busy: the gap between two runs, and the share of busy time."""

import json
import statistics
from collections.abc import Iterator
from datetime import datetime
from itertools import pairwise

from tests.support.service import Service, submit, wait_while_progress
from tests.tools.bench_queue import Measurement, temporary_service

REQUESTS = 24
STEPS = 2
SIDES = (256, 512)
DEVICE_PHASES = ("encoding", "denoising", "decoding")


def measure_device() -> Iterator[Measurement]:
    """Queue equal requests for one worker. From one claim to the next, what is not a run of the device is the gap."""
    with temporary_service(WORKERS="1", WAIT_SECONDS="0", LIMITS="off") as service:
        for side in SIDES:
            runs = _runs(service, side)
            periods = [after - before for (before, _), (after, _) in pairwise(runs)]
            gaps = [1000 * (period - busy) for period, (_, busy) in zip(periods, runs, strict=False)]
            label = f"{STEPS} steps at {side} x {side}, {REQUESTS} queued"
            yield (
                f"{label}: gap between two runs, p50 and p90 (aim: p50 under 10 ms)",
                f"{statistics.median(gaps):.1f} / {statistics.quantiles(gaps, n=10)[8]:.1f} ms",
            )
            busy_share = sum(busy for _, busy in runs[:-1]) / sum(periods)
            yield f"{label}: device busy, requests per second", f"{busy_share:.1%}, {1 / statistics.mean(periods):.2f}"


def _runs(service: Service, side: int) -> list[tuple[float, float]]:
    """Return when each of the queued requests was claimed, in seconds, and the seconds of its run on the device."""
    with service.paused_worker():
        ids = [submit(service, STEPS, side).replace("-", "") for _ in range(REQUESTS)]
    wait_while_progress(lambda: _unfinished(service) == 0, lambda: _unfinished(service), "the end of all")
    rows = service.query("SELECT id, started, phases FROM generation_generation ORDER BY started")
    return [
        (datetime.fromisoformat(started).timestamp(), sum(json.loads(phases)[phase] for phase in DEVICE_PHASES))
        for generation_id, started, phases in rows
        if generation_id in ids
    ]


def _unfinished(service: Service) -> int:
    ((count,),) = service.query("SELECT COUNT(*) FROM generation_generation WHERE finished IS NULL")
    return int(count)
