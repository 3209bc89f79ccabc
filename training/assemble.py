"""Assembles the trained parts to a plain diffusers directory in float16.

`python -m training.assemble DIRECTORY --work DIR` writes a directory for diffusers' StableDiffusionInstructPix2PixPipeline.
"""

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderTiny, StableDiffusionInstructPix2PixPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from training.networks import make_scheduler
from training.stages import say, stage_parser


def assemble(
    work: Path, directory: Path, unet: str = "unet", kind: Any = StableDiffusionInstructPix2PixPipeline
) -> None:
    """Write a pipeline of the class `kind` from the stages' results in `work`."""
    suffix = unet.removeprefix("unet")
    pipeline = kind(
        vae=AutoencoderTiny.from_pretrained(work / "autoencoder"),
        text_encoder=CLIPTextModel.from_pretrained(work / f"text_encoder{suffix}"),
        tokenizer=CLIPTokenizer.from_pretrained(work / "tokenizer"),
        unet=UNet2DConditionModel.from_pretrained(work / unet),
        scheduler=make_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    save(pipeline, directory)


def save(pipeline: Any, directory: Path) -> None:
    """Write a pipeline in float16. Paths of this machine are removed from its configurations."""
    pipeline.to(torch.float16).save_pretrained(directory)
    for path in directory.glob("*/config.json"):
        settings = json.loads(path.read_text())
        settings.pop("_name_or_path", None)
        path.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")


def megabytes(directory: Path) -> float:
    """Return the size of all files, in millions of bytes."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file()) / 1e6


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--unet", default="unet", help="which UNet in the work directory")
    options = parser.parse_args()
    assemble(options.work, options.directory, options.unet)
    say(f"{options.directory}: {megabytes(options.directory):.1f} MB")
