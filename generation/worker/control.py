"""Runs the commands of staff in the worker, between two batches. See `generation.jobs.control`."""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import Protocol

from django.db import InterfaceError, OperationalError, connections

from generation.engine.engine import Engine
from generation.engine.errors import DeviceLost, EngineError, first_cause
from generation.jobs import control
from generation.models import DOWNLOADS, DiffusionModel, WorkerCommand
from generation.repositories.hub_errors import HubFailed
from generation.worker import downloads
from generation.worker.downloads import Misfit, Stopped

logger = logging.getLogger(__name__)


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
            if command.action in DOWNLOADS:
                name = f"command {command.pk}"
                threading.Thread(target=self._download, args=(command, worker.engine), name=name, daemon=True).start()
            else:
                try:
                    _run(command, partial(_control, command, worker))
                finally:
                    self._running.discard(command.pk)

    def renew(self) -> None:
        """Renew the leases of the running commands; called with every heartbeat, from another thread."""
        if ids := list(self._running):
            control.renew(ids)

    def _download(self, command: WorkerCommand, engine: Engine) -> None:
        try:
            _run(command, partial(downloads.run, command, engine))
        except Stopped:
            logger.info("the command %s was stopped: it was canceled, or another worker has it", command)
        except (OperationalError, InterfaceError):
            # Its lease expires, and `control.expire` lets another worker run it.
            logger.warning("the result of the command %s was not stored: the database cannot be reached", command)
        finally:
            self._running.discard(command.pk)
            connections.close_all()


def _run(command: WorkerCommand, task: Callable[[], str]) -> None:
    """Run a command's task and store the text that it returns, or its error.

    Raises `Stopped`, `DeviceLost` and database errors.
    """
    try:
        message = task()
    except (Stopped, OperationalError, InterfaceError):
        raise
    except (HubFailed, Misfit) as error:
        logger.warning("the command %s failed: %r", command, error.__cause__ or error)
        control.fail(command, str(error))
    except EngineError as error:
        logger.warning("the command %s failed: %r", command, error.__cause__ or error)
        control.fail(command, f"{error.message} {first_cause(error)}." if error.__cause__ else error.message)
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
