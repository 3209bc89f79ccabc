"""The family of a model: of a repository by its small JSON files, of a single file by its header, before weights are read."""

import json
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

from generation.families import Family
from generation.weight_files import Header

Configs = Mapping[str, Mapping[str, Any]]
"""The configuration of each part of a pipeline by the part's name: `config.json`, or `scheduler_config.json`."""


class UnsupportedModel(Exception):
    """Raised for models that the engine cannot run; the message says why, for staff."""


def read_configuration(directory: Path) -> tuple[dict[str, Any], Configs]:
    """Return `model_index.json` of a directory in diffusers format, and the configurations of its parts."""
    paths = [path for name in ("config.json", "scheduler_config.json") for path in directory.glob(f"*/{name}")]
    index: dict[str, Any] = json.loads((directory / "model_index.json").read_text())
    return index, {path.parent.name: json.loads(path.read_text()) for path in paths}


def detect_family(model_id: str, index: Mapping[str, Any], configs: Configs) -> Family:
    """Return the family of the repository `model_id` with this `model_index.json`.

    Raises `UnsupportedModel`, or ValueError if it names no pipeline of diffusers.
    """
    name = index.get("_class_name")
    if not isinstance(name, str):
        raise ValueError(f"{model_id} names no pipeline of diffusers")
    if detect := _FAMILIES.get(name):
        return detect if isinstance(detect, Family) else detect(model_id, index, configs)
    if name in REASONS:
        raise UnsupportedModel(f"{name} {REASONS[name]}.")
    if "ControlNet" in name or "Control" in name:
        raise UnsupportedModel(f"{name} needs a control picture, which requests do not have.")
    raise UnsupportedModel(f"{name} is not among the pipelines that can be run here.")


def detect_single_file(model_id: str, header: Header) -> Family:
    """Return the family of a checkpoint of one file in the layout of its makers, as other user interfaces load it.

    Raises `UnsupportedModel`.
    """
    names = {name.removeprefix(_DENOISER_PREFIX) for name in header}
    if any("lora_" in name or "lora." in name for name in header):
        raise UnsupportedModel("It is a LoRA; add it under LoRAs.")
    if any(name.endswith((".scale_weight", "scaled_fp8")) for name in header):
        raise UnsupportedModel("Its weights are scaled fp8, which diffusers cannot read; take the fp16 or bf16 file.")
    if "double_blocks.0.img_attn.norm.key_norm.scale" in names:
        return _single_file_of_flux(model_id, header, names)
    if "joint_blocks.0.context_block.adaLN_modulation.1.bias" in names:
        if is_sd35_large(header) or any(".x_block.attn2." in name for name in names):
            return Family.SD3
        raise UnsupportedModel("It is Stable Diffusion 3 medium; of this family, single files of 3.5 can be run.")
    if _UNET_INPUT not in names:
        raise UnsupportedModel("It is no single file of Stable Diffusion 1.5, SDXL, Stable Diffusion 3.5 or FLUX.1.")
    return _single_file_of_unet(header)


def is_sd35_large(header: Header) -> bool:
    """Return whether a single file of Stable Diffusion 3.5 is the large one, by its number of blocks."""
    return any(name.removeprefix(_DENOISER_PREFIX).startswith("joint_blocks.37.") for name in header)


_DENOISER_PREFIX = "model.diffusion_model."
_UNET_INPUT = "input_blocks.0.0.weight"


def _single_file_of_flux(model_id: str, header: Header, names: Collection[str]) -> Family:
    channels = {header[name][1] for name in header if name.removeprefix(_DENOISER_PREFIX) == "img_in.weight"}
    if "distilled_guidance_layer.in_proj.bias" in names:
        raise UnsupportedModel("It is Chroma; take its repository in diffusers format.")
    if channels != {64}:
        raise UnsupportedModel(
            "It is FLUX.1 Fill, Depth or Canny; of these, the repository of Fill in diffusers format can be run."
        )
    if not any(name.startswith("guidance_in.") for name in names):
        return Family.FLUX_SCHNELL
    # Nothing in the file tells it from FLUX.1 dev.
    return Family.FLUX_KONTEXT if "kontext" in model_id.lower() else Family.FLUX


