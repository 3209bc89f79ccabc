"""Twins: tiny, never trained models of the image-to-image families of diffusers, in the format of the hub.

A twin has the classes, schedulers and configuration by which its real counterpart is told from others, and an
autoencoder that shrinks as much. Some are of families that the service must refuse.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.support.tiny_models import save_instruct_pix2pix, save_sdxl, save_stable_diffusion, save_turbo
from tests.support.tiny_parts import (
    NO_SAFETY_CHECKER,
    TEXT_WIDTH,
    autoencoder,
    clip,
    clip_tokenizer,
    clip_with_projection,
    diffusers,
    fixed_seed,
    pndm,
    sdxl_unet,
    transformers,
    unet,
)
from tests.support.twin_encoders import (
    byte_tokenizer,
    clip_vision,
    depth_estimator,
    gemma,
    qwen3_config,
    qwen_tokenizer,
    qwen_vl,
    siglip,
    smollm,
    t5,
    t5_tokenizer,
)
from tests.support.twin_networks import (
    chroma_transformer,
    deep_compression_autoencoder,
    fibo_transformer,
    flow_autoencoder,
    flow_scheduler,
    flux2_autoencoder,
    flux2_klein_transformer,
    flux_transformer,
    kandinsky3_unet,
    kandinsky22_prior,
    kandinsky22_unet,
    movq,
    qwen_image_autoencoder,
    qwen_image_transformer,
    sana_transformer,
    sd3_transformer,
    wan_autoencoder,
    z_image_transformer,
)
from tests.support.vision_twins import (
    flux2_dev,
    joyimage_edit,
    kandinsky5_edit,
    longcat_edit,
    omnigen,
    qwen_image_21,
    qwen_image_edit,
    qwen_image_edit_plus,
)


@dataclass(frozen=True)
class Twin:
    """How to save a twin to a directory, the repository that it stands for, and the packages it needs to load.

    `dtype` is the number type to run it in, as `EngineSettings` has it. A real model can take a twin's place; it is not tiny.
    """

    save: Callable[[Path], None]
    repository: str
    packages: tuple[str, ...] = ()
    dtype: str = "float32"
    is_tiny: bool = True


def save_twin(models_dir: Path, name: str) -> str:
    """Save the twin of this name in `TWINS`, with the same weights each time, and return its model id.

    A name that has an owner is a model id already.
    """
    id_ = name if "/" in name else f"twins/{name}"
    with fixed_seed(0):
        TWINS[name].save(models_dir / id_)
    return id_


def into_directory(save: Callable[[Path, str], object]) -> Callable[[Path], None]:
    """Return a function that saves to a directory `models_dir/<id>` by one that takes these two apart."""

    def save_to(directory: Path) -> None:
        save(directory.parents[1], "/".join(directory.parts[-2:]))

    return save_to


def sd2_depth(directory: Path) -> None:
    pipeline = diffusers.StableDiffusionDepth2ImgPipeline(
        unet=unet(in_channels=5),
        vae=autoencoder(),
        scheduler=pndm(),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        depth_estimator=depth_estimator(),
        feature_extractor=transformers.DPTImageProcessorPil(size={"height": 32, "width": 32}),
    )
    _save(pipeline, directory)


def lcm(directory: Path) -> None:
    pipeline = diffusers.LatentConsistencyModelPipeline(
        unet=unet(time_cond_proj_dim=32),
        vae=autoencoder(),
        scheduler=diffusers.LCMScheduler(beta_schedule="scaled_linear", set_alpha_to_one=False),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        **NO_SAFETY_CHECKER,
    )
    _save(pipeline, directory)


def sd_inpainting(directory: Path) -> None:
    """Its UNet has 9 channels: latents, mask, and the latents of the masked picture."""
    pipeline = diffusers.StableDiffusionInpaintPipeline(
        unet=unet(in_channels=9),
        vae=autoencoder(),
        scheduler=pndm(),
        text_encoder=clip(),
        tokenizer=clip_tokenizer(),
        **NO_SAFETY_CHECKER,
    )
    _save(pipeline, directory)


def sdxl_inpainting(directory: Path) -> None:
    pipeline = diffusers.StableDiffusionXLInpaintPipeline(
        unet=sdxl_unet(in_channels=9),
        vae=autoencoder(force_upcast=True),
        scheduler=diffusers.EulerDiscreteScheduler(),
        text_encoder=clip(),
        text_encoder_2=clip_with_projection(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        add_watermarker=False,
    )
    _save(pipeline, directory)


def sdxl_refiner(directory: Path) -> None:
    """It has only the second of SDXL's text encoders, and an aesthetic score in place of the target size."""
    pipeline = diffusers.StableDiffusionXLImg2ImgPipeline(
        unet=sdxl_unet(time_ids=5, cross_attention_dim=TEXT_WIDTH),
        vae=autoencoder(force_upcast=True),
        scheduler=diffusers.EulerDiscreteScheduler(),
        text_encoder=None,
        text_encoder_2=clip_with_projection(),
        tokenizer=None,
        tokenizer_2=clip_tokenizer(),
        requires_aesthetics_score=True,
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )
    _save(pipeline, directory)


