"""Families of models: how each kind of pipeline in diffusers is loaded and called, as data.

The web side reads this too, so it knows neither torch nor diffusers. To add a family, add a member of `Family` and its
`Traits` in `FAMILY_TRAITS`. What a declaration leaves out is as in Stable Diffusion 1.5. Lines of diffusers that a rule
comes from are those of version 0.42.
"""

from enum import StrEnum
from typing import Any

from generation.family_traits import MEGAPIXEL, Guidance, ImageUse, LatentLayout, StepRule, StepSource, Traits


class Family(StrEnum):
    """The kind of pipeline a model needs. The values are stored in the database."""

    STABLE_DIFFUSION = "stable-diffusion"
    SD_INPAINT = "stable-diffusion-inpaint"
    DEPTH = "stable-diffusion-depth"
    SDXL = "sdxl"
    SDXL_INPAINT = "sdxl-inpaint"
    TURBO = "turbo"
    SDXL_TURBO = "sdxl-turbo"
    LIGHTNING = "lightning"
    LCM = "lcm"
    INSTRUCT_PIX2PIX = "instruct-pix2pix"
    SDXL_PIX2PIX = "sdxl-instruct-pix2pix"
    KANDINSKY_2 = "kandinsky-2.2"
    KANDINSKY_3 = "kandinsky-3"
    SD3 = "stable-diffusion-3"
    FLUX = "flux"
    FLUX_SCHNELL = "flux-schnell"
    FLUX_FILL = "flux-fill"
    FLUX_KONTEXT = "flux-kontext"
    FLUX2 = "flux2"
    FLUX2_KLEIN = "flux2-klein"
    FLUX2_KLEIN_BASE = "flux2-klein-base"
    FLUX2_KLEIN_KV = "flux2-klein-kv"
    CHROMA = "chroma"
    QWEN_IMAGE = "qwen-image"
    QWEN_IMAGE_EDIT = "qwen-image-edit"
    QWEN_IMAGE_EDIT_PLUS = "qwen-image-edit-plus"
    QWEN_IMAGE_2 = "qwen-image-2.1"
    Z_IMAGE = "z-image"
    Z_IMAGE_TURBO = "z-image-turbo"
    Z_IMAGE_OMNI = "z-image-omni"
    SANA_SPRINT = "sana-sprint"
    OMNIGEN = "omnigen"
    FIBO_EDIT = "fibo-edit"
    LONGCAT_EDIT = "longcat-edit"
    JOYIMAGE_EDIT = "joyimage-edit"
    KANDINSKY_5_EDIT = "kandinsky-5-edit"


_EMBEDDED_GUIDANCE: dict[str, Any] = {"guidance": Guidance.EMBEDDED, "guides_each_image": False}
# It guides each image by itself, and would multiply the channels of each by the scales of the images.
_IMAGE_BY_IMAGE: dict[str, Any] = {"guides_above": 0.0, "guides_each_image": False}
_UNGUIDED = frozenset({"guidance_scale", "image_guidance_scale", "negative_prompt"})
_EMBEDDED = frozenset({"image_guidance_scale", "negative_prompt"})
_EDITOR = frozenset({"strength", "image_guidance_scale"})