def _single_file_of_unet(header: Header) -> Family:
    if not any(name.startswith("first_stage_model.") for name in header):
        raise UnsupportedModel("It has no autoencoder; take the whole checkpoint.")
    channels = header[_DENOISER_PREFIX + _UNET_INPUT][1]
    if channels == 9:
        raise UnsupportedModel("It is an inpainting model; take its repository in diffusers format.")
    if "conditioner.embedders.1.model.positional_embedding" in header:
        if channels == 4:
            return Family.SDXL
        raise UnsupportedModel("It is an SDXL model for editing; of SDXL, single files that draw can be run.")
    if "conditioner.embedders.0.model.text_projection" in header:
        raise UnsupportedModel("It is the refiner of SDXL; take its repository in diffusers format.")
    if "cond_stage_model.transformer.text_model.embeddings.position_embedding.weight" not in header:
        raise UnsupportedModel("It is Stable Diffusion 2; take its repository in diffusers format.")
    if channels == 8:
        return Family.INSTRUCT_PIX2PIX
    if channels == 4:
        return Family.STABLE_DIFFUSION
    raise UnsupportedModel(f"Its UNet reads {channels} channels, for which there is no pipeline.")


def _config(configs: Configs, part: str, key: str) -> Any:
    return configs.get(part, {}).get(key)


def _stable_diffusion(model_id: str, index: Mapping[str, Any], configs: Configs) -> Family:
    if _fills_in(configs):
        return Family.SD_INPAINT
    return Family.TURBO if _config(configs, "scheduler", "timestep_spacing") == "trailing" else Family.STABLE_DIFFUSION


def _sdxl(model_id: str, index: Mapping[str, Any], configs: Configs) -> Family:
    if _fills_in(configs):
        return Family.SDXL_INPAINT
    return Family.SDXL_TURBO if _config(configs, "scheduler", "timestep_spacing") == "trailing" else Family.SDXL


def _fills_in(configs: Configs) -> bool:
    """Return whether the UNet reads the mask and the latents of the masked picture beside its own."""
    return bool(_config(configs, "unet", "in_channels") == 9)


def _flux(model_id: str, index: Mapping[str, Any], configs: Configs) -> Family:
    return Family.FLUX if _config(configs, "transformer", "guidance_embeds") else Family.FLUX_SCHNELL


def _klein(model_id: str, index: Mapping[str, Any], configs: Configs) -> Family:
    return Family.FLUX2_KLEIN if index.get("is_distilled") else Family.FLUX2_KLEIN_BASE


def _z_image(model_id: str, index: Mapping[str, Any], configs: Configs) -> Family:
    # Nothing in its files tells that guidance is distilled into it.
    return Family.Z_IMAGE_TURBO if "turbo" in model_id.lower() else Family.Z_IMAGE


Detect = Callable[[str, Mapping[str, Any], Configs], Family]

