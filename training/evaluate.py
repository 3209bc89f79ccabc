"""Measures a model on the held-out photos, and compares it with its card.

`python -m training.evaluate DIRECTORY --work DIR` prints the table of the card: value ± tolerance. If DIRECTORY has a
CARD.md with such rows, it fails if a value is not reproduced. Nothing may be tuned on these photos.
"""

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from diffusers import StableDiffusionInstructPix2PixPipeline
from PIL import Image
from torch.nn import functional

from generation.engine.devices import choose_dtype
from training.card import Figure, hold_against_card
from training.distributed import launch, rank, world
from training.edits import EDITS, apply
from training.filters import Picture
from training.instructions import HELD_OUT, LANGUAGES, NEUTRAL_HELD_OUT, NEUTRAL_OF_CARD, PROMPTS
from training.photos import load
from training.stages import say, stage_parser
from training.words import INSTRUCTIONS, misunderstood, prototypes_of
from training.words import load as load_in_float32

_TOGETHER = 5  # the layer outputs of so few fit into a core's cache


class Settings(NamedTuple):
    """The parameters of a run."""

    steps: int
    guidance: float = 1
    image_guidance: float = 1


RECOMMENDED = Settings(2)
"""What the service makes of every request for tiny-edit that does not ask for fewer steps."""


@dataclass
class Tally:
    """The results of pairs of photo and edit or wording: whether the target is the nearest, and the PSNR to it in dB."""

    pixels: dict[str, list[bool]]
    perceptual: dict[str, list[bool]]
    psnr: list[float]

    @property
    def nearest(self) -> float:
        """The share of pairs, in percent, whose target is the nearest by pixels."""
        return 100 * float(np.mean([hit for hits in self.pixels.values() for hit in hits]))

    @property
    def nearest_perceptually(self) -> float:
        """The share of pairs, in percent, whose target is the nearest by structural similarity."""
        return 100 * float(np.mean([hit for hits in self.perceptual.values() for hit in hits]))

    @property
    def weakest(self) -> tuple[str, float]:
        """The edit that is recognised least, and its share in percent."""
        return min(((name, 100 * float(np.mean(hits))) for name, hits in self.pixels.items()), key=lambda pair: pair[1])


def load_model(directory: Path, kind: Any = StableDiffusionInstructPix2PixPipeline) -> Any:
    """Load a pipeline of the class `kind` like the service: in bfloat16 if the CPU supports it, channels last."""
    dtype = choose_dtype("auto", torch.device("cpu"), faithful_in_bfloat16=True)
    pipeline = kind.from_pretrained(directory, dtype=dtype)
    pipeline.unet.to(memory_format=torch.channels_last)
    pipeline.vae.to(memory_format=torch.channels_last)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def middles(work: Path, side: int, split: str = "held-out") -> dict[str, Picture]:
    """Return the middle squares of the photos of a split, (side, side, 3) float32 in 0..1, by name."""
    squares = {}
    for name, photo in load(work, split).items():
        length = min(photo.size)
        left, upper = (photo.width - length) // 2, (photo.height - length) // 2
        square = photo.crop((left, upper, left + length, upper + length)).resize((side, side), Image.Resampling.LANCZOS)
        squares[name] = np.asarray(square, np.float32) / 255
    return squares


def edit_all(
    pipeline: StableDiffusionInstructPix2PixPipeline,
    photo: Picture,
    prompts: list[str],
    settings: Settings,
    negatives: list[str] | None = None,
) -> Iterator[Picture]:
    """Return the photo edited by each prompt."""
    picture = Image.fromarray((photo * 255 + 0.5).astype(np.uint8))
    return run_all(
        pipeline,
        prompts,
        [picture] * len(prompts),
        negatives,
        num_inference_steps=settings.steps,
        guidance_scale=settings.guidance,
        image_guidance_scale=settings.image_guidance,
    )


def run_all(
    pipeline: Any,
    prompts: list[str],
    pictures: list[Image.Image],
    negatives: list[str] | None = None,
    **settings: float,
) -> Iterator[Picture]:
    """Run each prompt on its picture. Returns (height, width, 3) float32 in 0..1; the seed is the prompt's number."""
    for start in range(0, len(prompts), _TOGETHER):
        some = slice(start, start + _TOGETHER)
        yield from pipeline(
            prompts[some],
            negative_prompt=negatives and negatives[some],
            image=pictures[some],
            generator=[torch.Generator().manual_seed(seed) for seed in range(len(prompts))[some]],
            output_type="np",
            **settings,
        ).images


