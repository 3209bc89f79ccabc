"""`manage.py download_model`: download the weights of a model before requests need them."""

from argparse import ArgumentParser
from typing import Any

import huggingface_hub
from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from generation.engine import catalog
from generation.engine.errors import ModelFailed, first_cause
from generation.models import DiffusionModel


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
            directory = catalog.download(model.reference(), settings.MODELS_DIR)
        except ModelFailed as error:
            raise CommandError(f"{model_id} could not be downloaded: {first_cause(error)}.") from None
        self.stdout.write(f"{model_id} is in {directory}")
        if not model.enabled:
            self.stdout.write("Requests cannot use it yet: enable it in the admin.")
