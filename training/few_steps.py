"""Teaches the UNet of tiny-edit to edit in few steps of one pass each.

`python -m training.few_steps --work DIR --minutes N` trains `work`/unet further, and continues where it stopped. It writes
`work`/unet-few-steps.

With photo and words given, the answer is nearly certain. So no teacher is needed: each step of the sampler, from the UNet's own
estimates of the steps before it, is trained towards the target itself. This leaves nothing for guidance to do. Samples without
words or photo, which guidance needs, are left out, and the empty text leaves the photo alone, as do words that name no edit.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from training.distributed import Budget, launch, seed_of
from training.edits import EDITS
from training.networks import make_scheduler
from training.stages import unet_parser
from training.unet import Batches, Shares, denoise, denoising_loss, learn
from training.words import INSTRUCTIONS, WordVectors

STEPS = 4
"""The most steps that the UNet is trained for."""

SUFFIX = "-few-steps"

_SHARES = Shares(wordless=0, imageless=0, bare=0, unchanged=0.12)
_USUAL_SHARE = 0.6
"""The share of batches in STEPS steps; the others are in fewer."""
_EMPTY_SHARE = 1 / 6
"""The share of empty texts among those that leave the photo alone."""


def timesteps_of(steps: int) -> list[int]:
    """Return the timesteps that the model's scheduler visits, noisiest first."""
    scheduler = make_scheduler()
    scheduler.set_timesteps(steps)
    timesteps: list[int] = scheduler.timesteps.tolist()
    return timesteps


def train(work: Path, budget: Budget, batch: int, rate: float, wordings: int = 300, often: Sequence[str] = ()) -> None:
    """Train in this process, together with the others. Writes `work`/unet-few-steps and its text encoder."""

    def loss_with(unet: nn.Module, vectors: WordVectors) -> Callable[[int], Tensor]:
        edits, neutral, empty = vectors
        count = int(len(neutral) * _EMPTY_SHARE)
        unchanged = torch.cat([neutral[count:], empty.expand(count, -1)])
        batches = Batches(work, (edits, unchanged, empty), batch, often, _SHARES)

        def loss_of(step: int) -> Tensor:
            random = np.random.default_rng(seed_of(41, step))
            sources, targets, _, text_vectors = batches.draw(step, random)
            visited = timesteps_of(STEPS if random.random() < _USUAL_SHARE else int(random.integers(1, STEPS)))
            *before, last = visited[: int(random.integers(1, len(visited) + 1))]
            noise = torch.from_numpy(random.standard_normal(targets.shape, np.float32))
            clean = torch.zeros_like(targets)  # has no part in the first step, which is from noise alone
            for timestep in before:
                at = torch.full((len(targets),), timestep)
                clean, noise = denoise(unet, at, clean, noise, [sources], text_vectors)
            at = torch.full((len(targets),), last)
            return denoising_loss(unet, at, clean, noise, [sources], text_vectors, targets)

        return loss_of

    torch.manual_seed(0)
    result = UNet2DConditionModel.from_pretrained(work / "unet")
    learn(work, budget, rate, result, INSTRUCTIONS, wordings, loss_with, SUFFIX)


if __name__ == "__main__":
    parser = unet_parser(__doc__)
    parser.set_defaults(rate=1e-3)
    parser.add_argument("--often", nargs="+", default=[], choices=list(EDITS), help="edits to draw more often")
    options = parser.parse_args()
    budget = Budget(options.minutes, options.cooling)
    train_often = functools.partial(train, often=options.often)
    launch(train_often, options.processes, options.work, budget, options.batch, options.rate)
