"""A supervisor of child processes: it restarts those that end, and stops all of them together."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

_MIN_BACKOFF = 0.5
_MAX_BACKOFF = 30.0
_HEALTHY_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """A command to keep running, in this process's environment and `environment`.

    `grace` is the time in seconds that it may take to end after SIGTERM.
    """

    name: str
    command: Sequence[str]
    grace: float = 10.0
    pass_fds: Sequence[int] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _started: float = field(default=0.0, init=False)
    _backoff: float = field(default=_MIN_BACKOFF, init=False)
    _next_start: float = field(default=0.0, init=False)

    def start(self) -> None:
        # In a new session, so that Ctrl-C reaches only the supervisor, which then stops its children in order.
        self._process = subprocess.Popen(
            self.command,
            env={**os.environ, **self.environment},
            pass_fds=self.pass_fds,
            start_new_session=True,
            preexec_fn=_terminate_with_parent,
        )
        self._started = time.monotonic()

    def restart_if_ended(self) -> None:
        """Start it again if it has ended, after a pause that grows if it fails soon after each start."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            lifetime, code = now - self._started, self._process.returncode
            # With status 0 it ended on request.
            is_healthy = lifetime >= _HEALTHY_SECONDS or code == 0
            self._backoff = _MIN_BACKOFF if is_healthy else min(self._backoff * 2, _MAX_BACKOFF)
            self._next_start = now + self._backoff
            logger.warning("%s ended with status %d; starting it again in %.1f s", self.name, code, self._backoff)
            self._process = None
        if self._process is None and now >= self._next_start:
            self.start()

    def terminate(self) -> None:
        """Send SIGTERM."""
        if self._process is not None:
            self._process.terminate()

    def wait(self) -> None:
        """Wait until it has ended; kill it after `grace` seconds."""
        if self._process is None:
            return
        try:
            self._process.wait(self.grace)
        except subprocess.TimeoutExpired:
            logger.warning("%s did not end in %.0f s and was killed", self.name, self.grace)
            self._process.kill()
            self._process.wait()


class Supervisor:
    """Runs groups of children. Groups are started in order and stopped in reverse order, each group together.

    SIGINT and SIGTERM set `is_stopping`.
    """

    def __init__(self) -> None:
        self._groups: list[list[Child]] = []
        self._stopping_children: list[Child] = []
        self.is_stopping = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._request_stop)

    def start(self, children: list[Child]) -> None:
        self._groups.append(children)
        for child in children:
            child.start()

    def restart_ended(self) -> None:
        for group in self._groups:
            for child in group:
                child.restart_if_ended()

    def stop(self) -> None:
        """Stop all children. A second SIGINT or SIGTERM meanwhile is passed on to the group that is being stopped."""
        for group in reversed(self._groups):
            self._stopping_children = group
            for child in group:
                child.terminate()
            for child in group:
                child.wait()

    def _request_stop(self, *_: object) -> None:
        if self.is_stopping:
            for child in self._stopping_children:
                child.terminate()
        self.is_stopping = True


def _terminate_with_parent() -> None:
    """Make the kernel send SIGTERM to this process when the supervisor dies, so that no orphan remains."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
