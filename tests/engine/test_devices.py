"""The choice of device and number type, and what errors say about the device."""

import os
import subprocess
import sys

import pytest
import torch

from generation.engine.devices import choose_device, is_device_lost, is_out_of_memory
from generation.engine.errors import DeviceMissing, ModelFailed
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


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_missing_gpu_is_said_and_with_auto_the_cpu_computes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(DeviceMissing, match=r"The device cuda:1 does not exist: torch .* finds 0 CUDA devices"):
        choose_device("cuda:1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "GPU-1")
    assert choose_device("auto") == torch.device("cpu")
    assert caplog.messages == ["torch finds none of the GPUs GPU-1; computing on the CPU"]


@pytest.mark.parametrize(
    ("error", "is_lost", "is_memory"),
    [
        (torch.AcceleratorError("CUDA error: an illegal memory access was encountered\nCUDA kernel ..."), True, False),
        (torch.AcceleratorError("CUDA error: device-side assert triggered"), True, False),
        (RuntimeError("CUDA error: unspecified launch failure"), True, False),
        (RuntimeError("CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasSgemm(...)`"), True, False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_INTERNAL_ERROR"), True, False),
        (torch.AcceleratorError("CUDA error: out of memory"), False, True),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB."), False, True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), False, True),
        (torch.AcceleratorError("CUDA error: no kernel image is available for execution on the device"), False, False),
        (RuntimeError("cuDNN error: CUDNN_STATUS_NOT_SUPPORTED"), False, False),
        (ValueError("CUDA error: the prompt"), False, False),
    ],
)
def test_errors_of_a_lost_device_and_of_memory(error: Exception, is_lost: bool, is_memory: bool) -> None:
    """The texts are those of torch; no GPU was there to say them."""
    follow_up = ModelFailed("It could not be loaded.")
    follow_up.__cause__ = error
    assert (is_device_lost(error), is_device_lost(follow_up), is_out_of_memory(error)) == (is_lost, is_lost, is_memory)
