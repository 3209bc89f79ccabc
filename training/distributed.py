"""Training on CPUs: several processes of one thread each, computing in `working_dtype` with float32 master weights.

Two processes of one thread do nearly twice the work of one process of two threads, and other work on the machine slows only
one of them. Convolutions in pure bfloat16 are three to six times as fast as in float32 if the CPU supports it; autocast loses
most of that by converting weights at every layer.
"""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from generation.engine.devices import choose_dtype
from training.stages import say

KEEP_MEMORY = "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=8589934592:glibc.malloc.hugetlb=1"
"""Settings of glibc, read when a process starts, with which freed memory is used again, in huge pages where there are any."""


@dataclass(frozen=True)
class Budget:
    """How long to train: until `minutes` have passed or `steps` are done. In the last `cooling` minutes the rate falls to 0.

    Cooled weights are better, but training should not continue from them: checkpoints are written only before the cooling.
    """

    minutes: float
    cooling: float = 0
    steps: int | None = None

    def spent(self, seconds: float, steps: int) -> float:
        """Return the fraction of the budget that this time and these steps use; 1 is all."""
        return max(seconds / 60 / self.minutes, steps / self.steps if self.steps else 0)


class Training:
    """Modules with master weights, optimizer, moving average and step count; the checkpoint has all of them.

    Parameters of a module in bfloat16 have float32 masters; those of a module in float32 are their own masters.
    """

    def __init__(
        self,
        modules: dict[str, nn.Module],
        rate: float,
        path: Path,
        warmup: int = 100,
        decay: float = 0.999,
        muon: bool = False,
    ) -> None:
        self.modules, self.rate, self.path, self.warmup, self.decay = modules, rate, path, warmup, decay
        self.step = 0
        self.working = [
            parameter for module in modules.values() for parameter in module.parameters() if parameter.requires_grad
        ]
        self.masters = [p if p.dtype == torch.float32 else nn.Parameter(p.detach().float()) for p in self.working]
        self.average = [master.detach().clone() for master in self.masters]
        turned = {id(master) for master in self.masters if muon and master.dim() == 4 and min(master.shape[:2]) > 16}
        self.optimizer = torch.optim.AdamW(
            [master for master in self.masters if id(master) not in turned],
            rate,
            betas=(0.9, 0.98),
            weight_decay=0.01,
            fused=True,
        )
        self.turned = [master for master in self.masters if id(master) in turned]
        self.momentum = [torch.zeros_like(master) for master in self.turned]
        if path.exists():
            self._load()

    def run(self, loss_of: Callable[[int], Tensor], budget: Budget, on_save: Callable[[], None]) -> None:
        """Minimise `loss_of(step)`; every few minutes and at the end write the checkpoint and call `on_save`.

        `loss_of` must derive its randomness from step and rank, so that a resumed run equals an uninterrupted one.
        """
        begin = saved = time.monotonic()
        first, cooled, smooth = self.step, 1.0, None
        while True:
            spent = self._agree((time.monotonic() - begin) / 60)
            if spent >= budget.minutes or (budget.steps is not None and self.step - first >= budget.steps):
                break
            left = budget.minutes - spent
            if left < budget.cooling and cooled == 1 and rank() == 0:
                self._save()
            cooled = min(1.0, left / budget.cooling) if budget.cooling else 1.0
            loss = loss_of(self.step)
            loss.backward()
            self._update(cooled)
            smooth = loss.item() if smooth is None else 0.98 * smooth + 0.02 * loss.item()
            if self.step % 50 == 0 and rank() == 0:
                say(f"step {self.step}  loss {smooth:.4f}  {60 * spent / (self.step - first) * 1000:.0f} ms a step")
            if time.monotonic() - saved > 180 and cooled == 1 and rank() == 0:
                self._save()
                on_save()
                saved = time.monotonic()
        if rank() == 0:
            if not budget.cooling:
                self._save()
            on_save()
            say(f"step {self.step}  loss {smooth or 0:.4f}  done")
        if world() > 1:
            dist.barrier()

    def averaged(self, name: str) -> dict[str, Tensor]:
        """Return the moving average of one module's weights, float32, with its buffers."""
        averages = dict(zip(map(id, self.working), self.average, strict=True))
        module = self.modules[name]
        state = {key: value.detach().clone() for key, value in module.state_dict().items()}
        state |= {key: averages[id(value)].clone() for key, value in module.named_parameters() if id(value) in averages}
        return {key: value.float().contiguous() if value.is_floating_point() else value for key, value in state.items()}

    def _update(self, cooled: float) -> None:
        gradients = []
        for parameter, master in zip(self.working, self.masters, strict=True):
            gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
            gradients.append(torch.empty_like(master).copy_(gradient))
            parameter.grad = None
        if world() > 1:
            flat = torch.cat([_in_memory_order(gradient).reshape(-1) for gradient in gradients])
            dist.all_reduce(flat)
            flat /= world()
            for gradient, part in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
                ordered = _in_memory_order(gradient)
                ordered.copy_(part.view(ordered.shape))
        for master, gradient in zip(self.masters, gradients, strict=True):
            master.grad = gradient
        nn.utils.clip_grad_norm_(self.masters, 1.0, foreach=True)
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate * min(1.0, (self.step + 1) / self.warmup) * cooled
        self.optimizer.step()
        self._turn(self.optimizer.param_groups[0]["lr"])
        self.step += 1
        with torch.no_grad():
            for parameter, master in zip(self.working, self.masters, strict=True):
                master.grad = None
                if parameter is not master:
                    parameter.copy_(master)
            # In early steps the average forgets the random initial weights faster.
            kept = min(self.decay, (self.step + 1) / (self.step + 10))
            torch._foreach_lerp_(self.average, [master.detach() for master in self.masters], 1 - kept)

    @torch.no_grad()
    def _turn(self, rate: float) -> None:
        """Update convolution weights with Muon (Jordan 2024), with steps like AdamW's (Liu et al. 2025, arXiv:2502.16982).

        Each process orthogonalises its share of the matrices, and the sum has all of them.
        """
        steps = []
        for number, (master, momentum) in enumerate(zip(self.turned, self.momentum, strict=True)):
            gradient = torch.zeros_like(master) if master.grad is None else master.grad
            momentum.mul_(0.95).add_(gradient)
            matrix = _in_memory_order(gradient.add(momentum, alpha=0.95)).reshape(len(master), -1)
            mine = number % world() == rank()
            steps.append(0.2 * max(matrix.shape) ** 0.5 * _orthogonal(matrix) if mine else torch.zeros_like(matrix))
        if world() > 1 and steps:
            flat = torch.cat([step.reshape(-1) for step in steps])
            dist.all_reduce(flat)
            steps = list(flat.split([step.numel() for step in steps]))
        for master, step in zip(self.turned, steps, strict=True):
            ordered = _in_memory_order(master)
            ordered.mul_(1 - 0.01 * rate).sub_(step.view(ordered.shape), alpha=rate)

    def _save(self) -> None:
        state = {
            "step": self.step,
            "masters": self.masters,
            "average": self.average,
            "momentum": self.momentum,
            "adam": self.optimizer.state_dict(),
        }
        part = self.path.with_suffix(".part")
        torch.save(state, part)
        part.rename(self.path)

    def _load(self) -> None:
        state = torch.load(self.path, weights_only=True)
        self.step = state["step"]
        self.optimizer.load_state_dict(state["adam"])
        with torch.no_grad():
            stored_as = (
                (self.masters, "masters"),
                (self.average, "average"),
                (self.working, "masters"),
                (self.momentum, "momentum"),
            )
            for target, source in stored_as:
                for tensor, stored in zip(target, state[source], strict=True):
                    tensor.copy_(stored)

    def _agree(self, value: float) -> float:
        """Return the first process's value in all processes, since they must stop at the same step."""
        shared = torch.tensor([value], dtype=torch.float64)
        if world() > 1:
            dist.broadcast(shared, 0)
        return float(shared.item())


