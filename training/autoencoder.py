"""The autoencoder: 4 px to one latent, small enough to run at full size on a CPU.

`python -m training.autoencoder --work DIR --minutes N` trains it on patches and their edits, and continues where it
stopped. With `--decoder-only` the latents do not change, so that a UNet that was trained on them can use it.
"""

import copy
import math
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from diffusers.models.autoencoders.vae import AutoencoderTinyBlock
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from training.distributed import Budget, Training, launch, rank, seed_of, working_dtype
from training.edits import EDITS, apply
from training.filters import Picture
from training.patches import load_patches
from training.stages import say, stage_parser

CHANNELS = 12

_CROP = 96
_BATCH = 8


def make_autoencoder(width: int = 32) -> AutoencoderTiny:
    """Return an untrained autoencoder: 4x smaller, CHANNELS latent channels with about unit variance."""
    autoencoder = AutoencoderTiny(
        encoder_block_out_channels=(width,) * 3,
        decoder_block_out_channels=(width,) * 3,
        num_encoder_blocks=(1, 1, 2),
        num_decoder_blocks=(2, 2, 1),
        latent_channels=CHANNELS,
        scaling_factor=1.0,
    )
    for module in autoencoder.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    # With residual branches near zero the network is at first a chain of few convolutions, and training does not stall.
    for module in autoencoder.modules():
        if isinstance(module, AutoencoderTinyBlock):
            nn.init.normal_(module.conv[-1].weight, std=1e-3)
    with torch.no_grad():
        autoencoder.encoder.layers[-1].weight *= 0.3
        autoencoder.decoder.layers[-1].weight *= 0.3
        autoencoder.decoder.layers[-1].bias += 0.5
    return autoencoder


def to_tensor(pictures: Picture) -> Tensor:
    """Convert (n, height, width, 3) in 0..1 to (n, 3, height, width) in -1..1, channels last."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last) * 2 - 1


def reconstruction_loss(output: Tensor, target: Tensor) -> Tensor:
    """Return mean absolute error + 2 x squared error + 0.6 x absolute error of the slopes, which keeps edges sharp."""
    error = output - target
    across, down = error[..., 1:] - error[..., :-1], error[..., 1:, :] - error[..., :-1, :]
    return error.abs().mean() + 2 * error.square().mean() + 0.6 * (across.abs().mean() + down.abs().mean())


def spread_loss(latents: Tensor) -> Tensor:
    """Return a loss that is 0 if each channel has mean 0 and variance 1 over the batch and no value is beyond 2.7."""
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    return mean.square().mean() + (deviation - 1).square().mean() + functional.relu(latents.abs() - 2.7).mean()


def train(work: Path, budget: Budget, decoder_only: bool = False) -> None:
    """Train in this process, together with the others. Writes `work`/autoencoder."""
    torch.manual_seed(0)
    # Latents were computed with the saved averaged weights, so training the decoder starts with those, not the checkpoint.
    result: Any = AutoencoderTiny.from_pretrained(work / "autoencoder") if decoder_only else make_autoencoder()
    autoencoder = copy.deepcopy(result).to(working_dtype()).to(memory_format=torch.channels_last)
    trained = ["decoder"] if decoder_only else ["encoder", "decoder"]
    autoencoder.encoder.requires_grad_(not decoder_only)
    checkpoint = work / ("decoder.pt" if decoder_only else "autoencoder.pt")
    training = Training({name: getattr(autoencoder, name) for name in trained}, 1.5e-3, checkpoint)
    patches = load_patches(work, 128)
    names = list(EDITS)

    def loss_of(step: int) -> Tensor:
        random = np.random.default_rng(seed_of(11, step))
        batch = []
        for _ in range(_BATCH):
            top, left = random.integers(0, 128 - _CROP + 1, 2)
            crop = (
                patches[random.integers(len(patches)), top : top + _CROP, left : left + _CROP].astype(np.float32) / 255
            )
            batch.append(apply(names[random.integers(len(names))], crop) if random.random() < 0.6 else crop)
        pictures = to_tensor(np.stack(batch))
        latents = autoencoder.encode(pictures.to(working_dtype())).latents
        # With a little noise, similar latents give similar pictures, since the UNet's latents are never exact.
        noise = torch.randn(latents.shape, generator=torch.Generator().manual_seed(step * 64 + rank())).to(latents)
        output = autoencoder.decode(latents + 0.04 * noise).sample.float()
        return reconstruction_loss(output, pictures) + 0.1 * spread_loss(latents.float())

    def save() -> None:
        for name in trained:
            getattr(result, name).load_state_dict(training.averaged(name))
        result.save_pretrained(work / "autoencoder")
        say(f"autoencoder: {measure(result, patches):.2f} dB on training patches")

    training.run(loss_of, budget, save)


@torch.no_grad()
def measure(autoencoder: AutoencoderTiny, pictures: NDArray[np.uint8]) -> float:
    """Return the mean PSNR in dB of the first 64 pictures and their reconstructions."""
    total = []
    for picture in pictures[:64]:
        target = to_tensor(picture[None].astype(np.float32) / 255)
        output = autoencoder.decode(autoencoder.encode(target).latents).sample.clip(-1, 1)
        total.append(10 * math.log10(4 / max(functional.mse_loss(output, target).item(), 1e-9)))
    return float(np.mean(total))


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--cooling", type=float, default=0, help="minutes at the end in which the learning rate falls to 0"
    )
    parser.add_argument("--decoder-only", action="store_true")
    options = parser.parse_args()
    launch(train, options.processes, options.work, Budget(options.minutes, options.cooling), options.decoder_only)
