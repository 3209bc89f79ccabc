"""Workers run on the GPUs that the driver lists, or that CUDA_VISIBLE_DEVICES allows."""

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
from pytest_django import Settings

from dreamsite.worker_setup import can_fork, visible_gpus, worker_setups
from tests.support.gpus import (
    FIRST_GPU,
    FIRST_INSTANCE,
    INSTANCES,
    SECOND_GPU,
    SECOND_INSTANCE,
    TWO_GPUS,
    path_with_nvidia_smi,
)


@pytest.fixture(autouse=True)
def _no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


@pytest.mark.parametrize(
    ("output", "gpus"),
    [
        (TWO_GPUS, [FIRST_GPU, SECOND_GPU]),
        (INSTANCES, [FIRST_INSTANCE, SECOND_INSTANCE, SECOND_GPU]),
        ("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", []),
    ],
)
def test_the_driver_lists_gpus_and_parts_of_them(
    output: str, gpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_with_nvidia_smi(tmp_path, output))
    assert visible_gpus() == gpus


def test_without_a_driver_there_are_no_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert visible_gpus() == []


@pytest.mark.parametrize(
    ("listed", "gpus"),
    [
        ("1, 0", ["1", "0"]),
        (f"{SECOND_GPU},{FIRST_INSTANCE}", [SECOND_GPU, FIRST_INSTANCE]),
        ("MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0", ["MIG-GPU-8932f937-d72c-4106-c12f-20bd9faed9f6/1/0"]),
        ("0,-1,1", ["0"]),
        ("2,2", ["2"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_cuda_visible_devices_decides(
    listed: str, gpus: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", path_with_nvidia_smi(tmp_path, TWO_GPUS))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    assert visible_gpus() == gpus


@pytest.mark.parametrize(
    ("listed", "device", "pools", "workers", "expected"),
    [
        ("0,1", "auto", "a", 0, ["a1 on 0", "a2 on 1"]),
        ("0,1", "cuda", "a", 0, ["a1 on 0", "a2 on 1"]),
        ("0,1,2", "auto", "ab", 0, ["a1 on 0", "a2 on 1", "b1 on 2"]),
        ("0", "auto", "ab", 0, ["a1 on 0 beside 1", "b1 on 0 beside 1"]),
        ("0,1", "auto", "a", 1, ["a1 on 0"]),
        ("0,1", "auto", "a", 3, ["a1 on 0 beside 1", "a2 on 1", "a3 on 0 beside 1"]),
        ("0,1", "auto", "ab", 2, ["a1 on 0 beside 1", "a2 on 1 beside 1", "b1 on 0 beside 1", "b2 on 1 beside 1"]),
        # One device for all, which the workers find themselves.
        ("0,1", "cuda:1", "a", 0, ["a1"]),
        ("", "cuda", "a", 0, ["a1"]),
        ("", "mps", "ab", 0, ["a1 beside 1", "b1 beside 1"]),
        ("0,1", "cpu", "a", 3, ["a1 beside 2", "a2 beside 2", "a3 beside 2"]),
    ],
)
def test_gpus_are_shared_out(
    listed: str,
    device: str,
    pools: Sequence[str],
    workers: int,
    expected: list[str],
    monkeypatch: pytest.MonkeyPatch,
    settings: Settings,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", listed)
    settings.POOLS, settings.WORKERS, settings.THREADS = list(pools), workers, 0
    found = worker_setups(device)
    texts = [
        f"{setup.pool}{setup.number}"
        + (f" on {setup.gpu}" if setup.gpu else "")
        + (f" beside {setup.gpu_neighbours}" if setup.gpu_neighbours else "")
        for setup in found
    ]
    assert texts == expected
    assert {setup.neighbours for setup in found} == {len(found) - 1}
    assert can_fork(found) == (device == "cpu")
    assert {setup.threads for setup in found} == {max(1, len(os.sched_getaffinity(0)) // len(found))}


def test_without_gpus_two_workers_share_the_cores(monkeypatch: pytest.MonkeyPatch, settings: Settings) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    settings.WORKERS = settings.THREADS = 0
    found = worker_setups("auto")
    assert len(found) == min(2, len(os.sched_getaffinity(0)))
    assert {setup.gpu for setup in found} == {None}
    assert can_fork(found)
    settings.THREADS = 7
    assert {setup.threads for setup in worker_setups("auto")} == {7}
