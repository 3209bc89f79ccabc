"""Models, LoRAs and a safety checker of every kind that the engine loads: real classes and formats, tiny, untrained."""

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from generation.engine.catalog import DEFAULT_LORA_FILE
from generation.families import Family
from generation.recipes import LoraReference, ModelReference
from tests.support.tiny_parts import (
    NO_SAFETY_CHECKER,
    autoencoder,
    clip,
    clip_tokenizer,
    clip_with_projection,
    fixed_seed,
    pndm,
    sdxl_unet,
    unet,
)

# Its types are incomplete, so it is untyped here.
diffusers: Any = import_module("diffusers")
transformers: Any = import_module("transformers")
peft: Any = import_module("peft")
safety_checker: Any = import_module("diffusers.pipelines.stable_diffusion.safety_checker")

TINY_EDIT = ModelReference(id="dreamsite/tiny-edit", revision="", family=Family.INSTRUCT_PIX2PIX)
TINY_REDRAW = ModelReference(id="dreamsite/tiny-redraw", revision="", family=Family.STABLE_DIFFUSION)


def save_stable_diffusion(models_dir: Path, id_: str, seed: int = 0) -> ModelReference:
    """A Stable Diffusion 1 model; its index names the text-to-image class, as on the hub."""
    with fixed_seed(seed):
        _save(diffusers.StableDiffusionPipeline, _stable_diffusion_parts(4, pndm()), models_dir / id_)
    return local(id_, Family.STABLE_DIFFUSION)


def save_turbo(models_dir: Path, id_: str, seed: int = 0) -> ModelReference:
    with fixed_seed(seed):
        scheduler = diffusers.EulerDiscreteScheduler(timestep_spacing="trailing", steps_offset=1)
        _save(diffusers.StableDiffusionPipeline, _stable_diffusion_parts(4, scheduler), models_dir / id_)
    return local(id_, Family.TURBO)


def save_instruct_pix2pix(models_dir: Path, id_: str, seed: int = 0) -> ModelReference:
    with fixed_seed(seed):
        parts = _stable_diffusion_parts(8, pndm())
        _save(diffusers.StableDiffusionInstructPix2PixPipeline, parts, models_dir / id_)
    return local(id_, Family.INSTRUCT_PIX2PIX)


def save_sdxl(models_dir: Path, id_: str, seed: int = 0, spacing: str = "leading") -> ModelReference:
    """An SDXL model with its two text encoders, and an autoencoder that is raised to float32 while it works."""
    with fixed_seed(seed):
        diffusers.StableDiffusionXLPipeline(
            unet=sdxl_unet(),
            vae=autoencoder(force_upcast=True),
            scheduler=diffusers.EulerDiscreteScheduler(timestep_spacing=spacing),
            text_encoder=clip(),
            text_encoder_2=clip_with_projection(),
            tokenizer=clip_tokenizer(),
            tokenizer_2=clip_tokenizer(),
            add_watermarker=False,
        ).save_pretrained(models_dir / id_)
    return local(id_, Family.SDXL)


def save_lightning_unet(models_dir: Path, steps: int, seed: int = 0) -> ModelReference:
    """The one file that SDXL-Lightning adds to an SDXL model, in float16 as on the hub."""
    directory = models_dir / "ByteDance/SDXL-Lightning"
    directory.mkdir(parents=True, exist_ok=True)
    with fixed_seed(seed):
        weights = {name: tensor.half().contiguous() for name, tensor in sdxl_unet().state_dict().items()}
    save_file(weights, directory / f"sdxl_lightning_{steps}step_unet.safetensors")
    return local(f"ByteDance/SDXL-Lightning-{steps}step", Family.LIGHTNING)


def save_lora(models_dir: Path, id_: str, pipe: Any, seed: int = 0, text: bool = False) -> LoraReference:
    """A LoRA on this pipeline's UNet, and on its text encoder if `text`, strong enough to see."""
    targets = {
        "unet": ["to_q", "to_k", "to_v", "time_emb_proj"],
        **({"text_encoder": ["q_proj", "v_proj"]} if text else {}),
    }
    weights: dict[str, torch.Tensor] = {}
    with fixed_seed(seed):
        for part, modules in targets.items():
            model = getattr(pipe, part)
            config = peft.LoraConfig(r=4, lora_alpha=4, target_modules=modules)
            model.add_adapter(config, adapter_name="random")
            for name, tensor in peft.get_peft_model_state_dict(model, adapter_name="random").items():
                weights[f"{part}.{name}"] = torch.randn(tensor.shape) * 0.5
        pipe.unload_lora_weights()
    return save_lora_weights(models_dir, id_, weights)


def save_lora_weights(models_dir: Path, id_: str, weights: dict[str, torch.Tensor]) -> LoraReference:
    (models_dir / id_).mkdir(parents=True)
    save_file({name: tensor.clone() for name, tensor in weights.items()}, models_dir / id_ / DEFAULT_LORA_FILE)
    return LoraReference(id=id_, revision="", weight_name="", weight=1)


def save_safety_checker(directory: Path, limit: float, seed: int = 0) -> Any:
    """A safety checker whose 17 concepts flag what is nearer to them than `limit`, a cosine similarity."""
    sizes = {"hidden_size": 32, "intermediate_size": 37, "num_hidden_layers": 2, "num_attention_heads": 4}
    with fixed_seed(seed):
        config = transformers.CLIPConfig(
            text_config={**sizes, "vocab_size": 100, "projection_dim": 16},
            vision_config={**sizes, "image_size": 30, "patch_size": 6, "projection_dim": 16},
            projection_dim=16,
        )
        checker = safety_checker.StableDiffusionSafetyChecker(config).eval()
        with torch.no_grad():
            checker.concept_embeds.normal_()
            checker.special_care_embeds.normal_()
            checker.concept_embeds_weights.fill_(limit)
            checker.special_care_embeds_weights.fill_(limit)
    checker.save_pretrained(directory)
    return checker


def tiny_autoencoder(seed: int = 0, **configuration: Any) -> Any:
    """An autoencoder of Stable Diffusion's kind, with these changes to its configuration."""
    with fixed_seed(seed):
        return autoencoder(**configuration)


def local(id_: str, family: Family) -> ModelReference:
    return ModelReference(id=id_, revision="", family=family)


def _save(pipeline: Any, parts: dict[str, Any], directory: Path) -> None:
    pipeline(**parts, **NO_SAFETY_CHECKER).save_pretrained(directory)


def _stable_diffusion_parts(in_channels: int, scheduler: Any) -> dict[str, Any]:
    return {
        "unet": unet(in_channels=in_channels),
        "vae": autoencoder(),
        "scheduler": scheduler,
        "text_encoder": clip(),
        "tokenizer": clip_tokenizer(),
    }


def save_sdxl_lora(file: Path) -> None:
    """A LoRA of one layer, which reads text as wide as SDXL has it."""
    layer = "unet.down_blocks.1.attentions.0.transformer_blocks.0.attn2.to_k"
    save_file({f"{layer}.lora_A.weight": torch.zeros(1, 2048), f"{layer}.lora_B.weight": torch.zeros(640, 1)}, file)
