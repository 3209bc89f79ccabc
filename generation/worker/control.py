"""Runs the commands of staff in the worker, between two batches. See `generation.jobs.control`."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Protocol

from django.conf import settings
from django.db import InterfaceError, OperationalError, connections

from generation.engine import catalog
from generation.engine.engine import Engine
from generation.engine.errors import DeviceLost, EngineError, first_cause
from generation.jobs import control
from generation.jobs.periodic import periodically
from generation.models import DiffusionModel, Lora, WorkerCommand
from generation.recipes import LoraReference

logger = logging.getLogger(__name__)

_DOWNLOADS = (WorkerCommand.Action.DOWNLOAD, WorkerCommand.Action.DOWNLOAD_LORA)
_PROGRESS_SECONDS = 2.0


class Controllable(Protocol):
    """What commands need of a worker."""

    name: str
    engine: Engine

    def drain(self) -> None: ...

    def resume(self) -> None: ...


class CommandRunner:
    """Runs the commands for one worker: downloads in a thread each, everything else in the caller's thread."""

    def __init__(self) -> None:
        self._running: set[int] = set()

    def run_pending(self, worker: Controllable) -> None:
        """Run the waiting commands of this worker. Failures are stored with the command.

        Raises `DeviceLost` and database errors.
        """
        for command in control.claim(worker.name):
            self._running.add(command.pk)
            if command.action in _DOWNLOADS:
                name = f"command {command.pk}"
                threading.Thread(target=self._download, args=(command,), name=name, daemon=True).start()
            else:
                try:
                    _run(command, partial(_control, command, worker))
                finally:
                    self._running.discard(command.pk)

    def renew(self) -> None:
        """Renew the leases of the running commands; called with every heartbeat, from another thread."""
        if ids := list(self._running):
            control.renew(ids)

    def _download(self, command: WorkerCommand) -> None:
        try:
            _run(command, partial(_download, command))
        except (OperationalError, InterfaceError):
            # Its lease expires, and `control.expire` fails it.
            logger.warning("the result of the command %s was not stored: the database cannot be reached", command)
        finally:
            self._running.discard(command.pk)
            connections.close_all()


def _run(command: WorkerCommand, task: Callable[[], str]) -> None:
    """Run a command's task and store the text that it returns, or its error. Raises `DeviceLost` and database errors."""
    try:
        message = task()
    except EngineError as error:
        logger.warning("the command %s failed: %r", command, error.__cause__ or error)
        control.fail(command, f"{error.message} {first_cause(error)}.")
    except DeviceLost as error:
        control.fail(command, f"{error} The worker starts again.")
        raise
    except Exception as error:
        logger.exception("the command %s failed unexpectedly", command)
        control.fail(command, f"Unexpected error: {error!r}. See the worker's log.")
    else:
        control.succeed(command, message)


def _control(command: WorkerCommand, worker: Controllable) -> str:
    """Drain or resume the worker, or load or unload a model. Return the result as a sentence. Raises `EngineError`."""
    match command.action:
        case WorkerCommand.Action.DRAIN:
            worker.drain()
            return "Drained: it takes no work."
        case WorkerCommand.Action.RESUME:
            worker.resume()
            return "Resumed: it takes work."
        case WorkerCommand.Action.WARM:
            worker.engine.warm(DiffusionModel.objects.get(pk=command.target).reference())
            return "Loaded."
        case WorkerCommand.Action.EVICT:
            return "Evicted." if worker.engine.evict(command.target) else "It was not loaded."
        case _:
            raise ValueError(f"unknown action {command.action}")


def _download(command: WorkerCommand) -> str:
    """Download the weights of a model or a LoRA. Return the result as a sentence. Raises `EngineError`."""
    folder = settings.MODELS_DIR / "hub" / f"models--{command.target.replace('/', '--')}"

    def report_progress() -> None:
        control.report(command, f"{_bytes_below(folder) / 1e6:.0f} MB so far")

    with periodically(f"progress of command {command.pk}", _PROGRESS_SECONDS, report_progress, at_once=False):
        return f"Downloaded to {_fetch(command)}."


def _fetch(command: WorkerCommand) -> Path:
    if command.action == WorkerCommand.Action.DOWNLOAD:
        model = DiffusionModel.objects.get(pk=command.target).reference()
        return catalog.find_model(model, settings.MODELS_DIR, settings.MODELS_OFFLINE).pipeline
    lora = Lora.objects.get(pk=command.target)
    reference = LoraReference(id=lora.pk, revision=lora.revision, weight_name=lora.weight_name, weight=1.0)
    return catalog.find_lora(reference, settings.MODELS_DIR, settings.MODELS_OFFLINE)


def _bytes_below(folder: Path) -> int:
    """Return the size of all files in a folder that another thread writes to."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.lstat().st_size if path.is_file() and not path.is_symlink() else 0
        except FileNotFoundError:
            # The hub's client has just renamed it.
            continue
    return total
