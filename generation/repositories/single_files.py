"""Models as one file of `MODELS_DIR`, and the bases that have what such a file lacks."""

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from generation.families import Family
from generation.family_detection import UnsupportedModel, is_sd35_large
from generation.recipes import ModelReference
from generation.repositories.files import EVERY_COMPONENT, local_directories
from generation.repositories.lightning import SDXL_BASE
from generation.weight_files import find_single_file, read_header

STABLE_DIFFUSION = ModelReference(
    id="stable-diffusion-v1-5/stable-diffusion-v1-5",
    revision="451f4fe16113bff5a5d2269ed5ad43b0592e9a14",
    family=Family.STABLE_DIFFUSION,
)
_INSTRUCT_PIX2PIX = ModelReference(
    id="timbrooks/instruct-pix2pix",
    revision="31519b5cb02a7fd89b906d88731cd4d6a7bbf88d",
    family=Family.INSTRUCT_PIX2PIX,
)
_SD35_MEDIUM = ModelReference(
    id="stabilityai/stable-diffusion-3.5-medium",
    revision="b940f670f0eda2d07fbb75229e779da1ad11eb80",
    family=Family.SD3,
)
_SD35_LARGE = ModelReference(
    id="stabilityai/stable-diffusion-3.5-large",
    revision="ceddf0a7fdf2064ea28e2213e3b84e4afa170a0f",
    family=Family.SD3,
)
_FLUX_DEV = ModelReference(
    id="black-forest-labs/FLUX.1-dev", revision="0ef5fff789c832c5c7f4e127f94c8b54bbcced44", family=Family.FLUX
)
_FLUX_SCHNELL = ModelReference(
    id="black-forest-labs/FLUX.1-schnell",
    revision="741f7c3ce8b383c54771c7003378a50191e9efe9",
    family=Family.FLUX_SCHNELL,
)

# Whole checkpoints lack only configuration and tokenizers.
_CHECKPOINT_BASES = {
    Family.STABLE_DIFFUSION: STABLE_DIFFUSION,
    Family.INSTRUCT_PIX2PIX: _INSTRUCT_PIX2PIX,
    Family.SDXL: SDXL_BASE,
}
# Of these, files have the denoiser, and often nothing else.
_DENOISER_BASES = {
    Family.SD3: _SD35_MEDIUM,
    Family.FLUX: _FLUX_DEV,
    Family.FLUX_KONTEXT: _FLUX_DEV,
    Family.FLUX_SCHNELL: _FLUX_SCHNELL,
}


@dataclass(frozen=True)
class SingleFile:
    """A file of weights, and the base that the rest is from. `without` are the components whose weights the file has."""

    file: Path
    base: ModelReference
    without: str

    @property
    def is_checkpoint(self) -> bool:
        return self.without == EVERY_COMPONENT


def single_file_of(model: ModelReference, models_dir: Path) -> SingleFile | None:
    """Return the single file of a model; None if it has none.

    Raises `UnsupportedModel` if it cannot be loaded as this family, and OSError or ValueError if it is damaged.
    """
    files = (find_single_file(directory) for directory in local_directories(model.id, models_dir))
    file = next((file for file in files if file is not None), None)
    if file is None or model.family is Family.LIGHTNING:
        return None
    is_gguf = file.suffix == ".gguf"
    if model.family in _CHECKPOINT_BASES:
        if is_gguf:
            raise UnsupportedModel(f"It is a GGUF file, which can be loaded of {', '.join(_DENOISER_BASES)} alone.")
        return SingleFile(file, _CHECKPOINT_BASES[model.family], EVERY_COMPONENT)
    if model.family not in _DENOISER_BASES:
        families = ", ".join([*_CHECKPOINT_BASES, *_DENOISER_BASES])
        raise UnsupportedModel(f"It is a single file, so its family must be one of {families}.")
    if is_gguf and find_spec("gguf") is None:
        raise UnsupportedModel("It needs the package gguf, which is not installed on this server.")
    is_large = model.family is Family.SD3 and is_sd35_large(read_header(file))
    return SingleFile(file, _SD35_LARGE if is_large else _DENOISER_BASES[model.family], "transformer")
