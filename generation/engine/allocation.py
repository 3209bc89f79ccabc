"""Memory of the C library that a call of a model has freed, and that the next one needs again."""

import ctypes
import sys
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Names of `mallopt`'s parameters in glibc's malloc.h."""

_KEPT_BYTES = 512 * 2**20
_LARGEST_KEPT = 32 * 2**20
"""The most that glibc accepts. Larger blocks, such as many weights, return to the system when they are freed."""


def keep_freed_memory() -> None:
    """Keep up to 512 MB that are freed, on Linux with glibc.

    By default it keeps 64 MB, and a call gets and clears tens of thousands of new pages, a tenth of its time on a CPU.
    """
    if libc := _glibc():
        libc.mallopt(_MMAP_THRESHOLD, _LARGEST_KEPT)
        libc.mallopt(_TRIM_THRESHOLD, _KEPT_BYTES)


def return_freed_memory() -> None:
    """Return to the system what is kept."""
    if libc := _glibc():
        libc.malloc_trim(0)


def _glibc() -> Any:
    """Return the C library, or None if it is another one than glibc."""
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None)
    return libc if hasattr(libc, "mallopt") and hasattr(libc, "malloc_trim") else None
