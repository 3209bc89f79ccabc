"""Where and in which numbers to compute, and how much memory there is for it."""

import contextlib
import gc
import os
import resource
from pathlib import Path

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_GPU_SHARE = 0.7
_HOST_SHARE = 0.4
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def choose_device(name: str) -> torch.device:
    """The named device, or for `auto` the best that is there."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_dtype(name: str, device: torch.device, faithful_in_bfloat16: bool) -> torch.dtype:
    """The named type, or for `auto` the fastest that keeps the pictures what they are."""
    if name != "auto":
        return DTYPES[name]
    if device.type == "cuda":
        return torch.float16
    if device.type == "cpu" and faithful_in_bfloat16 and _computes_bfloat16():
        return torch.bfloat16
    # A CPU without units for bfloat16 is five times slower in it; on MPS some attention sizes overflow in float16.
    return torch.float32


def memory_budget(device: torch.device, neighbours: int) -> int:
    """Bytes that warm pipelines may take: a share of the GPU's or the host's memory that leaves room for the work.

    The host's memory is divided with so many `neighbours`, other workers on it; a GPU is one worker's own.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1] * _GPU_SHARE)
    return int(_host_memory() * _HOST_SHARE / (1 + neighbours))


def memory(device: torch.device) -> tuple[int, int]:
    """Bytes in use and bytes there are: on a GPU this process's tensors, else this process beside all of the host's."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device), torch.cuda.mem_get_info(device)[1]
    page = os.sysconf("SC_PAGE_SIZE")
    try:
        used = int(Path("/proc/self/statm").read_text().split()[1]) * page
    except OSError:  # macOS tells the most that was ever used, in bytes
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used, _host_memory()


def release_memory(device: torch.device) -> None:
    """Give back what nothing refers to any more."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this says that memory ran out; on CPU and MPS torch raises a plain RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        words in text for words in ("can't allocate memory", "out of memory", "std::bad_alloc")
    )


def _host_memory() -> int:
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no such limit, or "max"
        host = min(host, int(_CGROUP_LIMIT.read_text()))
    return host


def _computes_bfloat16() -> bool:
    """Whether the CPU multiplies in bfloat16 itself: with AMX three to six times as fast as float32, else 1.8 times."""
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
