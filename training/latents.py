"""Latents of patches and their edits, computed once: training the UNet reads them instead of encoding pictures.

`python -m training.latents --work DIR --minutes N` writes blocks `latents/<side>-<number>.npz` until all patches are done
or the time is over; the next run continues. Delete them when the autoencoder changes.
"""

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from numpy.typing import NDArray

from training.autoencoder import to_tensor
from training.distributed import launch, rank, working_dtype, world
from training.edits import EDITS, apply
from training.filters import Picture
from training.patches import load_patches
from training.stages import say, stage_parser

# Side of the patches: number in one block, number of edits of each.
_BLOCKS = {128: (500, 6), 256: (100, 4)}


@dataclass(frozen=True)
class Latents:
    """`sources` (n, channels, side, side), `targets` (n, edits, channels, side, side) in float16, `edits` (n, edits)."""

    sources: NDArray[np.float16]
    targets: NDArray[np.float16]
    edits: NDArray[np.int64]


def compute(work: Path, minutes: float) -> None:
    """Write the missing blocks within the time, sizes in turn."""
    end = time.monotonic() + 60 * minutes
    autoencoder = (
        AutoencoderTiny.from_pretrained(work / "autoencoder")
        .to(working_dtype())
        .to(memory_format=torch.channels_last)
        .eval()
    )
    (work / "latents").mkdir(exist_ok=True)
    blocks = [
        (number / (len(load_patches(work, side)) // count), side, number)
        for side, (count, _) in _BLOCKS.items()
        for number in range(len(load_patches(work, side)) // count)
    ]
    for _, side, number in sorted(blocks)[rank() :: world()]:
        path = work / "latents" / f"{side}-{number:03}.npz"
        if not path.exists() and time.monotonic() < end:
            _write_block(autoencoder, load_patches(work, side), side, number, path)
            say(str(path))


def load_latents(work: Path, side: int) -> Latents:
    """Load all blocks of one size. Raises FileNotFoundError if there are none."""
    paths = sorted((work / "latents").glob(f"{side}-*.npz"))
    if not paths:
        raise FileNotFoundError(f"There are no latents of {side} px in {work}; run python -m training.latents first.")
    blocks = [np.load(path) for path in paths]
    return Latents(*(np.concatenate([block[name] for block in blocks]) for name in ("sources", "targets", "edits")))


@torch.no_grad()
def encode(autoencoder: AutoencoderTiny, pictures: Picture) -> NDArray[np.float16]:
    """Return latents (n, channels, height / 4, width / 4) of pictures (n, height, width, 3) in 0..1."""
    latents = autoencoder.encode(to_tensor(pictures).to(autoencoder.dtype)).latents
    return latents.contiguous().half().numpy()


def _write_block(autoencoder: AutoencoderTiny, patches: NDArray[np.uint8], side: int, number: int, path: Path) -> None:
    count, edits_each = _BLOCKS[side]
    random = np.random.default_rng([7, side, number])
    names = list(EDITS)
    rows: list[NDArray[np.float16]] = []
    chosen = np.stack([random.permutation(len(names))[:edits_each] for _ in range(count)])
    for index in range(count):
        picture = patches[number * count + index].astype(np.float32) / 255
        pictures = [picture, *(apply(names[edit], picture) for edit in chosen[index])]
        rows.append(encode(autoencoder, np.stack(pictures)))
    latents = np.stack(rows)
    part = path.with_suffix(".part")
    with part.open("wb") as file:
        np.savez(file, sources=latents[:, 0], targets=latents[:, 1:], edits=chosen)
    part.rename(path)


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    launch(compute, options.processes, options.work, options.minutes)
