"""The settings of a worker's engine. Imports torch, which takes seconds: only commands that run workers import this."""

from django.conf import settings

from dreamsite.worker_setup import WorkerSetup
from generation.engine.engine import EngineSettings


def engine_settings(setup: WorkerSetup, device: str) -> EngineSettings:
    """Return how the engine runs in a worker with this setup. Raises ValueError for an invalid device or type."""
    return EngineSettings(
        models_dir=settings.MODELS_DIR,
        device=device,
        dtype=settings.DTYPE,
        threads=setup.threads,
        offline=settings.MODELS_OFFLINE,
        neighbours=setup.neighbours,
        gpu_neighbours=setup.gpu_neighbours,
        safety_checker=settings.SAFETY_CHECKER,
        safety_threshold=settings.SAFETY_THRESHOLD,
    )
