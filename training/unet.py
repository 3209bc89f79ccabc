"""The UNet that follows instructions, with its text encoder: what makes tiny-edit.

`python -m training.unet --work DIR --minutes N` trains on the stored latents and goes on where it stopped. It predicts
v with zero terminal SNR (Salimans and Ho 2022; Lin et al. 2024), so that dark and bright pictures are reached from pure noise.

Strong guidance: the API's default of 7.5 pushes each step's estimate far beyond the target, away from the mean of all edits.
So half of the noisy inputs are made from such overshot targets, while the true target stays the answer: the model learns
to come back. Whoever guides more, gets the same edit more surely instead of broken colours.
"""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from torch import Tensor
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTokenizer

from training.autoencoder import CHANNELS
from training.distributed import Budget, Training, launch, seed_of
from training.edits import EDITS
from training.instructions import instruction, neutral_instruction
from training.latents import Latents, load_latents
from training.stages import unet_parser
from training.tokenizer import LENGTH, token_ids

# Largest absolute latent: the scheduler clips its estimates there.
CLIP = 3.0

_WIDTH = 128  # of the text encoder
_CROP = 24  # latents; moved in steps of 4, so that grids of 16 px stay where they are


class Shares(NamedTuple):
    """Which share of the samples is trained without words, without the photo, without both; and to change nothing."""

    wordless: float = 0.12
    imageless: float = 0.02
    bare: float = 0.03
    unchanged: float = 0.08


_SHARES = Shares()