def tally(
    pipeline: StableDiffusionInstructPix2PixPipeline,
    photos: dict[str, Picture],
    prompts: dict[str, str],
    settings: Settings,
    edits: list[str] | None = None,
) -> Tally:
    """Run each edit of `prompts` on each photo, and compare with the targets of all `edits`."""
    names = edits or list(EDITS)
    result = Tally({name: [] for name in prompts}, {name: [] for name in prompts}, [])
    mine = list(photos.values())[rank() :: world()]
    for number, photo in enumerate(mine):
        targets = np.stack([apply(name, photo) for name in names])
        for name, edited in zip(prompts, edit_all(pipeline, photo, list(prompts.values()), settings), strict=True):
            _note(result, name, edited, targets, names.index(name))
        say(f"{number + 1} of {len(mine)} photos at {settings}: {result.nearest:.1f} %, {np.mean(result.psnr):.1f} dB")
    return _together(result)


def tally_kept(
    pipeline: StableDiffusionInstructPix2PixPipeline,
    photos: dict[str, Picture],
    wordings: list[str],
    settings: Settings,
) -> Tally:
    """Run each neutral wording on each photo, and compare with the photo and the targets of all edits."""
    result = Tally({wording: [] for wording in wordings}, {wording: [] for wording in wordings}, [])
    for photo in list(photos.values())[rank() :: world()]:
        targets = np.stack([photo, *(apply(name, photo) for name in EDITS)])
        for wording, edited in zip(wordings, edit_all(pipeline, photo, wordings, settings), strict=True):
            _note(result, wording, edited, targets, 0)
    return _together(result)


def _note(result: Tally, name: str, edited: Picture, targets: Picture, asked: int) -> None:
    errors = np.square(targets - edited).mean(axis=(1, 2, 3))
    result.pixels[name].append(int(errors.argmin()) == asked)
    result.perceptual[name].append(int(similarity(edited, targets).argmax()) == asked)
    result.psnr.append(-10 * math.log10(max(float(errors[asked]), 1e-9)))


def similarity(picture: Picture, others: Picture) -> Picture:
    """Return the structural similarity (Wang et al. 2004, 8 px windows, three scales) to each of `others` (n,)."""
    one = torch.from_numpy(np.ascontiguousarray(picture)).permute(2, 0, 1)[None].float()
    many = torch.from_numpy(others).permute(0, 3, 1, 2).float()
    total = torch.zeros(len(many))
    for _ in range(3):
        mean_one, mean_many = functional.avg_pool2d(one, 8, 4), functional.avg_pool2d(many, 8, 4)
        variance_one = functional.avg_pool2d(one * one, 8, 4) - mean_one**2
        variance_many = functional.avg_pool2d(many * many, 8, 4) - mean_many**2
        covariance = functional.avg_pool2d(one * many, 8, 4) - mean_one * mean_many
        brightness = (2 * mean_one * mean_many + 1e-4) / (mean_one**2 + mean_many**2 + 1e-4)
        structure = (2 * covariance + 9e-4) / (variance_one + variance_many + 9e-4)
        total += (brightness * structure).mean((1, 2, 3))
        one, many = functional.avg_pool2d(one, 2), functional.avg_pool2d(many, 2)
    return total.numpy()


def autoencoder_psnr(pipeline: StableDiffusionInstructPix2PixPipeline, photos: dict[str, Picture]) -> float:
    """Return the mean PSNR in dB of photos that are only encoded and decoded."""
    values = []
    for photo in photos.values():
        tensor = torch.from_numpy(photo).permute(2, 0, 1)[None] * 2 - 1
        with torch.no_grad():
            decoded = pipeline.vae.decode(pipeline.vae.encode(tensor.to(pipeline.vae.dtype)).latents).sample
        values.append(10 * math.log10(4 / functional.mse_loss(decoded.float().clip(-1, 1), tensor).item()))
    return float(np.mean(values))


