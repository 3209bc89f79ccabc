"""tiny-redraw: draws emoji by their names over a picture, through the stock StableDiffusionImg2ImgPipeline.

`python -m training.redraw --work DIR --minutes N` trains it with the tokenizer and autoencoder of tiny-edit and goes on
where it stopped; `--assemble DIRECTORY` writes the model's directory instead.
"""

import copy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny, StableDiffusionImg2ImgPipeline
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn
from transformers import CLIPTokenizer

from training import emoji
from training.assemble import assemble, megabytes
from training.autoencoder import CHANNELS
from training.distributed import Budget, Training, launch, seed_of
from training.latents import encode
from training.networks import make_scheduler, make_text_encoder, make_unet
from training.stages import say, unet_parser
from training.tokenizer import token_ids
from training.unet import begin_as_identity, x0_loss

_UNET = (64, 96, 160)
_VARIANTS = 12
_WORDLESS = 0.12
_SENTENCES = [
    "{}",
    "{}",
    "{}",
    "a {}",
    "an icon of {}",
    "{} emoji",
    "a picture of a {}",
    "draw a {}",
    "turn it into a {}",
]


def vary(pixels: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """The emoji turned, scaled, moved, perhaps mirrored, on white, (128, 128, 3)."""
    side = pixels.shape[0]
    angle, zoom = np.radians(random.uniform(-10, 10)), 1 / random.uniform(0.75, 1.05)
    cosine, sine = zoom * np.cos(angle), zoom * np.sin(angle)
    centre, moved = side / 2, side / 2 + random.uniform(-8, 8, 2)
    x, y = centre - cosine * moved[0] + sine * moved[1], centre - sine * moved[0] - cosine * moved[1]
    turned = Image.fromarray(pixels).transform(
        (side, side),
        Image.Transform.AFFINE,
        (cosine, -sine, x, sine, cosine, y),
        Image.Resampling.BICUBIC,
        fillcolor="white",
    )
    varied = np.asarray(turned)
    return varied[:, ::-1].copy() if random.random() < 0.4 else varied


def compute_latents(work: Path) -> NDArray[np.float16]:
    """Latents of varied emoji, (emoji, variants, channels, 32, 32), computed once."""
    path = work / "redraw-latents.npy"
    if not path.exists():
        autoencoder = (
            AutoencoderTiny.from_pretrained(work / "autoencoder").to(memory_format=torch.channels_last).bfloat16()
        )
        _, pixels = emoji.load(work)
        random = np.random.default_rng(41)
        rows = [
            encode(autoencoder, np.stack([vary(picture, random) for _ in range(_VARIANTS)]).astype(np.float32) / 255)
            for picture in pixels
        ]
        np.save(path, np.stack(rows))
    return np.load(path)


def train(work: Path, budget: Budget, batch: int, rate: float) -> None:
    """Train in this process, together with the others; writes `work`/unet-redraw and `work`/text_encoder-redraw."""
    tokenizer = CLIPTokenizer.from_pretrained(work / "tokenizer")
    names, _ = emoji.load(work)
    latents = np.load(work / "redraw-latents.npy", mmap_mode="r")
    torch.manual_seed(0)
    unet: Any = make_unet(_UNET, CHANNELS, attention=True)
    text_encoder = make_text_encoder(len(tokenizer))
    begin_as_identity(unet)
    results: dict[str, Any] = {"unet": copy.deepcopy(unet), "text_encoder": copy.deepcopy(text_encoder)}
    unet.to(memory_format=torch.channels_last).bfloat16()
    modules: dict[str, nn.Module] = {"unet": unet, "text_encoder": text_encoder}
    training = Training(modules, rate, work / "unet-redraw.pt", muon=True)
    signals = make_scheduler().alphas_cumprod

    def loss_of(step: int) -> Tensor:
        random = np.random.default_rng(seed_of(43, step))
        chosen = random.integers(0, len(names), batch)
        target = torch.from_numpy(latents[chosen, random.integers(0, _VARIANTS, batch)].astype(np.float32))
        texts = [
            "" if random.random() < _WORDLESS else _SENTENCES[random.integers(len(_SENTENCES))].format(names[which])
            for which in chosen
        ]
        words = text_encoder(torch.tensor([token_ids(tokenizer, text) for text in texts]))[0].bfloat16()
        timesteps = torch.from_numpy(random.integers(0, 1000, batch))
        signal = signals[timesteps].view(-1, 1, 1, 1)
        noise = torch.from_numpy(random.standard_normal(target.shape, np.float32))
        noisy = signal.sqrt() * target + (1 - signal).sqrt() * noise
        seen = noisy.bfloat16().contiguous(memory_format=torch.channels_last)
        return x0_loss(unet(seen, timesteps, words).sample.float(), noisy, target, signal)

    def save() -> None:
        for name, result in results.items():
            result.load_state_dict(training.averaged(name))
            result.save_pretrained(work / f"{name}-redraw")

    training.run(loss_of, budget, save)


if __name__ == "__main__":
    parser = unet_parser(__doc__)
    parser.add_argument("--assemble", type=Path, metavar="DIRECTORY")
    options = parser.parse_args()
    if options.assemble:
        assemble(options.work, options.assemble, "unet-redraw", StableDiffusionImg2ImgPipeline)
        say(f"{options.assemble}: {megabytes(options.assemble):.1f} MB")
    else:
        compute_latents(options.work)
        budget = Budget(options.minutes, options.cooling)
        launch(train, options.processes, options.work, budget, options.batch, options.rate)
