"""Whether a worker process takes work."""

import logging
import time

from django.conf import settings

from generation.engine.errors import DeviceLost

logger = logging.getLogger(__name__)

_SAME_SIGNAL_SECONDS = 1.0
"""A supervisor and the supervisor above it may both send the same signal."""


class DrainState:
    """Whether this process takes work: not after a stop signal, nor without its device, nor while staff have drained it.

    A process has one. It outlives the RQ worker that receives a signal, since each loss of Redis ends an RQ worker.
    """

    def __init__(self) -> None:
        self.is_drained = False
        self.has_lost_device = False
        self._stop_requested: float | None = None
        self._is_forced = False

    @property
    def is_stopping(self) -> bool:
        return self.has_lost_device or self._stop_requested is not None

    def lose_device(self, error: DeviceLost) -> None:
        """End the process's work, since no later run could use the device."""
        logger.critical("%s This worker ends, and its supervisor starts another one", error)
        self.has_lost_device = True

    def request_stop(self) -> None:
        """Handle a stop signal: the first one drains, another one a second later or more forces the release."""
        now = time.monotonic()
        if self._stop_requested is None:
            self._stop_requested = now
        elif now - self._stop_requested >= _SAME_SIGNAL_SECONDS:
            self._is_forced = True

    def should_release(self) -> bool:
        """Return whether to release the running batch: `DRAIN_SECONDS` after the first stop signal, or when forced."""
        if self._stop_requested is None:
            return False
        return self._is_forced or time.monotonic() - self._stop_requested >= settings.DRAIN_SECONDS
