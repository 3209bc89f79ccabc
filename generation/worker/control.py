"""What a worker does beside generations: it carries out the orders of staff, between two batches."""

import logging
import threading
from pathlib import Path
from typing import Protocol

from django.conf import settings
from django.db import InterfaceError, OperationalError, connections

from generation.engine import catalog
from generation.engine.engine import Engine
from generation.engine.errors import EngineError
from generation.jobs import control
from generation.models import (
    DiffusionModel,
    Lora,
    WorkerCommand,
)
from generation.recipes import LoraReference

logger = logging.getLogger(__name__)

_TELL_SECONDS = 2.0


class Controllable(Protocol):
    """What orders need of a worker."""

    name: str
    engine: Engine

    def drain(self) -> None: ...

    def resume(self) -> None: ...


class CommandRunner:
    """The orders of one worker that are being carried out: in its main thread, downloads in threads of their own."""

    def __init__(self) -> None:
        self._open: set[int] = set()

    def carry_out(self, worker: Controllable) -> None:
        """Do what waits for this worker. What fails is written down, and no failure of the worker."""
        for order in control.claim(worker.name):
            self._open.add(order.pk)
            if order.action in (WorkerCommand.Action.DOWNLOAD, WorkerCommand.Action.DOWNLOAD_LORA):
                threading.Thread(target=self._download, args=(order,), name=f"order {order.pk}", daemon=True).start()
                continue
            try:
                control.succeed(order, _do(order, worker))
            except EngineError as error:
                logger.warning("the order %s failed: %r", order, error.__cause__ or error)
                control.fail(order, f"{error.message} {_first_cause(error)}")
            except Exception as error:
                logger.exception("the order %s failed in an unforeseen way", order)
                control.fail(order, f"It failed in an unforeseen way: {error!r}. The log of the worker has more.")
            finally:
                self._open.discard(order.pk)

    def renew(self) -> None:
        """Say that what was begun still goes on; called every few seconds from another thread."""
        if ids := list(self._open):
            control.renew(ids)

    def _download(self, order: WorkerCommand) -> None:
        try:
            try:
                with _DownloadProgress(order):
                    directory = _fetch(order)
            except EngineError as error:
                control.fail(order, f"{error.message} {_first_cause(error)}")
            else:
                control.succeed(order, f"It is in {directory}.")
        except (OperationalError, InterfaceError):
            # Nobody renews it any more, so it will count as lost.
            logger.warning("what came of the order %s was not noted: the database cannot be reached", order)
        except Exception as error:
            logger.exception("the order %s failed in an unforeseen way", order)
            control.fail(order, f"It failed in an unforeseen way: {error!r}. The log of the worker has more.")
        finally:
            self._open.discard(order.pk)
            connections.close_all()


class _DownloadProgress:
    """Tells every few seconds how much lies in the hub's cache of what is being fetched."""

    def __init__(self, order: WorkerCommand) -> None:
        self._order = order
        self._folder = settings.MODELS_DIR / "hub" / f"models--{order.target.replace('/', '--')}"
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tell, name=f"progress of order {order.pk}", daemon=True)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _tell(self) -> None:
        while not self._ended.wait(_TELL_SECONDS):
            try:
                control.report(self._order, f"{_bytes_below(self._folder) / 1e6:.0f} MB so far")
            except (OperationalError, InterfaceError, OSError):
                logger.warning("how far the order %s is was not noted", self._order)
            finally:
                connections.close_all()


def _do(order: WorkerCommand, worker: Controllable) -> str:
    """Carry out an order of a moment or a few minutes; what came of it. Raises `EngineError`."""
    match order.action:
        case WorkerCommand.Action.DRAIN:
            worker.drain()
            return "It takes nothing new."
        case WorkerCommand.Action.RESUME:
            worker.resume()
            return "It takes work again."
        case WorkerCommand.Action.WARM:
            worker.engine.warm(DiffusionModel.objects.get(pk=order.target).reference())
            return "It is warm."
        case WorkerCommand.Action.EVICT:
            return "It is out of memory." if worker.engine.evict(order.target) else "It was not in memory."
        case _:
            raise ValueError(f"nobody knows how to {order.action}")


def _fetch(order: WorkerCommand) -> Path:
    if order.action == WorkerCommand.Action.DOWNLOAD:
        model = DiffusionModel.objects.get(pk=order.target).reference()
        return catalog.find_model(model, settings.MODELS_DIR, settings.MODELS_OFFLINE).pipeline
    lora = Lora.objects.get(pk=order.target)
    reference = LoraReference(id=lora.pk, revision=lora.revision, weight_name=lora.weight_name, weight=1.0)
    return catalog.find_lora(reference, settings.MODELS_DIR, settings.MODELS_OFFLINE)


def _bytes_below(folder: Path) -> int:
    return sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def _first_cause(error: BaseException) -> str:
    """What happened first, in one line."""
    while (cause := error.__cause__ or error.__context__) is not None:
        error = cause
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
