"""The UNet that follows instructions, with its text encoder: what makes tiny-edit.

`python -m training.unet --work DIR --minutes N` trains on the stored latents and goes on where it stopped. It predicts
v with zero terminal SNR (Salimans and Ho 2022; Lin et al. 2024), so that dark and bright pictures are reached from pure noise.

Strong guidance: the API's default of 7.5 pushes each step's estimate far beyond the target, away from the mean of all edits.
So half of the noisy inputs are made from such overshot targets, while the true target stays the answer: the model learns
to come back. Whoever guides more, gets the same edit more surely instead of broken colours.
"""

import copy
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from transformers import CLIPTokenizer

from training.distributed import Budget, Training, launch, seed_of
from training.edits import EDITS
from training.latents import Latents, load_latents
from training.networks import CLIP, make_scheduler, make_text_encoder, make_unet
from training.stages import unet_parser
from training.words import word_vectors

_CROP = 24  # latents; moved in steps of 4, so that grids of 16 px stay where they are


_TRIES = 8  # draws of half of the samples until one of the edits comes up that are wanted more often


class Shares(NamedTuple):
    """Which share of the samples is trained without words, without the photo, without both; and to change nothing."""

    wordless: float = 0.12
    imageless: float = 0.02
    bare: float = 0.03
    unchanged: float = 0.08


_SHARES = Shares()


def draw_timesteps(count: int, random: np.random.Generator) -> Tensor:
    """Steps in 0..999, most of them noisy: given the photo, the first estimate decides nearly everything."""
    steps = (1000 * random.random(count) ** 0.7).astype(np.int64)
    return torch.from_numpy(np.where(random.random(count) < 0.12, 999, steps))


def overshoot(targets: Tensor, mean: Tensor, random: np.random.Generator) -> Tensor:
    """Half of the targets moved away from the mean of the edits, up to five times as far, as guidance does."""
    count = len(targets)
    strength = np.where(random.random(count) < 0.5, 4 * random.random(count) ** 2, 0)
    return (targets + torch.from_numpy(strength).float().view(-1, 1, 1, 1) * (targets - mean)).clip(-CLIP, CLIP)


def x0_loss(output: Tensor, noisy: Tensor, targets: Tensor, signal: Tensor) -> Tensor:
    """Squared error of the target that a v-prediction implies, weighted as for v but at most fivefold.

    `signal` is the cumulative alpha of each sample, (n, 1, 1, 1).
    """
    estimate = signal.sqrt() * noisy - (1 - signal).sqrt() * output
    return ((estimate - targets).square() * (1 / (1 - signal)).clip(max=5)).mean()


class Batches:
    """Draws training samples from the latents: every sixth batch of 256 px, the others crops of 96 px."""

    def __init__(
        self, work: Path, vectors: tuple[Tensor, Tensor, Tensor], size: int, often: Sequence[str] = ()
    ) -> None:
        self.edits, self.neutral, self.no_words = vectors
        self.size = size
        self.often = [list(EDITS).index(name) for name in often]
        self.small, self.large = load_latents(work, 128), load_latents(work, 256)

    def draw(self, step: int, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sources with the dropped ones zero, targets, means of the edits, and what the words say (n, width)."""
        if step % 6 == 5:
            latents, count, crop = self.large, max(2, self.size // 6), 64
        else:
            latents, count, crop = self.small, self.size, _CROP
        samples = [self._sample(latents, crop, random) for _ in range(count)]
        sources, targets, means, said = (torch.stack(parts) for parts in zip(*samples, strict=True))
        return sources.float(), targets.float(), means, said

    def _sample(
        self, latents: Latents, crop: int, random: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        for _ in range(_TRIES if self.often and random.random() < 0.5 else 1):
            index, which = random.integers(len(latents.sources)), random.integers(latents.edits.shape[1])
            if latents.edits[index, which] in self.often:
                break
        top, left = 4 * random.integers(0, (latents.sources.shape[-1] - crop) // 4 + 1, 2)
        area = np.s_[..., top : top + crop, left : left + crop]
        shown = torch.from_numpy(latents.sources[index][area])
        others = torch.from_numpy(latents.targets[index][area]).float()
        target, wording = others[which], int(random.integers(len(self.neutral)))
        said = self.edits[latents.edits[index, which], wording]
        chance = random.random()
        wordless, imageless, bare, unchanged = np.cumsum(_SHARES)
        if chance < wordless or imageless <= chance < bare:
            said = self.no_words[0]
        if wordless <= chance < bare:
            shown = torch.zeros_like(shown)
        elif bare <= chance < unchanged:
            said, target = self.neutral[wording], shown.float()
        return shown, target, others.mean(0), said


class _Said(nn.Module):
    """Stands for the embedding of words where they are embedded already."""

    def forward(self, vectors: Tensor) -> Tensor:
        return vectors


def train(
    work: Path,
    budget: Budget,
    batch: int,
    rate: float,
    channels: tuple[int, int, int] = (64, 96, 128),
    wordings: int = 300,
    often: Sequence[str] = (),
) -> None:
    """Train in this process, together with the others; writes `work`/unet and `work`/text_encoder."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    torch.manual_seed(0)
    result: Any = make_unet(channels)
    begin_as_identity(result)
    text_encoder = make_text_encoder(len(tokenizer))
    vectors = word_vectors(work, tokenizer, text_encoder, result.add_embedding, wordings)
    unet: Any = copy.deepcopy(result)
    unet.add_embedding = _Said()
    unet.to(memory_format=torch.channels_last).bfloat16()
    training = Training({"unet": unet}, rate, work / "unet.pt", warmup=50, muon=True)
    batches = Batches(work, vectors, batch, often)
    signals = make_scheduler().alphas_cumprod

    def loss_of(step: int) -> Tensor:
        random = np.random.default_rng(seed_of(23, step))
        sources, targets, means, said = batches.draw(step, random)
        timesteps = draw_timesteps(len(targets), random)
        signal = signals[timesteps].view(-1, 1, 1, 1)
        noise = torch.from_numpy(random.standard_normal(targets.shape, np.float32))
        noisy = signal.sqrt() * overshoot(targets, means, random) + (1 - signal).sqrt() * noise
        seen = torch.cat([noisy, sources], 1).bfloat16().contiguous(memory_format=torch.channels_last)
        return x0_loss(unet(seen, timesteps, said.bfloat16()).sample.float(), noisy, targets, signal)

    def save() -> None:
        result.load_state_dict(training.averaged("unet"), strict=False)
        result.save_pretrained(work / "unet")
        text_encoder.save_pretrained(work / "text_encoder")

    training.run(loss_of, budget, save)


def begin_as_identity(unet: UNet2DConditionModel) -> None:
    """Let every residual block begin as none, and the output as zero: the first steps are then not spent on calming down."""
    for name, module in unet.named_modules():
        if isinstance(module, nn.Conv2d) and name.endswith(("conv2", "conv_out")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]


if __name__ == "__main__":
    parser = unet_parser(__doc__)
    parser.add_argument("--often", nargs="+", default=[], choices=list(EDITS), help="edits to draw more often")
    options = parser.parse_args()
    budget = Budget(options.minutes, options.cooling)
    train_often = functools.partial(train, often=options.often)
    launch(train_often, options.processes, options.work, budget, options.batch, options.rate)
