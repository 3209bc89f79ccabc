"""The layouts of latents: from and to the shape that the autoencoder has them in."""

import math
from typing import Any

import torch
from torch.nn import functional

from generation.family_traits import LatentLayout


def unpack(latents: torch.Tensor, layout: LatentLayout, canvas: tuple[int, int], pipe: Any) -> torch.Tensor:
    """Return latents of this layout with the autoencoder's shape (images, channels, height, width).

    `canvas` is the width and height of the pictures in pixels. Latents of another shape are returned as they are.
    """
    if layout is LatentLayout.CHANNELS_LAST:
        return latents[:, 0].movedim(-1, 1)
    if layout is LatentLayout.AFTER_REFERENCE:
        return latents[:, -1, :, 0]
    if layout is LatentLayout.SPATIAL:
        return latents[:, :, 0] if latents.ndim == 5 and latents.shape[2] == 1 else latents
    if latents.ndim == 3:
        rows, columns = _grid(latents.shape[1], canvas)
        latents = latents.transpose(1, 2).reshape(len(latents), -1, rows, columns)
    if layout is LatentLayout.CELLS:
        return latents
    if layout is LatentLayout.NORMALIZED_PATCHES:
        mean, deviation = _normalization(pipe, latents)
        latents = latents * deviation + mean
    return functional.pixel_shuffle(latents, 2)


def pack(latents: torch.Tensor, layout: LatentLayout, dimensions: int, pipe: Any) -> torch.Tensor:
    """Return latents of the autoencoder's shape in this layout: the inverse of `unpack`.

    `dimensions` is the number of them that the pipeline's latents have; some layouts have two forms. Of
    `LatentLayout.AFTER_REFERENCE` it is only the image's half, shape (images, 1, channels, 1, height, width).
    """
    if layout is LatentLayout.CHANNELS_LAST:
        return latents.movedim(1, -1)[:, None]
    if layout is LatentLayout.AFTER_REFERENCE:
        return latents[:, None, :, None]
    if layout is LatentLayout.SPATIAL:
        return latents[:, :, None] if dimensions == 5 else latents
    if layout is not LatentLayout.CELLS:
        latents = functional.pixel_unshuffle(latents, 2)
    if layout is LatentLayout.NORMALIZED_PATCHES:
        mean, deviation = _normalization(pipe, latents)
        latents = (latents - mean) / deviation
    return latents.flatten(2).transpose(1, 2) if dimensions == 3 else latents


def pack_mask(mask: torch.Tensor, layout: LatentLayout, channels: int, dimensions: int) -> torch.Tensor:
    """Return a mask of shape (images, 1, height, width) as `pack` lays out latents with as many channels."""
    same_for_all = mask.expand(-1, channels, -1, -1)
    plain = LatentLayout.PATCHES if layout is LatentLayout.NORMALIZED_PATCHES else layout
    return pack(same_for_all, plain, dimensions, None)


def _normalization(pipe: Any, latents: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of the autoencoder's batch normalization, for patches as channels."""
    norm = pipe.vae.bn
    deviation = torch.sqrt(norm.running_var + pipe.vae.config.batch_norm_eps)
    return norm.running_mean.view(1, -1, 1, 1).to(latents), deviation.view(1, -1, 1, 1).to(latents)


def _grid(cells: int, canvas: tuple[int, int]) -> tuple[int, int]:
    """Return rows and columns with this product, of all the ones nearest to the canvas's aspect ratio."""
    width, height = canvas
    rows = [number for number in range(1, cells + 1) if cells % number == 0]
    return min(
        ((row, cells // row) for row in rows), key=lambda grid: abs(math.log(grid[0] * width / (grid[1] * height)))
    )
