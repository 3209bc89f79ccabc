"""The memory in which the system keeps the content of files."""

import ctypes
import mmap
import os
from pathlib import Path

import pytest

PAGE = mmap.PAGESIZE
_libc = ctypes.CDLL(None, use_errno=True)


def forget(file: Path) -> None:
    """Write a file to the disk, and let the system forget its content. Skips the test where it does not."""
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
        os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(descriptor)
    if is_in_memory(file):
        pytest.skip("this file system keeps its files in memory")


def is_in_memory(file: Path) -> bool:
    """Return whether all pages of a file are in memory. Unlike a read that may not wait, this does not bring them there."""
    with file.open("r+b") as opened, mmap.mmap(opened.fileno(), 0) as mapping:
        size = len(mapping)
        pages = (ctypes.c_ubyte * -(-size // PAGE))()
        first = ctypes.c_char.from_buffer(mapping)
        failed = _libc.mincore(ctypes.c_void_p(ctypes.addressof(first)), ctypes.c_size_t(size), pages)
        # A mapping that is referred to cannot be closed.
        del first
    assert not failed, os.strerror(ctypes.get_errno())
    return all(page & 1 for page in pages)
