"""The autoencoder of a pipeline, which is named and called differently from family to family."""

from typing import Any

import diffusers
import torch


def autoencoder_of(pipe: Any) -> Any:
    """Return the network that turns pictures into latents and back; Kandinsky's is named `movq`."""
    return pipe.vae if hasattr(pipe, "vae") else pipe.movq


def encode(autoencoder: Any, picture: torch.Tensor) -> torch.Tensor:
    """Return the latents of a picture of shape (1, 3, height, width), as the denoising network has them."""
    dtype = autoencoder.dtype
    needs_float32 = dtype != torch.float32 and getattr(autoencoder.config, "force_upcast", False)
    if needs_float32:  # it overflows in smaller types; pipelines do the same
        autoencoder.to(torch.float32)
    try:
        # An offloaded autoencoder is elsewhere until it works.
        hook = getattr(autoencoder, "_hf_hook", None)
        device = autoencoder.device if hook is None else hook.execution_device
        pixels = picture.to(device, autoencoder.dtype)
        if getattr(autoencoder.config, "in_channels", 3) == 4:  # with transparency
            pixels = torch.nn.functional.pad(pixels, (0, 0, 0, 0, 0, 1), value=1.0)
        is_video = hasattr(autoencoder.config, "temperal_downsample")
        encoded = autoencoder.encode(pixels.unsqueeze(2) if is_video else pixels)
    finally:
        if needs_float32:
            autoencoder.to(dtype)
    latents: torch.Tensor
    if hasattr(encoded, "latent_dist"):
        latents = encoded.latent_dist.mode()
    else:
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent
    return scale(autoencoder, latents[:, :, 0] if is_video else latents)


def scale(autoencoder: Any, latents: torch.Tensor) -> torch.Tensor:
    """Return latents of shape (images, channels, height, width) as the denoising network has them."""
    if isinstance(autoencoder, diffusers.VQModel):  # Kandinsky's pipelines do not use its factor
        return latents
    config = autoencoder.config
    factor = getattr(config, "scaling_factor", None) or 1.0
    mean, deviation = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if mean is None or deviation is None:
        return (latents - (getattr(config, "shift_factor", None) or 0.0)) * factor
    mean, deviation = (torch.tensor(numbers).view(1, -1, 1, 1).to(latents) for numbers in (mean, deviation))
    return (latents - mean) * factor / deviation
