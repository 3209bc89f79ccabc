"""A supervisor of child processes: it restarts those that end, and stops all of them together."""

import ctypes
import logging
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.process import BaseProcess
from typing import Protocol

logger = logging.getLogger(__name__)

_MIN_BACKOFF = 0.5
_MAX_BACKOFF = 30.0
_HEALTHY_SECONDS = 30.0
_POLL_SECONDS = 0.2
_STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PR_SET_PDEATHSIG = 1


class Process(Protocol):
    """A running process, as `subprocess` has it."""

    def poll(self) -> int | None: ...

    def wait(self, timeout: float) -> object: ...

    def terminate(self) -> None: ...

    def kill(self) -> None: ...


@dataclass
class Child:
    """A process to keep running; `launch` starts it. `grace` is the time in seconds that it may take to end after SIGTERM."""

    name: str
    launch: Callable[[], Process]
    grace: float = 10.0
    _process: Process | None = field(default=None, init=False)
    _started: float = field(default=0.0, init=False)
    _terminated: float = field(default=0.0, init=False)
    _backoff: float = field(default=_MIN_BACKOFF, init=False)
    _next_start: float = field(default=0.0, init=False)

    def start(self) -> None:
        self._process = self.launch()
        self._started = time.monotonic()

    def restart_if_ended(self) -> None:
        """Start it again if it has ended, after a pause that grows if it fails soon after each start."""
        now = time.monotonic()
        if self._process is not None and (code := self._process.poll()) is not None:
            # With status 0 it ended on request.
            is_healthy = now - self._started >= _HEALTHY_SECONDS or code == 0
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
            self._terminated = time.monotonic()

    def wait(self) -> None:
        """Wait until it has ended; kill it `grace` seconds after SIGTERM was sent."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, self._terminated + self.grace - time.monotonic()))
        except subprocess.TimeoutExpired:
            logger.warning("%s did not end in %.0f s and was killed", self.name, self.grace)
            self._process.kill()
            self._process.wait(self.grace)


class Supervisor:
    """Runs groups of children. Groups are started in order and stopped in reverse order, each group together.

    SIGINT and SIGTERM set `is_stopping`.
    """

    def __init__(self) -> None:
        self._groups: list[list[Child]] = []
        self._stopping_children: list[Child] = []
        self.is_stopping = False
        for number in _STOP_SIGNALS:
            signal.signal(number, self._request_stop)

    def start(self, children: list[Child]) -> None:
        self._groups.append(children)
        for child in children:
            child.start()

    def restart_ended(self) -> None:
        for group in self._groups:
            for child in group:
                child.restart_if_ended()

    def run(self) -> None:
        """Restart what ends, until a stop is requested."""
        while not self.is_stopping:
            self.restart_ended()
            time.sleep(_POLL_SECONDS)

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


def run_program(
    command: Sequence[str], pass_fds: Sequence[int] = (), environment: Mapping[str, str] | None = None
) -> Process:
    """Start a program in this process's environment and `environment`. SIGTERM ends it when this process dies.

    It is in a new session, so that Ctrl-C reaches only the supervisor, which then stops its children in order.
    """
    return subprocess.Popen(
        command,
        env={**os.environ, **(environment or {})},
        pass_fds=pass_fds,
        start_new_session=True,
        preexec_fn=partial(_terminate_with_parent, os.getpid()),
    )


def fork(target: Callable[[], None]) -> Process:
    """Call `target` in a fork of this process, which must have no other threads. Otherwise it is as a program is run.

    Its status is 0 when `target` returns, and 1 when that raises.
    """
    forked = _Fork(target)
    # Until the fork has handlers of its own: this process's would swallow what is sent to it.
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOP_SIGNALS)
    try:
        forked.process.start()
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    return forked


class _Fork:
    def __init__(self, target: Callable[[], None]) -> None:
        arguments = (target, os.getpid())
        self.process: BaseProcess = multiprocessing.get_context("fork").Process(target=_run_fork, args=arguments)

    def poll(self) -> int | None:
        return self.process.exitcode

    def wait(self, timeout: float) -> None:
        """Raises `subprocess.TimeoutExpired`."""
        self.process.join(timeout)
        if self.process.exitcode is None:
            raise subprocess.TimeoutExpired("a fork", timeout)

    def terminate(self) -> None:
        self.process.terminate()

    def kill(self) -> None:
        self.process.kill()


def _run_fork(target: Callable[[], None], parent: int) -> None:
    os.setsid()
    for number in _STOP_SIGNALS:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOP_SIGNALS)
    _terminate_with_parent(parent)
    target()


def _terminate_with_parent(parent: int) -> None:
    """Make the kernel send SIGTERM to this process when the supervisor dies, so that no orphan remains."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            # It died before the kernel knew.
            os.kill(os.getpid(), signal.SIGTERM)
