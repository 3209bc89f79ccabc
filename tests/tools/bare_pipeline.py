"""The stock pipeline of the bundled model without a service, to compare with. It needs neither Django nor test packages."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image

from generation.engine.devices import choose_device, choose_dtype

PROMPT = "make it night"
SEED = 7
STEPS = 4

_MODEL = Path(__file__).resolve().parents[2] / "generation" / "engine" / "bundled" / "tiny-edit"


def load(dtype: str = "auto") -> Callable[[bytes], Image.Image]:
    """Load the pipeline with a worker's settings, one thread and channels last. Return a function that edits a picture."""
    device = choose_device("auto")
    torch.set_num_threads(1)
    pipeline = StableDiffusionInstructPix2PixPipeline.from_pretrained(
        _MODEL, dtype=choose_dtype(dtype, device, faithful_in_bfloat16=True)
    ).to(device)
    pipeline.set_progress_bar_config(disable=True)
    for part in (pipeline.unet, pipeline.vae):
        part.to(memory_format=torch.channels_last)

    def run(upload: bytes) -> Image.Image:
        with torch.inference_mode():
            picture: Image.Image = pipeline(
                PROMPT,
                image=Image.open(BytesIO(upload)).convert("RGB"),
                num_inference_steps=STEPS,
                guidance_scale=1,
                image_guidance_scale=1,
                generator=torch.Generator().manual_seed(SEED),
            ).images[0]
        return picture

    return run
