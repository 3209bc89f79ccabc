"""How the workers of this machine run: on which GPU, with how many threads, beside how many others. Needs no torch."""

import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings

WORKER_GRACE = settings.DRAIN_SECONDS + 30.0
"""How long a worker may take to end after SIGTERM, in seconds."""

_LIST_SECONDS = 30.0
"""Without the persistence mode, the driver first wakes each GPU."""
_UUID = re.compile(r"\(UUID: ([^)]+)\)")
_ENTRY = re.compile(r"\d+|(GPU|MIG)-\S+")


@dataclass(frozen=True)
class WorkerSetup:
    """How one worker runs.

    `number` counts the workers of its pool from 1. `gpu` is what CUDA_VISIBLE_DEVICES must be, so that the worker sees its
    GPU alone; None leaves it as it is. `neighbours` are the other workers of this machine, which share its memory;
    `gpu_neighbours` those among them that share the GPU. `is_on_cpu` says that the driver lists no GPU and the setting none.
    """

    pool: str
    number: int
    gpu: str | None
    threads: int
    neighbours: int
    gpu_neighbours: int
    is_on_cpu: bool

    @property
    def name(self) -> str:
        return f"worker {self.number} of {self.pool}" + (f" on {self.gpu}" if self.gpu else "")


def can_fork(setups: Sequence[WorkerSetup]) -> bool:
    """Return whether these workers can be forks of one process: only on the CPU, and on macOS its libraries forbid it."""
    return sys.platform == "linux" and all(setup.is_on_cpu for setup in setups)


def worker_setups(device: str) -> list[WorkerSetup]:
    """Return the setups of all workers of this machine, pool by pool; `device` is a value of the setting DEVICE.

    WORKERS says how many each pool has. If it is 0, the pools share out the GPUs, a worker for each, and every pool has at
    least one; without a GPU each has two workers of half the cores, which do nearly twice the work of one worker of all.
    With more workers than GPUs, the GPUs take turns.
    """
    gpus = visible_gpus() if device in ("auto", "cuda") else []
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    names, pools = settings.POOLS, len(settings.POOLS)
    if settings.WORKERS:
        counts = [settings.WORKERS] * pools
    elif gpus or _is_single_gpu(device):
        counts = [len(range(pool, max(pools, len(gpus)), pools)) for pool in range(pools)]
    else:
        counts = [min(2, cores)] * pools
    workers = [(name, number) for name, count in zip(names, counts, strict=True) for number in range(1, count + 1)]
    devices = len(gpus) or 1
    threads = settings.THREADS or max(1, cores // len(workers))
    return [
        WorkerSetup(
            pool=pool,
            number=number,
            gpu=gpus[index % devices] if gpus else None,
            threads=threads,
            neighbours=len(workers) - 1,
            gpu_neighbours=len(range(index % devices, len(workers), devices)) - 1,
            is_on_cpu=not gpus and not _is_single_gpu(device),
        )
        for index, (pool, number) in enumerate(workers)
    ]


def visible_gpus() -> list[str]:
    """Return the GPUs that processes of this environment may use, as CUDA_VISIBLE_DEVICES names them; empty if there is none.

    That variable decides if it is set: numbers and UUIDs of GPUs and of MIG instances, up to the first invalid entry, as CUDA
    reads it. Otherwise these are the UUIDs that the driver's `nvidia-smi` lists: numbers are not, since CUDA may count in
    another order. A GPU that is divided into MIG instances counts as these, of which a process can use only one.
    """
    listed = os.environ.get("CUDA_VISIBLE_DEVICES")
    if listed is None:
        return _installed_gpus()
    gpus: list[str] = []
    for entry in listed.split(","):
        if not _ENTRY.fullmatch(entry.strip()):
            break
        gpus.append(entry.strip())
    return list(dict.fromkeys(gpus))


def _installed_gpus() -> list[str]:
    try:
        finished = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=_LIST_SECONDS)
    except (OSError, subprocess.TimeoutExpired):  # no driver, or one that hangs
        return []
    gpus: list[str] = []
    for line in finished.stdout.splitlines():
        if match := _UUID.search(line):
            if line.startswith(" ") and gpus and gpus[-1].startswith("GPU-"):
                gpus.pop()  # the GPU that this instance is a part of
            gpus.append(match[1])
    return gpus


def _is_single_gpu(device: str) -> bool:
    """Return whether this setting, without a list of GPUs, means one GPU; `auto` is that of Apple's processors."""
    return device.startswith(("cuda", "mps")) or (
        device == "auto" and (platform.system(), platform.machine()) == ("Darwin", "arm64")
    )