def launch(train: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Run `train(*arguments)` in several processes of one thread each; see `rank` and `world`."""
    if processes == 1:
        torch.set_num_threads(1)
        train(*arguments)
        return
    # Outputs of layers are megabytes each. By default each is allocated from the system again and filled with zeros.
    os.environ.setdefault("GLIBC_TUNABLES", KEEP_MEMORY)
    with tempfile.TemporaryDirectory() as directory:
        meeting = f"file://{directory}/meeting"
        spawn(_enter, (processes, meeting, train, arguments), processes)


def working_dtype() -> torch.dtype:
    """Return the number type to compute in: bfloat16 where this CPU is faster with it, else float32."""
    return choose_dtype("auto", torch.device("cpu"), faithful_in_bfloat16=True)


def rank() -> int:
    """Return the number of this process, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def world() -> int:
    """Return the number of processes that train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def seed_of(seed: int, step: int) -> list[int]:
    """Return a seed for numpy that differs between processes and steps."""
    return [seed, rank(), step]


def _enter(number: int, processes: int, meeting: str, train: Callable[..., None], arguments: tuple[Any, ...]) -> None:
    os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=meeting, rank=number, world_size=processes)
    train(*arguments)
    dist.destroy_process_group()


def _in_memory_order(tensor: Tensor) -> Tensor:
    """Permute the axes of a tensor to their order in memory, so that copies of channels-last weights are cheap."""
    return tensor.permute(0, 2, 3, 1) if tensor.dim() == 4 else tensor


def _orthogonal(matrix: Tensor) -> Tensor:
    """Return the nearest matrix with singular values of about 1, by five Newton-Schulz steps with Muon's coefficients."""
    x = matrix.to(working_dtype())
    tall = x.shape[0] > x.shape[1]
    x = (x.T if tall else x) / (matrix.norm() + 1e-7)
    for _ in range(5):
        square = x @ x.T
        x = 3.4445 * x + (-4.7750 * square + 2.0315 * square @ square) @ x
    return (x.T if tall else x).float()
