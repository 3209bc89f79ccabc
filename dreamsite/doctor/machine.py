"""The machine: port, disks, memory, GPUs and torch."""

import errno
import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
from django.conf import settings

from dreamsite.doctor.findings import Finding
from dreamsite.host_names import url_host
from dreamsite.worker_setup import visible_gpus, worker_setups
from generation.images import disk

_HTTP_SECONDS = 5.0
_TORCH_SECONDS = 120.0
_SERVICE_BYTES = 2 * 1024**3
"""For the web process, the reaper and Redis, while two large pictures are decoded."""
_WORKER_BYTES = 1024**3
"""For a worker with the bundled model on the CPU."""

_CGROUP_LIMIT = Path("/sys/fs/cgroup/memory.max")

_DESCRIBE_TORCH = """
import json, torch
found = {"version": torch.__version__, "cuda": torch.version.cuda or torch.version.hip or "", "problem": "", "gpus": []}
try:
    if found["cuda"]:
        torch.cuda.init()
        built = torch.cuda.get_arch_list()
        for number in range(torch.cuda.device_count()):
            major, minor = torch.cuda.get_device_capability(number)
            has_code = not built or any(name.startswith(("sm_%d" % major, "compute_", "gfx")) for name in built)
            found["gpus"].append({"name": torch.cuda.get_device_name(number), "has_code": has_code})
except Exception as error:
    found["problem"] = str(error).splitlines()[0]
print(json.dumps(found))
"""
"""A program of its own, since torch is not loaded here."""


def port() -> Iterator[Finding]:
    """Whether PORT is free, or this service listens there."""
    where = f"{settings.HOST} port {settings.PORT}"
    if not settings.PORT:
        yield Finding("port", "PORT is 0: a free one is chosen at the start.")
        return
    try:
        family = socket.getaddrinfo(settings.HOST, settings.PORT, type=socket.SOCK_STREAM)[0][0]
        socket.create_server((settings.HOST, settings.PORT), family=family).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            advice = "Set HOST to an address of this machine, and PORT to one above 1023."
            yield Finding("port", f"Nothing can listen on {where}: {error.strerror or error}.", advice)
        elif _is_this_service():
            yield Finding("port", f"The service listens on {where}.")
        else:
            yield Finding("port", f"Another program listens on {where}.", "Stop it, or set PORT to a free one.")
        return
    yield Finding("port", f"Nothing listens on {where} yet.")


def _is_this_service() -> bool:
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.HOST, settings.HOST)  # noqa: S104
    try:
        response = httpx2.get(f"http://{url_host(host)}:{settings.PORT}/health", timeout=_HTTP_SECONDS)
        return bool(response.json() == {"status": "OK"})
    except (httpx2.HTTPError, ValueError):
        return False


def disks() -> Iterator[Finding]:
    """Whether the disks of data and models have room."""
    data = [found.folder for found in disk.data_disks()]
    for found in disk.disks([*data, settings.DATA_DIR, settings.MODELS_DIR]):
        if found.folder in data and found.free < found.refusal_bytes:
            advice = "Remove files, move DATA_DIR to a larger disk, or lower MIN_FREE_DISK."
            yield Finding("disk", f"That of {found.folder} is full: {found.space}, so requests are refused.", advice)
        elif found.is_nearly_full:
            advice = "Remove files, or move DATA_DIR or MODELS_DIR to a larger disk."
            yield Finding("disk", f"That of {found.folder} is nearly full: {found.space}.", advice)
        else:
            yield Finding("disk", f"On that of {found.folder} {found.space}.")


def memory() -> Iterator[Finding]:
    """Whether there is enough memory for the workers that `serve` starts here."""
    total = min([psutil.virtual_memory().total, *_cgroup_limit()])
    workers = len(worker_setups(settings.DEVICE))
    needed = _SERVICE_BYTES + workers * _WORKER_BYTES
    count = f"{workers} worker{'s' if workers > 1 else ''}"
    if total < needed:
        yield Finding(
            "memory",
            f"There are {total / 1e9:.1f} GB; the service with {count} takes up to {needed / 1e9:.1f} GB.",
            "Set WORKERS to 1, lower MAX_UPLOAD_PIXELS, or add memory.",
        )
    else:
        yield Finding("memory", f"There are {total / 1e9:.1f} GB, enough for {count} with the bundled model.")


def _cgroup_limit() -> list[int]:
    """Return the limit of this container or unit in bytes, if it has one."""
    try:
        text = _CGROUP_LIMIT.read_text().strip()
    except OSError:
        return []
    return [int(text)] if text.isdigit() else []


def torch() -> Iterator[Finding]:
    """Whether torch can be loaded, and use the GPUs that the driver lists."""
    found = _describe_torch()
    if isinstance(found, str):
        yield Finding("torch", f"torch cannot be loaded: {found}", "Install the requirements again: make .venv/run.")
        return
    listed = visible_gpus() if settings.DEVICE != "cpu" else []
    version, gpus = found["version"], found["gpus"]
    if listed and not found["cuda"]:
        yield Finding(
            "gpu",
            f"The driver lists {len(listed)}, but torch {version} is built for the CPU.",
            "Install the build of torch for CUDA, or set DEVICE=cpu.",
        )
    elif listed and not gpus:
        yield Finding(
            "gpu",
            f"torch {version} cannot use the {len(listed)} that are listed: {found['problem'] or 'it finds none'}.",
            f"Look at nvidia-smi; the driver must be one for CUDA {found['cuda']}. DEVICE=cpu does without.",
        )
    elif settings.DEVICE.startswith("cuda") and not gpus:
        yield Finding(
            "gpu", f"There is none, but DEVICE is {settings.DEVICE}.", "Install the driver, or set DEVICE=auto."
        )
    elif lacking := [gpu["name"] for gpu in gpus if not gpu["has_code"]]:
        advice = "Install a release of torch that is built for it, or leave it out by CUDA_VISIBLE_DEVICES."
        yield Finding("gpu", f"torch {version} has no code for {', '.join(lacking)}.", advice)
    else:
        names = ", ".join(gpu["name"] for gpu in gpus)
        yield Finding("torch", f"{version} works, {f'on {names}' if names else 'on the CPU'}.")


def _describe_torch() -> dict[str, Any] | str:
    """Return what torch says about itself, or in a line why it cannot be loaded."""
    try:
        finished = subprocess.run(
            [sys.executable, "-c", _DESCRIBE_TORCH],
            capture_output=True,
            text=True,
            timeout=_TORCH_SECONDS,
            env=os.environ,
        )
    except subprocess.TimeoutExpired:
        return f"it takes longer than {_TORCH_SECONDS:.0f} s."
    if finished.returncode:
        return (finished.stderr.strip().splitlines() or [f"status {finished.returncode}"])[-1]
    described: dict[str, Any] = json.loads(finished.stdout.splitlines()[-1])
    return described
