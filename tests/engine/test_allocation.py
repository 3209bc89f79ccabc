"""What a worker keeps of the memory that a call has freed."""

import platform
import subprocess
import sys

import pytest

from tests.support.environment import ROOT

FAULTS = """
import resource, sys
import torch
from generation.engine.allocation import keep_freed_memory, return_freed_memory

def new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    [torch.ones(2**20) for _ in range(50)]
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

keep_freed_memory()
print(new_pages(), new_pages())
return_freed_memory()
print(new_pages())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc can be told to keep memory")
def test_a_call_reuses_the_memory_of_the_call_before() -> None:
    finished = subprocess.run([sys.executable, "-c", FAULTS], cwd=ROOT, capture_output=True, text=True, check=True)
    first, second, after_return = map(int, finished.stdout.split())
    assert second < first / 4
    assert second < after_return / 4
