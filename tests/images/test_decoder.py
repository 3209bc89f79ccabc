"""The processes that decode uploads: their limits, and what happens when one fails."""

import json
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import psutil
import pytest

from generation.images import decoder, decoder_program
from generation.parameters import InvalidField
from tests.support import pictures
from tests.support.environment import ROOT
from tests.support.service import wait_until

MAX_PIXELS = 20_000_000
LARGE = pictures.photo(4000, 3000, "JPEG", quality=40)
SMALL = pictures.photo(40, 30)


def program() -> psutil.Process:
    """Return the program of the decoders of this process, which is started if it does not run."""
    decoder.decode(SMALL, MAX_PIXELS)
    children: list[psutil.Process] = psutil.Process().children()
    (found,) = [child for child in children if decoder_program.__name__ in child.cmdline()]
    return found


def decoding_processes(of: psutil.Process) -> list[psutil.Process]:
    with suppress(psutil.NoSuchProcess):
        return [child for child in of.children() if child.status() != psutil.STATUS_ZOMBIE]
    return []


@contextmanager
def meanwhile(act: Callable[[], None]) -> Iterator[None]:
    """Do something again and again within this context."""
    is_over = threading.Event()

    def repeat() -> None:
        while not is_over.is_set():
            act()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


def test_a_decoder_that_is_killed_costs_one_refusal() -> None:
    """As the kernel kills it when it has used its time, or the machine has no memory left."""
    running = program()

    def kill() -> None:
        for child in decoding_processes(running):
            with suppress(psutil.NoSuchProcess):
                child.kill()

    with meanwhile(kill), pytest.raises(InvalidField, match="too much time or memory"):
        decoder.decode(LARGE, MAX_PIXELS)
    assert decoder.decode(LARGE, MAX_PIXELS).size == (4000, 3000)


def test_the_program_of_the_decoders_is_started_again() -> None:
    first = program()
    first.kill()
    first.wait()
    assert decoder.decode(SMALL, MAX_PIXELS).size == (40, 30)
    assert program().pid != first.pid


def test_at_most_two_uploads_are_decoded_at_a_time() -> None:
    running = program()
    most = 0

    def count() -> None:
        nonlocal most
        most = max(most, len(decoding_processes(running)))

    with meanwhile(count), ThreadPoolExecutor(6) as pool:
        assert {picture.size for picture in pool.map(decoder.decode, [LARGE] * 6, [MAX_PIXELS] * 6)} == {(4000, 3000)}
    # A third may still be on its way out, after its answer.
    assert 1 <= most <= 3


def run_limited(attempt: str) -> int:
    """Run Python code in a process with the limits of a decoder, and return its exit code."""
    script = f"""
import os, signal, socket
from generation.images import decoder_program
decoder_program.CPU_SECONDS = 1
decoder_program.limit(1_000_000)
try:
    {attempt}
except OSError:
    os._exit(10)
except MemoryError:
    os._exit(11)
os._exit(0)
"""
    return subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode


@pytest.mark.parametrize(
    ("attempt", "code"),
    [
        ("pass", 0),
        ("open('/etc/passwd')", 10),
        ("open('/dev/null', 'w')", 10),
        ("socket.socket(socket.AF_INET)", 10),
        ("socket.socket(socket.AF_UNIX)", 10),
        ("os.pipe()", 10),
        ("bytearray(350_000_000)", 11),
        ("while True: pass", -signal.SIGKILL),
    ],
)
def test_the_limits_hold(attempt: str, code: int) -> None:
    assert run_limited(attempt) == code


def test_a_process_that_takes_too_long_is_ended() -> None:
    """One that waits uses no processor time."""
    script = """
import socket
from generation.images import decoder_program
decoder_program.SECONDS = 0.5
decoder_program.main(socket.socket(fileno=0))
"""
    control, its = socket.socketpair()
    with control, its, subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdin=its.fileno()) as running:
        connection, other = socket.socketpair()
        with connection:
            with other:
                socket.send_fds(control, [b"\0"], [other.fileno()])
            connection.settimeout(60)
            assert connection.recv(1) == b""
        control.close()
        assert running.wait(60) == 0


def test_the_decoders_end_with_the_process_that_started_them() -> None:
    script = f"""
import os, psutil
from generation.images import decoder
decoder.decode({SMALL!r}, 10_000)
print(psutil.Process().children()[0].pid, flush=True)
os._exit(0)
"""
    finished = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, check=True)
    wait_until(lambda: not psutil.pid_exists(int(finished.stdout)), "the end of the program of the decoders")


def test_the_program_knows_no_secrets_and_loads_no_django() -> None:
    running = program()
    assert running.environ().get("DATA_DIR") is None
    script = "import sys; from generation.images import decoding; print([*sys.modules])"
    finished = subprocess.run([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, check=True, env={})
    assert b"'PIL'" in finished.stdout
    for name in (b"'django'", b"'torch'", b"'redis'"):
        assert name not in finished.stdout


def test_the_limit_of_memory_is_left_out_where_there_is_none() -> None:
    """A system that refuses the limit as macOS does."""
    script = """
import resource, sys
setrlimit = resource.setrlimit
def as_on_macos(limit, values):
    if limit == resource.RLIMIT_AS:
        raise ValueError("current limit exceeds maximum limit")
    setrlimit(limit, values)
resource.setrlimit, sys.platform = as_on_macos, "darwin"
from generation.images import decoder_program
decoder_program.limit(1_000_000)
"""
    subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True)


HEADER = {"size": [2, 1], "reduced": [2, 1], "format": "PNG", "is_transparent": False}


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\n",
        b"[" * 9000 + b"\n",
        b"[]\n",
        b"7\n",
        json.dumps(HEADER).encode() + b"\n12345",
        json.dumps({**HEADER, "reduced": [2, -1]}).encode() + b"\n123456",
        json.dumps({**HEADER, "reduced": [100_000, 100_000]}).encode() + b"\n123456",
        json.dumps({**HEADER, "size": [True, 1]}).encode() + b"\n123456",
        json.dumps({**HEADER, "size": "12"}).encode() + b"\n123456",
        json.dumps({**HEADER, "format": "EXE"}).encode() + b"\n123456",
        json.dumps({**HEADER, "padding": "." * 20_000}).encode() + b"\n123456",
    ],
)
def test_an_answer_of_a_decoder_that_a_file_took_over_is_refused(
    answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with answering(answer) as connection:
        monkeypatch.setattr(decoder._Program, "connect", lambda _: connection)
        with pytest.raises(InvalidField, match="too much time or memory"):
            decoder.decode(SMALL, MAX_PIXELS)


def test_an_answer_is_read() -> None:
    with answering(json.dumps(HEADER).encode() + b"\n123456") as connection, connection.makefile("rb") as stream:
        assert decoder._read(stream, 2048, is_mask=False).picture.tobytes() == b"123456"


@contextmanager
def answering(answer: bytes) -> Iterator[socket.socket]:
    """Yield a connection on which this has been answered already. What is sent on it fits into its buffer."""
    ours, its = socket.socketpair()
    with ours, its:
        its.sendall(answer)
        its.shutdown(socket.SHUT_WR)
        yield ours
