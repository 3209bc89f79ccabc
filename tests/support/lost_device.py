"""A GPU that is lost: where the network runs, torch's error after an illegal memory access. As a program, a worker on it."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import torch
from torch.nn.modules.module import register_module_forward_pre_hook

ERROR = """CUDA error: an illegal memory access was encountered
CUDA kernel errors might be asynchronously reported at some other API call, so the stacktrace below might be incorrect.
"""


@contextmanager
def lost_device(width: int = 32) -> Iterator[list[int]]:
    """Lose the device in each call of a UNet for latents wider than this. Yield the widths of these calls.

    The default lets a worker warm tiny-edit, and fails for all larger pictures.
    """
    diffusers: Any = import_module("diffusers")
    widths: list[int] = []

    def lose(module: torch.nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, diffusers.UNet2DConditionModel) and arguments[0].shape[-1] > width:
            widths.append(arguments[0].shape[-1])
            raise torch.AcceleratorError(ERROR)

    hook = register_module_forward_pre_hook(lose)
    yield widths
    hook.remove()


if __name__ == "__main__":
    from django.core.management import execute_from_command_line

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "dreamsite.settings")
    with lost_device():
        execute_from_command_line(["manage.py", "worker", *sys.argv[1:]])
