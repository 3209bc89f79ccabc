"""Decode and examine uploads in processes of their own, with limits: start `generation.images.decoder_program`, and ask it.

Nothing that comes back is trusted: a file that takes over its decoder cannot make this process do more than read pixels.
"""

import atexit
import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Any, NamedTuple, TypeVar

from PIL import Image

from generation.images import decoder_program
from generation.images.certificates import KnownCertificate
from generation.images.ingredients import MAX_ARCHIVE_BYTES, MAX_REDACTIONS, Ingredient
from generation.images.kinds import FORMATS
from generation.images.manifests import Claims, Mark
from generation.images.sizes import MAX_INPUT_SIDE, MAX_SIDE
from generation.parameters import InvalidField

_Answer = TypeVar("_Answer")

_ROOT = Path(__file__).resolve().parents[2]

_AT_ONCE = 2
"""Uploads that this process has decoded at a time, since a small file can have half a gigabyte of pixels."""

_SECONDS = decoder_program.SECONDS + 10.0
"""How long to wait for an answer; the program ends what takes longer than its own time."""

_MAX_HEADER_BYTES = 10_000

_MAX_MARK_BYTES = 100_000
"""What a mark tells may have two prompts, six bytes for each character."""

_TOO_MUCH = (
    "The picture takes too much time or memory to decode; reduce it, or save it again as JPEG or PNG, and send that"
)


class DecodedPicture(NamedTuple):
    """A picture of mode RGB, or 1 for a mask; the upright size of the upload before any reduction; its format, of
    `kinds.FORMATS`; and whether some of it is transparent.
    """

    picture: Image.Image
    size: tuple[int, int]
    format: str
    is_transparent: bool


def decode(content: bytes, max_pixels: int, max_side: int = MAX_INPUT_SIDE, *, is_mask: bool = False) -> DecodedPicture:
    """Decode an upload as `generation.images.decoding.decode` does, in a new process.

    Raises `InvalidField` on `image`, also if the process ends without an answer: it failed, or reached one of its limits.
    """
    options = {"max_pixels": max_pixels, "max_side": max_side, "is_mask": is_mask}
    with _decodings:
        return _ask("decode", max_pixels, options, content, lambda answer: _read(answer, max_side, is_mask=is_mask))


def read_mark(content: bytes, max_pixels: int, known: Sequence[KnownCertificate]) -> Mark | None:
    """Read the content credentials of a file of anybody as `generation.images.manifests.mark` does, in a new process.

    Raises `InvalidField` on `image` if the process ends without an answer.
    """

    def read(answer: IO[bytes]) -> Mark | None:
        found = json.loads(answer.readline(_MAX_MARK_BYTES))["mark"]
        return Mark.model_validate(found) if found else None

    return _ask("mark", max_pixels, _trust(known), content, read)


def read_ingredient(
    content: bytes, max_pixels: int, known: Sequence[KnownCertificate]
) -> tuple[Claims, Ingredient | None] | None:
    """Read the content credentials of an upload as `generation.images.ingredients.read` does, in a new process.

    If that ends without an answer they are unreadable.
    """

    def read(answer: IO[bytes]) -> tuple[Claims, Ingredient | None] | None:
        header = json.loads(answer.readline(_MAX_MARK_BYTES))
        if header["claims"] is None:
            return None
        claims, redacted = Claims.model_validate(header["claims"]), header["redacted"]
        if redacted is None:
            return claims, None
        archive = answer.read(MAX_ARCHIVE_BYTES)
        return claims, Ingredient(archive, [str(address) for address in redacted[:MAX_REDACTIONS]])

    try:
        with _decodings:
            return _ask("ingredient", max_pixels, _trust(known), content, read)
    except InvalidField:
        return Claims(state="unreadable"), None


def _trust(known: Sequence[KnownCertificate]) -> dict[str, Any]:
    """Return how to know what this site has signed."""
    return {
        "anchors": [certificate.anchor for certificate in known],
        "serial_numbers": [str(certificate.serial_number) for certificate in known],
    }


def _ask(
    task: str, max_pixels: int, options: dict[str, Any], content: bytes, read: Callable[[IO[bytes]], _Answer]
) -> _Answer:
    """Have a new process do a task of the program, and return what `read` makes of its answer."""
    request = {"task": task, "max_pixels": max_pixels, "options": options}
    with _program.connect() as connection:
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            connection.sendall(content)
            connection.shutdown(socket.SHUT_WR)
            with connection.makefile("rb") as answer:
                return read(answer)
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise InvalidField("image", _TOO_MUCH) from error


def start() -> None:
    """Start the program, so that the first upload need not wait until it is loaded."""
    _program.connect().close()


class _Program:
    """The program of the decoders. It is started with the first upload, and again after it has ended."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._control: socket.socket | None = None

    def connect(self) -> socket.socket:
        """Return a connection to a new process for one upload."""
        ours, its = socket.socketpair()
        ours.settimeout(_SECONDS)
        with its, self._lock:
            try:
                self._hand_over(its)
            except OSError:
                # The program has ended, as when the machine had no memory left.
                self.stop()
                self._hand_over(its)
        return ours

    def _hand_over(self, connection: socket.socket) -> None:
        if self._control is None:
            self._control = self._start()
        socket.send_fds(self._control, [b"\0"], [connection.fileno()])

    def _start(self) -> socket.socket:
        """Start the program, and return the socket over which it takes connections; it ends when that is closed."""
        ours, its = socket.socketpair()
        with its:
            self._process = subprocess.Popen(
                [sys.executable, "-s", "-m", decoder_program.__name__],
                stdin=its.fileno(),
                stdout=subprocess.DEVNULL,
                cwd=_ROOT,
                # There are secrets in the environment.
                env={},
            )
        return ours

    def stop(self) -> None:
        """End the program, if it runs, and the processes that it has started."""
        if self._control is not None and self._process is not None:
            self._control.close()
            self._process.wait()
        self._control = None


def _read(answer: IO[bytes], max_side: int, *, is_mask: bool) -> DecodedPicture:
    """Read an answer of the program. Raises `InvalidField` if it is a refusal, other errors if it is none at all."""
    header = json.loads(answer.readline(_MAX_HEADER_BYTES))
    if "refusal" in header:
        raise InvalidField("image", str(header["refusal"]))
    if header["format"] not in FORMATS:
        raise ValueError("unknown format")
    width, height = _sides(header["reduced"], max_side)
    # A mask has a bit for each pixel, and whole bytes for each row.
    mode, row_bytes = ("1", -(-width // 8)) if is_mask else ("RGB", 3 * width)
    # Raises ValueError if there are too few.
    picture = Image.frombytes(mode, (width, height), answer.read(row_bytes * height))
    return DecodedPicture(picture, _sides(header["size"], MAX_SIDE), header["format"], header["is_transparent"] is True)


def _sides(value: list[int], maximum: int) -> tuple[int, int]:
    width, height = value
    if not (type(width) is type(height) is int and 1 <= min(width, height) <= max(width, height) <= maximum):
        raise ValueError("not the sides of a picture")
    return width, height


_decodings = threading.BoundedSemaphore(_AT_ONCE)
_program = _Program()
atexit.register(_program.stop)
