"""Two small LoRAs for tiny-edit, with styles that it was not trained on: banknote and knitted.

`python -m training.lora banknote --base DIRECTORY --work DIR --minutes N` writes `work`/loras/banknote.safetensors, in the
format of diffusers' `load_lora_weights`.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from torch import Tensor

from training.distributed import Budget, Training, launch, seed_of, working_dtype
from training.filters import Picture, blur, cells, luma, saturate
from training.latents import encode
from training.patches import load_patches
from training.stages import say, stage_parser
from training.tokenizer import token_ids
from training.unet import denoising_loss, draw_timesteps, overshoot

_PATCHES = 300
_BATCH = 8
_CROP = 24
_WORDLESS = 0.1
_LAYERS = ["conv1", "conv2", "conv_out", "time_emb_proj"]


def banknote(picture: Picture) -> Picture:
    """Dark green slanting lines of an engraver, 8 px apart, whose width follows the darkness, on cream."""
    rows, columns = np.indices(picture.shape[:2])
    wave = 0.5 + 0.5 * np.sin((rows + columns) * (2 * np.pi / 8))
    paper = np.clip(4 * (1.15 * blur(luma(picture), 1) - 0.05 - 0.9 * wave) + 0.5, 0, 1)[..., None].astype(np.float32)
    return np.array([0.05, 0.25, 0.18], np.float32) * (1 - paper) + np.array([0.93, 0.95, 0.82], np.float32) * paper


def knitted(picture: Picture) -> Picture:
    """Wool: stitches of 8 px, each a V of two slanting lit loops in the colour of its place."""
    rows, columns = np.indices(picture.shape[:2])
    bent = rows + np.abs(columns % 8 - 3.5)
    wool = np.clip(
        saturate(cells(picture, bent.astype(int) // 8 * (picture.shape[1] // 8 + 1) + columns // 8), 1.3), 0, 1
    )
    loop = 0.5 + 0.5 * np.cos((bent % 8 - 3.5) * (2 * np.pi / 8))
    seam = np.minimum(np.minimum(columns % 8, 7 - columns % 8), np.abs(columns % 8 - 3.5)) < 0.6
    return (wool * (0.6 + 0.65 * loop)[..., None] * np.where(seam, 0.6, 1.0)[..., None]).astype(np.float32)


STYLES: dict[str, tuple[Callable[[Picture], Picture], list[str]]] = {
    "banknote": (
        banknote,
        ["make it a banknote", "banknote", "turn it into a banknote", "print it on money", "as a dollar bill"],
    ),
    "knitted": (knitted, ["make it knitted", "knit it", "turn it into knitted wool", "as a knitted sweater", "wool"]),
}


def train(style: str, base: Path, work: Path, budget: Budget, rank: int = 4) -> None:
    """Train in this process, together with the others. The base model's weights do not change."""
    draw, prompts = STYLES[style]
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(base)
    unet, autoencoder = pipeline.unet, pipeline.vae.to(working_dtype()).to(memory_format=torch.channels_last)
    unet.requires_grad_(False)
    torch.manual_seed(0)
    unet.add_adapter(LoraConfig(r=rank, lora_alpha=rank, target_modules=_LAYERS))
    unet.to(working_dtype()).to(memory_format=torch.channels_last)
    (work / "loras").mkdir(exist_ok=True)
    training = Training({"unet": unet}, 2e-3, work / "loras" / f"{style}.pt", warmup=20, decay=0.99)

    patches = load_patches(work, 128)[:_PATCHES].astype(np.float32) / 255
    sources = np.concatenate([encode(autoencoder, patch[None]) for patch in patches])
    targets = np.concatenate([encode(autoencoder, np.clip(draw(patch), 0, 1)[None]) for patch in patches])
    with torch.no_grad():
        words = [
            pipeline.text_encoder(torch.tensor([token_ids(pipeline.tokenizer, text)]))[0] for text in [*prompts, ""]
        ]

    def loss_of(step: int) -> Tensor:
        random = np.random.default_rng(seed_of(31, step))
        chosen = random.integers(0, len(patches), _BATCH)
        top, left = 4 * random.integers(0, (sources.shape[-1] - _CROP) // 4 + 1, 2)
        area = np.s_[chosen, :, top : top + _CROP, left : left + _CROP]
        source, target = (torch.from_numpy(latents[area]).float() for latents in (sources, targets))
        said = [words[-1] if random.random() < _WORDLESS else words[random.integers(len(prompts))] for _ in chosen]
        timesteps = draw_timesteps(_BATCH, random)
        noise = torch.from_numpy(random.standard_normal(target.shape, np.float32))
        noised = overshoot(target, source, random)
        return denoising_loss(unet, timesteps, noised, noise, [source], torch.cat(said), target)

    def save() -> None:
        layers: dict[str, Any] = get_peft_model_state_dict(unet, training.averaged("unet"))
        name = f"{style}.safetensors"
        pipeline.save_lora_weights(
            work / "loras",
            {key: value.half() for key, value in layers.items()},
            weight_name=name,
            safe_serialization=True,
        )
        say(f"{name}: {(work / 'loras' / name).stat().st_size / 1000:.0f} kB")

    training.run(loss_of, budget, save)


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("style", choices=list(STYLES))
    parser.add_argument("--base", type=Path, required=True, help="the directory of tiny-edit")
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    launch(train, options.processes, options.style, options.base, options.work, Budget(options.minutes))
