"""What workers on the CPU share: one process loads the default model, and the workers are forks of it."""

import logging
from collections.abc import Collection
from dataclasses import replace

from django.db import connection

from generation.engine.engine import Engine, EngineSettings
from generation.engine.errors import EngineError
from generation.models import DiffusionModel

logger = logging.getLogger(__name__)


def preload(engine_settings: EngineSettings, pools: Collection[str]) -> Engine:
    """Return an engine on the CPU that has loaded the default model, if that is on disk and belongs to one of the pools.

    Leaves no thread and no connection, so that this process can be forked. A model that cannot be loaded is logged; each
    worker finds that out again, and reports it.
    """
    # A thread pool of torch would be lost in a fork, which then waits for it forever.
    engine = Engine(replace(engine_settings, device="cpu", threads=1))
    default = DiffusionModel.objects.filter(is_default=True, enabled=True, pool__in=pools).first()
    connection.close()
    if connection.vendor == "postgresql":
        connection.close_pool()  # type: ignore[attr-defined]  # only this vendor has one
    if default is not None and engine.has(default.reference()):
        try:
            engine.load(default.reference())
        except EngineError as error:
            logger.error("the default model %s cannot be loaded: %r", default.pk, error.__cause__ or error)
    return engine
