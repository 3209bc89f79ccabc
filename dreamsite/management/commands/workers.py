"""`manage.py workers`: all workers of a machine without a GPU."""

import gc
import logging
from functools import partial
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from dreamsite import checks, observability
from dreamsite.supervisor import Child, Supervisor, fork
from dreamsite.worker_setup import WORKER_GRACE, WorkerSetup, can_fork, worker_setups

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Run all workers of a machine that computes on its CPU: import the engine and load the default model once, then fork"
        " each worker, and again when it ends."
    )
    requires_system_checks = [checks.SETTINGS]

    def handle(self, *args: Any, **options: Any) -> None:
        setups = worker_setups(settings.DEVICE)
        if not can_fork(setups):
            raise CommandError(
                "Only workers on the CPU of a Linux machine can be forked. Start `worker` for each instead."
            )
        # Nor do the forks search what stays, which would also copy the pages that they share.
        gc.disable()
        from dreamsite.worker_engine import engine_settings
        from generation.engine.engine import Engine
        from generation.worker import preloading, process

        observability.stop()
        preloaded = preloading.preload(engine_settings(setups[0], settings.DEVICE), settings.POOLS)
        gc.freeze()

        def work(setup: WorkerSetup) -> None:
            gc.enable()
            observability.start()
            try:
                engine = Engine(engine_settings(setup, settings.DEVICE))
                engine.take_over(preloaded)
                process.run(setup.pool, engine)
            except Exception:
                logger.exception("the worker ends")
                raise
            finally:
                observability.stop()

        supervisor = Supervisor()
        try:
            supervisor.start([Child(setup.name, partial(fork, partial(work, setup)), WORKER_GRACE) for setup in setups])
            supervisor.run()
        finally:
            supervisor.stop()