def sdxl_pix2pix(directory: Path) -> None:
    _save_sdxl_pix2pix(directory, diffusers.EulerDiscreteScheduler(), is_cosxl_edit=False)


def cosxl_edit(directory: Path) -> None:
    """As `from_single_file` converts it: its repository has only a single file."""
    scheduler = diffusers.EDMEulerScheduler(
        sigma_min=0.002, sigma_max=120.0, sigma_data=1.0, prediction_type="v_prediction"
    )
    _save_sdxl_pix2pix(directory, scheduler, is_cosxl_edit=True)


def kandinsky22(directory: Path) -> None:
    """As the combined pipeline is saved: on the hub, the prior has a repository of its own."""
    pipeline = diffusers.KandinskyV22Img2ImgCombinedPipeline(
        unet=kandinsky22_unet(),
        movq=movq(),
        scheduler=diffusers.DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, clip_sample=False, variance_type="learned_range"
        ),
        prior_prior=kandinsky22_prior(),
        prior_image_encoder=clip_vision(),
        prior_image_processor=transformers.CLIPImageProcessorPil(size=32, crop_size=32),
        prior_text_encoder=clip_with_projection(),
        prior_tokenizer=clip_tokenizer(),
        prior_scheduler=diffusers.UnCLIPScheduler(
            variance_type="fixed_small_log", prediction_type="sample", clip_sample_range=10.0
        ),
    )
    _save(pipeline, directory)


def kandinsky3(directory: Path) -> None:
    pipeline = diffusers.Kandinsky3Pipeline(
        unet=kandinsky3_unet(),
        movq=movq(),
        scheduler=diffusers.DDPMScheduler(
            beta_start=0.00085, beta_end=0.012, beta_schedule="squaredcos_cap_v2", steps_offset=1
        ),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(),
    )
    _save(pipeline, directory)


def sd35(directory: Path) -> None:
    pipeline = diffusers.StableDiffusion3Pipeline(
        transformer=sd3_transformer(),
        vae=flow_autoencoder(shift_factor=0.0609, scaling_factor=1.5305),
        scheduler=flow_scheduler(shift=3.0),
        text_encoder=clip_with_projection(),
        text_encoder_2=clip_with_projection(),
        text_encoder_3=t5(2 * TEXT_WIDTH),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        tokenizer_3=t5_tokenizer(),
    )
    _save(pipeline, directory)


def flux_dev(directory: Path) -> None:
    _save(diffusers.FluxPipeline(**_flux_parts()), directory)


def flux_schnell(directory: Path) -> None:
    """The class is FLUX.1 dev's; only the transformer's configuration tells that it has no guidance."""
    _save(diffusers.FluxPipeline(**_flux_parts(guidance_embeds=False)), directory)


def flux_fill(directory: Path) -> None:
    """Its transformer reads the latents of the masked picture and all pixels of the mask beside its own."""
    _save(diffusers.FluxFillPipeline(**_flux_parts(in_channels=384)), directory)


def flux_kontext(directory: Path) -> None:
    _save(diffusers.FluxKontextPipeline(**_flux_parts()), directory)


def flux_depth(directory: Path) -> None:
    """Its transformer reads the latents of a depth map beside its own."""
    _save(diffusers.FluxControlPipeline(**_flux_parts(in_channels=128)), directory)


def flux2_klein(directory: Path) -> None:
    _save(diffusers.Flux2KleinPipeline(**_flux2_klein_parts(), is_distilled=True), directory)


def flux2_klein_base(directory: Path) -> None:
    _save(diffusers.Flux2KleinPipeline(**_flux2_klein_parts(), is_distilled=False), directory)


def flux2_klein_kv(directory: Path) -> None:
    _save(diffusers.Flux2KleinKVPipeline(**_flux2_klein_parts()), directory)


def chroma(directory: Path) -> None:
    pipeline = diffusers.ChromaPipeline(
        transformer=chroma_transformer(),
        vae=flow_autoencoder(),
        scheduler=flow_scheduler(shift=3.0),
        text_encoder=t5(),
        tokenizer=t5_tokenizer(),
    )
    _save(pipeline, directory)


