"""A program that decodes and examines uploads, each in a new process with limits, for `generation.images.decoder`.

It has loaded all decoders once, and forks: so a new process costs some milliseconds, and none sees the pictures of another. Its
standard input is a unix socket, over which it is sent the connections on which uploads come.
"""

import gc
import json
import os
import resource
import select
import signal
import socket
import sys
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

SECONDS = 60.0
"""How long a picture may take on a busy machine."""

CPU_SECONDS = 10
"""A noisy photo of 12 megapixels takes 0.6 seconds."""

BASE_MEMORY = 300_000_000
MEMORY_PER_PIXEL = 20
"""Bytes of address space. A WebP needs 16 a pixel, a grey PNG with a transparent one 13, others less."""

_POLL_SECONDS = 1.0

_SMALL_STACK = 512 * 1024
"""Bytes. What fits into it when it is read here does so in each thread that reads it again, which has eight megabytes."""


def main(control: socket.socket) -> None:
    """Decode what comes on each connection that is sent on `control`, until that is closed."""
    # The process that uses this one ends it by closing the socket; a signal to all processes must not end it earlier.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    _load_decoders()
    gc.freeze()
    deadlines: dict[int, float] = {}
    while True:
        is_sent, _, _ = select.select([control], [], [], _POLL_SECONDS if deadlines else None)
        _reap(deadlines)
        if not is_sent:
            continue
        _, descriptors, _, _ = socket.recv_fds(control, 1, 1)
        if not descriptors:
            break
        with socket.socket(fileno=descriptors[0]) as connection:
            process = os.fork()
            if not process:
                control.close()
                _answer_and_exit(connection)
        deadlines[process] = time.monotonic() + SECONDS
    for process in deadlines:
        os.kill(process, signal.SIGKILL)


def limit(max_pixels: int) -> None:
    """Limit this process for the decoding of a picture of at most `max_pixels`.

    It can open neither files nor network connections any more.
    """
    # Not RLIMIT_NPROC, since the decoder of HEVC starts a thread.
    limits = dict.fromkeys((resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE), 0)
    limits[resource.RLIMIT_CPU] = CPU_SECONDS
    # macOS refuses any limit of address space.
    if sys.platform != "darwin":
        limits[resource.RLIMIT_AS] = BASE_MEMORY + MEMORY_PER_PIXEL * max_pixels
    for kind, value in limits.items():
        resource.setrlimit(kind, (value, value))


def _load_decoders() -> None:
    """Import all that decoding uses, since its processes cannot open files."""
    from PIL import AvifImagePlugin, Image

    import generation.images.decoding
    import generation.images.ingredients
    import generation.images.manifests  # noqa: F401

    Image.init()
    # A thread of each processor would take more memory, and gain nothing where two pictures are decoded at a time.
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def _reap(deadlines: dict[int, float]) -> None:
    """Remove the processes that have ended, and end those whose time is over."""
    now = time.monotonic()
    for process, deadline in list(deadlines.items()):
        if deadline < now:
            os.kill(process, signal.SIGKILL)
        ended, _ = os.waitpid(process, os.WNOHANG)
        if ended:
            del deadlines[process]


def _answer_and_exit(connection: socket.socket) -> NoReturn:
    """Do with the upload on a connection what is asked, within the limits, answer on it, and end the process.

    What comes is a line of JSON with the `task`, `max_pixels`, by which the memory is limited, and the `options` of one of the
    functions below, and the upload. The answer is a line of JSON, and for `decode` pixels. Without memory, or after any other
    failure, there is no answer.
    """
    try:
        # Libraries that write there shall not fill the log.
        os.dup2(sys.stdout.fileno(), sys.stderr.fileno())
        with connection.makefile("rb") as stream:
            request = json.loads(stream.readline())
            limit(request["max_pixels"])
            upload = stream.read()
        header, pixels = _TASKS[request["task"]](upload, **request["options"])
        for part in (json.dumps(header).encode() + b"\n", pixels):
            connection.sendall(part)
    finally:
        os._exit(0)


def _decode(upload: bytes, **options: Any) -> tuple[dict[str, Any], bytes]:
    """Decode as `generation.images.decoding.decode` does, which has the options.

    The header has either `refusal`, the message, or `size`, the upright width and height, `format`, `is_transparent`, and
    `reduced`, width and height of the pixels of mode RGB, or 1 for a mask, which follow.
    """
    from generation.images.decoding import decode
    from generation.parameters import InvalidField

    try:
        decoded = decode(upload, **options)
    except InvalidField as error:
        return {"refusal": error.message}, b""
    header = {
        "size": decoded.size,
        "reduced": decoded.picture.size,
        "format": decoded.format,
        "is_transparent": decoded.is_transparent,
    }
    return header, decoded.picture.tobytes()


def _read_mark(upload: bytes, anchors: Sequence[str], serial_numbers: Sequence[str]) -> tuple[dict[str, Any], bytes]:
    """Read content credentials as `generation.images.manifests.mark` does; the header has `mark`."""
    from generation.images.manifests import mark

    found = mark(upload, anchors, serial_numbers)
    return {"mark": found and found.model_dump(mode="json")}, b""


def _read_ingredient(
    upload: bytes, anchors: Sequence[str], serial_numbers: Sequence[str]
) -> tuple[dict[str, Any], bytes]:
    """Read content credentials as `generation.images.ingredients.read` does.

    The header has `claims`, and `redacted` if there is an ingredient, whose archive follows.
    """
    from generation.images import ingredients

    found: list[Any] = []
    threading.stack_size(_SMALL_STACK)
    thread = threading.Thread(target=lambda: found.append(ingredients.read(upload, anchors, serial_numbers)))
    thread.start()
    thread.join()
    (read,) = found
    if read is None:
        return {"claims": None, "redacted": None}, b""
    claims, ingredient = read
    redacted, archive = (ingredient.redacted, ingredient.archive) if ingredient else (None, b"")
    return {"claims": claims.model_dump(mode="json"), "redacted": redacted}, archive


_TASKS: dict[str, Callable[..., tuple[dict[str, Any], bytes]]] = {
    "decode": _decode,
    "mark": _read_mark,
    "ingredient": _read_ingredient,
}

if __name__ == "__main__":
    with socket.socket(fileno=sys.stdin.fileno()) as control:
        main(control)
