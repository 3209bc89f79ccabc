"""When what waits will start and end, from how fast each model was here at each size; and why it waits, in words.

The queue is played through: workers that get free take the next in turn, each for as long as it is expected to take.
"""

import heapq
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Count, Max, Sum
from django.utils import timezone
from redis import RedisError

from generation.broker import progress
from generation.broker.progress import Progress
from generation.broker.workers import WorkerInfo, ready
from generation.jobs import fair_share, limits
from generation.models import (
    DiffusionModel,
    Generation,
    PausedPool,
    RunTiming,
    State,
)
from generation.recipes import Recipe
from generation.responses import Waiting

_WEIGHT_OF_THE_NEW = 0.3
"""Of the moving average: the last ten runs make nearly all of it."""

_MAX_SIMULATED = 1000
_CACHE_SECONDS = 1.0


@dataclass(frozen=True)
class Forecast:
    """Of one queued generation: its place in the line from 1, why it waits, and when it is expected to start and end."""

    position: int
    reason: str
    start: datetime | None
    finish: datetime | None

    @property
    def told(self) -> Waiting:
        return Waiting(
            position=self.position, reason=self.reason, estimated_start=self.start, estimated_finish=self.finish
        )


def record(generations: Sequence[Generation], timings: Mapping[str, float]) -> None:
    """Note how long the phases (seconds) of a batch took; all of it ran in one call."""
    recipe = generations[0].get_recipe()
    images = sum(generation.images_wanted for generation in generations)
    steps = recipe.executed_steps
    step_seconds = timings.get("denoising", 0.0) / steps
    other_seconds = sum(timings.get(phase, 0.0) for phase in ("encoding", "decoding", "safety", "storing"))
    with transaction.atomic():
        pace, is_new = RunTiming.objects.select_for_update().get_or_create(
            model_id=recipe.model.id,
            pixels=_rounded(recipe.width * recipe.height),
            images=images,
            defaults={"step_seconds": step_seconds, "other_seconds": other_seconds},
        )
        if not is_new:
            pace.step_seconds += _WEIGHT_OF_THE_NEW * (step_seconds - pace.step_seconds)
            pace.other_seconds += _WEIGHT_OF_THE_NEW * (other_seconds - pace.other_seconds)
            pace.save(update_fields=["step_seconds", "other_seconds"])
        if timings.get("loading", 0.0) > 0.2:
            DiffusionModel.objects.filter(pk=recipe.model.id).update(load_seconds=timings["loading"])


def _rounded(pixels: int) -> int:
    """To quarters of an octave: clients choose sizes, and each would be a row of its own."""
    return round(2 ** (round(4 * math.log2(pixels)) / 4))


class RunTimeEstimator:
    """What was measured, to be asked for recipes."""

    def __init__(self) -> None:
        self._paces: dict[str, list[RunTiming]] = {}
        for pace in RunTiming.objects.all():
            self._paces.setdefault(pace.model_id, []).append(pace)
        loads = DiffusionModel.objects.values_list("pk", "load_seconds")
        self._loads = {model_id: seconds or 0.0 for model_id, seconds in loads}

    def run_seconds(self, recipe: Recipe) -> float | None:
        """Expected seconds with a warm model, scaled from the measured work that is most like this; None: none is."""
        paces = self._paces.get(recipe.model.id)
        if not paces:
            return None
        work = recipe.width * recipe.height * len(recipe.seeds)
        nearest = min(paces, key=lambda pace: abs(math.log(pace.pixels * pace.images / work)))
        scale = work / (nearest.pixels * nearest.images)
        return scale * (recipe.executed_steps * nearest.step_seconds + nearest.other_seconds)

    def load_seconds(self, model_id: str) -> float:
        return self._loads.get(model_id, 0.0)


@dataclass(frozen=True)
class _Place:
    """Of one row in a line that was played through."""

    position: int
    start: datetime | None
    finish: datetime | None


@dataclass(frozen=True)
class _PoolForecast:
    """A pool's line as it was played at `played`, monotonic seconds, and what it looked like then."""

    played: float
    looks: object
    places: dict[UUID, _Place]


_forecasts: dict[str, _PoolForecast] = {}


def of_queued(generations: Sequence[Generation]) -> dict[UUID, Forecast]:
    """The forecasts of queued generations, at most `_LINE_SECONDS` old. A pool is asked about once, however many wait in it."""
    if not generations:
        return {}
    at_work = _ready_workers()
    running = _running_by_user(generations)
    paused = set(PausedPool.objects.values_list("pk", flat=True))
    forecasts = {}
    for pool in {generation.pool for generation in generations}:
        workers = [worker for worker in at_work if worker.pool == pool and pool not in paused]
        warm = frozenset().union(*(worker.models for worker in workers)) if workers else frozenset()
        places = _places(pool, workers, warm)
        for generation in generations:
            if generation.pool == pool:
                place = places.get(generation.pk, _Place(len(places) + 1, None, None))
                if pool in paused:
                    reason = "Its pool is paused; nothing new starts there until staff resume it."
                else:
                    reason = _reason(generation, place.position, running.get(generation.user_id, 0), workers, warm)
                forecasts[generation.pk] = Forecast(place.position, reason, place.start, place.finish)
    return forecasts


