"""Canaries: which model's fixed request is due in an environment, and what is kept of it.

It is due in an environment that has no canary of the model yet, such as after an upgrade, and again every night. A worker runs
it that has had nothing to do for a while, and stops it for the first request that arrives; so it is no generation, is in no
queue, and counts for nobody. Two workers never run the canary of one model at the same time.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain
from typing import Any

from django.conf import settings
from django.core.files.storage import default_storage
from django.db import transaction
from django.utils import timezone

from generation.images import disk, storage
from generation.library import files
from generation.models import Canary, DiffusionModel, Environment, FileDeletion, Generation, PausedPool, State
from generation.recipes import Recipe

NIGHT_HOUR = 3
"""The hour, in TIME_ZONE, from which the canaries of a new night are due."""

_KEPT = timedelta(days=14)
"""How long the pictures of an environment are kept that no worker has any more. The newest accepted one always is."""


@dataclass(frozen=True)
class Made:
    """What a run has made: the file, its size in pixels, and how far it is from the picture `before`."""

    environment: dict[str, Any]
    recipe: Recipe
    content: bytes
    size: tuple[int, int]
    before: Canary | None
    largest_difference: int | None
    psnr: float | None

    @property
    def is_as_before(self) -> bool:
        return self.before is None or self.largest_difference == 0


def may_run(pool: str) -> bool:
    """Return whether nothing waits or runs in a pool, and its workers may start something."""
    if disk.is_full() or PausedPool.objects.filter(pk=pool).exists():
        return False
    return not Generation.objects.filter(pool=pool, state__in=(State.QUEUED, State.RUNNING)).exists()


def is_due(model: DiffusionModel, environment: Mapping[str, Any]) -> bool:
    """Return whether a model's canary is due in an environment. Of one that is not loaded, the values that are known do."""
    finished = Canary.objects.filter(model=model).exclude(finished=None).select_related("environment")
    last = next((row.finished for row in finished if _is_part(environment, row.environment)), None)
    return last is None or last < _last_night(timezone.localtime())


def claim(model: DiffusionModel, worker: str, environment: dict[str, Any]) -> Canary | None:
    """Lease the canary of a model to a worker. None if another one runs it, or it has ended several workers."""
    Canary.objects.get_or_create(model=model, finished=None)
    job: Canary | None = Canary.objects.filter(model=model).claim()
    if job is None:
        return None
    job.worker = worker
    if not is_due(model, environment):
        # Another worker has finished it since this one looked.
        give_up(job)
        return None
    if job.attempt > settings.MAX_ATTEMPTS:
        fail(job, environment, f"Workers were lost {settings.MAX_ATTEMPTS} times while making it; see their logs.")
        return None
    return job


def give_up(job: Canary) -> None:
    """End a run without a result, as for users' work; it stays due."""
    job.lease().delete()


def picture_before(model: DiffusionModel, environment: dict[str, Any]) -> Canary | None:
    """Return what a picture is compared with: the last accepted one of this environment, else of the model."""
    finished = Canary.objects.filter(model=model).exclude(finished=None)
    accepted = finished.exclude(accepted=None).exclude(file="")
    same = accepted.filter(environment__digest=Environment.objects.digest(environment))
    candidates: Iterator[Canary] = chain(same, accepted)
    return next((row for row in candidates if default_storage.exists(str(row.file.name))), None)


def keep(job: Canary, made: Made) -> bool:
    """Store the picture of a run and end it. Return False if its lease was lost. Raises `StorageFailed`."""
    name = f"canaries/{job.pk}-{job.attempt}.png"
    staged = files.stage([name])
    storage.store(name, made.content)
    with transaction.atomic():
        is_kept = job.finish(
            worker=job.worker,
            environment=Environment.objects.of(made.environment),
            recipe=made.recipe.model_dump(mode="json"),
            file=name,
            width=made.size[0],
            height=made.size[1],
            before=made.before,
            largest_difference=made.largest_difference,
            psnr=made.psnr,
            accepted=timezone.now() if made.is_as_before else None,
        )
        if not is_kept:
            return False
        staged.delete()
        deletion = _delete(_superseded(job.model))
    files.delete_now(deletion)
    return True


def fail(job: Canary, environment: dict[str, Any], problem: str) -> None:
    """End a run that failed. `environment` is what is known of it."""
    job.finish(worker=job.worker, environment=Environment.objects.of(environment), problem=problem)


def accept(canary: Canary, by: str) -> bool:
    """Accept a changed picture, with which later ones are compared, or a failure. Return False if somebody has."""
    rows = Canary.objects.filter(pk=canary.pk, accepted=None).exclude(finished=None)
    return bool(rows.update(accepted=timezone.now(), accepted_by=by))


def delete_of(models: Collection[DiffusionModel]) -> FileDeletion:
    """Delete the canaries of models that are about to be deleted; call `files.delete_now` after the transaction."""
    return _delete(Canary.objects.filter(model__in=models))


def _last_night(now: datetime) -> datetime:
    night = now.replace(hour=NIGHT_HOUR, minute=0, second=0, microsecond=0)
    return night if night <= now else night - timedelta(days=1)


def _is_part(known: Mapping[str, Any], environment: Environment | None) -> bool:
    return environment is not None and all(environment.values.get(name) == known[name] for name in known)


def _superseded(model: DiffusionModel) -> Iterator[Canary]:
    """Yield what is not needed any more.

    Kept are the newest run and the newest accepted picture of each environment, the newest accepted one of the model, and what
    a picture that nobody has accepted is compared with. A failure is settled by a later picture of the same device, and a
    changed picture by a later one that is accepted, as once an upgrade was taken back.
    """
    rows = list(Canary.objects.filter(model=model).exclude(finished=None).select_related("environment"))
    oldest = timezone.now() - _KEPT
    seen: set[tuple[object, bool]] = set()
    made_on: set[str] = set()
    accepted_on: set[str] = set()
    kept: list[Canary] = []
    for row in rows:
        device = row.made_with.get("device", "")
        is_accepted = bool(row.file and row.accepted)
        roles = {(row.environment_id, False), *({(row.environment_id, True), (None, True)} if is_accepted else ())}
        is_settled = device in made_on if row.problem else not row.accepted and device in accepted_on
        is_last = is_accepted and (None, True) not in seen
        if roles - seen and not is_settled and (row.created >= oldest or is_last):
            kept.append(row)
        seen |= roles
        if row.file:
            made_on.add(device)
        if is_accepted:
            accepted_on.add(device)
    compared = {row.before_id for row in kept if row.accepted is None}
    kept_ids = {row.pk for row in kept} | compared
    yield from (row for row in rows if row.pk not in kept_ids)


def _delete(canaries: Collection[Canary] | Iterator[Canary]) -> FileDeletion:
    rows = list(canaries)
    Canary.objects.filter(pk__in=[row.pk for row in rows]).delete()
    return files.delete_later(str(row.file.name) for row in rows if row.file)
