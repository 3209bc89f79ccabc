"""The UNet of tiny-edit, which follows instructions, with its text encoder.

`python -m training.unet --work DIR --minutes N` trains on the stored latents, and continues where it stopped. It predicts
v with zero terminal SNR (Salimans and Ho 2022; Lin et al. 2024), so that pure noise can become dark and bright pictures.

The API's default guidance scale of 7.5 pushes the estimate of each step far beyond the target, away from the mean of all edits.
So half of the noisy inputs are made from such overshot targets, with the true target as answer, and the model learns to correct
them. With more guidance the edit is more reliable, and the colours stay right.
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

from training.distributed import Budget, Training, launch, seed_of, working_dtype
from training.edits import EDITS
from training.latents import Latents, load_latents
from training.networks import make_scheduler, make_text_encoder, make_unet
from training.stages import unet_parser
from training.words import INSTRUCTIONS, Language, WordVectors, word_vectors

_SIGNALS = make_scheduler().alphas_cumprod
_CROP = 24  # latents; moved in steps of 4, so that grids of 16 px do not move


_TRIES = 8  # draws for half of the samples until one of the edits in `--often` comes up


class Shares(NamedTuple):
    """The shares of samples without text, without the photo, without both, and with the photo itself as target."""

    wordless: float = 0.12
    imageless: float = 0.02
    bare: float = 0.03
    unchanged: float = 0.08


_GUIDED = Shares()


def draw_timesteps(count: int, random: np.random.Generator) -> Tensor:
    """Draw timesteps in 0..999, most of them noisy, since with a photo the first estimate decides nearly everything."""
    steps = (1000 * random.random(count) ** 0.7).astype(np.int64)
    return torch.from_numpy(np.where(random.random(count) < 0.12, 999, steps))


def overshoot(targets: Tensor, mean: Tensor, random: np.random.Generator) -> Tensor:
    """Move half of the targets away from the mean of the edits, up to five times as far, as guidance does."""
    count = len(targets)
    strength = np.where(random.random(count) < 0.5, 4 * random.random(count) ** 2, 0)
    return targets + torch.from_numpy(strength).float().view(-1, 1, 1, 1) * (targets - mean)


def x0_loss(output: Tensor, noisy: Tensor, targets: Tensor, signal: Tensor) -> Tensor:
    """Return the squared error of the target that a v-prediction implies, weighted as for v but at most fivefold.

    `signal` is the cumulative alpha of each sample, (n, 1, 1, 1).
    """
    return ((_estimate(output, noisy, signal) - targets).square() * (1 / (1 - signal)).clip(max=5)).mean()


class Batches:
    """Draws training samples from the latents: every sixth batch of 256 px, the others crops of 96 px."""

    def __init__(
        self, work: Path, vectors: WordVectors, size: int, often: Sequence[str] = (), shares: Shares = _GUIDED
    ) -> None:
        self.edits, self.neutral, self.no_words = vectors
        self.size, self.shares = size, shares
        self.often = [list(EDITS).index(name) for name in often]
        self.small, self.large = load_latents(work, 128), load_latents(work, 256)

    def draw(self, step: int, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return sources, zero if dropped, targets, means of the edits, and text vectors (n, width)."""
        if step % 6 == 5:
            latents, count, crop = self.large, max(2, self.size // 6), 64
        else:
            latents, count, crop = self.small, self.size, _CROP
        samples = [self._sample(latents, crop, random) for _ in range(count)]
        sources, targets, means, text_vectors = (torch.stack(parts) for parts in zip(*samples, strict=True))
        return sources.float(), targets.float(), means, text_vectors

    def _sample(
        self, latents: Latents, crop: int, random: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        for _ in range(_TRIES if self.often and random.random() < 0.5 else 1):
            index, which = random.integers(len(latents.sources)), random.integers(latents.edits.shape[1])
            if latents.edits[index, which] in self.often:
                break
        top, left = 4 * random.integers(0, (latents.sources.shape[-1] - crop) // 4 + 1, 2)
        area = np.s_[..., top : top + crop, left : left + crop]
        conditions = torch.from_numpy(latents.sources[index][area])
        others = torch.from_numpy(latents.targets[index][area]).float()
        target, wording = others[which], int(random.integers(len(self.neutral)))
        text_vectors = self.edits[latents.edits[index, which], wording]
        chance = random.random()
        wordless, imageless, bare, unchanged = np.cumsum(self.shares)
        if chance < wordless or imageless <= chance < bare:
            text_vectors = self.no_words[0]
        if wordless <= chance < bare:
            conditions = torch.zeros_like(conditions)
        elif bare <= chance < unchanged:
            text_vectors, target = self.neutral[wording], conditions.float()
        return conditions, target, others.mean(0), text_vectors


def denoising_loss(
    unet: nn.Module,
    timesteps: Tensor,
    clean: Tensor,
    noise: Tensor,
    conditions: Sequence[Tensor],
    text_vectors: Tensor,
    targets: Tensor,
) -> Tensor:
    """Return the `x0_loss` of the UNet for `clean` latents with this noise.

    `conditions` are latents that the UNet gets in addition, and `text_vectors` are (n, width); all latents are (n, channels,
    height, width).
    """
    output, noisy, signal = _predict(unet, timesteps, clean, noise, conditions, text_vectors)
    return x0_loss(output, noisy, targets, signal)


@torch.no_grad()
def step_from_noisier(
    unet: nn.Module,
    timesteps: Tensor,
    clean: Tensor,
    noise: Tensor,
    conditions: Sequence[Tensor],
    text_vectors: Tensor,
    random: np.random.Generator,
    furthest: int = 999,
) -> tuple[Tensor, Tensor]:
    """Return latents and noise for `denoising_loss`; for the first half the UNet makes a step from a noisier timestep.

    When it is used, the UNet gets its own estimates. If it is trained only on true pictures, it takes the errors of estimates
    for the picture, and they add up over the steps (scheduled sampling: Bengio et al. 2015). The step is at most `furthest`
    long: if text and photo allow several results, a longer step may lead to another one than the target.
    """
    count = len(timesteps) // 2
    distance = (999 - timesteps[:count]).clip(max=furthest) * torch.from_numpy(random.random(count))
    noisier = timesteps[:count] + distance.long()
    conditions_ahead = [latents[:count] for latents in conditions]
    estimate, remaining = denoise(unet, noisier, clean[:count], noise[:count], conditions_ahead, text_vectors[:count])
    return torch.cat([estimate, clean[count:]]), torch.cat([remaining, noise[count:]])


@torch.no_grad()
def denoise(
    unet: nn.Module, timesteps: Tensor, clean: Tensor, noise: Tensor, conditions: Sequence[Tensor], text_vectors: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the UNet's estimates of the clean latents and of the noise, from which a sampler makes its next latents."""
    output, noisy, signal = _predict(unet, timesteps, clean, noise, conditions, text_vectors)
    return _estimate(output, noisy, signal), signal.sqrt() * output + (1 - signal).sqrt() * noisy


def _predict(
    unet: nn.Module, timesteps: Tensor, clean: Tensor, noise: Tensor, conditions: Sequence[Tensor], text_vectors: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the predicted v, the noisy latents from which it was predicted, and the cumulative alphas, (n, 1, 1, 1)."""
    signal = _SIGNALS[timesteps].view(-1, 1, 1, 1)
    noisy = signal.sqrt() * clean + (1 - signal).sqrt() * noise
    dtype = working_dtype()
    inputs = torch.cat([noisy, *conditions], 1).to(dtype).contiguous(memory_format=torch.channels_last)
    return unet(inputs, timesteps, text_vectors.to(dtype)).sample.float(), noisy, signal


def _estimate(output: Tensor, noisy: Tensor, signal: Tensor) -> Tensor:
    """Return the latents that a v-prediction implies."""
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
    """Train a UNet on the wordings of a language. Writes unet and text_encoder with the suffix to `work`.

    `loss_with` gets the UNet and the result of `word_vectors`, and returns the function that computes the loss of a step.
    """
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    text_encoder = make_text_encoder(len(tokenizer))
    embedding: Any = result.add_embedding
    vectors = word_vectors(work, language, tokenizer, text_encoder, embedding, wordings)
    unet: Any = copy.deepcopy(result)
    # The text vectors of `Batches` are embedded already.
    unet.add_embedding = nn.Identity()
    unet.to(working_dtype()).to(memory_format=torch.channels_last)
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
    """Train in this process, together with the others. Writes `work`/unet and `work`/text_encoder."""

    def loss_with(unet: nn.Module, vectors: WordVectors) -> Callable[[int], Tensor]:
        batches = Batches(work, vectors, batch, often)

        def loss_of(step: int) -> Tensor:
            random = np.random.default_rng(seed_of(23, step))
            sources, targets, means, text_vectors = batches.draw(step, random)
            timesteps = draw_timesteps(len(targets), random)
            noise = torch.from_numpy(random.standard_normal(targets.shape, np.float32))
            clean = overshoot(targets, means, random)
            clean, noise = step_from_noisier(unet, timesteps, clean, noise, [sources], text_vectors, random)
            return denoising_loss(unet, timesteps, clean, noise, [sources], text_vectors, targets)

        return loss_of

    torch.manual_seed(0)
    learn(work, budget, rate, begin_as_identity(make_unet(channels)), INSTRUCTIONS, wordings, loss_with)


def begin_as_identity(unet: UNet2DConditionModel) -> UNet2DConditionModel:
    """Set the last convolutions of residual blocks and of the output to zero, which makes the first steps more effective.

    Returns the UNet.
    """
    for name, module in unet.named_modules():
        if isinstance(module, nn.Conv2d) and name.endswith(("conv2", "conv_out")):
            nn.init.zeros_(module.weight)
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    return unet


if __name__ == "__main__":
    parser = unet_parser(__doc__)
    parser.add_argument("--often", nargs="+", default=[], choices=list(EDITS), help="edits to draw more often")
    options = parser.parse_args()
    budget = Budget(options.minutes, options.cooling)
    train_often = functools.partial(train, often=options.often)
    launch(train_often, options.processes, options.work, budget, options.batch, options.rate)