def _places(pool: str, workers: Sequence[WorkerInfo], warm: frozenset[str]) -> dict[UUID, _Place]:
    looks = _state_of_pool(pool, workers)
    line = _forecasts.get(pool)
    if line is None or line.looks != looks or time.monotonic() - line.played > _CACHE_SECONDS:
        line = _forecasts[pool] = _PoolForecast(time.monotonic(), looks, _simulate(pool, len(workers), warm))
    return line.places


def _running_by_user(generations: Sequence[Generation]) -> dict[int, int]:
    users = {generation.user_id for generation in generations}
    rows = Generation.objects.filter(user__in=users, state=State.RUNNING).order_by()
    return dict(rows.values_list("user").annotate(Count("pk")))


def _state_of_pool(pool: str, workers: Sequence[WorkerInfo]) -> object:
    """Something that changes when the line does: clients that wait together ask about the same one."""
    live = Generation.objects.filter(pool=pool, state__in=(State.QUEUED, State.RUNNING)).order_by()
    rows = live.values_list("state").annotate(Count("pk"), Max("created"), Sum("attempt"))
    return sorted(rows), sorted((worker.name, sorted(worker.models)) for worker in workers)


def _simulate(pool: str, workers: int, warm: frozenset[str]) -> dict[UUID, _Place]:
    now = timezone.now()
    estimator = RunTimeEstimator()
    # Only what is played with: the line can be long.
    line = Generation.objects.in_turn(pool, list(warm), now)
    waiting = list(line.only("user", "model", "priority", "attempt", "cost", "recipe")[:_MAX_SIMULATED])
    running = list(Generation.objects.filter(pool=pool, state=State.RUNNING))
    free = _free_times(running, workers, estimator, now)
    places = {}
    for position, row in enumerate(_in_claim_order(waiting), 1):
        seconds = estimator.run_seconds(row.get_recipe()) if free else None
        if seconds is None:
            # Nor can be told of those behind it.
            free = []
            places[row.pk] = _Place(position, None, None)
            continue
        start = heapq.heappop(free)
        finish = start + timedelta(
            seconds=seconds + (0.0 if row.model_id in warm else estimator.load_seconds(row.model_id))
        )
        heapq.heappush(free, finish)
        places[row.pk] = _Place(position, start, finish)
    return places


def of_running(generations: Sequence[Generation], at: Mapping[UUID, Progress]) -> dict[UUID, datetime]:
    """When running generations are expected to end, of those whose progress is known and whose model was measured.

    As far as one has got, so much of the expected time has passed.
    """
    reported = [generation for generation in generations if generation.pk in at]
    if not reported:
        return {}
    estimator = RunTimeEstimator()
    now = timezone.now()
    ends = {}
    for generation in reported:
        seconds = estimator.run_seconds(generation.get_recipe())
        if seconds is not None:
            ends[generation.pk] = now + timedelta(seconds=seconds * (1 - at[generation.pk].fraction))
    return ends


def _ready_workers() -> list[WorkerInfo]:
    try:
        return ready()
    except RedisError:
        return []


def _in_claim_order(waiting: Sequence[Any]) -> list[Generation]:
    """The rows of `in_turn` as they will be claimed, each claim counting for the turns after it."""
    now = timezone.now()
    lines: dict[tuple[int, int, int], list[Generation]] = {}
    served: dict[int, float] = {}
    for row in reversed(waiting):
        lines.setdefault((-row.is_returned, -row.priority, row.user_id), []).append(row)
        served[row.user_id] = row.decayed_usage
    order = []
    heads = [(kind, priority, served[user], line[-1].pk, user) for (kind, priority, user), line in lines.items()]
    heapq.heapify(heads)
    while heads:
        kind, priority, known, _, user = heapq.heappop(heads)
        line = lines[kind, priority, user]
        if known == served[user]:
            row = line.pop()
            order.append(row)
            if row.attempt == 0:
                served[user] = fair_share.charge(served[user], row.cost, now)
        if line:
            heapq.heappush(heads, (kind, priority, served[user], line[-1].pk, user))
    return order


def _free_times(
    running: Sequence[Generation], workers: int, estimator: RunTimeEstimator, now: datetime
) -> list[datetime]:
    """When each worker gets free, soonest first; empty when there is none."""
    at = progress.latest([row.pk for row in running])
    busy: dict[str, datetime] = {}
    for row in running:
        seconds = estimator.run_seconds(row.get_recipe()) or 0.0
        reached = at.get(row.pk)
        ends = now + timedelta(seconds=seconds * (1 - (reached.fraction if reached else 0.0)))
        busy[row.worker] = max(ends, busy.get(row.worker, now))
    free = [*busy.values(), *[now] * max(0, workers - len(busy))][:workers]
    heapq.heapify(free)
    return free


def _reason(
    generation: Generation, position: int, running: int, workers: Sequence[WorkerInfo], warm: frozenset[str]
) -> str:
    if not workers:
        return "No worker is at work in its pool."
    limit = limits.user_limits(generation.user).running
    if limit is not None and running >= limit:
        return f"As many requests of its user are running as may run at once: {running}."
    if position > 1:
        return f"{position - 1} {'request runs' if position == 2 else 'requests run'} before it."
    if generation.model_id not in warm:
        return "It is next; its model must be loaded first."
    return "It is next, as soon as a worker is free."
