"""Latents that stay as they are outside of a mask, for pipelines of which diffusers has no variant that takes one.

After each step, the latents of the input picture, with the noise that the next step expects, replace what the model made
outside of the mask, as in RePaint (Lugmayr et al. 2022, https://arxiv.org/abs/2201.09865, algorithm 1) and in diffusers' own
pipelines for masks.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from generation.engine.autoencoders import autoencoder_of, encode
from generation.engine.layouts import pack, pack_mask
from generation.engine.masks import cover
from generation.engine.observation import results_replaced
from generation.family_traits import LatentLayout


@dataclass(frozen=True)
class KeptPicture:
    """The canvas of one image of a call, which is kept where the mask of the same size is black; `seed` makes its noise."""

    canvas: Image.Image
    mask: Image.Image
    seed: int


def outside_kept(pipe: Any, layout: LatentLayout, pictures: Sequence[KeptPicture]) -> AbstractContextManager[None]:
    """Keep the latents of these pictures, one for each image of a call, outside of their masks within this context."""
    return results_replaced(pipe.scheduler, "step", _Compositor(pipe, layout, pictures))


class _Compositor:
    """Replaces the latents outside of the masks in the results of a scheduler's steps."""

    def __init__(self, pipe: Any, layout: LatentLayout, pictures: Sequence[KeptPicture]) -> None:
        self._pipe = pipe
        self._layout = layout
        self._pictures = pictures
        # Before the first step: an offloaded autoencoder takes the place of the denoiser while it works.
        self._encoded = _encode(pipe, [picture.canvas for picture in pictures])
        self._kept: _Kept | None = None
        self._next = 0

    def __call__(self, arguments: Mapping[str, Any], result: Any) -> Any:
        scheduler = self._pipe.scheduler
        values = list(result) if isinstance(result, tuple) else list(result.values())
        latents = values[0]
        if self._kept is None:
            self._kept = self._prepare(latents)
            self._next = _index_of(arguments["timestep"], scheduler.timesteps)
        kept = self._kept
        # PNDM calls the model twice for its first step, and lists the time of that twice.
        self._next += 1
        is_last = self._next >= len(scheduler.timesteps)
        noised = kept.clean if is_last else kept.noised(scheduler, scheduler.timesteps[self._next])
        values[0] = kept.composite(latents, noised)
        for index, value in enumerate(values[1:], 1):
            # The estimate of the clean latents, which previews show, and some pipelines decode (LCM, Sana-Sprint).
            if getattr(value, "shape", None) == latents.shape:
                values[index] = kept.composite(value, kept.clean)
        return tuple(values) if isinstance(result, tuple) else type(result)(*values)

    def _prepare(self, latents: torch.Tensor) -> "_Kept":
        """Return what is kept, laid out as these latents are."""
        _, channels, rows, columns = self._encoded.shape
        clean = pack(self._encoded, self._layout, latents.ndim, self._pipe)
        masks = np.stack([np.asarray(cover(picture.mask, (columns, rows))) for picture in self._pictures])
        mask = pack_mask(torch.from_numpy(masks)[:, None], self._layout, channels, latents.ndim)
        noise = torch.stack(
            [
                torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(picture.seed))
                for picture in self._pictures
            ]
        )
        scale = self._pipe.scheduler.config.sigma_data if _is_trigonometric(self._pipe.scheduler) else 1.0
        return _Kept(
            clean=clean.to(latents) * scale, noise=noise.to(latents) * scale, is_open=mask.to(latents.device) > 0
        )


@dataclass(frozen=True)
class _Kept:
    """The clean latents of the pictures, the noise that belongs to them, and where the model's own latents stay."""

    clean: torch.Tensor
    noise: torch.Tensor
    is_open: torch.Tensor

    def noised(self, scheduler: Any, time: torch.Tensor) -> torch.Tensor:
        """Return the clean latents with as much noise as this scheduler has at a time of its list."""
        if _is_trigonometric(scheduler):
            return torch.cos(time) * self.clean + torch.sin(time) * self.noise
        noised: torch.Tensor
        if hasattr(scheduler, "scale_noise"):  # flow matching
            noised = scheduler.scale_noise(self.clean, time.reshape(1), self.noise)
        else:
            noised = scheduler.add_noise(self.clean, self.noise, time.reshape(1))
        return noised

    def composite(self, latents: torch.Tensor, kept: torch.Tensor) -> torch.Tensor:
        """Return `latents` where the masks are open, and else `kept`."""
        # JoyImage has the latents of its reference before those of the image.
        references, drawn = latents.split([latents.shape[1] - kept.shape[1], kept.shape[1]], dim=1)
        composited = torch.where(self.is_open, drawn, kept.to(drawn))
        return torch.cat([references, composited], dim=1) if references.shape[1] else composited


def _encode(pipe: Any, canvases: Sequence[Image.Image]) -> torch.Tensor:
    """Return the latents of these pictures, shape (images, channels, height, width); each picture is encoded once."""
    latents: dict[int, torch.Tensor] = {}
    with torch.inference_mode():
        for canvas in canvases:
            if id(canvas) not in latents:
                pixels = torch.from_numpy(np.asarray(canvas, np.float32) / 127.5 - 1).permute(2, 0, 1)[None]
                latents[id(canvas)] = encode(autoencoder_of(pipe), pixels)
    return torch.cat([latents[id(canvas)] for canvas in canvases])


def _index_of(timestep: Any, times: torch.Tensor) -> int:
    """Return the place of a timestep, one number or the same for each image, in the scheduler's list."""
    time = torch.as_tensor(timestep, device=times.device).flatten()[0]
    return int((times.float() - time.float()).abs().argmin())


def _is_trigonometric(scheduler: Any) -> bool:
    """Return whether a time is an angle between picture and noise, as for Sana-Sprint's SCM."""
    return bool(scheduler.config.get("prediction_type") == "trigflow")
