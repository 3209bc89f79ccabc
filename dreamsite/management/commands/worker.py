"""`manage.py worker`: one worker for one pool."""

from argparse import ArgumentParser
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from dreamsite import checks


class Command(BaseCommand):
    help = "Run one worker: load the engine, then run the queued generations of its pool."
    requires_system_checks = [checks.SETTINGS]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--pool", default="default", choices=settings.POOLS, help="The pool whose requests it runs."
        )
        parser.add_argument(
            "--threads",
            type=int,
            default=settings.THREADS,
            help="Torch threads. The sum over all workers should not exceed the cores.",
        )
        parser.add_argument("--device", default=settings.DEVICE, help="auto, cpu, cuda, cuda:1, mps.")

    def handle(self, *args: Any, pool: str, threads: int, device: str, **options: Any) -> None:
        if threads < 1:
            raise CommandError("--threads must be at least 1.")
        # Imported here: torch takes seconds to load, and only this command needs it.
        from generation.engine.engine import EngineSettings
        from generation.worker import process

        process.run(
            pool,
            EngineSettings(
                models_dir=settings.MODELS_DIR,
                device=device,
                dtype=settings.DTYPE,
                threads=threads,
                offline=settings.MODELS_OFFLINE,
                neighbours=settings.WORKERS * len(settings.POOLS) - 1,
                safety_checker=settings.SAFETY_CHECKER,
                safety_threshold=settings.SAFETY_THRESHOLD,
            ),
        )
