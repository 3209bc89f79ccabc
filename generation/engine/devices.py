"""The device and number type to compute with, and the memory available."""

import contextlib
import gc
import os
import resource
import timeit
from functools import cache
from pathlib import Path

import torch

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_GPU_SHARE = 0.7
_HOST_SHARE = 0.4
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")


def choose_device(name: str) -> torch.device:
    """Return the named device, for `auto` the best available one."""
    if name != "auto":
        return torch.device(name)
    if torch.cuda.is_available():
        return torch.device("cuda")
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def choose_dtype(name: str, device: torch.device, faithful_in_bfloat16: bool, on_gpu: str = "float16") -> torch.dtype:
    """Return the named type, for `auto` the fastest one that does not change the pictures.

    `on_gpu` is the type that the model was made for; a CUDA device without bfloat16 computes in float32 instead.
    """
    if name != "auto":
        return DTYPES[name]
    if device.type == "cuda":
        has_type = on_gpu != "bfloat16" or torch.cuda.is_bf16_supported(including_emulation=False)
        return DTYPES[on_gpu] if has_type else torch.float32
    if device.type == "cpu" and faithful_in_bfloat16 and _bfloat16_is_faster():
        return torch.bfloat16
    # On MPS some attention sizes overflow in float16.
    return torch.float32


def memory_budget(device: torch.device, neighbours: int) -> int:
    """Return the bytes that warm pipelines may use: a share of the memory, the rest is for the computation.

    Workers on a CPU share the host's memory; `neighbours` is the number of others on this host. A GPU has one worker.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1] * _GPU_SHARE)
    return int(_host_memory() * _HOST_SHARE / (1 + neighbours))


def memory(device: torch.device) -> tuple[int, int]:
    """Return bytes in use and bytes in total: this process's tensors on a GPU, else this process on the host."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device), torch.cuda.mem_get_info(device)[1]
    page = os.sysconf("SC_PAGE_SIZE")
    try:
        used = int(Path("/proc/self/statm").read_text().split()[1]) * page
    except OSError:  # macOS has only the peak usage, in bytes
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return used, _host_memory()


def release_memory(device: torch.device) -> None:
    """Return unreferenced memory to the device."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error means that memory ran out; on CPU and MPS torch raises a plain RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    text = str(error)
    return isinstance(error, RuntimeError) and any(
        words in text for words in ("can't allocate memory", "out of memory", "std::bad_alloc")
    )


def _host_memory() -> int:
    """Return the bytes of the host's memory, or of the container's limit if that is lower."""
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no such limit, or "max"
        host = min(host, int(_CGROUP_LIMIT.read_text()))
    return host


@cache
def _bfloat16_is_faster() -> bool:
    """Measure whether convolutions, most of a UNet's work, gain a fifth or more on this CPU in bfloat16. Takes 0.1 s.

    The CPU's flags do not tell: with AMX a step is three to six times as fast as in float32, but among CPUs that have
    AVX512-BF16 alone it was 1.75 times as fast on one and 1.7 times as slow on another.
    """
    if not torch.cpu.get_capabilities().get("avx512_bf16"):
        return False

    def seconds(dtype: torch.dtype) -> float:
        pixels, kernel = torch.ones(1, 128, 32, 32, dtype=dtype), torch.ones(128, 128, 3, 3, dtype=dtype)
        return min(timeit.repeat(lambda: torch.nn.functional.conv2d(pixels, kernel), number=1, repeat=8))

    with torch.inference_mode():
        return seconds(torch.float32) > 1.2 * seconds(torch.bfloat16)
