"""SDXL-Lightning: files that each replace the UNet of SDXL, all in one repository of the hub."""

import re
from pathlib import Path

from generation.families import Family
from generation.recipes import ModelReference, traits_of
from generation.repositories.files import find_directory
from generation.repositories.sources import Source

SDXL_BASE = ModelReference(
    id="stabilityai/stable-diffusion-xl-base-1.0",
    revision="462165984030d82259a11f4367a4eed129e94a7b",
    family=Family.SDXL,
)
"""The model that the other parts are of."""


def is_lightning(model_id: str) -> bool:
    return model_id.startswith("ByteDance/SDXL-Lightning")


def base_source(models_dir: Path) -> Source:
    """Return where the other parts come from: a directory, else the pinned commit on the hub."""
    on_disk = find_directory(SDXL_BASE.id, models_dir) is not None
    return Source(SDXL_BASE.id, "" if on_disk else SDXL_BASE.revision)


def repository_of(model_id: str) -> str:
    """Return the repository of a model: in this family, the number of steps is part of the id only here."""
    return re.sub(r"-\d+step$", "", model_id) if is_lightning(model_id) else model_id


def unet_file(model: ModelReference) -> str:
    """Return the file of the UNet for the model's number of steps."""
    return f"sdxl_lightning_{int(traits_of(model).forced['num_inference_steps'])}step_unet.safetensors"