def qwen_image(directory: Path) -> None:
    pipeline = diffusers.QwenImagePipeline(
        transformer=qwen_image_transformer(),
        vae=qwen_image_autoencoder(),
        scheduler=flow_scheduler(use_dynamic_shifting=True, max_shift=0.9, max_image_seq_len=8192, shift_terminal=0.02),
        text_encoder=qwen_vl(),
        tokenizer=qwen_tokenizer(),
    )
    _save(pipeline, directory)


def z_image(directory: Path) -> None:
    _save(diffusers.ZImagePipeline(transformer=z_image_transformer(), **_z_image_parts()), directory)


def z_image_omni(directory: Path) -> None:
    """It also reads its reference through SigLIP, and only runs in bfloat16."""
    pipeline = diffusers.ZImageOmniPipeline(
        transformer=z_image_transformer(siglip_feat_dim=16),
        **_z_image_parts(),
        siglip=siglip(),
        siglip_processor=transformers.Siglip2ImageProcessorPil(patch_size=16, max_num_patches=16),
    )
    _save(pipeline, directory)


def sana(directory: Path) -> None:
    scheduler = diffusers.DPMSolverMultistepScheduler(
        prediction_type="flow_prediction", use_flow_sigmas=True, flow_shift=3.0
    )
    pipeline = diffusers.SanaPipeline(transformer=sana_transformer(), scheduler=scheduler, **_sana_parts())
    _save(pipeline, directory)


def sana_sprint(directory: Path) -> None:
    transformer = sana_transformer(qk_norm="rms_norm_across_heads", guidance_embeds=True)
    scheduler = diffusers.SCMScheduler()
    pipeline = diffusers.SanaSprintPipeline(transformer=transformer, scheduler=scheduler, **_sana_parts())
    _save(pipeline, directory)


def fibo_edit(directory: Path) -> None:
    """Its prompts are JSON."""
    pipeline = diffusers.BriaFiboEditPipeline(
        transformer=fibo_transformer(),
        vae=wan_autoencoder(),
        scheduler=flow_scheduler(),
        text_encoder=smollm(),
        tokenizer=byte_tokenizer(("<pad>", "<eos>", "<bos>"), bos_token="<bos>", eos_token="<eos>", pad_token="<pad>"),
    )
    _save(pipeline, directory)


def _save_sdxl_pix2pix(directory: Path, scheduler: Any, is_cosxl_edit: bool) -> None:
    pipeline = diffusers.StableDiffusionXLInstructPix2PixPipeline(
        unet=sdxl_unet(in_channels=8),
        vae=autoencoder(force_upcast=True),
        scheduler=scheduler,
        text_encoder=clip(),
        text_encoder_2=clip_with_projection(),
        tokenizer=clip_tokenizer(),
        tokenizer_2=clip_tokenizer(),
        add_watermarker=False,
        is_cosxl_edit=is_cosxl_edit,
    )
    _save(pipeline, directory)


def _flux_parts(guidance_embeds: bool = True, in_channels: int = 64) -> dict[str, Any]:
    shift = {"shift": 3.0, "use_dynamic_shifting": True} if guidance_embeds else {}
    return {
        "transformer": flux_transformer(guidance_embeds, in_channels),
        "vae": flow_autoencoder(force_upcast=True),
        "scheduler": flow_scheduler(**shift),
        "text_encoder": clip(),
        "tokenizer": clip_tokenizer(),
        "text_encoder_2": t5(),
        "tokenizer_2": t5_tokenizer(),
    }


def _flux2_klein_parts() -> dict[str, Any]:
    return {
        "transformer": flux2_klein_transformer(),
        "vae": flux2_autoencoder(),
        "scheduler": flow_scheduler(use_dynamic_shifting=True),
        # The pipeline reads the hidden states 9, 18 and 27.
        "text_encoder": transformers.Qwen3ForCausalLM(qwen3_config(layers=28)).eval(),
        "tokenizer": qwen_tokenizer(),
    }


def _z_image_parts() -> dict[str, Any]:
    return {
        "vae": flow_autoencoder(),
        "scheduler": flow_scheduler(shift=3.0),
        "text_encoder": transformers.Qwen3Model(qwen3_config(layers=2)).eval(),
        "tokenizer": qwen_tokenizer(),
    }


def _sana_parts() -> dict[str, Any]:
    special_tokens = {"pad_token": "<pad>", "eos_token": "<eos>", "bos_token": "<bos>", "unk_token": "<unk>"}
    return {
        "vae": deep_compression_autoencoder(),
        "text_encoder": gemma(),
        "tokenizer": byte_tokenizer(tuple(special_tokens.values()), **special_tokens),
    }


def _save(pipeline: Any, directory: Path) -> None:
    pipeline.save_pretrained(directory)
    # Without torchvision, image processors have other names than on the hub.
    for file in (directory / "model_index.json", *directory.glob("*/preprocessor_config.json")):
        file.write_text(file.read_text().replace('ImageProcessorPil"', 'ImageProcessor"'))


