"""Live previews: small pictures of what is being made, by a linear map from latents to RGB instead of a second model.

The map belongs to the autoencoder, and a fine-tuned model may have one of its own. So there is no table of numbers by
family: each warm pipeline fits its map once, to its own autoencoder, when the first preview is asked for. It is fitted to
a chart of coloured noise, which serves nearly as well as photographs: with the bundled model, previews of 33 photographs were
19.0 dB from the scaled-down pictures (mean PSNR). A map fitted to those very pictures, which no linear map can pass, gave
20.1 dB.
"""

import inspect
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, wraps
from typing import Any

import torch
from PIL import Image
from torch.nn import functional

from generation.engine.canvas import Box

log = logging.getLogger(__name__)

PREVIEW_SIDE = 128
"""Pixels on the longer side of a preview."""

_CHART_SIDE = 256

Frame = tuple[tuple[int, int], Box]
"""Width and height of a canvas, in pixels, and the box of its part that is wanted."""


class Previews:
    """The previews of one pipeline, which are made while it is `watched`."""

    def __init__(self, pipe: Any) -> None:
        self._pipe = pipe
        self._step: _Step | None = None
        self._failed = False

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Within this context the scheduler's last step is kept in mind; what the scheduler does is the same."""
        scheduler = self._pipe.scheduler
        step = scheduler.step
        signature = inspect.signature(step)

        @wraps(step)  # pipelines read the signature, to know what they may give
        def kept(*arguments: Any, **options: Any) -> Any:
            result = step(*arguments, **options)
            self._step = _Step(scheduler, signature.bind(*arguments, **options).arguments, result)
            return result

        scheduler.step = kept
        try:
            yield
        finally:
            del scheduler.step
            self._step = None

    def make(self, frames: Sequence[Frame]) -> list[Image.Image]:
        """A preview of each image of the last step, cut as its frame says. None at all where they cannot be made."""
        if self._step is None or self._failed:
            return []
        try:
            latents = self._step.clean_latents()
            if latents.ndim != 4 or len(latents) != len(frames):
                return []  # packed, or of several frames of a film
            if self._map is None or latents.shape[1] + 1 != len(self._map):
                return []
            return [_cut(small, *frame) for small, frame in zip(render(latents, self._map), frames, strict=True)]
        except Exception:
            log.warning("%s gives no previews", type(self._pipe).__name__, exc_info=True)
            self._failed = True
            return []

    @cached_property
    def _map(self) -> torch.Tensor | None:
        vae = getattr(self._pipe, "vae", None)
        return None if vae is None else fit(vae)


@dataclass(frozen=True)
class _Step:
    """One step of a scheduler: what it was given by name, and what it gave."""

    scheduler: Any
    arguments: dict[str, Any]
    result: Any

    def clean_latents(self) -> torch.Tensor:
        """What the latents would be without noise, shape (images, channels, height, width) for most models.

        Most schedulers tell it beside the next latents. Else it follows from what the model was trained to predict
        (Salimans and Ho 2022, https://arxiv.org/abs/2202.00512, appendix D), where that is told by `alphas_cumprod`. With
        the other schedulers it is the next latents, noise and all, brought to the spread of clean ones, which is 1.
        """
        latents: torch.Tensor = self.result[0]
        if len(self.result) > 1 and getattr(self.result[1], "shape", None) == latents.shape:
            told: torch.Tensor = self.result[1]
            return told
        alphas = getattr(self.scheduler, "alphas_cumprod", None)
        predicted = self.scheduler.config.get("prediction_type")
        if alphas is None or predicted not in ("epsilon", "v_prediction"):
            spread: torch.Tensor = latents.float().std(tuple(range(1, latents.ndim)), keepdim=True)
            return latents / spread.clamp(min=1)
        output: torch.Tensor = self.arguments["model_output"]
        sample: torch.Tensor = self.arguments["sample"]
        alpha = float(alphas[int(self.arguments["timestep"])])
        signal, noise = float(alpha**0.5), float((1 - alpha) ** 0.5)
        if predicted == "v_prediction":
            return signal * sample - noise * output
        return (sample - noise * output) / signal


