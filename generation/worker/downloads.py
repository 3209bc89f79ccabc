"""Downloads in the worker: a thread receives, another one reports its progress and hears that it was canceled."""

import time
from collections import deque
from collections.abc import Iterable
from pathlib import Path

from django.conf import settings
from huggingface_hub import parse_local_safetensors_file_metadata
from huggingface_hub.errors import SafetensorsParsingError

from generation.engine import catalog
from generation.engine.engine import Engine
from generation.engine.errors import LoraFailed, ModelNotDownloaded
from generation.jobs import control
from generation.jobs.periodic import periodically
from generation.models import DiffusionModel, Lora, WorkerCommand
from generation.recipes import LoraReference, ModelReference
from generation.repositories import hub_errors, lora_fit

_REPORT_SECONDS = 1.0
_RATE_REPORTS = 20
"""Over how many reports the speed is the average."""


class Stopped(Exception):
    """The download was canceled, or belongs to another worker now."""


class Misfit(Exception):
    """A LoRA was downloaded that does not fit its base models; the message says why."""


class Transfer:
    """The progress of a download. One thread sets it, another one reports it to the command's row."""

    def __init__(self, command: WorkerCommand) -> None:
        self._command = command
        self._done, self._total = 0, 0
        self._is_stopped = False
        self._reports: deque[tuple[float, int]] = deque(maxlen=_RATE_REPORTS)

    def on_progress(self, done: int, total: int) -> None:
        """Note the bytes on disk and in total. Raises `Stopped`."""
        self._done, self._total = done, total
        if self._is_stopped:
            raise Stopped

    def report(self) -> None:
        """Store the progress. Raises database errors."""
        done, total = self._done, self._total
        if total:
            self._reports.append((time.monotonic(), done))
        self._is_stopped = not control.report(self._command, done, total, self._rate())

    def _rate(self) -> float:
        """Return the bytes a second of the last reports, 0 if there are too few."""
        if len(self._reports) < 2:
            return 0.0
        (start, first), (end, last) = self._reports[0], self._reports[-1]
        return max(0.0, (last - first) / (end - start))


def run(command: WorkerCommand, engine: Engine) -> str:
    """Download what a command names. Return the result as a sentence.

    Raises `Stopped`, `HubFailed`, `Misfit` or `EngineError`.
    """
    transfer = Transfer(command)
    with periodically(f"progress of command {command.pk}", _REPORT_SECONDS, transfer.report):
        _download(command, engine, transfer)
    # The last bytes came after the last report.
    transfer.report()
    return "Downloaded."


def _download(command: WorkerCommand, engine: Engine, transfer: Transfer) -> None:
    if command.action == WorkerCommand.Action.DOWNLOAD:
        _download_model(DiffusionModel.objects.get(pk=command.target).reference(), engine, transfer)
        return
    lora = Lora.objects.get(pk=command.target)
    reference = LoraReference(id=lora.pk, revision=lora.revision, weight_name=lora.weight_name, weight=1.0)
    path = _download_lora(reference, transfer)
    _check_fit(path, [model.reference() for model in lora.base_models.all()])


def _download_model(model: ModelReference, engine: Engine, transfer: Transfer) -> None:
    if not settings.MODELS_OFFLINE:
        catalog.download_model(model, settings.MODELS_DIR, transfer.on_progress, engine.variant_of(model))
        return
    try:
        catalog.find_model(model, settings.MODELS_DIR)
    except ModelNotDownloaded as error:
        raise hub_errors.offline(model.id, settings.MODELS_DIR) from error


def _download_lora(lora: LoraReference, transfer: Transfer) -> Path:
    if settings.MODELS_OFFLINE:
        try:
            return catalog.find_lora(lora, settings.MODELS_DIR)
        except LoraFailed as error:
            raise hub_errors.offline(lora.id, settings.MODELS_DIR) from error
    return catalog.download_lora(lora, settings.MODELS_DIR, transfer.on_progress)


def _check_fit(lora: Path, bases: Iterable[ModelReference]) -> None:
    """Raise `Misfit` if a LoRA does not fit all of these models, as far as files on disk tell."""
    try:
        shapes = lora_fit.shapes_of(parse_local_safetensors_file_metadata(lora))
        reasons = [lora_fit.misfit(shapes, base.id, base.family, _denoiser_shapes(base)) for base in bases]
    except lora_fit.NotALora as error:
        raise Misfit(str(error)) from error
    except (SafetensorsParsingError, OSError, ValueError) as error:
        raise Misfit(f"{lora.name} cannot be read: {error}.") from error
    if told := [reason for reason in reasons if reason]:
        raise Misfit(" ".join([*told, "Take these models out of its base models."]))


def _denoiser_shapes(model: ModelReference) -> lora_fit.Shapes | None:
    try:
        return lora_fit.denoiser_shapes(catalog.find_model(model, settings.MODELS_DIR).pipeline)
    except ModelNotDownloaded:
        return None
