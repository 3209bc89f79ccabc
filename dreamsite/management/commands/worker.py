"""`manage.py worker`: one worker for one pool."""

import gc
from argparse import ArgumentParser
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from dreamsite import checks
from dreamsite.worker_setup import worker_setups


class Command(BaseCommand):
    help = "Run one worker: load the engine, then run the queued generations of its pool."
    requires_system_checks = [checks.SETTINGS]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--pool", default="default", choices=settings.POOLS, help="The pool whose requests it runs."
        )
        parser.add_argument(
            "--threads", type=int, help="Torch threads. The sum over all workers should not exceed the cores."
        )
        parser.add_argument("--neighbours", type=int, help="Other workers on this host, which share its memory.")
        parser.add_argument(
            "--gpu-neighbours", type=int, default=0, help="Other workers on the same GPU, which share its memory."
        )
        parser.add_argument("--device", default=settings.DEVICE, help="auto, cpu, cuda, cuda:1, mps.")

    def handle(
        self,
        *args: Any,
        pool: str,
        threads: int | None,
        neighbours: int | None,
        gpu_neighbours: int,
        device: str,
        **options: Any,
    ) -> None:
        if threads is not None and threads < 1:
            raise CommandError("--threads must be at least 1.")
        first = worker_setups(device)[0]
        setup = replace(
            first,
            threads=threads or first.threads,
            neighbours=first.neighbours if neighbours is None else neighbours,
            gpu_neighbours=gpu_neighbours,
        )
        # Garbage collections during the imports are a fifth of their time, and later ones need not search what stays.
        gc.disable()
        # Imported here: torch takes seconds to load, and only this command needs it.
        from dreamsite.worker_engine import engine_settings
        from generation.engine.engine import Engine
        from generation.engine.errors import DeviceMissing
        from generation.worker import process

        gc.freeze()
        gc.enable()

        try:
            process.run(pool, Engine(engine_settings(setup, device)))
        except DeviceMissing as error:
            raise CommandError(str(error)) from None
