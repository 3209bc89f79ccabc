"""What a mask keeps: the pixels outside of it exactly, and what fades in inside of it."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from generation.engine.layouts import pack, pack_mask, unpack
from generation.engine.masks import MaskedPicture, cover, fade_in, in_cells
from generation.family_traits import LatentLayout
from generation.inpainting import inpaint
from tests.support.pictures import scene
from tests.support.twin_networks import flux2_autoencoder


def mask_with(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (64, 48)) -> Image.Image:
    mask = Image.new("L", size)
    for box in boxes:
        mask.paste(255, box)
    return mask


MASKS = arrays(bool, st.tuples(st.integers(1, 24), st.integers(1, 24)))


@given(pixels=MASKS, feather=st.integers(0, 12), padding=st.none() | st.integers(0, 9))
def test_outside_of_any_mask_the_upload_is_kept_and_inside_something_is_seen(
    pixels: np.ndarray, feather: int, padding: int | None
) -> None:
    mask = Image.fromarray(pixels.astype(np.uint8) * np.uint8(255))
    if (open_box := mask.getbbox()) is None:
        assert not np.asarray(fade_in(mask, feather)).any()
        return
    inpainting = inpaint(mask.size, open_box, feather, padding)
    black = Image.new("RGB", mask.size)
    made = MaskedPicture(black, mask, inpainting).paste(Image.new("RGB", inpainting.drawn_part, "white"))
    seen = np.asarray(made)[..., 0]
    assert not seen[~pixels].any()
    assert seen[pixels].all()
    assert seen.max() == 255
    assert feather or (seen[pixels] == 255).all()


def test_each_part_of_a_mask_is_seen_however_thin_it_is() -> None:
    mask = mask_with((2, 2, 3, 3), (10, 4, 11, 40), (20, 8, 60, 40))
    opacity = np.asarray(fade_in(mask, 8))
    assert opacity[2, 2] == 255
    assert (opacity[4:40, 10] == 255).all()
    row = opacity[24, 20:60].astype(int)
    assert (np.diff(row[:10]) >= 0).all()
    assert row[0] < 64
    assert row[8:32].min() == 255


def test_the_edge_of_the_picture_is_no_edge_of_the_mask() -> None:
    opacity = np.asarray(fade_in(mask_with((0, 0, 64, 30)), 6))
    assert (opacity[:20] == 255).all()
    assert (opacity[29] < 64).all()


@pytest.mark.parametrize("size", [(8, 6), (7, 5), (1, 1), (100, 90)])
def test_a_smaller_mask_covers_each_pixel_of_the_larger_one(size: tuple[int, int]) -> None:
    """One pixel in the middle of a large mask would be lost in a mean."""
    small = cover(mask_with((33, 21, 34, 22)), size)
    assert small.size == size
    left, upper, right, lower = small.getbbox() or (0, 0, 0, 0)
    assert left <= 33.5 * size[0] / 64 <= right
    assert upper <= 21.5 * size[1] / 48 <= lower
    assert cover(mask_with((0, 0, 64, 48)), size).getextrema() == (255, 255)


def test_the_mask_of_a_pipeline_has_whole_cells_of_latents() -> None:
    assert in_cells(mask_with((33, 21, 34, 22)), 8).getbbox() == (32, 16, 40, 24)


def test_a_preview_has_the_upload_around_what_is_drawn() -> None:
    picture = scene(256, 128)
    masked = MaskedPicture(
        picture, mask_with((64, 32, 128, 96), size=picture.size), inpaint((256, 128), (64, 32, 128, 96), 9, 0)
    )
    preview = np.asarray(masked.preview(Image.new("RGB", (128, 128), "red")), int)
    small = np.asarray(picture.resize((128, 64), Image.Resampling.LANCZOS), int)
    assert (preview[16:48, 32:64] == (255, 0, 0)).all()
    preview[16:48, 32:64] = small[16:48, 32:64]
    assert np.array_equal(preview, small)


def test_normalized_patches_unpack_to_the_same() -> None:
    autoencoder = flux2_autoencoder()
    autoencoder.bn.running_mean.normal_()
    autoencoder.bn.running_var.uniform_(0.5, 2)
    latents = torch.randn(2, autoencoder.config.latent_channels, 6, 10)
    pipe = SimpleNamespace(vae=autoencoder)
    packed = pack(latents, LatentLayout.NORMALIZED_PATCHES, 3, pipe)
    assert torch.allclose(unpack(packed, LatentLayout.NORMALIZED_PATCHES, (80, 48), pipe), latents, atol=1e-5)


@pytest.mark.parametrize(
    ("layout", "dimensions"),
    [
        (LatentLayout.SPATIAL, 4),
        (LatentLayout.SPATIAL, 5),
        (LatentLayout.PATCHES, 3),
        (LatentLayout.PATCHES, 4),
        (LatentLayout.CELLS, 3),
        (LatentLayout.CHANNELS_LAST, 5),
        (LatentLayout.AFTER_REFERENCE, 6),
    ],
)
def test_packed_latents_and_their_mask_unpack_to_the_same(layout: LatentLayout, dimensions: int) -> None:
    latents = torch.randn(2, 4, 6, 10)
    mask = torch.randn(2, 1, 6, 10)
    packed = pack(latents, layout, dimensions, None)
    assert packed.ndim == dimensions
    packed_mask = pack_mask(mask, layout, 4, dimensions)
    assert packed_mask.shape == packed.shape
    assert torch.equal(unpack(packed, layout, (80, 48), None), latents)
    assert torch.equal(unpack(packed_mask, layout, (80, 48), None), mask.expand_as(latents))
