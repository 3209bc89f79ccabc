"""Evaluates tiny-redraw: a small classifier of the real emoji, and how often it recognises drawn ones.

`python -m training.classifier DIRECTORY --work DIR --minutes N` trains the classifier if it is missing, then draws names
over coloured blobs at several strengths, as the service does. The classifier is not part of the project. `--sheet SHEET.png`
draws a picture of samples instead: names in columns, the inputs in the first row, more strength in each other row.
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
from training.card import Figure, hold_against_card
from training.distributed import Budget
from training.evaluate import load_model, middles, run_all
from training.patches import load_patches
from training.redraw import draw_on_ground, draw_on_white
from training.sheets import paste
from training.stages import say, stage_parser

STRENGTHS = (0.2, 0.5, 0.7, 0.9)
# The effective value of the API's guidance scale of 7.5.
GUIDANCE = 1.91

_STEPS = 25
_SHOWN = ["cat", "slice of pizza", "rocket", "red apple", "smiling face with sunglasses", "penguin", "hamburger"]
_SHOWN += ["christmas tree", "tiger", "sunflower", "guitar", "house"]
_SHOWN_STRENGTHS = (0.5, 0.7, 0.9, 1.0)
_PHOTOS = ["chelsea", "coffee", "grace-hopper", "leMusee"]  # under the last of these

_SIDE = 64
_BATCH = 32


def make_classifier(classes: int) -> nn.Module:
    """Return a network of four convolutions with pooling: (n, 3, 64, 64) in 0..1 to scores (n, classes)."""
    layers: list[nn.Module] = []
    for before, after in ((3, 32), (32, 64), (64, 96), (96, 160)):
        layers += [nn.Conv2d(before, after, 3, padding=1), nn.BatchNorm2d(after), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.2), nn.Linear(160 * 16, classes))


def train(work: Path, budget: Budget) -> nn.Module:
    """Return the classifier of varied emoji; it is trained only once."""
    names, pixels = emoji.load(work)
    photos = load_patches(work, 128)
    torch.manual_seed(0)
    classifier = make_classifier(len(names))
    path = work / "classifier.pt"
    if path.exists():
        classifier.load_state_dict(torch.load(path, weights_only=True))
        return classifier.eval()
    random, shape = np.random.default_rng(51), (emoji.SIDE, emoji.SIDE)
    optimizer = torch.optim.AdamW(classifier.parameters(), 1e-3)
    begin, step, right = time.monotonic(), 0, 0.0
    while budget.spent(time.monotonic() - begin, step) < 1:
        chosen = random.integers(0, len(names), _BATCH)
        pictures = shrink(
            np.stack(
                [
                    draw_on_ground(pixels[which], photos, shape, random)
                    if random.random() < 0.5
                    else draw_on_white(pixels[which], shape, random)
                    for which in chosen
                ]
            )
        )
        scores = classifier(pictures + 0.05 * torch.randn_like(pictures))
        loss = functional.cross_entropy(scores, torch.from_numpy(chosen), label_smoothing=0.1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
        right += 0.02 * (float((scores.argmax(1).numpy() == chosen).mean()) - right)
    say(f"the classifier recognises {100 * right:.0f} % of what it is trained with")
    torch.save(classifier.state_dict(), path)
    return classifier.eval()


def draw_blob(pixels: NDArray[np.uint8], random: np.random.Generator) -> Image.Image:
    """Draw a soft blob in the emoji's mean colour on white, like a rough sketch."""
    red, green, blue = (int(value) for value in pixels[pixels[..., 3] > 127][:, :3].mean(axis=0))
    canvas = Image.new("RGB", (emoji.SIDE, emoji.SIDE), "white")
    left, upper = random.uniform(16, 32, 2)
    ImageDraw.Draw(canvas).ellipse((left, upper, left + 76, upper + 76), fill=(red, green, blue))
    return canvas.filter(ImageFilter.GaussianBlur(3))


def draw(
    pipeline: StableDiffusionImg2ImgPipeline,
    names: list[str],
    pictures: list[Image.Image],
    strength: float,
    guidance: float,
) -> NDArray[np.uint8]:
    """Run the model on each picture with its name as prompt. Returns (n, height, width, 3)."""
    results = run_all(pipeline, names, pictures, strength=strength, num_inference_steps=_STEPS, guidance_scale=guidance)
    return (np.stack(list(results)) * 255).round().astype(np.uint8)


def draw_sheet(pipeline: StableDiffusionImg2ImgPipeline, work: Path, guidance: float) -> Image.Image:
    """Draw blobs and photos in the first row, and below them the results."""
    names, pixels = emoji.load(work)
    random = np.random.default_rng(53)
    inputs = [draw_blob(pixels[names.index(name)], random) for name in _SHOWN[: -len(_PHOTOS)]]
    photos = middles(work, emoji.SIDE, "train")
    inputs += [Image.fromarray((255 * photos[name] + 0.5).astype(np.uint8)) for name in _PHOTOS]
    rows = [np.stack([np.asarray(picture) for picture in inputs])]
    rows += [draw(pipeline, _SHOWN, inputs, strength, guidance) for strength in _SHOWN_STRENGTHS]
    return paste([list(row.astype(np.float32) / 255) for row in rows], _SHOWN, len(_SHOWN))


@torch.no_grad()
def judge(
    pipeline: StableDiffusionImg2ImgPipeline, classifier: nn.Module, work: Path, count: int, guidance: float
) -> list[Figure]:
    """Measure for each strength how often the named emoji is among the five likeliest, and the similarity to the blob."""
    names, pixels = emoji.load(work)
    random = np.random.default_rng(52)
    chosen = random.permutation([number for number, name in enumerate(names) if name in emoji.CALLED])[:count]
    blobs = [draw_blob(pixels[which], random) for which in chosen]
    before = np.stack([np.asarray(blob) for blob in blobs])
    figures = []
    for strength in STRENGTHS:
        results = draw(pipeline, [names[which] for which in chosen], blobs, strength, guidance)
        best = classifier(shrink(results)).topk(min(5, len(names))).indices.numpy()
        hits = 100 * float((best == chosen[:, None]).any(1).mean())
        say(f"strength {strength}: {100 * float((best[:, 0] == chosen).mean()):.0f} % are the likeliest")
        psnr = -10 * np.log10(np.square((results.astype(np.float32) - before) / 255).mean())
        figures.append(Figure(f"strength {strength}: named emoji among the five likeliest", hits, 10.0, "%"))
        figures.append(Figure(f"strength {strength}: PSNR to the blob", float(psnr), 0.5, "dB"))
    return figures


def shrink(pictures: NDArray[np.uint8]) -> Tensor:
    """Convert pictures (n, height, width, 3) to the classifier's input, (n, 3, 64, 64) in 0..1."""
    tensor = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 255
    return functional.interpolate(tensor, (_SIDE, _SIDE), mode="area")


if __name__ == "__main__":
    parser = stage_parser(__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--count", type=int, default=100, help="how many names are drawn")
    parser.add_argument("--guidance", type=float, default=GUIDANCE, help="on the model's own scale")
    parser.add_argument("--sheet", type=Path)
    options = parser.parse_args()
    model = load_model(options.directory, StableDiffusionImg2ImgPipeline)
    if options.sheet:
        draw_sheet(model, options.work, options.guidance).save(options.sheet)
        sys.exit()
    classifier = train(options.work, Budget(options.minutes))
    figures = judge(model, classifier, options.work, options.count, options.guidance)
    hold_against_card(options.directory, figures)