def measure(directory: Path, work: Path, side: int) -> list[Figure]:
    """Return all rows of the card, each process with its share of the photos. Slow measurements use fewer photos."""
    pipeline, photos = load_model(directory), middles(work, side)
    few = dict(list(photos.items())[::3])
    full = tally(pipeline, photos, PROMPTS, RECOMMENDED)
    say("recognised least: " + ", ".join(f"{name} {100 * np.mean(hits):.0f} %" for name, hits in _worst(full)))
    words = [
        tally(pipeline, few, {name: pair[which] for name, pair in HELD_OUT["en"].items()}, RECOMMENDED)
        for which in (0, 1)
    ]
    kept = tally_kept(pipeline, few, NEUTRAL_OF_CARD, RECOMMENDED)
    say("kept least: " + ", ".join(f"{said} {100 * np.mean(hits):.0f} %" for said, hits in _worst(kept)))
    say(_speed(directory, next(iter(middles(work, 256).values()))))
    return [
        Figure("asked edit nearest by pixels", full.nearest, 1.0, "%"),
        Figure("asked edit nearest by structural similarity", full.nearest_perceptually, 1.0, "%"),
        Figure("weakest edit, by pixels", full.weakest[1], 10.0, "%"),
        Figure("PSNR to the classical target", float(np.mean(full.psnr)), 0.3, "dB"),
        Figure("PSNR of the autoencoder, 256 px", autoencoder_psnr(pipeline, middles(work, 256)), 0.3, "dB"),
        Figure("wordings never trained on, by pixels", (words[0].nearest + words[1].nearest) / 2, 2.0, "%"),
        Figure("photo nearest if no known edit is named", kept.nearest, 3.0, "%"),
        Figure("PSNR to the photo if no known edit is named", float(np.mean(kept.psnr)), 0.5, "dB"),
    ]


def _speed(directory: Path, photo: Picture) -> str:
    begin = time.monotonic()
    pipeline = load_model(directory)
    loaded, seconds = time.monotonic() - begin, []
    for _ in range(3):
        begin = time.monotonic()
        list(edit_all(pipeline, photo, ["make it night"], RECOMMENDED))
        seconds.append(time.monotonic() - begin)
    return f"loaded in {loaded:.2f} s, {RECOMMENDED.steps} steps at 256 px in {min(seconds):.2f} s, on one thread"


def understood(directory: Path) -> dict[str, tuple[float, float]]:
    """Return by language the shares in percent of held-out wordings of edits, and of none, nearest to their own prototype.

    This needs no photo: a wording is understood if the UNet gets the vector of its edit.
    """
    pipeline = load_in_float32(directory)
    parts = (
        pipeline.tokenizer,
        pipeline.text_encoder,
        pipeline.unet.add_embedding,
        prototypes_of(pipeline, INSTRUCTIONS),
    )

    def share(wordings: list[tuple[int, str]]) -> float:
        return 100 * (1 - len(misunderstood(*parts, wordings)) / len(wordings))

    return {
        language: (
            share([(list(EDITS).index(name), text) for name, pair in HELD_OUT[language].items() for text in pair]),
            share([(len(EDITS), text) for text in NEUTRAL_HELD_OUT[language]]),
        )
        for language in LANGUAGES
    }


def report(directory: Path, work: Path, side: int) -> None:
    """Print the table and what is understood of each language, and exit with the differences from the card."""
    rows = measure(directory, work, side)
    if rank() == 0:
        for language, (named, neutral) in understood(directory).items():
            say(f"understood, {language}: {named:.0f} % of wordings, {neutral:.0f} % of wordings of no edit")
        hold_against_card(directory, rows)


def _together(mine: Tally) -> Tally:
    """Return the counts of all processes."""
    if world() == 1:
        return mine
    tallies: list[Tally] = [mine] * world()
    torch.distributed.all_gather_object(tallies, mine)
    everywhere = Tally({}, {}, [value for one in tallies for value in one.psnr])
    for name in mine.pixels:
        everywhere.pixels[name] = [hit for one in tallies for hit in one.pixels[name]]
        everywhere.perceptual[name] = [hit for one in tallies for hit in one.perceptual[name]]
    return everywhere


def _worst(result: Tally) -> list[tuple[str, list[bool]]]:
    return sorted(result.pixels.items(), key=lambda pair: float(np.mean(pair[1])))[:8]


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--side", type=int, default=128)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    launch(report, options.processes, options.directory, options.work, options.side)
