"""`manage.py try_models`: make a picture with each enabled model on this machine."""

import time
from argparse import ArgumentParser
from typing import TYPE_CHECKING, Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from PIL import Image

from dreamsite import checks
from dreamsite.worker_setup import worker_setups
from generation.images import samples
from generation.models import DiffusionModel
from generation.parameters import ImageToImageParameters
from generation.recipes import plan

if TYPE_CHECKING:
    from generation.engine.engine import Engine


class Command(BaseCommand):
    help = "Make a picture with each enabled model whose weights are on this disk, and print how long that takes."
    requires_system_checks = [checks.SETTINGS]

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--steps", type=int, default=4, help="Steps of each picture (default 4).")

    def handle(self, *args: Any, steps: int, **options: Any) -> None:
        # Imported here: torch takes seconds to load.
        from generation.engine.engine import Engine, EngineSettings

        first = worker_setups(settings.DEVICE)[0]
        engine = Engine(
            EngineSettings(
                models_dir=settings.MODELS_DIR,
                device=settings.DEVICE,
                dtype=settings.DTYPE,
                threads=first.threads,
                offline=True,
                safety_checker=settings.SAFETY_CHECKER,
                safety_threshold=settings.SAFETY_THRESHOLD,
            )
        )
        models = list(DiffusionModel.objects.filter(enabled=True))
        failed = [model.pk for model in models if not self._try(engine, model, steps)]
        if failed:
            raise CommandError(f"{', '.join(failed)} cannot be run; see above.")
        if not models:
            self.stdout.write("No model is enabled.")

    def _try(self, engine: "Engine", model: DiffusionModel, steps: int) -> bool:
        """Make a picture with this model and print a line about it. Return False if it cannot be run."""
        from generation.engine.errors import EngineError

        reference = model.reference()
        if not engine.has(reference):
            self.stdout.write(f"{model.pk}: not on this disk, so not tried")
            return True
        picture = Image.open(samples.PHOTO).convert("RGB")
        parameters = ImageToImageParameters(prompt="make it night", seed=1, num_inference_steps=steps)
        recipe, _ = plan(parameters, reference, [], picture.size)
        started = time.monotonic()
        try:
            result = engine.run(recipe, picture, lambda done, of, phase: None)
        except EngineError as error:
            self.stdout.write(f"{model.pk}: {error.message}")
            return False
        finally:
            # The next one may need all of the memory.
            engine.evict(model.pk)
        seconds, loading = time.monotonic() - started, result.timings["loading"]
        size = "{} x {}".format(*result.pictures[0].image.size)
        self.stdout.write(
            f"{model.pk}: {size} in {seconds:.1f} s, of which {loading:.1f} s to load it, on {engine.device}"
        )
        return True
