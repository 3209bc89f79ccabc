"""The device and number type to compute with, and the memory available."""

import contextlib
import gc
import logging
import os
import resource
import timeit
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import torch

from generation.engine.allocation import return_freed_memory
from generation.engine.errors import DeviceMissing

log = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

_GPU_SHARE = 0.7
_HOST_SHARE = 0.4
_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")
_CGROUP_USAGE = Path("/sys/fs/cgroup/memory.stat")
_NO_MEMORY = ("can't allocate memory", "out of memory", "std::bad_alloc", "CUBLAS_STATUS_ALLOC_FAILED")
_RECOVERABLE = (*_NO_MEMORY, "no kernel image", "invalid argument", "invalid configuration")
_CUDA_ERRORS = (
    "CUDA error: ",
    *(
        f"{library}_STATUS_{status}"
        for library in ("CUBLAS", "CUDNN")
        for status in ("NOT_INITIALIZED", "MAPPING_ERROR", "EXECUTION_FAILED", "INTERNAL_ERROR")
    ),
)


def choose_device(name: str) -> torch.device:
    """Return the named device, for `auto` the best available one, and make it torch's current one.

    Raises `DeviceMissing` if there is no such device.
    """
    # Without a driver that fits torch, there are GPUs, but none is available.
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    has_mps = torch.backends.mps.is_available()
    if name == "auto":
        if not gpus and os.environ.get("CUDA_VISIBLE_DEVICES"):
            log.warning("torch finds none of the GPUs %s; computing on the CPU", os.environ["CUDA_VISIBLE_DEVICES"])
        return torch.device("cuda" if gpus else "mps" if has_mps else "cpu")
    device = torch.device(name)
    if (device.type == "cuda" and (device.index or 0) >= gpus) or (device.type == "mps" and not has_mps):
        raise DeviceMissing(
            f"The device {name} does not exist: torch {torch.__version__} finds {gpus} CUDA devices and "
            f"{'one' if has_mps else 'no'} MPS device. Choose another one, or install the driver and a build of torch for it."
        )
    if device.type == "cuda" and device.index is not None:
        # Whatever names no device would open a context on GPU 0, which takes some of its memory.
        torch.cuda.set_device(device)
    return device


def name_of(device: torch.device) -> str:
    """Return the name of a device for staff; that of a GPU has its model and the beginning of its UUID."""
    if device.type != "cuda":
        return str(device)
    card = torch.cuda.get_device_properties(device)
    return f"{device}, {card.name} GPU-{str(card.uuid)[:8]}"


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

    `neighbours` is the number of other workers that share this memory: that of a GPU, else that of the host.
    """
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[1] * _GPU_SHARE / (1 + neighbours))
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


def card_memory(device: torch.device, neighbours: int) -> int | None:
    """Return the bytes of a GPU for each of its workers, this one and its neighbours; None for devices without own memory."""
    return torch.cuda.mem_get_info(device)[1] // (1 + neighbours) if device.type == "cuda" else None


def release_memory(device: torch.device) -> None:
    """Return unreferenced memory to the device, and to the system."""
    gc.collect()
    return_freed_memory()
    if device.type == "cuda":
        torch.cuda.empty_cache()
    elif device.type == "mps":
        torch.mps.empty_cache()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether the error means that memory ran out; on CPU and MPS torch raises a plain RuntimeError."""
    return isinstance(error, (torch.OutOfMemoryError, MemoryError)) or _is_runtime_error(error, _NO_MEMORY)


def is_device_lost(error: BaseException) -> bool:
    """Return whether this error, or one that it follows from, left the process without a usable device.

    After an illegal memory access, a failed assertion on the device and their kind, every further call of CUDA in the same
    process fails. cuBLAS and cuDNN report them as errors of their own.
    """
    return any(
        (isinstance(link, torch.AcceleratorError) or _is_runtime_error(link, _CUDA_ERRORS))
        and not _is_runtime_error(link, _RECOVERABLE)
        for link in _chain(error)
    )


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _is_runtime_error(error: BaseException, texts: Iterable[str]) -> bool:
    return isinstance(error, RuntimeError) and any(text in str(error) for text in texts)


def _host_memory() -> int:
    """Return the bytes of the host's memory, or of the container's limit if that is lower."""
    host = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with contextlib.suppress(OSError, ValueError):  # no such limit, or "max"
        host = min(host, int(_CGROUP_LIMIT.read_text()))
    return host


def available_memory() -> int:
    """Return the bytes that the host, or the container, can still give; 0 where the system does not tell, as on macOS.

    What only keeps files counts as available.
    """
    try:
        available = 1024 * _read_field(Path("/proc/meminfo"), "MemAvailable:")
    except OSError:
        return 0
    with contextlib.suppress(OSError, ValueError):  # no such limit, or "max"
        available = min(available, int(_CGROUP_LIMIT.read_text()) - _read_field(_CGROUP_USAGE, "anon"))
    return available


def _read_field(path: Path, name: str) -> int:
    lines = (line.split() for line in path.read_text().splitlines())
    return next(int(words[1]) for words in lines if words[0] == name)


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
