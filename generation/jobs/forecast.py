"""Queue position, estimated start and finish of queued generations, and the reason why they wait.

A simulation of the queue: each worker that becomes free takes the next generation in claim order, for as long as a run of
its model and size took here on average.
"""

import heapq
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from hashlib import sha256
from typing import Any
from uuid import UUID

from django.core.cache import cache
from django.db import transaction
from django.db.models import Count, Max, QuerySet, Sum, prefetch_related_objects
from django.utils import timezone
from redis import RedisError

from generation.broker import progress
from generation.broker.progress import Progress
from generation.broker.workers import WorkerInfo, ready
from generation.images import disk
from generation.jobs import fair_share, limits
from generation.models import (
    DiffusionModel,
    Generation,
    PausedPool,
    RunTiming,
    State,
    UserShare,
)
from generation.recipes import Recipe
from generation.responses import Waiting

_SMOOTHING = 0.3
"""Weight of a new run in the exponential moving average: the last ten runs make 97 % of it."""

_MAX_SIMULATED = 1000
_CACHE_SECONDS = 1.0


@dataclass(frozen=True)
class Forecast:
    """The forecast of one queued generation: its queue position from 1, why it waits, estimated start and finish."""

    position: int
    reason: str
    start: datetime | None
    finish: datetime | None

    @property
    def waiting(self) -> Waiting:
        return Waiting(
            position=self.position, reason=self.reason, estimated_start=self.start, estimated_finish=self.finish
        )


def record(generations: Sequence[Generation], timings: Mapping[str, float]) -> None:
    """Record how long the phases of a batch took, in seconds; the batch ran in one call."""
    recipe = generations[0].get_recipe()
    images = sum(generation.image_count for generation in generations)
    steps = recipe.executed_steps
    step_seconds = timings.get("denoising", 0.0) / steps
    other_seconds = sum(timings.get(phase, 0.0) for phase in ("encoding", "decoding", "safety", "storing"))
    with transaction.atomic():
        timing, is_new = RunTiming.objects.select_for_update().get_or_create(
            model_id=recipe.model.id,
            pixels=_rounded(math.prod(recipe.canvas_size)),
            images=images,
            defaults={"step_seconds": step_seconds, "other_seconds": other_seconds},
        )
        if not is_new:
            timing.step_seconds += _SMOOTHING * (step_seconds - timing.step_seconds)
            timing.other_seconds += _SMOOTHING * (other_seconds - timing.other_seconds)
            timing.save(update_fields=["step_seconds", "other_seconds"])
        if timings.get("loading", 0.0) > 0.2:
            DiffusionModel.objects.filter(pk=recipe.model.id).update(load_seconds=timings["loading"])


def _rounded(pixels: int) -> int:
    """Round to quarters of an octave, since clients choose sizes and each would be a row."""
    return round(2 ** (round(4 * math.log2(pixels)) / 4))


