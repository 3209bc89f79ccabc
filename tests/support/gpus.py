"""An `nvidia-smi` of our own, which lists GPUs as the driver's does."""

import os
from pathlib import Path

FIRST_GPU = "GPU-11111111-2b3c-4d5e-8f90-123456789abc"
SECOND_GPU = "GPU-22222222-2b3c-4d5e-8f90-123456789abc"
FIRST_INSTANCE = "MIG-33333333-2b3c-4d5e-8f90-123456789abc"
SECOND_INSTANCE = "MIG-44444444-2b3c-4d5e-8f90-123456789abc"

ONE_GPU = f"GPU 0: NVIDIA GeForce RTX 4090 (UUID: {FIRST_GPU})\n"
TWO_GPUS = ONE_GPU + f"GPU 1: NVIDIA GeForce RTX 3060 (UUID: {SECOND_GPU})\n"
INSTANCES = f"""\
GPU 0: NVIDIA A100-SXM4-80GB (UUID: {FIRST_GPU})
  MIG 3g.40gb     Device  0: (UUID: {FIRST_INSTANCE})
  MIG 3g.40gb     Device  1: (UUID: {SECOND_INSTANCE})
GPU 1: NVIDIA A100-SXM4-80GB (UUID: {SECOND_GPU})
"""


def path_with_nvidia_smi(directory: Path, output: str) -> str:
    """Return a PATH on which `nvidia-smi -L` prints this."""
    program = directory / "nvidia-smi"
    program.write_text(f"#!/bin/sh\n[ \"$*\" = -L ] || exit 2\ncat <<'END'\n{output}END\n")
    program.chmod(0o755)
    return f"{directory}{os.pathsep}{os.environ['PATH']}"
