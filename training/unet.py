"""The UNet that follows instructions, with its text encoder: what makes tiny-edit.

`python -m training.unet --work DIR --minutes N` trains on the stored latents and goes on where it stopped. It predicts
v with zero terminal SNR (Salimans and Ho 2022; Lin et al. 2024), so that dark and bright pictures are reached from pure noise.

Strong guidance: the API's default of 7.5 pushes each step's estimate far beyond the target, away from the mean of all edits.
So half of the noisy inputs are made from such overshot targets, while the true target stays the answer: the model learns
to come back. Whoever guides more, gets the same edit more surely instead of broken colours.
"""

import copy
import functools
from collections.abc import Callable, Sequence
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
from training.networks import make_scheduler, make_text_encoder, make_unet
from training.stages import unet_parser
from training.words import INSTRUCTIONS, Language, WordVectors, word_vectors

_SIGNALS = make_scheduler().alphas_cumprod
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
    return targets + torch.from_numpy(strength).float().view(-1, 1, 1, 1) * (targets - mean)


def x0_loss(output: Tensor, noisy: Tensor, targets: Tensor, signal: Tensor) -> Tensor:
    """Squared error of the target that a v-prediction implies, weighted as for v but at most fivefold.

    `signal` is the cumulative alpha of each sample, (n, 1, 1, 1).
    """
    return ((_estimate(output, noisy, signal) - targets).square() * (1 / (1 - signal)).clip(max=5)).mean()


class Batches:
    """Draws training samples from the latents: every sixth batch of 256 px, the others crops of 96 px."""

    def __init__(self, work: Path, vectors: WordVectors, size: int, often: Sequence[str] = ()) -> None:
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


def denoising_loss(
    unet: nn.Module,
    timesteps: Tensor,
    noised: Tensor,
    noise: Tensor,
    shown: Sequence[Tensor],
    said: Tensor,
    targets: Tensor,
) -> Tensor:
    """`x0_loss` of the UNet, where `noised` with noise was what it saw, beside the latents in `shown`.

    `said` are the vectors of words, (n, width); all latents are (n, channels, height, width).
    """
    output, noisy, signal = _predict(unet, timesteps, noised, noise, shown, said)
    return x0_loss(output, noisy, targets, signal)


@torch.no_grad()
def step_from_noisier(
    unet: nn.Module,
    timesteps: Tensor,
    noised: Tensor,
    noise: Tensor,
    shown: Sequence[Tensor],
    said: Tensor,
    random: np.random.Generator,
    furthest: int = 999,
) -> tuple[Tensor, Tensor]:
    """What `denoising_loss` is to see: the first half of the samples come from a noisier timestep by a step of the UNet's own.

    In use it sees its own estimates. Trained on true pictures alone it takes their errors for the picture, and the more steps,
    the more of them add up (scheduled sampling: Bengio et al. 2015). Returns latents and noise, for `timesteps`. The step is
    at most `furthest` long: where words and photo leave a choice, a longer one would choose another than the answer has.
    """
    count = len(timesteps) // 2
    ahead = (999 - timesteps[:count]).clip(max=furthest) * torch.from_numpy(random.random(count))
    before = timesteps[:count] + ahead.long()
    also = [latents[:count] for latents in shown]
    output, noisy, signal = _predict(unet, before, noised[:count], noise[:count], also, said[:count])
    remaining = signal.sqrt() * output + (1 - signal).sqrt() * noisy
    return torch.cat([_estimate(output, noisy, signal), noised[count:]]), torch.cat([remaining, noise[count:]])


def _predict(
    unet: nn.Module, timesteps: Tensor, noised: Tensor, noise: Tensor, shown: Sequence[Tensor], said: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The predicted v, the noisy latents that it was predicted from, and the cumulative alphas, (n, 1, 1, 1)."""
    signal = _SIGNALS[timesteps].view(-1, 1, 1, 1)
    noisy = signal.sqrt() * noised + (1 - signal).sqrt() * noise
    seen = torch.cat([noisy, *shown], 1).bfloat16().contiguous(memory_format=torch.channels_last)
    return unet(seen, timesteps, said.bfloat16()).sample.float(), noisy, signal


def _estimate(output: Tensor, noisy: Tensor, signal: Tensor) -> Tensor:
    """The latents that a v-prediction implies."""
    return signal.sqrt() * noisy - (1 - signal).sqrt() * output


def learn(
    work: Path,
    budget: Budget,
    rate: float,
    result: UNet2DConditionModel,
    language: Language,
    wordings: int,
    loss_with: Callable[[nn.Module, WordVectors], Callable[[int], Tensor]],
    suffix: str = "",
) -> None:
    """Train an untrained UNet to do what the language says; writes unet and text_encoder with the suffix in `work`.

    `loss_with` is given the UNet that is trained and what `word_vectors` returns, and gives the loss of a step.
    """
    begin_as_identity(result)
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    text_encoder = make_text_encoder(len(tokenizer))
    embedding: Any = result.add_embedding
    vectors = word_vectors(work, language, tokenizer, text_encoder, embedding, wordings)
    unet: Any = copy.deepcopy(result)
    unet.add_embedding = _Said()
    unet.to(memory_format=torch.channels_last).bfloat16()
    training = Training({"unet": unet}, rate, work / f"unet{suffix}.pt", warmup=50, muon=True)

    def save() -> None:
        result.load_state_dict(training.averaged("unet"), strict=False)
        result.save_pretrained(work / f"unet{suffix}")
        text_encoder.save_pretrained(work / f"text_encoder{suffix}")

    training.run(loss_with(unet, vectors), budget, save)


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

    def loss_with(unet: nn.Module, vectors: WordVectors) -> Callable[[int], Tensor]:
        batches = Batches(work, vectors, batch, often)

        def loss_of(step: int) -> Tensor:
            random = np.random.default_rng(seed_of(23, step))
            sources, targets, means, said = batches.draw(step, random)
            timesteps = draw_timesteps(len(targets), random)
            noise = torch.from_numpy(random.standard_normal(targets.shape, np.float32))
            noised = overshoot(targets, means, random)
            noised, noise = step_from_noisier(unet, timesteps, noised, noise, [sources], said, random)
            return denoising_loss(unet, timesteps, noised, noise, [sources], said, targets)

        return loss_of

    torch.manual_seed(0)
    learn(work, budget, rate, make_unet(channels), INSTRUCTIONS, wordings, loss_with)


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