class RunTimeEstimator:
    """Estimates of run times, from all recorded timings."""

    def __init__(self) -> None:
        self._timings: dict[str, list[RunTiming]] = {}
        for timing in RunTiming.objects.all():
            self._timings.setdefault(timing.model_id, []).append(timing)

    @cached_property
    def _loads(self) -> dict[str, float]:
        loads = DiffusionModel.objects.values_list("pk", "load_seconds")
        return {model_id: seconds or 0.0 for model_id, seconds in loads}

    def run_seconds(self, recipe: Recipe) -> float | None:
        """Return the seconds of a run with a loaded model, scaled from the recorded run of the most similar size.

        None if the model has no recorded run.
        """
        timings = self._timings.get(recipe.model.id)
        if not timings:
            return None
        work = math.prod(recipe.canvas_size) * len(recipe.seeds)
        nearest = min(timings, key=lambda timing: abs(math.log(timing.pixels * timing.images / work)))
        scale = work / (nearest.pixels * nearest.images)
        return scale * (recipe.executed_steps * nearest.step_seconds + nearest.other_seconds)

    def usual_seconds(self, model_id: str, steps: int) -> float | None:
        """Return the seconds of a picture of the middle of the recorded sizes. None if the model has no recorded run."""
        timings = sorted(self._timings.get(model_id, []), key=lambda timing: timing.pixels)
        if not timings:
            return None
        middle = timings[len(timings) // 2]
        return (steps * middle.step_seconds + middle.other_seconds) / middle.images

    def load_seconds(self, model_id: str) -> float:
        return self._loads.get(model_id, 0.0)


@dataclass(frozen=True)
class _Place:
    """A generation's place in a simulated queue."""

    position: int
    start: datetime | None
    finish: datetime | None


@dataclass(frozen=True)
class _QueuedRow:
    """A generation with what its place depends on: see `GenerationQuerySet.in_claim_order`."""

    generation: Generation
    is_returned: bool
    decayed_usage: float
    is_cold: bool

    @property
    def sort_key(self) -> tuple[Any, ...]:
        return (
            not self.is_returned,
            -self.generation.priority,
            self.decayed_usage,
            self.is_cold,
            self.generation.pk,
        )


def of_queued(generations: Sequence[Generation]) -> dict[UUID, Forecast]:
    """Return the forecasts of queued generations, at most `_CACHE_SECONDS` old. Each pool is simulated once."""
    return _forecasts(generations, are_drafts=False)


def of_drafts(generations: Sequence[Generation]) -> dict[UUID, Forecast]:
    """Return the forecasts of unsaved generations of one user, as if they were queued together now."""
    return _forecasts(generations, are_drafts=True)


def _forecasts(generations: Sequence[Generation], *, are_drafts: bool) -> dict[UUID, Forecast]:
    if not generations:
        return {}
    # Else each of them would read its user.
    prefetch_related_objects(generations, "user")
    all_workers = _ready_workers()
    running = _running_by_user(generations)
    paused = set(PausedPool.objects.values_list("pk", flat=True))
    is_disk_full = disk.is_full()
    forecasts = {}
    for pool in {generation.pool for generation in generations}:
        in_pool = [generation for generation in generations if generation.pool == pool]
        workers = [worker for worker in all_workers if worker.pool == pool and pool not in paused]
        warm = frozenset().union(*(worker.models for worker in workers)) if workers else frozenset()
        places = _simulate(pool, len(workers), warm, in_pool) if are_drafts else _cached_places(pool, workers, warm)
        for generation in in_pool:
            place = places.get(generation.pk, _Place(len(places) + 1, None, None))
            if pool in paused:
                reason = "Its pool is paused; nothing new starts there until staff resume it."
            elif is_disk_full:
                reason = "The disk of the service is full; nothing starts until there is room."
            else:
                reason = _reason(generation, place.position, running.get(generation.user_id, 0), workers, warm)
            forecasts[generation.pk] = Forecast(place.position, reason, place.start, place.finish)
    return forecasts


def _cached_places(pool: str, workers: Sequence[WorkerInfo], warm: frozenset[str]) -> dict[UUID, _Place]:
    key = f"forecast:{sha256(pool.encode()).hexdigest()}"
    state = _state_of_pool(pool, workers)
    cached: tuple[object, dict[UUID, _Place]] | None = cache.get(key)
    if cached is not None and cached[0] == state:
        return cached[1]
    places = _simulate(pool, len(workers), warm)
    cache.set(key, (state, places), _CACHE_SECONDS)
    return places


def _running_by_user(generations: Sequence[Generation]) -> dict[int, int]:
    users = {generation.user_id for generation in generations}
    rows = Generation.objects.filter(user__in=users, state=State.RUNNING).order_by()
    return dict(rows.values_list("user").annotate(Count("pk")))


def _state_of_pool(pool: str, workers: Sequence[WorkerInfo]) -> object:
    """Return a value that changes when the queue does. Clients that wait together share one simulation."""
    live = Generation.objects.filter(pool=pool, state__in=(State.QUEUED, State.RUNNING)).order_by()
    rows = live.values_list("state").annotate(Count("pk"), Max("created"), Sum("attempt"))
    return sorted(rows), sorted((worker.name, sorted(worker.models)) for worker in workers)


def _simulate(pool: str, workers: int, warm: frozenset[str], drafts: Sequence[Generation] = ()) -> dict[UUID, _Place]:
    now = timezone.now()
    estimator = RunTimeEstimator()
    running = list(Generation.objects.filter(pool=pool, state=State.RUNNING))
    free = _free_times(running, workers, estimator, now)
    places = {}
    for position, generation in enumerate(_in_claim_order(_queued(pool, warm, drafts, now), now), 1):
        seconds = estimator.run_seconds(generation.get_recipe()) if free else None
        if seconds is None:
            # Nothing can be estimated for those behind it either.
            free = []
            places[generation.pk] = _Place(position, None, None)
            continue
        start = heapq.heappop(free)
        load_seconds = 0.0 if generation.model_id in warm else estimator.load_seconds(generation.model_id)
        finish = start + timedelta(seconds=seconds + load_seconds)
        heapq.heappush(free, finish)
        places[generation.pk] = _Place(position, start, finish)
    return places


def _queued(pool: str, warm: frozenset[str], drafts: Sequence[Generation], now: datetime) -> list[_QueuedRow]:
    """Return the first `_MAX_SIMULATED` of a pool's queued generations and these drafts, sorted as `in_claim_order` sorts."""
    # Only the needed columns: the queue can be long.
    rows: QuerySet[Any] = Generation.objects.in_claim_order(pool, list(warm), now).only(
        "user", "model", "priority", "attempt", "cost", "recipe"
    )[:_MAX_SIMULATED]
    queued = [_QueuedRow(row, bool(row.is_returned), row.decayed_usage, bool(row.is_cold)) for row in rows]
    if drafts:
        share = UserShare.objects.filter(user=drafts[0].user).first()
        usage = share.decayed_usage if share else 0.0
        queued += [_QueuedRow(draft, False, usage, draft.model_id not in warm) for draft in drafts]
        queued.sort(key=lambda row: row.sort_key)
    return queued[:_MAX_SIMULATED]


def of_running(generations: Sequence[Generation], latest: Mapping[UUID, Progress]) -> dict[UUID, datetime]:
    """Return when running generations are expected to finish: those with progress whose model has recorded timings.

    Assume that time passes evenly over the steps.
    """
    reported = [generation for generation in generations if generation.pk in latest]
    if not reported:
        return {}
    estimator = RunTimeEstimator()
    now = timezone.now()
    finishes = {}
    for generation in reported:
        seconds = estimator.run_seconds(generation.get_recipe())
        if seconds is not None:
            finishes[generation.pk] = now + timedelta(seconds=seconds * (1 - latest[generation.pk].fraction))
    return finishes


def _ready_workers() -> list[WorkerInfo]:
    try:
        return ready()
    except RedisError:
        return []


def _in_claim_order(queued: Sequence[_QueuedRow], now: datetime) -> list[Generation]:
    """Return the generations in the order in which they will be claimed: each claim adds to its user's usage.

    A heap holds the first row of each group of equal user and priority. A user's rows of other priorities may be claimed
    while one waits in the heap, so an entry whose usage is outdated is pushed again with the present one.
    """
    groups: dict[tuple[bool, int, int], list[Generation]] = {}
    usage: dict[int, float] = {}
    for row in reversed(queued):
        generation = row.generation
        groups.setdefault((not row.is_returned, -generation.priority, generation.user_id), []).append(generation)
        usage[generation.user_id] = row.decayed_usage
    ordered = []
    heap = [(is_new, priority, usage[user], group[-1].pk, user) for (is_new, priority, user), group in groups.items()]
    heapq.heapify(heap)
    while heap:
        is_new, priority, usage_then, _, user = heapq.heappop(heap)
        group = groups[is_new, priority, user]
        if usage_then == usage[user]:
            generation = group.pop()
            ordered.append(generation)
            if generation.attempt == 0:
                usage[user] = fair_share.charge(usage[user], generation.cost, now)
        if group:
            heapq.heappush(heap, (is_new, priority, usage[user], group[-1].pk, user))
    return ordered


def _free_times(
    running: Sequence[Generation], workers: int, estimator: RunTimeEstimator, now: datetime
) -> list[datetime]:
    """Return a heap of the times when each worker becomes free; empty without workers."""
    latest = progress.latest([row.pk for row in running])
    busy: dict[str, datetime] = {}
    for row in running:
        seconds = estimator.run_seconds(row.get_recipe()) or 0.0
        fraction = latest[row.pk].fraction if row.pk in latest else 0.0
        finish = now + timedelta(seconds=seconds * (1 - fraction))
        busy[row.worker] = max(finish, busy.get(row.worker, now))
    free = [*busy.values(), *[now] * max(0, workers - len(busy))][:workers]
    heapq.heapify(free)
    return free


def _reason(
    generation: Generation, position: int, running: int, workers: Sequence[WorkerInfo], warm: frozenset[str]
) -> str:
    if generation.awaits_input and not generation._state.adding:
        return "Its picture is being fetched from image_url."
    if not workers:
        return "Its pool has no active worker."
    limit = limits.user_limits(generation.user).running
    if limit is not None and running >= limit:
        return f"Its user has {running} running request{'s' if running != 1 else ''}, the maximum."
    if position > 1:
        return f"{position - 1} {'request runs' if position == 2 else 'requests run'} before it."
    if generation.model_id not in warm:
        return "It is next; its model must be loaded first."
    return "It is next, as soon as a worker is free."
