"""Renewal of the leases of a running batch."""

import logging
import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from uuid import UUID

from django.conf import settings

from accounts import traces
from generation.jobs import queue
from generation.jobs.periodic import periodically
from generation.jobs.queue import LeaseStatus
from generation.models import Generation

logger = logging.getLogger(__name__)


class StallWatch:
    """Knows whether the run of the engine hangs, which nothing else can end than the end of the process."""

    def __init__(self) -> None:
        self._last_progress = time.monotonic()
        self._stall_seconds = settings.STALL_SECONDS

    def record_progress(self, phase: str) -> None:
        """Note that the run is not hanging; call it at every step."""
        self._last_progress = time.monotonic()
        # A large model from a slow disk takes long, and has no steps.
        self._stall_seconds = settings.MAX_SECONDS if phase == "loading" else settings.STALL_SECONDS

    def end_if_stalled(self, name: object) -> None:
        """End the process if there was no progress for too long. `name` says in the log what was run."""
        if time.monotonic() - self._last_progress > self._stall_seconds:
            # A hanging driver cannot be interrupted. A new process can take over what was run.
            logger.critical("%s makes no progress; this worker ends", name)
            os._exit(1)


class LeaseKeeper:
    """Renews the leases of a batch while its run makes progress. If the run hangs, it ends the process.

    `lost` are the ids of generations whose lease is lost, `cancel_requested` of those that their users want to cancel.
    """

    def __init__(self, batch: Sequence[Generation]) -> None:
        self.lost: set[UUID] = set()
        self.cancel_requested: set[UUID] = set()
        self._batch = batch
        self._watch = StallWatch()

    def keep(self) -> AbstractContextManager[None]:
        """Renew the leases in a thread while the block runs."""
        return periodically("renewal of the leases", settings.LEASE_SECONDS / 3, self._renew_all, at_once=False)

    def record_progress(self, phase: str) -> None:
        """Note that the run is not hanging; call it at every step."""
        self._watch.record_progress(phase)

    def _renew_all(self) -> None:
        self._watch.end_if_stalled(f"generation {self._batch[0].pk}")
        for generation in self._batch:
            with traces.continued(generation):
                self._renew(generation)

    def _renew(self, generation: Generation) -> None:
        try:
            status = queue.renew(generation)
        except Exception:
            # The other leases of the batch must be renewed all the same.
            logger.exception("the lease of generation %s could not be renewed; trying again", generation.pk)
            return
        if status is LeaseStatus.LOST:
            self.lost.add(generation.pk)
        elif status is LeaseStatus.CANCEL_REQUESTED:
            self.cancel_requested.add(generation.pk)
