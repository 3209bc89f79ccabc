"""`manage.py download_model`: download the weights of a model before requests need them."""

import time
from argparse import ArgumentParser
from typing import Any

import huggingface_hub
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from generation.engine import catalog
from generation.models import DiffusionModel, amount
from generation.repositories.downloads import OnProgress
from generation.repositories.hub_errors import HubFailed

_PROGRESS_SECONDS = 5.0


class Command(BaseCommand):
    help = "Download the missing files of a model, at its pinned revision, to MODELS_DIR."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("model_id", metavar="ID", help="A model of the admin's list, such as stabilityai/sd-turbo.")

    def handle(self, *args: Any, model_id: str, **options: Any) -> None:
        model = DiffusionModel.objects.filter(pk=model_id).first()
        if model is None:
            model_ids = ", ".join(DiffusionModel.objects.values_list("pk", flat=True))
            raise CommandError(f"There is no model {model_id!r}; add it in the admin, or choose one of {model_ids}.")
        # The hub's client prints a warning for each of its retries.
        huggingface_hub.logging.set_verbosity_error()
        self.stdout.write(f"Downloading the missing files of {model_id} ...")
        self.stdout.flush()
        try:
            weights = catalog.download_model(model.reference(), settings.MODELS_DIR, self._progress())
        except HubFailed as error:
            raise CommandError(error.message) from None
        self.stdout.write(f"{model_id} is in {weights.pipeline}")
        if not model.enabled:
            self.stdout.write("Requests cannot use it yet: enable it in the admin.")

    def _progress(self) -> OnProgress:
        """Return a function that prints the progress every few seconds."""
        last = 0.0

        def on_progress(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > _PROGRESS_SECONDS:
                last = time.monotonic()
                self.stdout.write(amount(done, total))
                self.stdout.flush()

        return on_progress
