"""The run of a canary: a worker that has nothing to do makes a model's fixed request, and compares the picture.

See `generation.jobs.canaries`.
"""

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence

from django.conf import settings
from PIL import Image

from accounts.leased_jobs import LEASE
from generation.engine.batches import Result
from generation.engine.engine import Engine
from generation.engine.errors import EngineError, first_cause
from generation.images import credentials, encoding, samples, storage
from generation.images.credentials import File
from generation.images.differences import difference
from generation.jobs import canaries
from generation.jobs.canaries import Made
from generation.jobs.periodic import periodically
from generation.models import Canary, DiffusionModel
from generation.parameters import ImageToImageParameters, OutputFormat
from generation.recipes import Recipe, plan, traits_of
from generation.worker.lease_keeper import StallWatch

logger = logging.getLogger(__name__)

CHECK_SECONDS = 10.0
"""The time between two looks of a worker at whether a canary is due."""

_COLD = 10
"""How many times longer a worker must have had nothing to do before it loads a model for a canary: loading cannot be stopped,
and may push out the model that the next request needs."""

_NEEDED_SECONDS = 0.2
"""The time between two questions during a run whether somebody needs the worker."""

_PROMPT = "make it a snowy winter day"
_SEED = 7


class Interrupted(Exception):
    """Ends a run at a step: somebody needs the worker."""


class TookTooLong(Exception):
    """Ends a run at a step: `MAX_SECONDS` have passed."""


def fixed_request(model: DiffusionModel) -> tuple[Recipe, Image.Image, Image.Image | None]:
    """Return recipe, picture and mask of a model's canary. They change only with the model's row and with this program."""
    reference, limits = model.reference(), model.limits()
    traits = traits_of(reference)
    values = dict(traits.recommended)
    steps = values.get("num_inference_steps", ImageToImageParameters.model_fields["num_inference_steps"].default)
    values["num_inference_steps"] = min(steps, limits.num_inference_steps or steps)
    parameters = ImageToImageParameters(prompt=_PROMPT, seed=_SEED, safety_check=False, **values)
    picture = Image.open(samples.PHOTO).convert("RGB")
    mask = Image.open(samples.MASK).convert("L") if traits.needs_mask else None
    open_box = mask.getbbox() if mask else None
    recipe, _ = plan(parameters, reference, [], picture.size, limits, open_box)
    return recipe, picture, mask


class Canaries:
    """The canaries of a worker. `look` is called from another thread than everything else."""

    def __init__(self, pool: str, worker: str, engine: Engine) -> None:
        self._pool = pool
        self._worker = worker
        self._engine = engine
        self._idle_since = time.monotonic()
        self._is_due = threading.Event()

    def note_work(self) -> None:
        """Note that the worker has had something to do until now."""
        self._idle_since = time.monotonic()

    def look(self) -> bool:
        """Return whether a canary is due and this worker has had nothing to do for long enough. Then `run_due` runs it.

        Raises Django's database errors.
        """
        if self._find() is not None:
            self._is_due.set()
        return self._is_due.is_set()

    def run_due(self, is_needed: Callable[[], bool]) -> bool:
        """Run a canary if `look` has found one; it stops at the step where `is_needed` is true. Return whether one was run.

        Raises `DeviceLost` and Django's database errors; another attempt is made later.
        """
        if not self._is_due.is_set():
            return False
        self._is_due.clear()
        model = self._find()
        if model is None:
            return False
        known = self._engine.known_environment(model.reference())
        job = canaries.claim(model, self._worker, known)
        if job is None:
            return False
        warm = self._engine.warm_models
        try:
            self._run(job, model, is_needed)
        except Interrupted:
            canaries.give_up(job)
            return True
        except TookTooLong:
            canaries.fail(job, known, f"It took longer than {settings.MAX_SECONDS:g} seconds (MAX_SECONDS).")
        except EngineError as error:
            logger.warning("%s failed: %r", job, error.__cause__ or error)
            canaries.fail(job, known, f"{error.message} {first_cause(error)}." if error.__cause__ else error.message)
        except storage.StorageFailed as error:
            logger.exception("the picture of %s cannot be stored or compared", job)
            canaries.fail(job, known, error.message)
        self._restore(warm, model.pk)
        return True

    def _find(self) -> DiffusionModel | None:
        """Return a model whose canary is due here, one that is loaded before others."""
        idle = time.monotonic() - self._idle_since
        if idle < settings.CANARY_IDLE_SECONDS or not canaries.may_run(self._pool):
            return None
        warm = self._engine.warm_models
        enabled = list(DiffusionModel.objects.filter(enabled=True, pool=self._pool))
        for model in sorted(enabled, key=lambda model: model.pk not in warm):
            if model.pk not in warm and idle < _COLD * settings.CANARY_IDLE_SECONDS:
                return None
            reference = model.reference()
            if self._engine.has(reference) and canaries.is_due(model, self._engine.known_environment(reference)):
                return model
        return None

    def _run(self, job: Canary, model: DiffusionModel, is_needed: Callable[[], bool]) -> None:
        start, asked, watch = time.monotonic(), 0.0, StallWatch()

        def on_step(done: int, of: int, phase: str) -> None:
            nonlocal asked
            watch.record_progress(phase)
            now = time.monotonic()
            if now - start > settings.MAX_SECONDS:
                raise TookTooLong
            if now - asked >= _NEEDED_SECONDS:
                asked = now
                if is_needed():
                    raise Interrupted

        def renew() -> None:
            watch.end_if_stalled(job)
            job.renew()

        with periodically("renewal of the canary's lease", LEASE.total_seconds() / 4, renew, at_once=False):
            recipe, picture, mask = fixed_request(model)
            result = self._engine.run(recipe, picture, on_step, mask=mask)
            made = _made(model, recipe, result)
            if canaries.keep(job, made) and not made.is_as_before:
                logger.warning("the pictures of %s have changed: see Canaries in the admin", model.pk)

    def _restore(self, warm: Sequence[str], model_id: str) -> None:
        """Load what was pushed out for a canary, and unload its model if that was not loaded before."""
        if model_id in warm:
            return
        self._engine.evict(model_id)
        rows = DiffusionModel.objects.filter(enabled=True).in_bulk(warm)
        for pushed_out in [row for name, row in rows.items() if name not in self._engine.warm_models]:
            try:
                self._engine.load(pushed_out.reference())
            except EngineError as error:
                logger.warning("%s cannot be loaded again: %r", pushed_out.pk, error.__cause__ or error)


def _made(model: DiffusionModel, recipe: Recipe, result: Result) -> Made:
    """Return what is kept of a run, compared with the picture before. Raises `StorageFailed`."""
    (picture,) = result.pictures
    content = encoding.encode(picture.image, OutputFormat.PNG, 100)
    before = canaries.picture_before(model, result.receipt.environment)
    largest, psnr = None, None
    if before is not None:
        earlier = encoding.decode(storage.read(str(before.file.name)))
        if earlier.size == picture.image.size:
            largest, psnr = difference(earlier, encoding.decode(content))
    source = File(samples.PHOTO.read_bytes(), "image/jpeg")
    return Made(
        environment=result.receipt.environment,
        recipe=recipe,
        content=credentials.derive(content, "image/png", "c2pa.edited", source),
        size=picture.image.size,
        before=before,
        largest_difference=largest,
        psnr=None if psnr is None or math.isinf(psnr) else round(psnr, 2),
    )
