"""The values in the examples of the OpenAPI document."""

from typing import Any

from generation.parameters import MAX_SEED, RANDOM_SEED

ID = "01a2032b-11dd-71cc-a49b-bda70ca7bc16"
MODEL = "dreamsite/tiny-edit"
WARNINGS = [f"strength has no effect on {MODEL}."]
MEDIA = {
    "url": f"http://127.0.0.1:8000/media/outputs/2026/11/22/{ID}/1-0.png"
    "?expires=1795959648&signature=f91fd8003f14efab68dfbeb4ec215333bc2ac5e1faba425e9098380b755fe74e",
    "seed": 7,
    "nsfw": False,
}
IMAGES = {"images": [MEDIA], "id": ID, "model_id": MODEL, "warnings": WARNINGS}
RECORD = {
    "id": ID,
    "state": "succeeded",
    "model_id": MODEL,
    "parameters": {
        "prompt": "make it night",
        "model_id": "",
        "loras": "",
        "strength": 0.5,
        "guidance_scale": 7.5,
        "image_guidance_scale": 1.5,
        "negative_prompt": "",
        "safety_check": True,
        "seed": 7,
        "num_inference_steps": 20,
        "num_images_per_prompt": 1,
    },
    "effective": {
        "strength": 0.5,
        "guidance_scale": 1.7475,
        "image_guidance_scale": 1.5,
        "num_inference_steps": 20,
        "seeds": [7],
        "width": 256,
        "height": 256,
    },
    "inputs": [
        {
            "url": f"http://127.0.0.1:8000/media/inputs/2026/11/22/{ID}.webp"
            "?expires=1795959648&signature=0d1c5f3e8e7b5f4d2c6a9b1e0f7a6d5c4b3a29180f7e6d5c4b3a2918f0e1d2c3",
            "width": 256,
            "height": 256,
            "content_credentials": {
                "state": "foreign",
                "signer": "Contoso Camera",
                "generator": "Contoso Camera 7.1",
                "signed": "2026-11-03T08:15:00Z",
                "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/digitalCapture",
            },
        }
    ],
    "mask": None,
    "outside_mask": None,
    "images": [{**MEDIA, "width": 256, "height": 256, "nsfw_score": 0.000475, "checked": True, "watermark": True}],
    "warnings": WARNINGS,
    "error": None,
    "cost": 1.31072,
    "waiting": None,
    "progress": None,
    "events_url": None,
    "created": "2026-11-22T12:11:24.018980Z",
    "started": "2026-11-22T12:11:24.080442Z",
    "finished": "2026-11-22T12:11:58.338621Z",
    "timings": {
        "queued": 0.061462,
        "running": 34.258179,
        "phases": {"encoding": 0.5506, "denoising": 32.8676, "decoding": 0.6102, "safety": 0.1258, "storing": 0.09},
    },
    "receipt": {
        "packages": {"dreamsite": "1.0.0", "torch": "2.13.0+cpu", "diffusers": "0.42.0", "transformers": "5.1.0"},
        "pipeline": "StableDiffusionInstructPix2PixPipeline",
        "scheduler": "DPMSolverMultistepScheduler",
        "dtype": "float32",
        "device": "AMD EPYC, AVX512",
        "threads": 1,
        "memory_plan": "whole",
        "safety_checker": "opennsfw",
        "files": {
            "unet/diffusion_pytorch_model.safetensors": "fbbc476eb61b0192b8e58c3555104340643f51ceaf79585699307a96843165f8"
        },
        "loras": {},
        "watermark": True,
        "watermark_key": "5f0c2a91",
        "batch_sizes": [1],
    },
    "reused_from": None,
    "proof": None,
}
RUNNING: dict[str, Any] = {
    **RECORD,
    "state": "running",
    "images": [],
    "receipt": None,
    "finished": None,
    "progress": {
        "phase": "denoising",
        "step": 8,
        "of": 20,
        "percent": 40,
        "estimated_finish": "2026-11-22T12:11:45.018980Z",
    },
    "events_url": f"http://127.0.0.1:8000/generations/{ID}/events?token_id=3"
    "&expires=1795350306&signature=0c25e8a1c6a3e1b4a9f5f0c4f1f0d1e7d1c5b6e5f0f4a3c2b1a09f8e7d6c5b4a",
    "timings": {"queued": 0.061462, "running": None, "phases": {}},
}
PROOF: dict[str, Any] = {
    **RUNNING,
    "inputs": [],
    "warnings": [],
    "proof": {"of": "01a2032b-0c1a-7d10-b6f1-5f0f6a3b7c20", "identical": None, "pictures": [], "differences": None},
}
VERIFICATION: dict[str, Any] = {
    "origin": "here",
    "evidence": "content_credentials",
    "altered": False,
    "deleted": False,
    "model_id": MODEL,
    "made": "2026-11-22T12:11:58Z",
    "generation": ID,
    "index": 0,
    "seed": 7,
    "recipe": None,
    "content_credentials": {
        "state": "own",
        "signer": "Dreamsite 5f0c2a91",
        "generator": "Dreamsite 1.0.0",
        "signed": "2026-11-22T12:11:58Z",
        "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/compositeWithTrainedAlgorithmicMedia",
    },
    "source": None,
    "summary": f"This site made it on 22 November 2026 with {MODEL}. The file is as this site signed it.",
    "unknown": [
        "Who made it: that is told to nobody.",
        "What was asked for: only its owner can have that told.",
    ],
}
MISSING_PICTURE = {
    "loc": ["body", "image"],
    "msg": "Send a picture as the file image of multipart/form-data",
    "type": "missing",
}
INVALID_FIELDS = [
    {"loc": ["body", "prompt"], "msg": "Field required", "type": "missing"},
    {"loc": ["body", "strength"], "msg": "Input should be a number from 0 to 1", "type": "less_than_equal"},
]
INVALID_STATE = {
    "loc": ["query", "state"],
    "msg": "Input should be 'queued', 'running', 'succeeded', 'failed' or 'canceled'",
    "type": "literal_error",
}


