"""Square patches of photos, varied in colour and size, and of synthetic scenes.

`python -m training.patches --work DIR` writes `patches-128.npy` and `patches-256.npy`, uint8 (n, side, side, 3).
"""

from pathlib import Path

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray
from PIL import Image

from training.photos import load
from training.scenes import draw_scene
from training.stages import say, stage_parser

COUNTS = {128: 6000, 256: 900}

# Textures and objects on white are less useful than scenes, and there are many of them.
_RARE = {"brick", "grass", "gravel", "hubble", "retina", "camera", "picture-1a"}
_SCENE_SHARE = 0.12
_FLAT = 14  # standard deviation of a patch, of 255, under which another place is tried


def cut(work: Path, side: int, count: int, seed: int) -> None:
    """Write `count` patches of `side` px if they are missing."""
    path = work / f"patches-{side}.npy"
    if path.exists():
        return
    random = np.random.default_rng([seed, side])
    photos = load(work, "train")
    names = [name for name in photos if min(photos[name].size) >= side]
    # Large photos have more content than small ones, but not in proportion to their size.
    weights = np.array([(0.3 if name in _RARE else 1.0) * min(photos[name].size) ** 0.7 for name in names])
    weights /= weights.sum()
    patches = open_memmap(path.with_suffix(".part"), mode="w+", dtype=np.uint8, shape=(count, side, side, 3))
    for index in range(count):
        if random.random() < _SCENE_SHARE:
            patches[index] = np.asarray(draw_scene(side, random))
            continue
        for _ in range(4):
            patch = _crop(photos[names[random.choice(len(names), p=weights)]], side, random)
            if patch.std() > _FLAT:
                break
        patches[index] = vary_colours(patch, random) if random.random() < 0.65 else patch
    patches.flush()
    path.with_suffix(".part").rename(path)
    say(f"{count} patches of {side} px from {len(names)} photos")


def load_patches(work: Path, side: int) -> NDArray[np.uint8]:
    """Return the stored patches, mapped into memory."""
    return np.load(work / f"patches-{side}.npy", mmap_mode="r")


def vary_colours(patch: NDArray[np.uint8], random: np.random.Generator) -> NDArray[np.uint8]:
    """Change hue, saturation, gamma, contrast and brightness of a patch at random."""
    if random.random() < 0.45:
        turn = int(random.integers(256)) if random.random() < 0.5 else int(random.integers(-42, 43))
        hsv = np.array(Image.fromarray(patch).convert("HSV"))
        hsv[..., 0] = (hsv[..., 0].astype(int) + turn) % 256
        patch = np.asarray(Image.fromarray(hsv, "HSV").convert("RGB"))
    picture = patch.astype(np.float32) / 255
    if random.random() < 0.6:
        middle = picture.mean(axis=2, keepdims=True)
        picture = middle + (picture - middle) * np.float32(random.uniform(0.3, 1.5))
    if random.random() < 0.7:
        picture = np.clip(picture, 0, 1) ** np.exp(random.uniform(-0.5, 0.5))
        picture = (picture - 0.5) * random.uniform(0.75, 1.3) + 0.5 + random.uniform(-0.1, 0.1)
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _crop(photo: Image.Image, side: int, random: np.random.Generator) -> NDArray[np.uint8]:
    """Return a random square, reduced to `side`. Its size is between `side` and the photo's, log-uniformly distributed."""
    size = int(np.exp(random.uniform(np.log(side), np.log(min(photo.size) + 0.5))))
    left, upper = int(random.integers(photo.width - size + 1)), int(random.integers(photo.height - size + 1))
    square = photo.crop((left, upper, left + size, upper + size)).resize((side, side), Image.Resampling.BOX)
    patch = np.asarray(square)
    return patch[:, ::-1].copy() if random.random() < 0.5 else patch


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    for patch_side, patch_count in COUNTS.items():
        cut(arguments.work, patch_side, patch_count, arguments.seed)
