"""Child processes that are kept running, and all ended together."""

import ctypes
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

logger = logging.getLogger(__name__)

_FIRST_BACKOFF = 0.5
_LONGEST_BACKOFF = 30.0
_HEALTHY_SECONDS = 30.0
_PR_SET_PDEATHSIG = 1


@dataclass
class Child:
    """A command that should always run. `grace` is how many seconds it may take to end after SIGTERM."""

    name: str
    command: Sequence[str]
    grace: float = 10.0
    pass_fds: Sequence[int] = ()
    _process: subprocess.Popen[bytes] | None = field(default=None, init=False)
    _started: float = field(default=0.0, init=False)
    _backoff: float = field(default=_FIRST_BACKOFF, init=False)
    _not_before: float = field(default=0.0, init=False)

    def start(self) -> None:
        # A session of its own: Ctrl-C reaches the supervisor alone, which then ends its children in order.
        self._process = subprocess.Popen(
            self.command,
            pass_fds=self.pass_fds,
            start_new_session=True,
            preexec_fn=_end_with_parent,
        )
        self._started = time.monotonic()

    def keep(self) -> None:
        """Start it again if it has died, at once after a long life, with growing pauses after short ones."""
        now = time.monotonic()
        if self._process is not None and self._process.poll() is not None:
            lived = now - self._started
            self._backoff = _FIRST_BACKOFF if lived >= _HEALTHY_SECONDS else min(self._backoff * 2, _LONGEST_BACKOFF)
            self._not_before = now + self._backoff
            code = self._process.returncode
            logger.warning("%s ended with status %d; starting it again in %.1f s", self.name, code, self._backoff)
            self._process = None
        if self._process is None and now >= self._not_before:
            self.start()

    def ask_to_end(self) -> None:
        if self._process is not None:
            self._process.terminate()

    def wait_for_end(self) -> None:
        if self._process is None:
            return
        try:
            self._process.wait(self.grace)
        except subprocess.TimeoutExpired:
            logger.warning("%s did not end in %.0f s and was killed", self.name, self.grace)
            self._process.kill()
            self._process.wait()


class Supervisor:
    """Runs groups of children. Groups start in their order and end in the reverse one, each group together."""

    def __init__(self) -> None:
        self._groups: list[list[Child]] = []
        self._ending: list[Child] = []
        self.is_stopping = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._request_stop)

    def start(self, children: list[Child]) -> None:
        self._groups.append(children)
        for child in children:
            child.start()

    def keep(self) -> None:
        for group in self._groups:
            for child in group:
                child.keep()

    def stop(self) -> None:
        """End all children. A second request to stop, meanwhile, is passed on to those that take their time."""
        for group in reversed(self._groups):
            self._ending = group
            for child in group:
                child.ask_to_end()
            for child in group:
                child.wait_for_end()

    def _request_stop(self, *_: object) -> None:
        if self.is_stopping:
            for child in self._ending:
                child.ask_to_end()
        self.is_stopping = True


def _end_with_parent() -> None:
    """Let the kernel send SIGTERM when the supervisor dies, whatever killed it, so that it leaves no orphan."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
