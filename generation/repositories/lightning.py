"""SDXL-Lightning: files that each replace the UNet of SDXL, all in one repository of the hub."""

import re

from generation.families import Family
from generation.recipes import ModelReference, traits_of

SDXL_BASE = ModelReference(
    id="stabilityai/stable-diffusion-xl-base-1.0",
    revision="462165984030d82259a11f4367a4eed129e94a7b",
    family=Family.SDXL,
)
"""The model that the other parts are of."""


def repository_of(model_id: str) -> str:
    """Return the repository of a model of this family: the number of steps is part of its id only here."""
    return re.sub(r"-\d+step$", "", model_id)


def unet_file(model: ModelReference) -> str:
    """Return the file of the UNet for the model's number of steps."""
    return f"sdxl_lightning_{int(traits_of(model).forced['num_inference_steps'])}step_unet.safetensors"