_FLOW: dict[str, Any] = {
    "step_rule": StepRule.ROUND_UP,
    "side_multiple": 16,
    "max_side": 2048,
    "area": MEGAPIXEL,
    "gpu_dtype": "bfloat16",
    "prompt_tokens": 512,
    # One step would start from noise alone.
    "min_steps": 2,
}
_FLOW_EDITOR: dict[str, Any] = {**_FLOW, "step_rule": StepRule.ALL, "min_steps": 1, "without_effect": _EDITOR}
_TRUE_CFG: dict[str, Any] = {
    # Without a negative prompt these pipelines do not guide at all.
    "arguments": {"guidance_scale": "true_cfg_scale"},
    "empty_negative_prompt": " ",
    # `shift_terminal` divides zero by zero in a schedule of one step.
    "min_steps": 2,
    "latents": LatentLayout.PATCHES,
    "can_cache_steps": True,
}
_SDXL: dict[str, Any] = {
    "pipeline": "StableDiffusionXLImg2ImgPipeline",
    "inpaint_pipeline": "StableDiffusionXLInpaintPipeline",
    "min_side": 768,
    "max_side": 2048,
    "area": MEGAPIXEL,
}
# Processors do not cut what they read, whatever length a pipeline is asked for.
_WHOLE_PROMPT: dict[str, Any] = {"prompt_tokens": None}
_TURBO: dict[str, Any] = {
    "guidance": Guidance.NONE,
    "without_effect": _UNGUIDED,
    "forced": {"guidance_scale": 0},
    "recommended": {"num_inference_steps": 2},
}
_PIX2PIX: dict[str, Any] = {
    "image_use": ImageUse.CONDITION,
    "step_rule": StepRule.ALL,
    "without_effect": frozenset({"strength"}),
    "needs_picture_guidance": True,
}