@torch.inference_mode()
def fit(vae: Any) -> torch.Tensor:
    """The map for this autoencoder, shape (channels + 1, 3): weights, then the bias, for RGB from -1 to 1.

    Least squares from the latents of a chart, as pipelines scale them, to its colours, averaged over what each latent covers.
    """
    chart = _chart()
    latents = _scaled(vae, _encode(vae, chart)).float().cpu()
    height, width = latents.shape[2:]
    colours = functional.adaptive_avg_pool2d(chart, (height, width))
    inputs = functional.pad(latents[0].flatten(1).T, (0, 1), value=1.0)
    solution: torch.Tensor = torch.linalg.lstsq(inputs, colours[0].flatten(1).T).solution
    if not torch.isfinite(solution).all():
        raise ValueError("no linear map fits the latents of this autoencoder")
    return solution


@torch.inference_mode()
def render(latents: torch.Tensor, map_: torch.Tensor) -> list[Image.Image]:
    """RGB pictures of latents, shape (images, channels, height, width), one pixel for each latent."""
    colours = latents.float().cpu().movedim(1, -1) @ map_[:-1] + map_[-1]
    values = ((colours.nan_to_num().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    return [Image.fromarray(one) for one in values.numpy()]


def _cut(picture: Image.Image, canvas: tuple[int, int], box: Box) -> Image.Image:
    """The part of a small picture that is `box` on a canvas of this size, its longer side `PREVIEW_SIDE`."""
    across, down = picture.width / canvas[0], picture.height / canvas[1]
    left, upper, right, lower = box
    scale = PREVIEW_SIDE / max(right - left, lower - upper)
    size = max(1, round((right - left) * scale)), max(1, round((lower - upper) * scale))
    part = (left * across, upper * down, right * across, lower * down)
    return picture.resize(size, Image.Resampling.BICUBIC, box=part)


def _chart() -> torch.Tensor:
    """Coloured noise of all scales that falls off as it does in photographs; shape (1, 3, side, side), -1 to 1."""
    random = torch.Generator().manual_seed(0)
    chart = torch.zeros(1, 3, _CHART_SIDE, _CHART_SIDE)
    cells, strength = 2, 0.43  # all scales together: a standard deviation of about a half
    while cells < _CHART_SIDE:
        grey, colour = (torch.randn(1, channels, cells, cells, generator=random) for channels in (1, 3))
        noise = 0.5 * grey + 0.75**0.5 * colour  # the channels of photographs go together
        chart += strength * functional.interpolate(noise, size=(_CHART_SIDE, _CHART_SIDE), mode="bicubic")
        cells, strength = cells * 2, strength * 0.7
    return chart.clamp(-1, 1)


def _encode(vae: Any, picture: torch.Tensor) -> torch.Tensor:
    dtype = vae.dtype
    raised = dtype != torch.float32 and getattr(vae.config, "force_upcast", False)
    if raised:  # it overflows in less, and pipelines raise it too
        vae.to(torch.float32)
    try:
        encoded = vae.encode(picture.to(vae.device, vae.dtype))
    finally:
        if raised:
            vae.to(dtype)
    latents: torch.Tensor = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
    return latents


def _scaled(vae: Any, latents: torch.Tensor) -> torch.Tensor:
    """The latents on the scale on which they are denoised."""
    config = vae.config
    factor = getattr(config, "scaling_factor", None) or 1.0
    mean, deviation = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or deviation is None:
        return (latents - (getattr(config, "shift_factor", None) or 0.0)) * factor
    mean, deviation = (torch.tensor(numbers).view(1, -1, 1, 1).to(latents) for numbers in (mean, deviation))
    return (latents - mean) * factor / deviation
