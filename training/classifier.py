"""Judges tiny-redraw: a small classifier of the real emoji, and how often it recognises the drawn ones.

`python -m training.classifier DIRECTORY --work DIR --minutes N` trains the classifier if it is not there, then draws known
names over coloured blobs at several strengths. It is not shipped.
"""

import sys
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import StableDiffusionImg2ImgPipeline
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor, nn
from torch.nn import functional

from training import emoji
from training.redraw import vary
from training.stages import say, stage_parser

STRENGTHS = (0.2, 0.5, 0.7, 0.9)

_SIDE = 64
_BATCH = 32


def make_classifier(classes: int) -> nn.Module:
    """Four convolutions with pooling: (n, 3, 64, 64) in 0..1 to scores (n, classes)."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 96), (96, 160)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(160 * 16, classes))


def train(work: Path, minutes: float) -> nn.Module:
    """Train on varied emoji, or load what was trained before."""
    names, pixels = emoji.load(work)
    torch.manual_seed(0)
    classifier = make_classifier(len(names))
    path = work / "classifier.pt"
    if path.exists():
        classifier.load_state_dict(torch.load(path, weights_only=True))
        return classifier.eval()
    random = np.random.default_rng(51)
    optimizer = torch.optim.AdamW(classifier.parameters(), 1e-3)
    begin, right = time.monotonic(), 0.0
    while time.monotonic() - begin < 60 * minutes:
        chosen = random.integers(0, len(names), _BATCH)
        pictures = _shrink(np.stack([vary(pixels[which], random) for which in chosen]))
        scores = classifier(pictures + 0.05 * torch.randn_like(pictures))
        loss = functional.cross_entropy(scores, torch.from_numpy(chosen), label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right += 0.02 * (float((scores.argmax(1).numpy() == chosen).mean()) - right)
    say(f"the classifier recognises {100 * right:.0f} % of varied real emoji")
    torch.save(classifier.state_dict(), path)
    return classifier.eval()


def draw_blob(pixels: NDArray[np.uint8], random: np.random.Generator) -> Image.Image:
    """A soft blob in the emoji's mean colour on white, as someone would daub it."""
    inked = pixels[pixels.min(axis=2) < 240]
    colour = tuple(int(value) for value in inked.mean(axis=0))
    canvas = Image.new("RGB", (emoji.SIDE, emoji.SIDE), "white")
    left, upper = random.uniform(16, 32, 2)
    ImageDraw.Draw(canvas).ellipse((left, upper, left + 76, upper + 76), fill=colour)
    return canvas.filter(ImageFilter.GaussianBlur(3))


@torch.no_grad()
def judge(pipeline: StableDiffusionImg2ImgPipeline, classifier: nn.Module, work: Path, count: int) -> list[str]:
    """Rows of a table: for each strength, how often the named emoji is among the five likeliest, and likeness to the blob."""
    names, pixels = emoji.load(work)
    random = np.random.default_rng(52)
    chosen = random.permutation(len(names))[:count]
    blobs = [draw_blob(pixels[which], random) for which in chosen]
    rows = []
    for strength in STRENGTHS:
        drawn = []
        for start in range(0, count, 20):
            drawn += pipeline(
                [names[which] for which in chosen[start : start + 20]],
                image=blobs[start : start + 20],
                strength=strength,
                num_inference_steps=25,
                guidance_scale=3.0,
                generator=[torch.Generator().manual_seed(number) for number in range(len(chosen[start : start + 20]))],
            ).images
        results = np.stack([np.asarray(picture) for picture in drawn])
        best = classifier(_shrink(results)).topk(5).indices.numpy()
        hits = float(np.mean([which in five for which, five in zip(chosen, best, strict=True)]))
        errors = np.square((results.astype(np.float32) - np.stack([np.asarray(blob) for blob in blobs])) / 255).mean()
        rows.append(f"| strength {strength} | {100 * hits:.0f} % | {-10 * np.log10(errors):.1f} dB |")
    return rows


def _shrink(pictures: NDArray[np.uint8]) -> Tensor:
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    return functional.interpolate(tensor, (_SIDE, _SIDE), mode="area")


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--count", type=int, default=100, help="how many names are drawn")
    options = parser.parse_args()
    model = StableDiffusionImg2ImgPipeline.from_pretrained(options.directory)
    model.set_progress_bar_config(disable=True)
    table = judge(model, train(options.work, options.minutes), options.work, options.count)
    sys.stdout.write("| | named in the first five | PSNR to the input |\n|---|---|---|\n" + "\n".join(table) + "\n")
