"""The choice of the number type."""

import os
import subprocess
import sys

from tests.support.environment import ROOT

CHOOSE = """
import torch
from generation.engine.devices import choose_dtype
print(choose_dtype("auto", torch.device("cpu"), True), choose_dtype("bfloat16", torch.device("cpu"), True))
"""


def test_a_cpu_that_is_slower_in_bfloat16_computes_in_float32() -> None:
    """oneDNN is held to the instructions of a CPU without units for bfloat16; the flags that torch reads still have them."""
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}
    command = [sys.executable, "-c", CHOOSE]
    finished = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    assert finished.stdout.split() == ["torch.float32", "torch.bfloat16"]