FAMILY_TRAITS: dict[Family, Traits] = {
    Family.STABLE_DIFFUSION: Traits(
        models="Stable Diffusion 1 and 2, and their fine-tunes",
        inpaint_pipeline="StableDiffusionInpaintPipeline",
        recommended={"guidance_scale": 7.5, "num_inference_steps": 30},
    ),
    Family.SD_INPAINT: Traits(
        models="Stable Diffusion 1 and 2 for inpainting",
        pipeline="StableDiffusionInpaintPipeline",
        needs_mask=True,
        recommended={"guidance_scale": 7.5, "strength": 1, "num_inference_steps": 30},
    ),
    Family.DEPTH: Traits(models="stable-diffusion-2-depth", pipeline="StableDiffusionDepth2ImgPipeline"),
    Family.SDXL: Traits(
        models="SDXL, its refiner, and its fine-tunes",
        **_SDXL,
        recommended={"guidance_scale": 6, "num_inference_steps": 30},
    ),
    Family.SDXL_INPAINT: Traits(
        models="SDXL for inpainting",
        **{**_SDXL, "pipeline": "StableDiffusionXLInpaintPipeline", "inpaint_pipeline": ""},
        needs_mask=True,
        # Its card says that strength 1 does not work well.
        recommended={"guidance_scale": 8, "strength": 0.99, "num_inference_steps": 20},
    ),
    Family.TURBO: Traits(models="sd-turbo", **_TURBO, inpaint_pipeline="StableDiffusionInpaintPipeline"),
    Family.SDXL_TURBO: Traits(
        models="sdxl-turbo",
        **_TURBO,
        pipeline="StableDiffusionXLImg2ImgPipeline",
        inpaint_pipeline="StableDiffusionXLInpaintPipeline",
    ),
    Family.LIGHTNING: Traits(
        models="SDXL-Lightning",
        **_SDXL,
        guidance=Guidance.NONE,
        without_effect=_UNGUIDED | {"num_inference_steps"},
        forced={"guidance_scale": 0, "num_inference_steps": 8},
    ),
    Family.LCM: Traits(
        models="LCM_Dreamshaper_v7",
        pipeline="LatentConsistencyModelImg2ImgPipeline",
        step_rule=StepRule.ALL,
        **_EMBEDDED_GUIDANCE,
        without_effect=_EMBEDDED,
        # schedulers/scheduling_lcm.py:459
        trained_steps=50,
        recommended={"num_inference_steps": 4, "guidance_scale": 8},
    ),
    Family.INSTRUCT_PIX2PIX: Traits(
        models="instruct-pix2pix and its kind, which edit by instruction",
        **_PIX2PIX,
        pipeline="StableDiffusionInstructPix2PixPipeline",
        min_side=256,
    ),
    Family.SDXL_PIX2PIX: Traits(
        models="sdxl-instructpix2pix-768, CosXL edit",
        **_PIX2PIX,
        pipeline="StableDiffusionXLInstructPix2PixPipeline",
        step_source=StepSource.SCHEDULER,
        area=MEGAPIXEL,
    ),
    Family.KANDINSKY_2: Traits(
        models="Kandinsky 2.2, saved as the combined pipeline",
        pipeline="KandinskyV22Img2ImgCombinedPipeline",
        without_effect=frozenset({"image_guidance_scale", "loras"}),
        side_multiple=64,
        recommended={"guidance_scale": 4},
    ),
    Family.KANDINSKY_3: Traits(
        models="Kandinsky 3",
        pipeline="Kandinsky3Img2ImgPipeline",
        without_effect=frozenset({"image_guidance_scale", "loras"}),
        # It adds 1 to the scale, and only then multiplies.
        guides_each_image=False,
        side_multiple=64,
        area=MEGAPIXEL,
        can_compile=False,
    ),
    Family.SD3: Traits(
        models="SD 3, SD 3.5 medium and large",
        **{**_FLOW, "gpu_dtype": "float16", "prompt_tokens": 256},
        pipeline="StableDiffusion3Img2ImgPipeline",
        inpaint_pipeline="StableDiffusion3InpaintPipeline",
        can_compile=False,
        recommended={"guidance_scale": 4.5, "num_inference_steps": 28},
    ),
    Family.FLUX: Traits(
        models="FLUX.1 dev, Krea dev",
        **_FLOW,
        pipeline="FluxImg2ImgPipeline",
        inpaint_pipeline="FluxInpaintPipeline",
        **_EMBEDDED_GUIDANCE,
        without_effect=_EMBEDDED,
        latents=LatentLayout.PATCHES,
        recommended={"guidance_scale": 3.5, "num_inference_steps": 28},
    ),
    Family.FLUX_SCHNELL: Traits(
        models="FLUX.1 schnell",
        **{**_FLOW, "prompt_tokens": 256},
        pipeline="FluxImg2ImgPipeline",
        inpaint_pipeline="FluxInpaintPipeline",
        guidance=Guidance.NONE,
        without_effect=_UNGUIDED,
        constants={"max_sequence_length": 256},
        latents=LatentLayout.PATCHES,
        recommended={"num_inference_steps": 4, "strength": 0.75},
    ),
    Family.FLUX_FILL: Traits(
        models="FLUX.1 Fill dev",
        **_FLOW,
        pipeline="FluxFillPipeline",
        needs_mask=True,
        **_EMBEDDED_GUIDANCE,
        without_effect=_EMBEDDED,
        latents=LatentLayout.PATCHES,
        recommended={"guidance_scale": 30, "strength": 1, "num_inference_steps": 50},
    ),
    Family.FLUX_KONTEXT: Traits(
        models="FLUX.1 Kontext dev",
        **{**_FLOW_EDITOR, "without_effect": _EDITOR | {"negative_prompt"}},
        pipeline="FluxKontextPipeline",
        inpaint_pipeline="FluxKontextInpaintPipeline",
        max_references=2,
        image_use=ImageUse.CONDITION,
        **_EMBEDDED_GUIDANCE,
        arguments={"area": "max_area"},
        constants={"_auto_resize": False},
        latents=LatentLayout.PATCHES,
        recommended={"guidance_scale": 2.5, "num_inference_steps": 28},
    ),
    Family.FLUX2: Traits(
        models="FLUX.2 dev",
        **{**_FLOW_EDITOR, "without_effect": _EDITOR | {"negative_prompt"}},
        pipeline="Flux2Pipeline",
        max_references=5,
        image_use=ImageUse.REFERENCES,
        **_EMBEDDED_GUIDANCE,
        latents=LatentLayout.NORMALIZED_PATCHES,
        recommended={"guidance_scale": 4, "num_inference_steps": 50},
    ),
    Family.FLUX2_KLEIN: Traits(
        models="FLUX.2 klein",
        **{**_FLOW_EDITOR, "without_effect": _EDITOR | _UNGUIDED},
        pipeline="Flux2KleinPipeline",
        inpaint_pipeline="Flux2KleinInpaintPipeline",
        max_references=3,
        image_use=ImageUse.REFERENCES,
        guidance=Guidance.NONE,
        forced={"guidance_scale": 1},
        latents=LatentLayout.NORMALIZED_PATCHES,
        recommended={"num_inference_steps": 4},
    ),
    Family.FLUX2_KLEIN_BASE: Traits(
        models="FLUX.2 klein base",
        **{**_FLOW_EDITOR, "without_effect": _EDITOR | {"negative_prompt"}},
        pipeline="Flux2KleinPipeline",
        inpaint_pipeline="Flux2KleinInpaintPipeline",
        max_references=3,
        image_use=ImageUse.REFERENCES,
        latents=LatentLayout.NORMALIZED_PATCHES,
        recommended={"guidance_scale": 4, "num_inference_steps": 50},
    ),
    Family.FLUX2_KLEIN_KV: Traits(
        models="FLUX.2 klein kv",
        **{**_FLOW_EDITOR, "without_effect": _EDITOR | _UNGUIDED},
        pipeline="Flux2KleinKVPipeline",
        max_references=3,
        image_use=ImageUse.REFERENCES,
        guidance=Guidance.NONE,
        latents=LatentLayout.NORMALIZED_PATCHES,
        recommended={"num_inference_steps": 4},
    ),
    Family.CHROMA: Traits(
        models="Chroma1",
        **_FLOW,
        pipeline="ChromaImg2ImgPipeline",
        latents=LatentLayout.PATCHES,
        recommended={"guidance_scale": 5, "num_inference_steps": 35},
    ),
    Family.QWEN_IMAGE: Traits(
        models="Qwen-Image, 2512",
        **_FLOW | _TRUE_CFG,
        pipeline="QwenImageImg2ImgPipeline",
        inpaint_pipeline="QwenImageInpaintPipeline",
        recommended={"guidance_scale": 4, "num_inference_steps": 50},
    ),
    Family.QWEN_IMAGE_EDIT: Traits(
        models="Qwen-Image-Edit",
        **_FLOW_EDITOR | _TRUE_CFG | _WHOLE_PROMPT,
        pipeline="QwenImageEditPipeline",
        image_use=ImageUse.CONDITION,
        recommended={"guidance_scale": 4, "num_inference_steps": 50},
    ),
    Family.QWEN_IMAGE_EDIT_PLUS: Traits(
        models="Qwen-Image-Edit-2509, 2511",
        **_FLOW_EDITOR | _TRUE_CFG | _WHOLE_PROMPT,
        pipeline="QwenImageEditPlusPipeline",
        max_references=2,
        image_use=ImageUse.REFERENCES,
        recommended={"guidance_scale": 4, "num_inference_steps": 40},
    ),
    Family.QWEN_IMAGE_2: Traits(
        models="Qwen-Image 2.1",
        **{**_FLOW_EDITOR, **_WHOLE_PROMPT, "without_effect": _EDITOR | _UNGUIDED, "side_multiple": 32},
        pipeline="QwenImage21Pipeline",
        image_use=ImageUse.REFERENCES,
        guidance=Guidance.NONE,
        latents=LatentLayout.CELLS,
        recommended={"num_inference_steps": 40},
    ),
    Family.Z_IMAGE: Traits(
        models="Z-Image",
        **_FLOW,
        pipeline="ZImageImg2ImgPipeline",
        inpaint_pipeline="ZImageInpaintPipeline",
        **_IMAGE_BY_IMAGE,
        recommended={"guidance_scale": 4, "num_inference_steps": 30},
    ),
    Family.Z_IMAGE_TURBO: Traits(
        models="Z-Image-Turbo",
        **_FLOW,
        pipeline="ZImageImg2ImgPipeline",
        inpaint_pipeline="ZImageInpaintPipeline",
        guidance=Guidance.NONE,
        without_effect=_UNGUIDED,
        forced={"guidance_scale": 0},
        recommended={"num_inference_steps": 9, "strength": 0.7},
    ),
    Family.Z_IMAGE_OMNI: Traits(
        models="Z-Image-Omni, Z-Image-Edit",
        **_FLOW_EDITOR,
        pipeline="ZImageOmniPipeline",
        max_references=2,
        image_use=ImageUse.REFERENCES,
        **_IMAGE_BY_IMAGE,
        recommended={"guidance_scale": 4, "num_inference_steps": 50},
    ),
    Family.SANA_SPRINT: Traits(
        models="Sana-Sprint",
        **{**_FLOW, "side_multiple": 32, "prompt_tokens": 300},
        pipeline="SanaSprintImg2ImgPipeline",
        **_EMBEDDED_GUIDANCE,
        without_effect=_EMBEDDED,
        constants={"use_resolution_binning": False, "intermediate_timesteps": None},
        can_compile=False,
        recommended={"guidance_scale": 4.5, "num_inference_steps": 4},
    ),
    Family.OMNIGEN: Traits(
        models="OmniGen v1",
        **{**_FLOW_EDITOR, **_WHOLE_PROMPT, "without_effect": frozenset({"strength", "negative_prompt", "loras"})},
        pipeline="OmniGenPipeline",
        max_references=2,
        image_use=ImageUse.REFERENCES,
        arguments={"image": "input_images", "image_guidance_scale": "img_guidance_scale"},
        picture_name="<img><|image_{number}|></img> ",
        packages=("torchvision",),
        can_compile=False,
        recommended={"guidance_scale": 2.5, "image_guidance_scale": 1.6, "num_inference_steps": 50},
    ),
    Family.FIBO_EDIT: Traits(
        models="FIBO-Edit",
        **{**_FLOW_EDITOR, "prompt_tokens": 3000, "side_multiple": 32},
        pipeline="BriaFiboEditPipeline",
        max_references=2,
        image_use=ImageUse.REFERENCES,
        prompt_template='{{"edit_instruction": {prompt_json}}}',
        constants={"_auto_resize": False},
        latents=LatentLayout.CELLS,
        recommended={"guidance_scale": 5, "num_inference_steps": 30},
    ),
    Family.LONGCAT_EDIT: Traits(
        models="LongCat-Image-Edit",
        **{**_FLOW_EDITOR, "without_effect": _EDITOR | {"loras"}},
        pipeline="LongCatImageEditPipeline",
        image_use=ImageUse.REFERENCES,
        has_fixed_area=True,
        step_source=StepSource.SCHEDULER,
        latents=LatentLayout.PATCHES,
        recommended={"guidance_scale": 4.5, "num_inference_steps": 50},
    ),
    Family.JOYIMAGE_EDIT: Traits(
        models="JoyImage-Edit",
        **{**_FLOW_EDITOR, **_WHOLE_PROMPT, "without_effect": _EDITOR | {"loras"}},
        pipeline="JoyImageEditPipeline",
        image_use=ImageUse.REFERENCES,
        has_fixed_area=True,
        # Among pipelines/joyimage/image_processor.py:25.
        sizes=tuple(
            (width, height)
            for width in range(512, 2049, 64)
            for height in range(512, 2049, 64)
            if 0.88 * MEGAPIXEL < width * height <= MEGAPIXEL
        ),
        latents=LatentLayout.AFTER_REFERENCE,
        recommended={"guidance_scale": 4, "num_inference_steps": 40},
    ),
    Family.KANDINSKY_5_EDIT: Traits(
        models="Kandinsky 5 image-to-image",
        **{**_FLOW_EDITOR, "prompt_tokens": 1024},
        pipeline="Kandinsky5I2IPipeline",
        image_use=ImageUse.REFERENCES,
        has_fixed_area=True,
        # pipelines/kandinsky5/pipeline_kandinsky_i2i.py:182
        sizes=((1024, 1024), (640, 1408), (1408, 640), (768, 1280), (1280, 768), (896, 1152), (1152, 896)),
        latents=LatentLayout.CHANNELS_LAST,
        output="image",
        recommended={"guidance_scale": 3.5, "num_inference_steps": 50},
    ),
}