def _parameter(default: Any, minimum: float | None = None, maximum: float | None = None, **more: Any) -> dict[str, Any]:
    bounds = {"default": default, "minimum": minimum, "maximum": maximum}
    return {"has_effect": True, **bounds, "recommended": None, "forced": None, **more}


TINY_EDIT: dict[str, Any] = {
    "id": MODEL,
    "kind": "instruct-pix2pix",
    "is_default": True,
    "is_warm": True,
    "is_downloaded": True,
    "cost_weight": 1.0,
    "sizes": {"min_side": 128, "max_side": 512, "max_pixels": 262144},
    "needs_mask": False,
    "max_images": 1,
    "parameters": {
        "loras": _parameter(""),
        "strength": _parameter(0.8, 0, 1, has_effect=False),
        "guidance_scale": _parameter(7.5, 0, 50, has_effect=False, forced=1),
        "image_guidance_scale": _parameter(1.5, 0, 50, has_effect=False, forced=1),
        "negative_prompt": _parameter("", has_effect=False),
        "safety_check": _parameter(True),
        "seed": _parameter(None, RANDOM_SEED, MAX_SEED),
        "num_inference_steps": _parameter(100, 1, 200, recommended=2),
        "num_images_per_prompt": _parameter(1, 1, 10),
    },
    "loras": ["dreamsite/banknote", "dreamsite/knitted"],
    "examples": ["turn it into a pencil sketch", "make it night"],
}
TINY_REDRAW = {
    **TINY_EDIT,
    "id": "dreamsite/tiny-redraw",
    "kind": "stable-diffusion",
    "is_default": False,
    "is_warm": False,
    "sizes": {"min_side": 128, "max_side": 192, "max_pixels": 36864},
    "parameters": {
        **TINY_EDIT["parameters"],
        "loras": _parameter("", has_effect=False),
        "strength": _parameter(0.8, 0, 1, recommended=0.9),
        "guidance_scale": _parameter(7.5, 0, 50, recommended=7.5),
        "image_guidance_scale": _parameter(1.5, 0, 50, has_effect=False),
        "negative_prompt": _parameter(""),
        "num_inference_steps": _parameter(100, 1, 200, recommended=25),
    },
    "loras": [],
    "examples": ["a red apple", "a rocket"],
}