def make_unet(channels: tuple[int, int, int] = (48, 96, 160), in_channels: int = 2 * CHANNELS) -> UNet2DConditionModel:
    """Untrained. Two blocks at the finest level for edges; words modulate every block and are attended to at the coarsest.

    The coarsest level sees 16 px of the picture as one.
    """
    return UNet2DConditionModel(
        sample_size=64,
        in_channels=in_channels,
        out_channels=CHANNELS,
        down_block_types=("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
        mid_block_type=None,
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D", "UpBlock2D"),
        block_out_channels=channels,
        layers_per_block=(2, 1, 1),
        norm_num_groups=16,
        cross_attention_dim=_WIDTH,
        attention_head_dim=4,
        use_linear_projection=True,
        resnet_time_scale_shift="scale_shift",
        addition_embed_type="text",
        addition_embed_type_num_heads=4,
    )


def make_text_encoder(vocabulary: int) -> CLIPTextModel:
    """Untrained: two layers, LENGTH tokens, the first two of which mark start and end."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=vocabulary,
            hidden_size=_WIDTH,
            intermediate_size=4 * _WIDTH,
            projection_dim=_WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=LENGTH,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=1,
        )
    )


def make_scheduler(clip: bool = True) -> DDIMScheduler:
    """The noise schedule of training and of use. Only pipelines of InstructPix2Pix let a scheduler clip its estimates."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=clip,
        steps_offset=0 if clip else 1,
        clip_sample_range=CLIP,
    )


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

    def __init__(self, work: Path, tokenizer: CLIPTokenizer, size: int) -> None:
        self.tokenizer, self.size = tokenizer, size
        self.small, self.large = load_latents(work, 128), load_latents(work, 256)
        self.names = list(EDITS)
        self.no_words = token_ids(tokenizer, "")

    def draw(self, step: int, random: np.random.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Sources with the dropped ones zero, targets, means of the edits, and token numbers (n, LENGTH)."""
        if step % 6 == 5:
            latents, count, crop = self.large, max(2, self.size // 6), 64
        else:
            latents, count, crop = self.small, self.size, _CROP
        return self._collect(latents, count, crop, random)

    def _collect(
        self, latents: Latents, count: int, crop: int, random: np.random.Generator
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        sources, targets, means, tokens = [], [], [], []
        for _ in range(count):
            index, which = random.integers(len(latents.sources)), random.integers(latents.edits.shape[1])
            top, left = 4 * random.integers(0, (latents.sources.shape[-1] - crop) // 4 + 1, 2)
            area = np.s_[..., top : top + crop, left : left + crop]
            source = latents.sources[index][area].astype(np.float32)
            target = latents.targets[index, which][area].astype(np.float32)
            edit = self.names[latents.edits[index, which]]
            ids = self._words(instruction(edit, random), random)
            chance = random.random()
            wordless, imageless, bare, unchanged = np.cumsum(_SHARES)
            shown = source
            if chance < wordless:
                ids = self.no_words
            elif chance < imageless:
                shown = np.zeros_like(source)
            elif chance < bare:
                ids, shown = self.no_words, np.zeros_like(source)
            elif chance < unchanged:
                ids, target = self._words(neutral_instruction(random), random), source
            sources.append(shown)
            targets.append(target)
            means.append(latents.targets[index][area].astype(np.float32).mean(axis=0))
            tokens.append(ids)
        stacked = (torch.from_numpy(np.stack(arrays)) for arrays in (sources, targets, means))
        return (*stacked, torch.tensor(tokens))  # type: ignore[return-value]

    def _words(self, text: str, random: np.random.Generator) -> list[int]:
        """Token numbers, in a fifth of cases with one or two replaced: unknown words must not throw the model off."""
        ids = token_ids(self.tokenizer, text)
        length = ids.index(1)
        if length > 4 and random.random() < 0.2:
            for place in random.integers(1, length, random.integers(1, 3)):
                ids[place] = int(random.integers(2, len(self.tokenizer)))
        return ids


def train(
    work: Path,
    budget: Budget,
    batch: int,
    rate: float,
    channels: tuple[int, int, int] = (48, 96, 160),
) -> None:
    """Train in this process, together with the others; writes `work`/unet and `work`/text_encoder."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    torch.manual_seed(0)
    unet: Any = make_unet(channels)
    text_encoder = make_text_encoder(len(tokenizer))
    if (work / "words.pt").exists():
        words_known = torch.load(work / "words.pt", weights_only=True)
        text_encoder.load_state_dict(words_known["text_encoder"])
        unet.add_embedding.load_state_dict(words_known["embedding"])
    unet.to(memory_format=torch.channels_last).bfloat16()
    training = Training({"unet": unet, "text_encoder": text_encoder}, rate, work / "unet.pt")
    batches = Batches(work, tokenizer, batch)
    signals = make_scheduler().alphas_cumprod

    def loss_of(step: int) -> Tensor:
        random = np.random.default_rng(seed_of(23, step))
        sources, targets, means, tokens = batches.draw(step, random)
        timesteps = draw_timesteps(len(targets), random)
        signal = signals[timesteps].view(-1, 1, 1, 1)
        noise = torch.from_numpy(random.standard_normal(targets.shape, np.float32))
        noisy = signal.sqrt() * overshoot(targets, means, random) + (1 - signal).sqrt() * noise
        words = text_encoder(tokens)[0].bfloat16()
        seen = torch.cat([noisy, sources], 1).bfloat16().contiguous(memory_format=torch.channels_last)
        return x0_loss(unet(seen, timesteps, words).sample.float(), noisy, targets, signal)

    averages = make_unet(channels), make_text_encoder(len(tokenizer))
    training.run(loss_of, budget, lambda: save_averages(training, averages, work))


def save_averages(
    training: Training, modules: tuple[UNet2DConditionModel, CLIPTextModel], work: Path, suffix: str = ""
) -> None:
    """Write the moving averages, as `modules`, to `work`/unet<suffix> and `work`/text_encoder<suffix>."""
    for name, module in zip(("unet", "text_encoder"), modules, strict=True):
        module.load_state_dict(training.averaged(name))
        module.save_pretrained(work / f"{name}{suffix}")


if __name__ == "__main__":
    parser = unet_parser(__doc__)
    options = parser.parse_args()
    launch(
        train, options.processes, options.work, Budget(options.minutes, options.cooling), options.batch, options.rate
    )