TWINS: dict[str, Twin] = {
    "sd15": Twin(into_directory(save_stable_diffusion), "stable-diffusion-v1-5/stable-diffusion-v1-5"),
    "sd-turbo": Twin(into_directory(save_turbo), "stabilityai/sd-turbo"),
    "pix2pix": Twin(into_directory(save_instruct_pix2pix), "timbrooks/instruct-pix2pix"),
    "sdxl": Twin(into_directory(save_sdxl), "stabilityai/stable-diffusion-xl-base-1.0"),
    "sdxl-turbo": Twin(into_directory(partial(save_sdxl, spacing="trailing")), "stabilityai/sdxl-turbo"),
    "sd2-depth": Twin(sd2_depth, "stabilityai/stable-diffusion-2-depth"),
    "lcm": Twin(lcm, "SimianLuo/LCM_Dreamshaper_v7"),
    "sdxl-refiner": Twin(sdxl_refiner, "stabilityai/stable-diffusion-xl-refiner-1.0"),
    "sdxl-pix2pix": Twin(sdxl_pix2pix, "diffusers/sdxl-instructpix2pix-768"),
    "cosxl-edit": Twin(cosxl_edit, "stabilityai/cosxl"),
    "kandinsky22": Twin(kandinsky22, "kandinsky-community/kandinsky-2-2-decoder"),
    "kandinsky3": Twin(kandinsky3, "kandinsky-community/kandinsky-3"),
    "sd35": Twin(sd35, "stabilityai/stable-diffusion-3.5-medium"),
    "flux-dev": Twin(flux_dev, "black-forest-labs/FLUX.1-dev"),
    "flux-schnell": Twin(flux_schnell, "black-forest-labs/FLUX.1-schnell"),
    "flux-kontext": Twin(flux_kontext, "black-forest-labs/FLUX.1-Kontext-dev"),
    "flux2-klein": Twin(flux2_klein, "black-forest-labs/FLUX.2-klein-4B"),
    "flux2-klein-base": Twin(flux2_klein_base, "black-forest-labs/FLUX.2-klein-base-4B"),
    "flux2-klein-kv": Twin(flux2_klein_kv, "black-forest-labs/FLUX.2-klein-9b-kv"),
    "chroma": Twin(chroma, "lodestones/Chroma1-HD"),
    "qwen-image": Twin(qwen_image, "Qwen/Qwen-Image"),
    "z-image": Twin(z_image, "Tongyi-MAI/Z-Image"),
    "z-image-turbo": Twin(z_image, "Tongyi-MAI/Z-Image-Turbo"),
    # Its pipeline computes in nothing else.
    "z-image-omni": Twin(z_image_omni, "Tongyi-MAI/Z-Image-Omni-Base", dtype="bfloat16"),
    "sana-sprint": Twin(sana_sprint, "Efficient-Large-Model/Sana_Sprint_1.6B_1024px_diffusers"),
    "omnigen": Twin(omnigen, "Shitao/OmniGen-v1-diffusers", packages=("torchvision",)),
    "flux2-dev": Twin(flux2_dev, "black-forest-labs/FLUX.2-dev"),
    "qwen-image-edit": Twin(qwen_image_edit, "Qwen/Qwen-Image-Edit"),
    "qwen-image-edit-plus": Twin(qwen_image_edit_plus, "Qwen/Qwen-Image-Edit-2511"),
    "qwen-image-2.1": Twin(qwen_image_21, "Qwen/Qwen-Image-2.1"),
    "longcat-edit": Twin(longcat_edit, "meituan-longcat/LongCat-Image-Edit"),
    "joyimage-edit": Twin(joyimage_edit, "jdopensource/JoyAI-Image-Edit-Diffusers"),
    "kandinsky5-edit": Twin(kandinsky5_edit, "kandinskylab/Kandinsky-5.0-I2I-Lite-sft-Diffusers"),
    "fibo-edit": Twin(fibo_edit, "briaai/Fibo-Edit"),
    "sd-inpainting": Twin(sd_inpainting, "stable-diffusion-v1-5/stable-diffusion-inpainting"),
    "sdxl-inpainting": Twin(sdxl_inpainting, "diffusers/stable-diffusion-xl-1.0-inpainting-0.1"),
    "flux-fill": Twin(flux_fill, "black-forest-labs/FLUX.1-Fill-dev"),
    # To be refused: these need a depth map, and take no picture.
    "flux-depth": Twin(flux_depth, "black-forest-labs/FLUX.1-Depth-dev"),
    "sana": Twin(sana, "Efficient-Large-Model/Sana_1600M_1024px_diffusers"),
}
