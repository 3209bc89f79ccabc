"""Look for watermarks in a process of its own, with limits: a search takes long, and web processes load no numpy.

It is not the process that decoded the picture, since a file that takes over its decoder must not find the key there.
"""

import json
import subprocess
import sys
import threading
from pathlib import Path

from PIL import Image

from generation.images.watermark_payload import Payload

_ROOT = Path(__file__).resolve().parents[2]

PROGRAM = "generation.images.watermark_program"

_SECONDS = 60.0
"""How long a search may take on a busy machine; one of the largest upload takes three seconds of a processor."""

_searches = threading.BoundedSemaphore(1)


class ReadingFailed(Exception):
    """It took too much time or memory to look for a watermark."""


def read(picture: Image.Image, key: bytes) -> Payload | None:
    """Return what the watermark of an RGB picture says, None if there is none; one search of this process at a time.

    Raises `ReadingFailed`.
    """
    options = {"size": picture.size, "key": key.hex()}
    with _searches:
        try:
            found = subprocess.run(
                [sys.executable, "-s", "-m", PROGRAM],
                input=json.dumps(options).encode() + b"\n" + picture.tobytes(),
                capture_output=True,
                timeout=_SECONDS,
                check=True,
                cwd=_ROOT,
                # There are secrets in the environment; numpy shall start no threads.
                env={"OPENBLAS_NUM_THREADS": "1"},
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            raise ReadingFailed from error
    return Payload.from_bytes(bytes.fromhex(found.decode())) if found else None