_FAMILIES: dict[str, Family | Detect] = {
    "StableDiffusionPipeline": _stable_diffusion,
    "StableDiffusionImg2ImgPipeline": _stable_diffusion,
    "StableDiffusionInpaintPipeline": _stable_diffusion,
    "StableDiffusionDepth2ImgPipeline": Family.DEPTH,
    "StableDiffusionXLPipeline": _sdxl,
    "StableDiffusionXLImg2ImgPipeline": _sdxl,
    "StableDiffusionXLInpaintPipeline": _sdxl,
    "LatentConsistencyModelPipeline": Family.LCM,
    "LatentConsistencyModelImg2ImgPipeline": Family.LCM,
    "StableDiffusionInstructPix2PixPipeline": Family.INSTRUCT_PIX2PIX,
    "StableDiffusionXLInstructPix2PixPipeline": Family.SDXL_PIX2PIX,
    "KandinskyV22CombinedPipeline": Family.KANDINSKY_2,
    "KandinskyV22Img2ImgCombinedPipeline": Family.KANDINSKY_2,
    "Kandinsky3Pipeline": Family.KANDINSKY_3,
    "Kandinsky3Img2ImgPipeline": Family.KANDINSKY_3,
    "Kandinsky5I2IPipeline": Family.KANDINSKY_5_EDIT,
    "StableDiffusion3Pipeline": Family.SD3,
    "StableDiffusion3Img2ImgPipeline": Family.SD3,
    "FluxPipeline": _flux,
    "FluxImg2ImgPipeline": _flux,
    "FluxFillPipeline": Family.FLUX_FILL,
    "FluxKontextPipeline": Family.FLUX_KONTEXT,
    "Flux2Pipeline": Family.FLUX2,
    "Flux2KleinPipeline": _klein,
    "Flux2KleinKVPipeline": Family.FLUX2_KLEIN_KV,
    "ChromaPipeline": Family.CHROMA,
    "ChromaImg2ImgPipeline": Family.CHROMA,
    "QwenImagePipeline": Family.QWEN_IMAGE,
    "QwenImageImg2ImgPipeline": Family.QWEN_IMAGE,
    "QwenImageEditPipeline": Family.QWEN_IMAGE_EDIT,
    "QwenImageEditPlusPipeline": Family.QWEN_IMAGE_EDIT_PLUS,
    "QwenImage21Pipeline": Family.QWEN_IMAGE_2,
    "ZImagePipeline": _z_image,
    "ZImageImg2ImgPipeline": _z_image,
    "ZImageOmniPipeline": Family.Z_IMAGE_OMNI,
    "SanaSprintPipeline": Family.SANA_SPRINT,
    "SanaSprintImg2ImgPipeline": Family.SANA_SPRINT,
    "OmniGenPipeline": Family.OMNIGEN,
    "BriaFiboEditPipeline": Family.FIBO_EDIT,
    "LongCatImageEditPipeline": Family.LONGCAT_EDIT,
    "JoyImageEditPipeline": Family.JOYIMAGE_EDIT,
}

_TEXT_ONLY = "makes pictures from text alone; diffusers has no pipeline that starts it from a picture"
_UNTRIED = "was not tried here yet"

REASONS = {
    **dict.fromkeys(
        (
            "AuraFlowPipeline", "BriaFiboPipeline", "BriaPipeline", "CogView3PlusPipeline", "CogView4Pipeline",
            "ErnieImagePipeline", "HiDreamImagePipeline", "HunyuanDiTPipeline", "HunyuanImagePipeline",
            "Ideogram4Pipeline", "Kandinsky5T2IPipeline", "Krea2Pipeline", "LongCatImagePipeline", "Lumina2Pipeline",
            "LuminaPipeline", "OvisImagePipeline", "PRXPipeline", "PixArtAlphaPipeline", "PixArtSigmaPipeline",
            "SanaPipeline", "StableCascadeCombinedPipeline",
        ),
        _TEXT_ONLY,
    ),
    "KandinskyV22Pipeline": "is only the decoder of Kandinsky 2.2; use a repository of the combined pipeline",
    "QwenImageLayeredPipeline": "takes a picture apart into layers instead of changing it",
    **dict.fromkeys(
        (
            "ChronoEditPipeline", "CogVideoXPipeline", "HeliosPipeline", "HunyuanVideoPipeline", "LTX2Pipeline",
            "LTXPipeline", "StableVideoDiffusionPipeline", "WanImageToVideoPipeline", "WanPipeline",
        ),
        "makes films",
    ),
    **dict.fromkeys(
        ("StableDiffusionLatentUpscalePipeline", "StableDiffusionUpscalePipeline"),
        "enlarges pictures instead of changing them",
    ),
    **dict.fromkeys(
        ("LEditsPPPipelineStableDiffusion", "LEditsPPPipelineStableDiffusionXL"),
        "inverts the picture in a call of its own before it edits",
    ),
    **dict.fromkeys(("KolorsImg2ImgPipeline", "KolorsPipeline"), f"needs the package sentencepiece, and {_UNTRIED}"),
    **dict.fromkeys(
        (
            "BriaFibo2Pipeline", "DreamLitePipeline", "GlmImagePipeline", "HunyuanImageRefinerPipeline", "IFPipeline",
            "JoyImageEditPlusPipeline", "KandinskyPipeline", "StableUnCLIPImg2ImgPipeline",
        ),
        _UNTRIED,
    ),
}  # fmt: skip
"""Why a pipeline cannot be run, as the end of a sentence."""
